//! The QEMU that runs virtual machines: the system's own, or one unpacked beside the repository.
//!
//! Debian 12 has QEMU 7.2, whose emulation of two processors corrupts the guest now and then
//! (`docs/kernels.md`), and which does not install beside the newer `qemu-utils` that many such
//! machines have. There, the backported QEMU is downloaded and unpacked with the libraries that
//! it lacks, and neither installed nor added to the system's package sources.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt::lists::Lists;
use crate::exec::{command, find, output, run, say, step, succeeds};
use crate::{apt, paths};

/// What the program is called.
const PROGRAM: &str = "qemu-system-x86_64";
/// Where a package manager puts it.
const PACKAGE: &str = "qemu-system-x86";
/// The release whose own QEMU is not good enough, and where a better one is.
const OLD_RELEASE: &str = "bookworm";
const BACKPORTS: &str = "bookworm-backports";
/// Folders of an unpacked QEMU with libraries, and with firmware.
const LIBRARIES: &[&str] = &["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
const FIRMWARE: &[&str] = &["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// A QEMU, and where it finds what belongs to it.
#[derive(Debug)]
pub(crate) struct Emulator {
    program: PathBuf,
    /// The root of the packages that it was unpacked from, if it was.
    root: Option<PathBuf>,
}

impl Emulator {
    /// The QEMU to use, made available if it is not.
    pub(crate) fn ensure() -> Result<Self> {
        if let Some(unpacked) = Self::unpacked() {
            return Ok(unpacked);
        }
        if is_old_debian() {
            step(
                "fetching QEMU from Debian's backports into .tools/qemu",
                unpack,
            )?;
            return Self::unpacked()
                .with_context(|| format!("{PROGRAM} does not run: {}", why(&folder())));
        }
        apt::ensure("virtual machines", &[apt::program(PACKAGE, PROGRAM)])?;
        let program = find(PROGRAM).with_context(|| format!("no {PROGRAM} in PATH"))?;
        Ok(Self {
            program,
            root: None,
        })
    }

    /// The one in the tools folder, if it is there and runs.
    fn unpacked() -> Option<Self> {
        let unpacked = Self::at(folder());
        let works = unpacked.program.is_file()
            && succeeds(
                Command::new(&unpacked.program)
                    .envs(unpacked.environment())
                    .arg("--version"),
            );
        works.then_some(unpacked)
    }

    fn at(root: PathBuf) -> Self {
        Self {
            program: root.join("usr/bin").join(PROGRAM),
            root: Some(root),
        }
    }

    /// The program to start.
    pub(crate) fn program(&self) -> &OsStr {
        self.program.as_os_str()
    }

    /// Variables that it needs.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let Some(root) = &self.root else {
            return Vec::new();
        };
        let libraries = std::env::join_paths(LIBRARIES.iter().map(|part| root.join(part)));
        libraries
            .map(|paths| vec![("LD_LIBRARY_PATH", paths)])
            .unwrap_or_default()
    }

    /// Arguments that it needs.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let firmware = self.root.iter().flat_map(|root| {
            FIRMWARE
                .iter()
                .map(|part| root.join(part))
                .filter(|folder| folder.is_dir())
        });
        firmware
            .flat_map(|folder| ["-L".into(), folder.into_os_string()])
            .collect()
    }
}

fn folder() -> PathBuf {
    paths::tools().join("qemu")
}

/// What an unpacked QEMU says when it does not run.
fn why(root: &Path) -> String {
    let emulator = Emulator::at(root.to_path_buf());
    let mut version = Command::new(emulator.program());
    version.envs(emulator.environment()).arg("--version");
    output(&mut version).map_or_else(|error| error.to_string(), |_| "it does now".to_owned())
}

/// Whether this is the Debian release whose QEMU is too old.
fn is_old_debian() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    apt::is_available()
        && release.lines().any(|line| line == "ID=debian")
        && release
            .lines()
            .any(|line| line == format!("VERSION_CODENAME={OLD_RELEASE}"))
}

/// Downloads QEMU with every package that it needs and that is not installed, and unpacks them.
fn unpack() -> Result<()> {
    let tools = paths::tools();
    std::fs::create_dir_all(&tools)
        .with_context(|| format!("cannot make the folder {}", tools.display()))?;
    // Renamed when complete, so that an interrupted run leaves nothing that looks finished.
    let scratch = tempfile::tempdir_in(&tools).context("cannot make a temporary folder")?;
    let lists = Lists::fetch(scratch.path(), &[OLD_RELEASE, BACKPORTS])?;
    let packages = missing(&lists, PACKAGE)?;
    say(format!("unpacking {}", packages.join(" ")));
    let downloads = scratch.path().join("downloads");
    std::fs::create_dir(&downloads).context("cannot make a folder for downloads")?;
    let mut download = lists.command("apt-get");
    download.current_dir(&downloads).args(["-q", "download"]);
    run(download.args(&packages))?;
    let root = scratch.path().join("root");
    for file in std::fs::read_dir(&downloads)
        .context("cannot read the downloads")?
        .flatten()
    {
        run(command("dpkg").arg("-x").arg(file.path()).arg(&root))?;
    }
    let folder = folder();
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    std::fs::rename(&root, &folder)
        .with_context(|| format!("cannot move QEMU to {}", folder.display()))
}

/// `NAME=VERSION` of a backported package and of what it needs beside what is installed.
fn missing(lists: &Lists, package: &str) -> Result<Vec<String>> {
    let mut simulate = lists.command("apt-get");
    simulate.args(["-q", "--simulate", "install", "--no-install-recommends"]);
    simulate.args(["-o", "Debug::NoLocking=true", "-t", BACKPORTS, package]);
    let packages = to_install(&output(&mut simulate)?);
    if packages.is_empty() {
        bail!("apt would install nothing for {package} from {BACKPORTS}");
    }
    Ok(packages)
}

/// What a simulated installation would install: lines of `Inst NAME [OLD] (VERSION ORIGIN …)`.
fn to_install(simulation: &str) -> Vec<String> {
    let installs = simulation
        .lines()
        .filter_map(|line| line.strip_prefix("Inst "));
    installs
        .filter_map(|line| {
            let name = line.split_whitespace().next()?;
            let version = line.split_once('(')?.1.split_whitespace().next()?;
            Some(format!("{name}={version}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_install_is_read_with_versions() {
        let simulation = "Reading package lists...\n\
            Inst seabios (1.16.3-2~bpo12+1 Debian Backports:oldstable-backports [all])\n\
            Inst qemu-utils [1:7.2] (1:10.0.2+ds-2 Debian Backports:oldstable-backports [amd64])\n\
            Remv something [1]\n\
            Conf seabios (1.16.3-2~bpo12+1 Debian Backports:oldstable-backports [all])\n";
        assert_eq!(
            to_install(simulation),
            ["seabios=1.16.3-2~bpo12+1", "qemu-utils=1:10.0.2+ds-2"]
        );
        assert!(to_install("E: Unable to locate package").is_empty());
    }
}
