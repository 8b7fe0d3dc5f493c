//! `cargo xtask test`: everything that can be tested, where it can be tested.
//!
//! Pure tests run by `cargo test`. The integration tests need root and a kernel to act on: the
//! same binaries run on the host and then in virtual machines, three per kernel.

mod binaries;
mod cluster;
mod jobs;
mod results;
mod script;
#[cfg(test)]
mod selection;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use self::binaries::{Clock, Part, TestBinary};
use self::jobs::{HOST, Job};
use self::results::Results;
use self::script::Script;
use crate::exec::{cargo, is_root, run, say, step};
use crate::kernel::{self, Kernel};
use crate::vm::Machine;
use crate::{build, setup};

/// The exit status when the tests are not run by root.
const NOT_ROOT: u8 = 3;

/// Run all tests: pure ones, then the integration tests on the host and in virtual machines
///
/// Needs root, because the integration tests change what the kernel does.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Start no virtual machine
    #[arg(long, conflicts_with = "vm_only")]
    host_only: bool,
    /// Run the integration tests in virtual machines only, and no pure tests
    #[arg(long)]
    vm_only: bool,
    /// A kernel to run the integration tests on, by its name or the path of a bzImage (may be
    /// repeated) [default: debian-6.1, debian-6.12, override, and debian-newest for what no other
    /// can do]
    #[arg(long, value_name = "NAME")]
    kernel: Vec<String>,
    /// Run only integration tests whose name contains this
    #[arg(long, value_name = "STR")]
    filter: Option<String>,
    /// Run every test on every kernel, also where another one tells as much; that takes twice as
    /// long
    #[arg(long)]
    everywhere: bool,
    /// Seconds that one virtual machine may take
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
    /// Seconds that one test binary may take
    #[arg(long, default_value_t = 900)]
    binary_timeout: u64,
}

impl Options {
    /// Whether every test is to run, wherever it finds anything out.
    fn is_whole(&self) -> bool {
        !self.host_only && !self.vm_only && self.kernel.is_empty() && self.filter.is_none()
    }
}

/// Runs the subcommand.
pub(crate) fn run_command(options: &Options) -> Result<ExitCode> {
    if !is_root() {
        say("the integration tests need root; run: sudo -E env \"PATH=$PATH\" cargo xtask test");
        say("the pure tests do not: cargo xtask build && cargo test");
        return Ok(ExitCode::from(NOT_ROOT));
    }
    setup::victims()?;
    let kernels = kernels(options)?;
    build::bpf()?;
    if !options.vm_only && options.filter.is_none() {
        step("pure tests", || run(cargo("test").arg("--locked")))?;
    }
    build::injector()?;
    let binaries = step("building the integration tests", binaries::build)?;
    cluster::make()?;

    let mut results = Results::default();
    step("integration tests", || {
        jobs::run(&jobs(options, &kernels, &binaries), &mut results)
    })?;
    if !options.vm_only {
        results.expect_tests(HOST);
    }
    for kernel in &kernels {
        results.expect_tests(&kernel.name);
    }
    if options.is_whole() {
        results.expect_each_test_somewhere();
    }
    print!("{results}");
    Ok(if results.are_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The host, then a machine for each kernel and clock. One that takes long comes first, so that the
/// last one to end is a short one.
fn jobs(options: &Options, kernels: &[Kernel], binaries: &[TestBinary]) -> Vec<Job> {
    let mut jobs = Vec::new();
    if !options.vm_only {
        let all: Vec<_> = binaries
            .iter()
            .map(|binary| (binary, Part::Everything))
            .collect();
        jobs.push(Job {
            machine: None,
            script: Script::new(options, HOST, &all),
        });
    }
    for clock in [Clock::Host, Clock::Instructions, Clock::OneProcessor] {
        for kernel in kernels {
            let part = |binary: &TestBinary| {
                if options.kernel.is_empty() && kernel.name == kernel::NEWEST {
                    binary.part_on_newest()
                } else if options.everywhere {
                    Part::Everything
                } else {
                    binary.part_on(&kernel.name)
                }
            };
            let parts: Vec<_> = binaries
                .iter()
                .filter(|binary| binary.clock() == clock)
                .map(|binary| (binary, part(binary)))
                .filter(|(_, part)| *part != Part::Nothing)
                .collect();
            if parts.is_empty() {
                continue;
            }
            for parts in shares(&parts, clock) {
                jobs.push(Job {
                    machine: Some(Machine {
                        limit: Duration::from_secs(options.timeout),
                        icount: clock != Clock::Host,
                        cpus: if clock == Clock::OneProcessor { 1 } else { 2 },
                        ..Machine::new(kernel.clone())
                    }),
                    script: Script::new(options, &kernel.name, &parts),
                });
            }
        }
    }
    jobs
}

/// How many binaries are worth a second machine.
const MANY: usize = 16;

/// The binaries of each machine. Where there are many, two share them: whoever runs jobs side by
/// side then waits less at the end for the longest one.
fn shares<'a>(
    parts: &[(&'a TestBinary, Part)],
    clock: Clock,
) -> impl Iterator<Item = Vec<(&'a TestBinary, Part)>> {
    let machines = if clock == Clock::Host && parts.len() >= MANY {
        2
    } else {
        1
    };
    // In turns: neighbours in the alphabet are often alike, and take alike long.
    (0..machines).map(move |first| {
        parts
            .iter()
            .copied()
            .skip(first)
            .step_by(machines)
            .collect()
    })
}

fn kernels(options: &Options) -> Result<Vec<Kernel>> {
    if options.host_only {
        return Ok(Vec::new());
    }
    setup::vm()?;
    if options.kernel.is_empty() {
        kernel::TESTED
            .iter()
            .map(|name| kernel::ensure(name))
            .collect()
    } else {
        options
            .kernel
            .iter()
            .map(|name| kernel::ensure(name))
            .collect()
    }
}
