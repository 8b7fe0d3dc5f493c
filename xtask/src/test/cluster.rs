//! A PostgreSQL cluster for the tests to begin with.
//!
//! Making one takes the host two seconds, and an emulated processor a minute.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use nix::unistd::User;

use crate::exec::{command, find, run};
use crate::paths;

/// Where Debian has the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Whose files the cluster consists of: the server refuses to run as root.
const OWNER: &str = "postgres";

/// Where it is kept.
pub(crate) fn folder() -> PathBuf {
    paths::target().join("postgres")
}

/// Makes a new one, by the newest version that is installed.
pub(crate) fn make() -> Result<()> {
    let initdb = initdb()?;
    let owner = User::from_name(OWNER)
        .context("cannot look up a user")?
        .with_context(|| format!("there is no user {OWNER}"))?;
    // The server's user may have no way into the repository.
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    chown(
        scratch.path(),
        Some(owner.uid.as_raw()),
        Some(owner.gid.as_raw()),
    )
    .with_context(|| format!("cannot give a folder to {OWNER}"))?;
    let data = scratch.path().join("data");
    let mut make = command("setpriv");
    make.args(["--reuid", OWNER, "--regid", OWNER, "--clear-groups"]);
    make.arg(initdb).arg("-D").arg(&data);
    make.args(["-A", "trust", "-k", "--no-sync", "--locale=C", "-EUTF8"]);
    run(make.current_dir(scratch.path()).stdout(Stdio::null()))?;
    let folder = folder();
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    run(command("cp").arg("-a").arg(&data).arg(&folder))
}

/// The newest one: of Debian's versions, or the one that is found elsewhere.
fn initdb() -> Result<PathBuf> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let programs = versions.map(|entry| entry.path().join("bin/initdb"));
    let newest = programs.filter(|program| program.exists()).max();
    newest
        .or_else(|| find("initdb"))
        .context("there is no server of PostgreSQL; on Debian it is in the package postgresql")
}
