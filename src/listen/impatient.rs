//! A socket that does not wait without end for a peer that does not read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Whoever takes less than this in the time it is given is not reading.
const PROGRESS: usize = 64 * 1024;

/// A peer that keeps us waiting has to take [`PROGRESS`] bytes, or all that is there, within `patience`.
pub struct Impatient<S> {
    socket: S,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    taken: usize,
}

impl<S> Impatient<S> {
    pub fn new(socket: S, patience: Duration) -> Self {
        Self { socket, patience, waiting: None, taken: 0 }
    }

    fn judged(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(bytes)) => {
                self.taken = self.taken.saturating_add(bytes);
                if self.taken >= PROGRESS {
                    self.content();
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if self.waiting.is_none() {
                    self.taken = 0;
                }
                let patience = self.patience;
                let timer = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn content(&mut self) {
        (self.waiting, self.taken) = (None, 0);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write(cx, from);
        self.judged(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write_vectored(cx, from);
        self.judged(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// hyper flushes once it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.content();
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::{Instant, timeout},
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_left() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let mut ours = Impatient::new(ours, PATIENCE);
        let began = Instant::now();
        let error = timeout(PATIENCE * 2, ours.write_all(&[0; 1 << 20])).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, PATIENCE));
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_byte_now_and_then_is_left_too() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut ours = Impatient::new(ours, PATIENCE);
        let trickle = async {
            loop {
                theirs.read_u8().await.unwrap();
                tokio::time::sleep(PATIENCE / 4).await;
            }
        };
        let written = tokio::select! {
            written = ours.write_all(&[0; 1 << 20]) => written,
            () = trickle => unreachable!(),
        };
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_that_reads_on_gets_all_of_it() {
        let (ours, mut theirs) = tokio::io::duplex(32 * 1024);
        let mut ours = Impatient::new(ours, PATIENCE);
        let reads = async {
            let (mut got, mut piece) = (0, vec![0; 16 * 1024]);
            while got < 1 << 20 {
                tokio::time::sleep(PATIENCE / 6).await;
                got += theirs.read(&mut piece).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(&[0; 1 << 20]), reads);
        written.unwrap();
    }
}
