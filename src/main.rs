//! The `prepay` binary: everything is in the library, so that tests can reach it, and so that nothing is compiled twice.

use std::process::ExitCode;

fn main() -> ExitCode {
    prepay::cli::main()
}
