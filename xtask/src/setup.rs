//! `cargo xtask setup`: what the other subcommands need, installed once.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::apt::{self, Package};
use crate::exec::{command, find, say, succeeds};
use crate::vm::emulator::Emulator;
use crate::{kernel, toolchain};

/// Install what the other subcommands need (they also do so themselves)
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to install [default: everything]
    #[arg(value_enum)]
    parts: Vec<Part>,
}

/// A separately useful part of the set-up.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The BPF compiler and linker
    Build,
    /// QEMU and what makes a small guest
    Vm,
    /// The programs that tests inject faults into
    Victims,
    /// Other makers of faults, which a benchmark measures
    Compared,
    /// The kernels that the tests run on; one of them may have to be built, once
    Kernels,
}

const ALL: &[Part] = &[
    Part::Build,
    Part::Vm,
    Part::Victims,
    Part::Compared,
    Part::Kernels,
];

/// What `vm` needs on the host, beside QEMU.
pub(crate) const VM: &[Package] = &[
    apt::program("busybox-static", "busybox"),
    apt::program("kmod", "modprobe"),
    apt::program("xz-utils", "xz"),
    apt::program("zstd", "zstd"),
    apt::program("util-linux", "setpriv"),
];

/// What the tests and the demo start, load and look at.
pub(crate) const VICTIMS: &[Package] = &[
    apt::program("iproute2", "tc"),
    apt::program("iputils-ping", "ping"),
    apt::program("iperf3", "iperf3"),
    apt::program("nginx-light", "nginx"),
    apt::program("redis-server", "redis-server"),
    apt::program("redis-tools", "redis-benchmark"),
    apt::program("postgresql", "psql"),
    apt::program("curl", "curl"),
    apt::program("restic", "restic"),
    apt::program("bpftool", "bpftool"),
    apt::program("wireguard-tools", "wg"),
];

/// What `bench compare` and `bench syscall` measure beside the injector; netem comes with iproute2
/// and the kernel.
pub(crate) const COMPARED: &[Package] = &[
    apt::program("nftables", "nft"),
    apt::program("strace", "strace"),
    apt::program("bindfs", "bindfs"),
];

/// Runs the subcommand.
pub(crate) fn run_command(options: &Options) -> Result<ExitCode> {
    let parts = if options.parts.is_empty() {
        ALL
    } else {
        &options.parts
    };
    for part in parts {
        match part {
            Part::Build => toolchain::ensure().map(drop)?,
            Part::Vm => vm()?,
            Part::Victims => victims()?,
            Part::Compared => compared()?,
            Part::Kernels => {
                vm()?;
                for name in kernel::TESTED {
                    kernel::ensure(name)?;
                }
            }
        }
    }
    say("everything is there");
    Ok(ExitCode::SUCCESS)
}

/// Installs what a virtual machine needs.
pub(crate) fn vm() -> Result<()> {
    apt::ensure("virtual machines", VM)?;
    Emulator::ensure()?;
    // The guest starts with nothing but this one file, so it must need no library.
    let busybox = find("busybox").unwrap_or_default();
    if succeeds(command("ldd").arg(&busybox)) {
        bail!(
            "{} needs shared libraries; install a static one: apt-get install busybox-static",
            busybox.display()
        );
    }
    Ok(())
}

/// Installs the programs that tests inject faults into.
pub(crate) fn victims() -> Result<()> {
    apt::ensure("tests and the demo", VICTIMS)
}

/// Installs the other makers of faults that benchmarks measure.
pub(crate) fn compared() -> Result<()> {
    apt::ensure("comparing costs", COMPARED)
}
