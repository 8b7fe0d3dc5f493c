//! Debian packages: find out what is missing, install it, or name the command that would.

pub(crate) mod lists;

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::elsewhere::{self, Manager};
use crate::exec::{command, find, is_root, output, run, say, succeeds};

/// A Debian package, and how to see that what it brings is there, from whatever source.
pub(crate) struct Package {
    /// The package's name.
    pub(crate) name: &'static str,
    /// What to look for.
    pub(crate) probe: Probe,
}

/// What tells that a package is not needed (any more).
pub(crate) enum Probe {
    /// A program of this name is found.
    Program(&'static str),
    /// This file or folder exists.
    File(&'static str),
}

/// A package that is there when `program` is.
pub(crate) const fn program(name: &'static str, program: &'static str) -> Package {
    Package {
        name,
        probe: Probe::Program(program),
    }
}

/// A package that is there when `file` is.
pub(crate) const fn file(name: &'static str, file: &'static str) -> Package {
    Package {
        name,
        probe: Probe::File(file),
    }
}

impl Package {
    fn is_there(&self) -> bool {
        match self.probe {
            Probe::Program(program) => find(program).is_some(),
            Probe::File(file) => Path::new(file).exists(),
        }
    }
}

/// Installs those of `packages` that are missing. `purpose` says in messages what they are for.
pub(crate) fn ensure(purpose: &str, packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|p| !p.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_available() {
        bail!(elsewhere::advice(Manager::find(), purpose, &missing));
    }
    let missing: Vec<_> = missing.iter().map(|package| package.name).collect();
    let list = missing.join(" ");
    if !is_root() {
        bail!(
            "for {purpose}, packages are missing; run this, then try again:\n  \
             sudo apt-get update && sudo apt-get install -y --no-install-recommends {list}"
        );
    }
    say(format!("installing Debian packages for {purpose}: {list}"));
    update_if_lacking(&missing)?;
    if run(&mut install(&missing)).is_err() {
        // Old package lists name files that the mirror has dropped.
        update()?;
        run(&mut install(&missing))?;
    }
    match packages.iter().find(|package| !package.is_there()) {
        Some(package) => bail!(
            "the package {} was installed but did not bring what {purpose} needs from it; \
             a newer Debian release may have moved it",
            package.name
        ),
        None => Ok(()),
    }
}

/// Whether this system has apt.
pub(crate) fn is_available() -> bool {
    find("apt-get").is_some() && find("dpkg").is_some()
}

/// Whether apt knows a version of each of these packages that could be installed.
pub(crate) fn has_candidates(packages: &[&str]) -> bool {
    is_available()
        && packages.iter().all(|package| {
            output(command("apt-cache").args(["policy", package])).is_ok_and(|text| {
                text.contains("Candidate: ") && !text.contains("Candidate: (none)")
            })
        })
}

/// Fetches new package lists when the present ones lack one of these packages, as they do on
/// a machine (or in a container) that was just set up.
pub(crate) fn update_if_lacking(packages: &[&str]) -> Result<()> {
    if has_candidates(packages) {
        Ok(())
    } else {
        update()
    }
}

/// Fetches new package lists.
pub(crate) fn update() -> Result<()> {
    run(command("apt-get").args(["-q", "-o", "DPkg::Lock::Timeout=300", "update"]))
}

fn install(packages: &[&str]) -> Command {
    // Some of these packages bring services (nginx, redis). Installing a tool for tests must not
    // start them, now or at the next boot, so the programs by which packages do that are
    // replaced by /bin/true, in a mount namespace of this one command. A container that may not
    // make namespaces has no running init that could start them either.
    const INERT: &str = "for f in /usr/sbin/invoke-rc.d /usr/sbin/update-rc.d \
        /usr/bin/deb-systemd-invoke /usr/bin/deb-systemd-helper; do \
        if [ -e $f ]; then mount --bind /bin/true $f; fi; done; exec \"$@\"";
    let mut command = if succeeds(command("unshare").args(["--mount", "true"])) {
        let mut command = command("unshare");
        command.args(["--mount", "sh", "-ec", INERT, "sh", "apt-get"]);
        command
    } else {
        command("apt-get")
    };
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", "install", "-y", "--no-install-recommends"])
        // Debian's rustc-web replaces its rustc and rustup: never take such a thing away.
        .args(["--no-remove", "-o", "DPkg::Lock::Timeout=300"])
        .args(packages);
    command
}
