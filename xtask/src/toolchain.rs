//! The one place that chooses the compiler for the BPF target.
//!
//! Stable Rust cannot build for BPF, because `core` is not shipped for that target and
//! `aya-ebpf` uses an unstable feature. Two toolchains can: Debian's `rustc-web` with its
//! prebuilt `core`, and rustup's nightly with `rust-src`. Both link with bpf-linker.

mod choice;
mod linker;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use self::choice::{Found, Nightly};
use crate::apt::{self, Package};
use crate::exec::{command, find, output};
use crate::paths;

const DEBIAN_RUST: &[Package] = &[
    apt::file(
        "libstd-rust-web-dev-bpf",
        "/usr/lib/rustlib/bpfel-unknown-none",
    ),
    apt::file("rustc-web", "/usr/bin/rustc"),
    apt::file("cargo-web", "/usr/bin/cargo"),
];

/// A toolchain that can compile for BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BpfToolchain {
    /// Debian's `rustc-web`, `cargo-web` and `libstd-rust-web-dev-bpf`.
    Debian,
    /// rustup's nightly, which compiles `core` itself, and is built with this LLVM.
    Nightly { llvm: u32 },
}

/// Finds or installs a toolchain and the linker.
pub(crate) fn ensure() -> Result<BpfToolchain> {
    let found = look();
    let toolchain = match found.usable() {
        Some(toolchain) => toolchain,
        None => install(found)?,
    };
    linker::ensure(toolchain)?;
    Ok(toolchain)
}

impl BpfToolchain {
    /// A cargo command for the BPF target that puts its results into `target`.
    pub(crate) fn cargo(self, subcommand: &str, target: &Path) -> Command {
        let mut command = match self {
            Self::Debian => {
                let mut command = command("/usr/bin/cargo");
                command.arg(subcommand);
                command
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Self::Nightly { .. } => {
                let mut command = command("rustup");
                command.args(["run", &nightly(), "cargo", subcommand, "-Zbuild-std=core"]);
                command
            }
        };
        // What the outer cargo says about its own compiler is wrong for this one.
        for name in [
            "CARGO",
            "RUSTUP_TOOLCHAIN",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTDOC",
            "RUSTFLAGS",
            "RUSTDOCFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
        ] {
            command.env_remove(name);
        }
        if matches!(self, Self::Nightly { .. }) {
            command.env_remove("RUSTC");
        }
        let linker = format!("linker={}", paths::bpf_linker().display());
        let flags = [
            // aya-ebpf picks register layouts by the architecture that the programs will run on.
            "--cfg",
            "bpf_target_arch=\"x86_64\"",
            "-C",
            &linker,
            // Atomics that return the old value came with the third version of the instruction
            // set (Linux 5.12).
            "-C",
            "target-cpu=v3",
            // BTF is made from debug information.
            "-C",
            "debuginfo=2",
            "-C",
            "link-arg=--btf",
        ];
        command
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .args(["--release", "--locked", "--package", "injector-ebpf"])
            .args(["--target", "bpfel-unknown-none", "--target-dir"])
            .arg(target);
        command
    }

    fn name(self) -> &'static str {
        match self {
            Self::Debian => "Debian's rustc-web",
            Self::Nightly { .. } => "rustup's nightly with rust-src",
        }
    }
}

/// The nightly toolchain's name for rustup.
fn nightly() -> String {
    std::env::var(choice::VARIABLE).unwrap_or_else(|_| "nightly".to_owned())
}

/// Where the nightly toolchain lies.
fn nightly_sysroot() -> Result<PathBuf> {
    let rustc = ["run", &nightly(), "rustc", "--print", "sysroot"];
    Ok(output(command("rustup").args(rustc))?.trim().into())
}

fn look() -> Found {
    let has = |path: &str| Path::new(path).exists();
    let packaged = has("/usr/lib/rustlib/bpfel-unknown-none")
        && has("/usr/bin/cargo")
        && has("/usr/bin/rustc");
    Found {
        packaged,
        rustup: find("rustup").is_some(),
        // Asking takes a while, and the answer would not matter.
        nightly: if packaged { None } else { look_at_nightly() },
    }
}

fn look_at_nightly() -> Option<Nightly> {
    let sysroot = nightly_sysroot().ok()?;
    let rustc = ["run", &nightly(), "rustc", "--version", "--verbose"];
    let version = output(command("rustup").args(rustc)).ok()?;
    Some(Nightly {
        sources: sysroot.join("lib/rustlib/src/rust/library/core").exists(),
        llvm: choice::llvm_of(&version).unwrap_or_default(),
    })
}

/// Installs Debian's packages, where they can be had.
fn install(found: Found) -> Result<BpfToolchain> {
    let names: Vec<_> = DEBIAN_RUST.iter().map(|package| package.name).collect();
    let candidates = apt::has_candidates(&names)
        || (apt::is_available() && crate::exec::is_root() && {
            apt::update()?;
            apt::has_candidates(&names)
        });
    if !candidates {
        bail!(found.advice(&nightly()));
    }
    apt::ensure("compiling for BPF", DEBIAN_RUST).with_context(|| {
        format!(
            "Debian's BPF toolchain could not be installed; without it, {}\n",
            found.advice(&nightly())
        )
    })?;
    Ok(BpfToolchain::Debian)
}
