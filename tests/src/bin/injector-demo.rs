//! The demo: what a fault does to a victim and not to its neighbour, measured.

use std::process::ExitCode;

fn main() -> ExitCode {
    injector_tests::demo::main()
}
