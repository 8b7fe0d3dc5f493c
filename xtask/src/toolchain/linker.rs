//! The pinned bpf-linker, built into the repository's own tool folder.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{BpfToolchain, choice, nightly_sysroot};
use crate::apt::{self, Package};
use crate::exec::{cargo, command, output, run, say, step};
use crate::paths;

/// The bpf-linker version that both toolchains are known to work with.
const VERSION: &str = "0.13.0";

/// The LLVM that Debian's `rustc-web` is built with, and where Debian keeps it.
const DEBIAN_LLVM: u32 = 22;
const DEBIAN_PREFIX: &str = "/usr/lib/llvm-22";

const DEBIAN_PACKAGES: &[Package] = &[
    apt::file("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config"),
    apt::file("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
    apt::file("libzstd-dev", "/usr/include/zstd.h"),
    apt::file("zlib1g-dev", "/usr/include/zlib.h"),
    apt::file("libxml2-dev", "/usr/include/libxml2"),
    apt::program("g++", "c++"),
];

/// Builds the linker, unless the one that is there fits the toolchain.
pub(super) fn ensure(toolchain: BpfToolchain) -> Result<()> {
    let linker = paths::bpf_linker();
    let llvm = match toolchain {
        BpfToolchain::Debian => DEBIAN_LLVM,
        BpfToolchain::Nightly { llvm } => llvm,
    };
    if fits(&linker, llvm) {
        return Ok(());
    }
    let prefix = match toolchain {
        BpfToolchain::Debian => {
            apt::ensure("building bpf-linker", DEBIAN_PACKAGES)?;
            PathBuf::from(DEBIAN_PREFIX)
        }
        BpfToolchain::Nightly { .. } => nightly_llvm()?,
    };
    let title = format!(
        "building bpf-linker {VERSION} into .tools (for {})",
        toolchain.name()
    );
    step(&title, || {
        let mut install = cargo("install");
        install.args(["bpf-linker", "--locked", "--force", "--quiet"]);
        install.args(["--version", VERSION]);
        install.args(["--no-default-features", "--features"]);
        install.arg(format!("llvm-{llvm}"));
        install.arg("--root").arg(paths::tools());
        install.env("LLVM_PREFIX", &prefix);
        // A target folder of its own: the repository's would keep 100 MB that nobody uses again.
        let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
        install.env("CARGO_TARGET_DIR", scratch.path());
        run(&mut install).with_context(|| {
            format!(
                "bpf-linker could not be built. To see everything it says, run:\n  \
                 LLVM_PREFIX={} cargo install bpf-linker --version {VERSION} --locked --force \
                 --no-default-features --features llvm-{llvm} --root .tools\n",
                prefix.display()
            )
        })
    })?;
    say(format!("installed {}", linker.display()));
    Ok(())
}

/// Whether a linker is of the pinned version, runs, and was built for this LLVM.
fn fits(linker: &Path, llvm: u32) -> bool {
    let version = output(command(linker).arg("--version")).unwrap_or_default();
    version.split_whitespace().nth(1) == Some(VERSION)
        && std::fs::read(linker).is_ok_and(|program| choice::llvm_linked(&program) == Some(llvm))
}

/// A folder to link the LLVM of rustup's nightly from. The compiler's own library is the one that
/// is sure to read what the compiler wrote, and no other needs to be installed. It only lacks the
/// name by which libraries are linked.
fn nightly_llvm() -> Result<PathBuf> {
    let shipped = nightly_sysroot()?.join("lib");
    let library = std::fs::read_dir(&shipped)
        .with_context(|| format!("cannot read the folder {}", shipped.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(is_llvm))
        .with_context(|| format!("the nightly has no LLVM library in {}", shipped.display()))?;
    let prefix = paths::tools().join("llvm");
    let folder = prefix.join("lib");
    // One that was linked before may be of an older nightly.
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for name in library
        .file_name()
        .into_iter()
        .chain([OsStr::new("libLLVM.so")])
    {
        let link = folder.join(name);
        symlink(&library, &link)
            .with_context(|| format!("cannot make the link {}", link.display()))?;
    }
    Ok(prefix)
}

/// Whether a file of this name is the library itself: beside it lies a text that names it.
fn is_llvm(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| name.starts_with("libLLVM.so."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_told_from_the_text_that_names_it() {
        assert!(is_llvm(OsStr::new("libLLVM.so.22.1-rust-1.97.0-nightly")));
        assert!(!is_llvm(OsStr::new("libLLVM-22-rust-1.97.0-nightly.so")));
    }
}
