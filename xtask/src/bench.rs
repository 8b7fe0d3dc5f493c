//! `cargo xtask bench`: what the injector costs those it does not disturb.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::exec::{command, step};
use crate::vm::{self, Machine};
use crate::{build, kernel, paths, setup};

/// The program that measures.
const PROGRAM: &str = "injector-bench";

/// Measure what the injector costs those it does not disturb
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to measure [default: both]
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Arguments for the benchmark
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Costs that are measured in different ways.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// Per packet, on this machine
    Packet,
    /// Per system call, in a virtual machine that counts instructions
    Syscall,
}

/// Runs the subcommand.
pub(crate) fn run_command(options: &Options) -> Result<ExitCode> {
    setup::victims()?;
    build::bpf()?;
    build::injector()?;
    build::test_programs()?;
    let all = [Group::Packet, Group::Syscall];
    let groups = if options.groups.is_empty() {
        &all[..]
    } else {
        &options.groups
    };
    let mut good = true;
    for group in groups {
        good &= match group {
            Group::Packet => step("cost per packet, on this machine", || on_host(options))?,
            Group::Syscall => step("cost per system call, by instructions", || in_vm(options))?,
        };
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn on_host(options: &Options) -> Result<bool> {
    let status = command(paths::test_program(PROGRAM))
        .arg("packet")
        .args(&options.arguments)
        .env("INJECTOR_BIN", paths::injector())
        .env("INJECTOR_TEST_WHERE", "host")
        .status()
        .context("cannot start the benchmark")?;
    Ok(status.success())
}

/// System calls take so little that other work on the machine would drown the difference;
/// a guest whose clock counts instructions gives the same numbers each time.
fn in_vm(options: &Options) -> Result<bool> {
    setup::vm()?;
    let machine = Machine {
        icount: true,
        limit: Duration::from_secs(1800),
        ..Machine::new(kernel::find("override")?)
    };
    let arguments: Vec<_> = std::iter::once("syscall".to_owned())
        .chain(options.arguments.iter().cloned())
        .collect();
    let script = vm::program_script("override", &paths::test_program(PROGRAM), &arguments);
    Ok(machine.run(&script, &mut vm::print)?.report() == 0)
}
