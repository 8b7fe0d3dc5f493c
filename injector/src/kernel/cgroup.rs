//! The command's own cgroup.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use injector_common::{CgroupId, Tgid};

use crate::{
    error::{Error, Unsupported},
    resolve::{self, Host as _, LinuxHost},
};

/// A cgroup of ours.
#[derive(Clone, Debug)]
pub(super) struct OwnCgroup {
    pub(super) path: PathBuf,
    pub(super) id: CgroupId,
    pub(super) level: u32,
}

/// Where a cgroup for the command belongs, and how many levels below the root
/// that is: below the agent's own, so that the command lives under the same
/// limits as whatever started the agent.
///
/// # Errors
///
/// When the agent is in no cgroup v2 that can be seen.
pub(super) fn place_for(name: &str) -> Result<(PathBuf, u32), Error> {
    let parent = resolve::own_cgroup(&LinuxHost::new()?)?;
    Ok((parent.path.join(name), parent.level + 1))
}

/// Makes a cgroup.
///
/// # Errors
///
/// When it cannot be written.
pub(super) fn create(path: PathBuf, level: u32) -> io::Result<OwnCgroup> {
    fs::create_dir(&path)?;
    let id = CgroupId(fs::metadata(&path)?.ino());
    Ok(OwnCgroup { path, id, level })
}

/// Where cgroup v2 is mounted: of several mounts, the one that shows the most.
///
/// # Errors
///
/// When it is not.
pub(super) fn mount_point() -> Result<PathBuf, Error> {
    let mut mounts = LinuxHost::new()?.cgroup_mounts()?;
    // A bind mount shows a part of the hierarchy only.
    mounts.sort_by_key(|mount| mount.root.components().count());
    let missing = || Unsupported {
        what: "the root of all cgroups".into(),
        needs: "cgroup v2".into(),
        found: "no cgroup2 mount".into(),
    };
    let first = mounts.into_iter().next().ok_or_else(missing)?;
    Ok(first.point)
}

/// The processes in a cgroup and below it, now.
///
/// # Errors
///
/// When the cgroup itself cannot be read; one below that goes meanwhile is no
/// error.
pub(super) fn processes(path: &Path) -> io::Result<Vec<Tgid>> {
    let text = fs::read_to_string(path.join("cgroup.procs"))?;
    let mut tgids: Vec<Tgid> = text
        .lines()
        .filter_map(|pid| pid.parse().ok().map(Tgid))
        .collect();
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tgids.extend(processes(&entry.path()).unwrap_or_default());
        }
    }
    Ok(tgids)
}

/// Moves whatever still runs in the cgroup to its parent, then removes it. One
/// that is gone already is no error.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    let procs = path.join("cgroup.procs");
    if let Some(parent) = path.parent() {
        // A fork can put another process in while we empty it.
        for _ in 0..16 {
            let pids = fs::read_to_string(&procs).unwrap_or_default();
            if pids.is_empty() {
                break;
            }
            for pid in pids.lines() {
                // One that ended meanwhile needs no moving.
                let _ = fs::write(parent.join("cgroup.procs"), pid);
            }
        }
    }
    // Removal fails with EBUSY for a moment while a dead process is reaped.
    let mut attempt = 0;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && attempt < 100 => {
                attempt += 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
}
