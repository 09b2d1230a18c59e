//! The command line of Orderflow.

use std::process::ExitCode;

/// Many small allocations that one thread makes and another one frees: the system's allocator takes a fifth of the
/// time that an event costs, this one a twentieth.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orderflow::cli::run()
}
