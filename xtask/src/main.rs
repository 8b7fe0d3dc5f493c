//! `cargo xtask`: everything this repository does to itself.
//!
//! Each subcommand is one module with its own `Options`; the doc comments there are the help
//! texts. What the subcommands share is in [`exec`], [`paths`], [`apt`] and [`toolchain`].

mod apt;
mod bench;
mod build;
mod calls;
mod demo;
mod elsewhere;
mod exec;
mod kernel;
mod lint;
mod paths;
mod setup;
mod test;
mod tidy;
mod toolchain;
mod vm;

use std::process::ExitCode;

use clap::Parser;

/// Build, test and show the injector.
///
/// Every subcommand first installs what it needs and does not find, says so, and does nothing
/// of the kind the second time.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Cli {
    Setup(setup::Options),
    Build(build::Options),
    Demo(demo::Options),
    Test(test::Options),
    Vm(vm::Options),
    Kernel(kernel::Options),
    Lint(lint::Options),
    Bench(bench::Options),
    Calls(calls::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli::Setup(options) => setup::run_command(&options),
        Cli::Build(options) => build::run_command(&options),
        Cli::Demo(options) => demo::run_command(&options),
        Cli::Test(options) => test::run_command(&options),
        Cli::Vm(options) => vm::run_command(&options),
        Cli::Kernel(options) => kernel::run_command(&options),
        Cli::Lint(options) => lint::run_command(&options),
        Cli::Bench(options) => bench::run_command(&options),
        Cli::Calls(options) => calls::run_command(&options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: error: {error:#}");
        ExitCode::FAILURE
    })
}
