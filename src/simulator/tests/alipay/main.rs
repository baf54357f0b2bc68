//! The simulated Alipay over HTTP, met by a merchant's side that knows nothing but the documents.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says by its panic what went wrong")]

mod bills;
mod client;
mod envelope;
mod faults;
mod notices;
mod refunds;
mod sink;
mod trades;
