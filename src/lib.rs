//! `prepay` takes the payment order of a mini-program off the phone, through a queue, to WeChat Pay or Alipay and back.
//!
//! The rooms, the trip and the invariants: `ARCHITECTURE.md` beside this file.

pub mod clock;
pub mod domain;
pub mod gateway;
pub mod keys;
pub mod queue;
pub mod store;
pub mod telemetry;
