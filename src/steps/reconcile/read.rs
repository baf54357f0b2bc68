//! A bill's rows out of their file: read where blocking is allowed, handed on in batches, a few at most ahead.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
    sync::Arc,
};

use tokio::{sync::mpsc, task::JoinHandle};

use crate::gateway::{BillError, BillFile, BillRow, Gateway};

/// Rows that are compared by one statement.
pub(super) const BATCH: usize = 1_000;
/// Batches that may wait while one is compared.
const AHEAD: usize = 2;

pub(super) type Batch = Vec<Result<BillRow, BillError>>;

/// A file that is being read.
pub(super) struct Reading {
    batches: mpsc::Receiver<Batch>,
    reader: JoinHandle<()>,
}

impl Reading {
    /// The reader ends by itself when nobody takes its batches any more.
    pub fn start(gateway: Arc<dyn Gateway>, file: BillFile) -> Self {
        let (to, batches) = mpsc::channel(AHEAD);
        let reader = tokio::task::spawn_blocking(move || read(&*gateway, &file, &to));
        Self { batches, reader }
    }

    /// The next rows. `None`: all were told, and an error about the file was among them if there is one.
    pub async fn next(&mut self) -> Option<Batch> {
        if let Some(batch) = self.batches.recv().await {
            return Some(batch);
        }
        // A reader that died in the middle is not a bill that ended well.
        let died = (&mut self.reader).await.err()?;
        Some(vec![Err(BillError::Unusable(format!("its reader died: {died}")))])
    }
}

fn read(gateway: &dyn Gateway, file: &BillFile, to: &mpsc::Sender<Batch>) {
    let rows = match gateway.read_bill(file) {
        Ok(rows) => rows,
        Err(error) => return drop(to.blocking_send(vec![Err(error)])),
    };
    let mut batch = Vec::with_capacity(BATCH);
    for row in rows {
        batch.push(row);
        if batch.len() == BATCH && to.blocking_send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_err() {
            return;
        }
    }
    if !batch.is_empty() {
        let _nobody_listens = to.blocking_send(batch);
    }
}

/// How many lines a file has: what a progress bar counts to. 0 when it cannot be read; whoever reads its rows says why.
pub(super) async fn lines(path: PathBuf) -> u64 {
    let count = move || {
        let Ok(file) = File::open(path) else { return 0 };
        let mut from = BufReader::with_capacity(64 * 1024, file);
        let mut lines = 0u64;
        while let Ok(piece) = from.fill_buf() {
            if piece.is_empty() {
                break;
            }
            lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
            let length = piece.len();
            from.consume(length);
        }
        lines
    };
    tokio::task::spawn_blocking(count).await.unwrap_or(0)
}
