//! The victim of the integration tests; what it does stands in the library.

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    injector_tests::actor::run(&injector_tests::actor::Options::parse())
}
