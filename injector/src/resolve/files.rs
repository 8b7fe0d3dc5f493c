//! Files that rules name, as their targets see them.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use injector_common::Tgid;
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::{stat::Mode, statfs::fstatfs},
};

use super::host::{Host, RootId};
use crate::{error::SpecError, model::Choice};

/// A file that a rule names, in one of the roots that its targets live in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlace {
    /// A process whose root directory the path starts at; `None` for the agent's own.
    pub process: Option<Tgid>,
    /// The path there.
    pub path: PathBuf,
    /// Whether the rule leaves it out.
    pub left_out: bool,
    /// Whether it was not named itself, but is mounted below what was.
    pub mounted: bool,
}

impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.left_out { "!" } else { "" })?;
        write!(f, "{}", self.path.display())?;
        match self.process {
            Some(process) => write!(f, " of process {process}"),
            None => Ok(()),
        }
    }
}

/// Finds the paths in the root of each of these processes, and in the agent's own if targets are
/// yet to start there. What is mounted below a path is named too: a file of another file system
/// has no directory of this one above it.
///
/// A path that is in some of these roots only is named there.
///
/// # Errors
///
/// Where a path is nowhere.
pub(super) fn find<'a>(
    paths: &Choice<PathBuf>,
    processes: impl IntoIterator<Item = &'a Tgid>,
    uses_own: bool,
    host: &impl Host,
) -> Result<Vec<FilePlace>, SpecError> {
    let roots: Vec<Option<Tgid>> = roots(processes, uses_own, host).collect();
    let mut places: Vec<FilePlace> = Vec::new();
    for (path, left_out) in paths.each() {
        let mut refused = None;
        let before = places.len();
        for &process in &roots {
            match host.file(process, path) {
                Ok(found) => places.extend((0..).zip(found).map(|(place, path)| FilePlace {
                    process,
                    path,
                    left_out,
                    mounted: place > 0,
                })),
                Err(error) => refused = Some(error),
            }
        }
        if let (true, Some(error)) = (places.len() == before, refused) {
            let problem = format!("{} cannot be found by the target: {error}", path.display());
            let allowed = "a file or directory that is there; name its directory, and the file by \
                           --file-name, if it is yet to be made";
            return Err(SpecError::new("path", problem, allowed));
        }
    }
    Ok(places)
}

/// A process for each of the roots of these, and `None` for the agent's own if that is among them, or
/// targets are yet to start there.
pub(super) fn roots<'a>(
    processes: impl IntoIterator<Item = &'a Tgid>,
    uses_own: bool,
    host: &impl Host,
) -> impl Iterator<Item = Option<Tgid>> {
    let mut roots: BTreeMap<RootId, Option<Tgid>> = BTreeMap::new();
    let own = host.root(None);
    for &process in processes {
        let Some(root) = host.root(Some(process)) else {
            continue;
        };
        let known = if Some(root) == own {
            None
        } else {
            Some(process)
        };
        roots.entry(root).or_insert(known);
    }
    if let Some(own) = own
        && (uses_own || roots.is_empty())
    {
        roots.insert(own, None);
    }
    roots.into_values()
}

/// Opens a file as a process sees it, without a right to do anything with it.
///
/// # Errors
///
/// Where there is none, or the process has ended.
pub fn open(process: Option<Tgid>, path: &Path) -> io::Result<OwnedFd> {
    let root = File::open(root_of(process))?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    // Symbolic links lead on from the process's root, not from ours (Linux 5.6).
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .mode(Mode::empty())
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let mut attempt = 0;
    loop {
        match openat2(&root, relative, how) {
            // Something was renamed or mounted meanwhile, anywhere (openat2(2)).
            Err(Errno::EAGAIN) if attempt < 64 => attempt += 1,
            result => return Ok(result?),
        }
    }
}

/// File systems whose subvolumes share a device and number their files alike, so that a file is not
/// known by these two: btrfs, bcachefs (linux/magic.h).
const SUBVOLUMES: [i64; 2] = [0x9123_683e, 0xca45_1a4e];

/// Refuses a file that programs could take for others.
///
/// # Errors
///
/// Where its file system has subvolumes.
pub(super) fn check_known(file: &OwnedFd) -> io::Result<()> {
    let kind = fstatfs(file)?.filesystem_type().0;
    if SUBVOLUMES.contains(&kind) {
        return Err(io::Error::other(
            "its file system has subvolumes, and files of one cannot be told from those of another",
        ));
    }
    Ok(())
}

/// A path to the root directory of a process.
pub(super) fn root_of(process: Option<Tgid>) -> PathBuf {
    match process {
        Some(process) => format!("/proc/{process}/root").into(),
        None => "/".into(),
    }
}
