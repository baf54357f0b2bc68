//! Facts about money and state. No IO, no clock, nothing of ours is imported here.

pub mod account;
pub mod address;
pub mod attempt;
pub mod bill;
pub mod command;
pub mod event;
pub mod id;
pub mod money;
pub mod order;
pub mod outcome;
pub mod payer;
pub mod payinfo;
pub mod policy;
pub mod refund;
pub mod time;
pub mod wallet;
