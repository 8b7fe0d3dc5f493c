//! `cargo xtask build`: the BPF programs, then the command that carries them.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::exec::{cargo, run, step, write_if_changed};
use crate::{paths, toolchain};

/// Build the BPF programs and the injector (target/release/injector)
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build the BPF programs only (target/bpf/injector-ebpf.o)
    #[arg(long)]
    bpf_only: bool,
}

/// Runs the subcommand.
pub(crate) fn run_command(options: &Options) -> Result<ExitCode> {
    bpf()?;
    if !options.bpf_only {
        injector()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the BPF programs. Everything that compiles the `injector` package needs them first.
pub(crate) fn bpf() -> Result<()> {
    let toolchain = toolchain::ensure()?;
    step("building the BPF programs", || {
        let target = paths::target().join("bpf");
        run(toolchain
            .cargo("build", &target)
            .args(["--bin", "injector-ebpf"]))?;
        let built = target.join("bpfel-unknown-none/release/injector-ebpf");
        let object = std::fs::read(&built)
            .with_context(|| format!("cannot read the BPF object {}", built.display()))?;
        // A copy that only changes with its content: cargo rebuilds `injector` by its time stamp.
        write_if_changed(&paths::bpf_object(), &object).map(drop)
    })
}

/// Builds the command for release. The BPF programs must be there.
pub(crate) fn injector() -> Result<()> {
    step("building the injector", || {
        run(cargo("build").args(["--release", "--locked", "--package", "injector"]))
    })
}

/// Builds the programs of the tests package: the demo, the benchmark and their helpers.
pub(crate) fn test_programs() -> Result<()> {
    step("building the demo and the benchmarks", || {
        run(cargo("build").args([
            "--release",
            "--locked",
            "--package",
            "injector-tests",
            "--bins",
        ]))
    })
}
