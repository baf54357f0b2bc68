//! The command line as an operator types it: the program in processes of its own, with nothing in its environment but
//! what is said here.

pub mod deployment;
mod enrolment;
mod help;
mod rotation;
mod serving;
mod settings;
