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
    /// compare, these (losses, directions, exchanges); of syscall, these (rungs, followed, makers,
    /// many)
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
    /// Cost per system call on each rung, also beside strace and a file system in user space, and
    /// with many rules and targets, in virtual machines that count instructions
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

    /// Where it is measured.
    ///
    /// What depends on the processor's real speed is measured on the machine itself. System calls
    /// take so little that other work on it would drown the difference; a guest whose clock
    /// counts instructions gives the same numbers each time. Faults need a kernel that has all of
    /// them, and netem to compare them with; they are measured by instructions too, because on a
    /// busy host an emulated processor is the limit, and not the fault. Debian's kernel has those rungs of `sys-errno` that most
    /// users meet; our own has all of them. What depends on who runs on which processor, as a tracer does, is
    /// also measured by an ordinary clock. Debian's kernels also have nftables
    /// with all its parts. An exchange over TCP takes long enough for a real clock, so beside its
    /// instructions its rate on the machine itself is measured.
    const fn places(self) -> &'static [Site] {
        use Site::{Counting, Here, Timed};
        match self {
            Self::Fidelity => &[Counting("override")],
            Self::Syscall => &[
                Counting("override"),
                Counting("debian-6.12"),
                Timed("override"),
            ],
            Self::Packet => &[Here],
            Self::Compare => &[Here, Counting("debian-6.12"), Counting("debian-6.1")],
            Self::Scale => &[Here, Counting("debian-6.12")],
            Self::Startup => &[Here, Timed("debian-6.12")],
        }
    }

    /// Where something is measured of these tables, or of all.
    fn places_of(self, only: Option<&str>) -> impl Iterator<Item = Site> {
        let sites = self.places().iter().copied();
        sites.filter(move |&site| match (only, self.tables_at(site)) {
            (Some(only), Some(tables)) => only.split(',').any(|table| tables.contains(&table)),
            (_, None) | (None, _) => true,
        })
    }

    /// The tables that are measured at a place, if not all are.
    const fn tables_at(self, site: Site) -> Option<&'static [&'static str]> {
        match (self, site) {
            (Self::Syscall, Site::Timed(_)) => Some(&["makers"]),
            (Self::Compare, Site::Here) => Some(&["exchanges"]),
            _ => None,
        }
    }

    /// Whether it measures other makers of faults too.
    const fn compares(self) -> bool {
        matches!(self, Self::Compare | Self::Syscall)
    }
}

/// A machine that measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    /// This one.
    Here,
    /// A virtual one with this kernel, whose clock counts instructions.
    Counting(&'static str),
    /// A virtual one with this kernel and an ordinary clock.
    Timed(&'static str),
}

impl Site {
    /// What it is called in titles.
    fn name(self) -> String {
        match self {
            Self::Here => "on this machine".to_owned(),
            Self::Counting(kernel) => kernel.to_owned(),
            Self::Timed(kernel) => format!("{kernel}, by the clock"),
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
    let with_tables = [Group::Fidelity, Group::Compare, Group::Syscall];
    if options.only.is_some() && !matches!(groups, [group] if with_tables.contains(group)) {
        bail!("--only chooses tables of one group: name fidelity, compare or syscall alone");
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
    if groups.iter().any(|group| group.compares()) {
        setup::compared()?;
    }
    let mut good = true;
    for &group in groups {
        for site in group.places_of(options.only.as_deref()) {
            let title = format!("{}, {}", group.name(), site.name());
            let mut arguments = arguments(group, options, toxiproxy.as_deref());
            good &= step(&title, || match site {
                Site::Here => on_host(&arguments),
                Site::Counting(kernel) => in_vm(group, kernel, true, arguments, options),
                Site::Timed(kernel) => {
                    if group == Group::Syscall {
                        arguments.push("--by-clock".to_owned());
                    }
                    in_vm(group, kernel, false, arguments, options)
                }
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
    icount: bool,
    mut arguments: Vec<String>,
    options: &Options,
) -> Result<bool> {
    setup::vm()?;
    let program = paths::test_program(PROGRAM);
    let mut machine = Machine {
        icount,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine takes minutes to say that it has nothing to measure.
    #[test]
    fn only_machines_that_measure_something_are_started() {
        let places = |group: Group, only| group.places_of(only).collect::<Vec<_>>();
        let by_count = [Site::Counting("override"), Site::Counting("debian-6.12")];
        for only in ["rungs", "followed", "many", "rungs,many"] {
            assert_eq!(places(Group::Syscall, Some(only)), by_count, "{only}");
        }
        for only in ["makers", "rungs,makers"] {
            assert_eq!(places(Group::Syscall, Some(only)).len(), 3, "{only}");
        }
        assert!(!places(Group::Compare, Some("losses")).contains(&Site::Here));
        assert!(places(Group::Compare, Some("losses,exchanges")).contains(&Site::Here));
        for &group in Group::value_variants() {
            assert_eq!(places(group, None), group.places());
        }
        // Whoever measures says what is wrong.
        assert_eq!(places(Group::Syscall, Some("rung")), by_count);
    }
}
