//! The command line as an operator types it: the program in processes of its own, with nothing in its environment but
//! what is said here.

mod alipay_modes;
mod broker;
pub mod deployment;
mod enrolment;
mod events;
mod extras;
mod help;
mod levers;
mod migrating;
pub mod parked;
mod reconcile;
mod rotation;
mod serving;
mod settings;
mod shows;
