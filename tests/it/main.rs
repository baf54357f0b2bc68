//! One test binary: the store on every database, the queue on both brokers, whole trips on all of them together, and what an
//! operator runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]

mod claims;
mod cli;
mod demo;
mod house;
mod processes;
mod queue;
mod simulation;
mod store;
mod trip;
