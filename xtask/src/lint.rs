//! `cargo xtask lint`: formatting, conventions, warnings and documentation.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::exec::{cargo, command, run, say, step, succeeds};
use crate::{build, paths, tidy, toolchain};

/// Check formatting, the repository's conventions, warnings of all kinds and the documentation
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Check only formatting and conventions, which takes no compiler
    #[arg(long)]
    quick: bool,
}

/// Runs the subcommand. All checks run, so that one run shows everything there is to mend.
pub(crate) fn run_command(options: &Options) -> Result<ExitCode> {
    ensure_components()?;
    let mut failed = Vec::new();
    let mut check = |title: &str, work: &mut dyn FnMut() -> Result<()>| {
        if let Err(error) = step(title, work) {
            say(format!("{error:#}"));
            failed.push(title.to_owned());
        }
    };
    check("formatting", &mut || {
        run(cargo("fmt").args(["--all", "--check"]))
    });
    check("conventions", &mut tidy::check);
    if !options.quick {
        // `injector` contains the BPF programs, so they come first.
        check("BPF build", &mut build::bpf);
        check("BPF warnings", &mut bpf_warnings);
        check("clippy", &mut clippy);
        check("documentation", &mut documentation);
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    say(format!("these checks failed: {}", failed.join(", ")));
    Ok(ExitCode::FAILURE)
}

/// rustup's minimal profile lacks both tools.
fn ensure_components() -> Result<()> {
    let has = |tool| succeeds(cargo(tool).arg("--version"));
    if has("fmt") && has("clippy") {
        return Ok(());
    }
    say("installing rustfmt and clippy");
    run(command("rustup").args(["component", "add", "rustfmt", "clippy"]))
        .context("install rustfmt and clippy for your toolchain")
}

/// There is no clippy for Debian's BPF compiler; its warnings are what there is.
fn bpf_warnings() -> Result<()> {
    // As flags of the compiler these would rebuild everything. Cargo's own setting repeats the
    // warnings of the build that is there; it wants -Z, which both BPF toolchains allow.
    let mut build = toolchain::ensure()?.cargo("build", &paths::target().join("bpf"));
    build.args(["--bin", "injector-ebpf", "-Zwarnings"]);
    run(build.env("CARGO_BUILD_WARNINGS", "deny"))
}

fn clippy() -> Result<()> {
    let mut clippy = cargo("clippy");
    clippy.args([
        "--locked",
        "--workspace",
        "--exclude",
        "injector-ebpf",
        "--all-targets",
    ]);
    run(clippy.args(["--", "-D", "warnings"]))
}

fn documentation() -> Result<()> {
    let mut doc = cargo("doc");
    run(doc
        .args(["--locked", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}
