//! The tables as rows, a file per table. What the values mean is decided in the rooms' own types.

pub mod anomalies;
pub mod attempts;
pub mod bill_rows;
pub mod bill_runs;
pub mod channel_accounts;
pub mod code_exchanges;
pub mod deployment_keys;
pub mod discrepancies;
pub mod endpoints;
pub mod merchant_events;
pub mod merchant_keys;
pub mod merchants;
pub mod mini_programs;
pub mod nonces;
pub mod order_events;
pub mod orders;
pub mod outcomes;
pub mod parked;
pub mod question_turns;
pub mod refunds;
pub mod registry;
