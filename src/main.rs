//! The command line of Orderflow.

use std::process::ExitCode;

fn main() -> ExitCode {
    orderflow::cli::run()
}
