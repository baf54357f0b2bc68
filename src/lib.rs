//! `prepay` takes the payment order of a mini-program off the phone, through a queue, to WeChat Pay or Alipay and back.
//!
//! The rooms, the trip and the invariants: `ARCHITECTURE.md` beside this file.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod domain;
pub mod enrol;
pub mod front;
pub mod gateway;
pub mod keys;
pub mod listen;
pub mod operations;
pub mod queue;
pub mod scheduler;
pub mod steps;
pub mod store;
pub mod telemetry;
pub mod webhook;
pub mod worker;
