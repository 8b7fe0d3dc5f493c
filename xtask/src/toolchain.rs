//! The one place that chooses the compiler for the BPF target.
//!
//! Stable Rust cannot build for BPF, because `core` is not shipped for that target and
//! `aya-ebpf` uses an unstable feature. Two toolchains can: Debian's `rustc-web` with its
//! prebuilt `core`, and rustup's nightly with `rust-src`. Both link with bpf-linker.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt::{self, Package};
use crate::exec::{cargo, command, output, run, say, step};
use crate::paths;

/// The bpf-linker version that both toolchains are known to work with.
const LINKER_VERSION: &str = "0.13.0";

/// Where Debian keeps the LLVM that its `rustc-web` is built with.
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

const DEBIAN_RUST: &[Package] = &[
    apt::file(
        "libstd-rust-web-dev-bpf",
        "/usr/lib/rustlib/bpfel-unknown-none",
    ),
    apt::file("rustc-web", "/usr/bin/rustc"),
    apt::file("cargo-web", "/usr/bin/cargo"),
];

const DEBIAN_LINKER: &[Package] = &[
    apt::file("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config"),
    apt::file("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
    apt::file("libzstd-dev", "/usr/include/zstd.h"),
    apt::file("zlib1g-dev", "/usr/include/zlib.h"),
    apt::file("libxml2-dev", "/usr/include/libxml2"),
    apt::program("g++", "c++"),
];

/// A toolchain that can compile for BPF.
#[derive(Clone, Copy)]
pub(crate) enum BpfToolchain {
    /// Debian's `rustc-web`, `cargo-web` and `libstd-rust-web-dev-bpf`.
    Debian,
    /// rustup's nightly, which compiles `core` itself.
    Nightly,
}

/// Finds or installs a toolchain and the linker.
pub(crate) fn ensure() -> Result<BpfToolchain> {
    let toolchain = match detect() {
        Some(toolchain) => toolchain,
        None => install()?,
    };
    ensure_linker(toolchain)?;
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
            Self::Nightly => {
                let mut command = command("rustup");
                command.args(["run", "nightly", "cargo", subcommand, "-Zbuild-std=core"]);
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
        if matches!(self, Self::Nightly) {
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
            Self::Nightly => "rustup's nightly with rust-src",
        }
    }
}

fn detect() -> Option<BpfToolchain> {
    let has = |path: &str| Path::new(path).exists();
    if has("/usr/lib/rustlib/bpfel-unknown-none") && has("/usr/bin/cargo") && has("/usr/bin/rustc")
    {
        return Some(BpfToolchain::Debian);
    }
    let rustc = ["run", "nightly", "rustc", "--print", "sysroot"];
    let sysroot = output(command("rustup").args(rustc)).ok()?;
    let core = PathBuf::from(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    core.exists().then_some(BpfToolchain::Nightly)
}

fn install() -> Result<BpfToolchain> {
    let names: Vec<_> = DEBIAN_RUST.iter().map(|package| package.name).collect();
    let candidates = apt::has_candidates(&names)
        || (apt::is_available() && crate::exec::is_root() && {
            apt::update()?;
            apt::has_candidates(&names)
        });
    if !candidates {
        bail!(
            "no toolchain can compile for BPF here (Debian 12 has packages for it); run this, \
             then try again:\n  rustup toolchain install nightly --component rust-src"
        );
    }
    apt::ensure("compiling for BPF", DEBIAN_RUST).context(
        "Debian's BPF toolchain could not be installed; this is an alternative:\n  \
         rustup toolchain install nightly --component rust-src\n",
    )?;
    Ok(BpfToolchain::Debian)
}

fn ensure_linker(toolchain: BpfToolchain) -> Result<()> {
    let linker = paths::bpf_linker();
    let version = output(command(&linker).arg("--version")).unwrap_or_default();
    if version.split_whitespace().nth(1) == Some(LINKER_VERSION) {
        return Ok(());
    }
    let own_llvm = match toolchain {
        BpfToolchain::Debian => {
            apt::ensure("building bpf-linker", DEBIAN_LINKER)?;
            true
        }
        BpfToolchain::Nightly => false,
    };
    let title = format!(
        "building bpf-linker {LINKER_VERSION} into .tools (for {})",
        toolchain.name()
    );
    step(&title, || {
        let mut install = cargo("install");
        install.args([
            "bpf-linker",
            "--locked",
            "--force",
            "--quiet",
            "--version",
            LINKER_VERSION,
        ]);
        install.arg("--root").arg(paths::tools());
        // A target folder of its own: the repository's would keep 100 MB that nobody uses again.
        let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
        install.env("CARGO_TARGET_DIR", scratch.path());
        if own_llvm {
            install.args(["--no-default-features", "--features", "llvm-22"]);
            install.env("LLVM_PREFIX", DEBIAN_LLVM);
        }
        run(&mut install).with_context(|| {
            format!(
                "bpf-linker could not be built; it needs the LLVM development files of the \
                 version that its default feature names, found by llvm-config in PATH or by \
                 LLVM_PREFIX. To see everything it says, run:\n  \
                 cargo install bpf-linker --version {LINKER_VERSION} --locked --root .tools\n"
            )
        })
    })?;
    say(format!("installed {}", linker.display()));
    Ok(())
}
