//! `cargo xtask bench`: what the injector costs those it does not disturb, and how true its
//! faults are.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use crate::exec::{command, find, run, say, step};
use crate::vm::{self, Machine};
use crate::{build, kernel, paths, setup};

/// The program that measures.
const PROGRAM: &str = "injector-bench";

/// Measure what the injector costs those it does not disturb, and how true its faults are
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Of fidelity, measure only these tables (delay, jitter, loss, tcp, corrupt, ...); of
    /// compare, these (losses, directions, exchanges)
    #[arg(long, value_name = "TABLE[,TABLE...]")]
    only: Option<String>,
    /// The toxiproxy-server that compare measures too [default: the one in PATH, if any]
    #[arg(long, value_name = "PATH")]
    toxiproxy: Option<PathBuf>,
    /// Put fidelity's tables and plots into docs/fidelity.md and docs/fidelity/
    #[arg(long)]
    update_docs: bool,
}

/// What is measured in different ways.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// Faults beside the kernel's own emulator, in a virtual machine that counts instructions
    Fidelity,
    /// Cost per system call on either rung, in virtual machines that count instructions
    Syscall,
    /// Cost per packet, on this machine
    Packet,
    /// Cost per packet and per exchange over TCP beside netem, nftables and toxiproxy, in a
    /// virtual machine that counts instructions; and exchanges per second, on this machine
    Compare,
    /// Cost per packet with many rules and targets, in a virtual machine that counts
    /// instructions; and how long it takes to start them and to add one, on this machine
    Scale,
    /// Time until the first hit and memory, on this machine; memory also in a virtual machine
    Startup,
}

impl Group {
    /// Its name for the program that measures.
    const fn name(self) -> &'static str {
        match self {
            Self::Fidelity => "fidelity",
            Self::Syscall => "syscall",
            Self::Packet => "packet",
            Self::Compare => "compare",
            Self::Scale => "scale",
            Self::Startup => "startup",
        }
    }

    /// Whether its virtual machines count instructions.
    const fn counts_instructions(self) -> bool {
        match self {
            Self::Fidelity | Self::Syscall | Self::Compare | Self::Scale => true,
            Self::Packet | Self::Startup => false,
        }
    }

    /// Where it is measured: on this machine, or in a virtual one with this kernel.
    ///
    /// What depends on the processor's real speed is measured on the machine itself. System calls
    /// take so little that other work on it would drown the difference; a guest whose clock
    /// counts instructions gives the same numbers each time. Faults need a kernel that has all of
    /// them, and netem to compare them with; they are measured by instructions too, because on a
    /// busy host an emulated processor is the limit, and not the fault. Debian's kernel has the other rung of `sys-errno`,
    /// which needs more memory: one program per security hook. Debian's kernels also have nftables
    /// with all its parts. An exchange over TCP takes long enough for a real clock, so beside its
    /// instructions its rate on the machine itself is measured.
    const fn places(self) -> &'static [Option<&'static str>] {
        match self {
            Self::Fidelity => &[Some("override")],
            Self::Syscall => &[Some("override"), Some("debian-6.12")],
            Self::Packet => &[None],
            Self::Compare => &[None, Some("debian-6.12"), Some("debian-6.1")],
            Self::Scale => &[None, Some("debian-6.12")],
            Self::Startup => &[None, Some("debian-6.12")],
        }
    }
}

/// Runs the subcommand.
pub(crate) fn run_command(options: &Options) -> Result<ExitCode> {
    let groups = if options.groups.is_empty() {
        Group::value_variants()
    } else {
        &options.groups
    };
    if options.only.is_some() && !matches!(groups, [Group::Fidelity | Group::Compare]) {
        bail!("--only chooses tables of one group: name fidelity or compare alone");
    }
    let toxiproxy = if groups.contains(&Group::Compare) {
        toxiproxy(options.toxiproxy.as_deref())?
    } else {
        None
    };
    setup::victims()?;
    build::bpf()?;
    build::injector()?;
    build::test_programs()?;
    if groups.contains(&Group::Compare) {
        setup::compared()?;
    }
    let mut good = true;
    for &group in groups {
        for &place in group.places() {
            let title = format!("{}, {}", group.name(), place.unwrap_or("on this machine"));
            let arguments = arguments(group, options, toxiproxy.as_deref());
            good &= step(&title, || match place {
                None => on_host(&arguments),
                Some(kernel) => in_vm(group, kernel, arguments, options),
            })?;
        }
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The toxiproxy to measure: this one, or the one in `PATH`.
///
/// A guest sees the host's files at the same paths, but has memory of its own where anybody may
/// write.
fn toxiproxy(named: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(program) = named
        .map(Path::to_path_buf)
        .or_else(|| find("toxiproxy-server"))
    else {
        return Ok(None);
    };
    let program = program
        .canonicalize()
        .with_context(|| format!("there is no toxiproxy at {}", program.display()))?;
    let hidden = ["/tmp", "/var/tmp", "/run"];
    if hidden.iter().any(|folder| program.starts_with(folder)) {
        bail!(
            "a virtual machine does not see {}: put toxiproxy outside {}",
            program.display(),
            hidden.join(", ")
        );
    }
    Ok(Some(program))
}

/// What the program that measures is told.
fn arguments(group: Group, options: &Options, toxiproxy: Option<&Path>) -> Vec<String> {
    let mut arguments = vec![group.name().to_owned()];
    if let Some(tables) = &options.only {
        arguments.extend(["--only".to_owned(), tables.clone()]);
    }
    if let Some(program) = toxiproxy.filter(|_| group == Group::Compare) {
        arguments.extend(["--toxiproxy".to_owned(), program.display().to_string()]);
    }
    arguments
}

fn on_host(arguments: &[String]) -> Result<bool> {
    let status = command(paths::test_program(PROGRAM))
        .args(arguments)
        .env("INJECTOR_BIN", paths::injector())
        .env("INJECTOR_TEST_WHERE", "host")
        .status()
        .context("cannot start the benchmark")?;
    Ok(status.success())
}

fn in_vm(
    group: Group,
    kernel: &str,
    mut arguments: Vec<String>,
    options: &Options,
) -> Result<bool> {
    setup::vm()?;
    let program = paths::test_program(PROGRAM);
    let mut machine = Machine {
        icount: group.counts_instructions(),
        limit: Duration::from_secs(1800),
        ..Machine::new(kernel::ensure(kernel)?)
    };
    // Two processors under a clock that counts instructions put packets out of order.
    if machine.icount {
        machine.cpus = 1;
    }
    let results = paths::target().join("bench/fidelity.json");
    if group == Group::Fidelity {
        let folder = results.parent().context("the results have no folder")?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        // What an earlier run found out must not be taken for this one's.
        drop(std::fs::remove_file(&results));
        machine.rw_share = Some(folder.to_path_buf());
        arguments.extend(["--json".to_owned(), results.display().to_string()]);
    }
    let script = vm::program_script(kernel, &program, &arguments);
    let good = machine.run(&script, &mut vm::print)?.report() == 0;
    if group == Group::Fidelity && options.update_docs {
        let docs = paths::root().join("docs");
        let mut update = command(program);
        update.arg("fidelity-document").arg("--json").arg(&results);
        update.arg("--document").arg(docs.join("fidelity.md"));
        run(update.arg("--plots").arg(docs.join("fidelity")))?;
        say("docs/fidelity.md and its plots are up to date: look at them before you commit");
    }
    Ok(good)
}
