//! Answers too long to be held: made by a thread while they are sent, a few pieces ahead.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::wire::{Answer, Reply};

const PIECE_BYTES: usize = 64 * 1024;
const PIECES_AHEAD: usize = 4;

/// A body that arrives in pieces.
#[derive(Debug)]
pub struct Pieces {
    pub(crate) coming: mpsc::Receiver<Bytes>,
    /// Breaks off after the first piece.
    pub(crate) cut: bool,
    pub(crate) sent: usize,
}

struct Pipe {
    pieces: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    /// Waits for the reader; a reader who is gone is a broken pipe, and ends the making.
    fn flush(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        if piece.is_empty() {
            return Ok(());
        }
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// An answer whose body `write` makes. Must be called within a runtime.
pub(crate) fn of(head: Answer, write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Reply {
    let (pieces, coming) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe { pieces, buffer: Vec::with_capacity(PIECE_BYTES) };
        if let Err(error) = write(&mut pipe).and_then(|()| pipe.flush()) {
            tracing::trace!(%error, "nobody reads on");
        }
    });
    Reply::Pieces(head, Pieces { coming, cut: false, sent: 0 })
}
