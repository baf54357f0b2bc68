//! The scheduler: it asks wallets about silent attempts, gives money back, tells merchants what happened, refreshes the wallets'
//! keys, matches their bills with our rows, and sweeps what has had its time.
//!
//! Any number of replicas may run: work is leased in the store, row by row.

mod ask;
mod deliver;
mod lane;
mod reconcile;
mod refresh;
mod refund;
mod run;
mod sweep;

pub use refund::decide_anomalies;
pub use run::{SchedulerSettings, run};
pub use sweep::{close_expired, sweep};
