//! `cgroup:PATH`.

use std::path::{Component, Path, PathBuf};

use injector_common::CgroupId;

use super::host::{CgroupMount, Directory, Filesystem, Host};
use crate::error::{Error, SpecError, Unsupported};

/// A cgroup that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its id.
    pub id: CgroupId,
    /// How many levels below the root it lies; the root is 0.
    pub level: u32,
    /// Its directory.
    pub path: PathBuf,
}

/// Id of the root cgroup: kernfs numbers its nodes from 1.
const ROOT_ID: CgroupId = CgroupId(1);

const ALLOWED: &str = "a cgroup v2 that exists, as a directory (cgroup:/sys/fs/cgroup/web) or as /proc/PID/cgroup names it (cgroup:/web)";

/// Finds the cgroup that the user named.
///
/// A path is read as a directory first and below the mount's root second: a
/// name such as `/system.slice/ssh.service` is in no danger of being a
/// directory of the host's root.
pub(super) fn find(
    path: &Path,
    whole_host: bool,
    mounts: &[CgroupMount],
    host: &impl Host,
) -> Result<Cgroup, Error> {
    let refuse = |what: &str| {
        SpecError::new(
            "target",
            format!("cgroup:{} {what}", path.display()),
            ALLOWED,
        )
    };
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(refuse("holds `..`").into());
    }
    let below_a_mount = below_mount(path, mounts, host);
    let as_directory = if path.is_absolute() {
        host.directory(path).ok()
    } else {
        None
    };
    let directory = match (as_directory, below_a_mount) {
        (Some(directory), _) if directory.filesystem == Filesystem::CgroupV2 => directory,
        (_, Some(directory)) if directory.filesystem == Filesystem::CgroupV2 => directory,
        (Some(directory), _) if directory.filesystem == Filesystem::CgroupV1 => {
            return Err(refuse("is a cgroup v1").into());
        }
        (Some(_), _) => return Err(refuse("lies outside of the cgroup v2 mount").into()),
        (None, _) if lies_on_v1(path, host) => {
            return Err(refuse("does not exist, and would be a cgroup v1").into());
        }
        (None, _) => return Err(refuse("does not exist").into()),
    };
    let level = level(&directory, mounts, host)?;
    if level == 0 && !whole_host {
        let what = "is the root cgroup, which holds every process of the host";
        return Err(SpecError {
            allowed: "a cgroup below the root, or --whole-host to hit the whole host".into(),
            ..refuse(what)
        }
        .into());
    }
    Ok(Cgroup {
        id: directory.id,
        level,
        path: directory.path,
    })
}

/// The cgroup of a process, by what its `/proc/PID/cgroup` says.
pub(super) fn of_process(
    text: &str,
    mounts: &[CgroupMount],
    host: &impl Host,
) -> Result<Cgroup, Error> {
    let unseen = |found: &str| Unsupported {
        what: "a cgroup for the command".into(),
        needs: "a cgroup v2 mount that shows the injector's own cgroup".into(),
        found: found.to_owned().into(),
    };
    let own = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or_else(|| unseen("the injector is in no cgroup v2"))?;
    let directory = below_mount(Path::new(own), mounts, host)
        .filter(|directory| directory.filesystem == Filesystem::CgroupV2)
        .ok_or_else(|| unseen(&format!("none shows {own}")))?;
    Ok(Cgroup {
        id: directory.id,
        level: level(&directory, mounts, host)?,
        path: directory.path,
    })
}

/// What lies at a path in the form of `/proc/PID/cgroup`. Of a bind mount only
/// what lies below its root can be seen.
fn below_mount(path: &Path, mounts: &[CgroupMount], host: &impl Host) -> Option<Directory> {
    let absolute = Path::new("/").join(path);
    mounts.iter().find_map(|mount| {
        let relative = absolute.strip_prefix(&mount.root).ok()?;
        host.directory(&mount.point.join(relative)).ok()
    })
}

/// Whether the nearest directory above a path that does not exist is of v1.
fn lies_on_v1(path: &Path, host: &impl Host) -> bool {
    path.is_absolute()
        && path
            .ancestors()
            .find_map(|ancestor| host.directory(ancestor).ok())
            .is_some_and(|directory| directory.filesystem == Filesystem::CgroupV1)
}

/// How far below the hierarchy's root the cgroup lies, as the kernel counts.
fn level(directory: &Directory, mounts: &[CgroupMount], host: &impl Host) -> Result<u32, Error> {
    if directory.id == ROOT_ID {
        return Ok(0);
    }
    // The innermost of nested mounts is the one that the path passes.
    let mount = mounts
        .iter()
        .filter(|mount| directory.path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count());
    let Some(mount) = mount else {
        let problem = format!("{} lies in no cgroup v2 mount", directory.path.display());
        return Err(SpecError::new("target", problem, ALLOWED).into());
    };
    let relative = directory
        .path
        .strip_prefix(&mount.point)
        .unwrap_or(&directory.path);
    let mounted_root_is_root = host
        .directory(&mount.point)
        .is_ok_and(|directory| directory.id == ROOT_ID);
    if mounted_root_is_root {
        return Ok(depth(relative));
    }
    if host.in_initial_cgroup_namespace() {
        return Ok(depth(&mount.root) + depth(relative));
    }
    Err(Unsupported {
        what: "a target cgroup".into(),
        needs: "the host's cgroup namespace, such as `docker run --cgroupns=host`".into(),
        found: "a cgroup namespace of a container, from which the root cannot be seen".into(),
    }
    .into())
}

fn depth(path: &Path) -> u32 {
    let names = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    u32::try_from(names.count()).unwrap_or(u32::MAX)
}
