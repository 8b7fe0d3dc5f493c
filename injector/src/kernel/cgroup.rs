//! The command's own cgroup.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use injector_common::{CgroupId, Tgid};

/// A cgroup of ours.
#[derive(Clone, Debug)]
pub(super) struct OwnCgroup {
    pub(super) path: PathBuf,
    pub(super) id: CgroupId,
    pub(super) level: u32,
}

/// Makes a cgroup below the agent's own, so that the command lives under the
/// same limits as whatever started the agent.
///
/// # Errors
///
/// When there is no cgroup v2 or it cannot be written.
pub(super) fn create(name: &str) -> io::Result<OwnCgroup> {
    let (parent, parent_level) = position()?;
    let path = parent.join(name);
    fs::create_dir(&path)?;
    let id = CgroupId(fs::metadata(&path)?.ino());
    Ok(OwnCgroup {
        path,
        id,
        level: parent_level + 1,
    })
}

/// Where a cgroup of this name will lie.
///
/// # Errors
///
/// When there is no cgroup v2.
pub(super) fn path_of(name: &str) -> io::Result<PathBuf> {
    position().map(|(parent, _)| parent.join(name))
}

/// Where cgroup v2 is mounted.
///
/// # Errors
///
/// When it is not.
pub(super) fn mount_point() -> io::Result<PathBuf> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "no cgroup v2 is mounted");
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    // proc_pid_mountinfo(5): the mount point is field 5, the type follows "-".
    mounts
        .lines()
        .find_map(|line| {
            let (fields, rest) = line.split_once(" - ")?;
            let point = fields.split(' ').nth(4)?;
            rest.starts_with("cgroup2 ").then(|| PathBuf::from(point))
        })
        .ok_or_else(missing)
}

/// The agent's own cgroup, and how many levels below the root it lies.
fn position() -> io::Result<(PathBuf, u32)> {
    let mount = mount_point()?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let path = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the agent is in no cgroup v2"))?;
    let level = path.split('/').filter(|part| !part.is_empty()).count();
    Ok((mount.join(path), u32::try_from(level).unwrap_or(u32::MAX)))
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
