<<<<<<< HEAD
//! The command line of Orderflow.

use std::process::ExitCode;

fn main() -> ExitCode {
    orderflow::cli::run()
}
=======
fn main() {}
>>>>>>> f755913244a73355322aba43ac4392a2ad0e792b
