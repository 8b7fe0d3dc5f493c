//! The benchmarks: what the injector costs, and how true its faults are.

use std::process::ExitCode;

fn main() -> ExitCode {
    injector_tests::bench::main()
}
