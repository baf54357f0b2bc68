//! The truth: the only room with SQL.
//!
//! SQLite, PostgreSQL and MySQL/MariaDB behind one [`Store`]. Orders are changed by [`Store::commit`] alone. Every method
//! runs its database work in a task of its own, so a caller that goes away never leaves a connection half-way.

mod accounts;
mod bill_questions;
mod bill_rows;
mod bill_runs;
mod deliveries;
mod discrepancies;
mod due;
mod endpoints;
mod error;
mod exchanges;
mod faults;
mod held;
mod history;
mod keys;
mod merchant_bills;
mod merchant_events;
mod merchants;
mod migrate;
mod mini_programs;
mod nonces;
mod notifications;
mod orders;
mod outcomes;
mod overdue;
mod pace;
mod parked;
mod pool;
mod queries;
mod refund_rows;
mod refunds;
mod registry;
mod rows;
mod run;

pub mod entity;

pub use accounts::{Account, AccountChange, NewAccount};
pub use bill_rows::{BillKey, KnownPayment, PageEnd, payment_key, refund_key};
pub use bill_runs::{BillHold, BillRun, BillTotals, RunEnd};
pub use deliveries::{DeliveryCaps, DueEvent, EndpointId, Tried, TryEnd};
pub use discrepancies::{Discrepancy, Found};
pub use due::{DueAccount, Lane, Leased, Share};
pub use endpoints::{EndpointRow, PauseRule};
pub use error::{Cause, StoreError};
pub use exchanges::{CodeHash, Exchange};
pub use faults::{StoreFault, StoreFaults};
pub use history::{AnomalyRow, HistoryRow};
pub use keys::{DeploymentKey, DeploymentSecret, KeyPurpose, KeyState};
pub use merchant_bills::{PaidRow, RefundedRow};
pub use merchants::{KeyMaterial, Merchant, MerchantKey, NewMerchant};
pub use mini_programs::{MiniProgramRow, NewMiniProgram};
pub use notifications::{EventFilter, EventRow, ResendMany, Resent};
pub use orders::{Commit, Committed, Inserted};
pub use pace::Pace;
pub use parked::Parked;
pub use pool::{Kind, Store, StoreSettings};
pub use queries::{ExpiredOrder, LeaseToken, Postponed};
pub use refunds::{RefundCommit, RefundCommitted, RefundInserted};
