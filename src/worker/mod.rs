//! Workers: they take commands and notices off the queue, one wallet step each, and settle every message once.

mod run;
mod verdict;
mod waits;

pub use run::{Worker, WorkerSettings, run};
