//! Working inside another network namespace, and knowing it again.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sched::{CloneFlags, setns, unshare},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use serde::{Deserialize, Serialize};

use crate::resolve::mounts_of;

/// Which namespace: two of them never have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Inode number of the files that open it. Another namespace gets it after
    /// this one is gone.
    pub(super) inode: u64,
    /// Its cookie (`SO_NETNS_COOKIE`, Linux 5.14), which is given out once.
    pub(super) cookie: u64,
}

/// Which namespace a file opens.
///
/// # Errors
///
/// When it may not be entered.
pub(super) fn identity(file: &File) -> io::Result<Identity> {
    Ok(Identity {
        inode: file.metadata()?.ino(),
        cookie: inside(file, own_cookie)??,
    })
}

/// The cookie of the calling thread's namespace.
fn own_cookie() -> io::Result<u64> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut cookie = 0u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the pointers are to locals, which have the length that is given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A file that opens a namespace: a mount, which stays, or else a process that
/// is in it or holds it open. Without any it is gone, or soon will be.
pub(super) fn find(wanted: Identity) -> Option<PathBuf> {
    let is_it = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|data| data.ino() == wanted.inode)
            && File::open(path).is_ok_and(|file| identity(&file).is_ok_and(|it| it == wanted))
    };
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = mounts_of("nsfs", &mountinfo).map(|(_, point)| point);
    let mut processes: Vec<u32> = list("/proc".as_ref())
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        // Not this one: whoever is told the path uses it later.
        .filter(|&pid| pid != std::process::id())
        .collect();
    processes.sort_unstable();
    let directories: Vec<PathBuf> = processes
        .into_iter()
        .map(|pid| PathBuf::from(format!("/proc/{pid}")))
        .collect();
    let inhabited = directories.iter().map(|process| process.join("ns/net"));
    let held = directories
        .iter()
        .flat_map(|process| list(&process.join("fd")))
        .map(|descriptor| descriptor.path())
        .filter(|path| {
            fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("net:["))
        });
    mounts.chain(inhabited).chain(held).find(is_it)
}

fn list(directory: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten()
}

/// How long another agent's step is waited for. It takes milliseconds; one that
/// was stopped in the middle of it must not stop every other.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Keeps other agents from changing what they share in a namespace.
#[derive(Debug)]
#[must_use]
pub(super) struct Lock<'a>(&'a File);

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Closing the file does it too.
        let _ = self.0.unlock();
    }
}

/// Waits until no other agent changes what they share in the namespace that
/// `file` opens. Every file that opens it is the same to flock(2), in whatever
/// mount namespace it was found, and an agent that dies gives its lock back.
///
/// # Errors
///
/// When another agent does not give it back in time.
pub(super) fn lock(file: &File) -> io::Result<Lock<'_>> {
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => {
                let what = "another process keeps the lock of the network namespace";
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Runs `work` in the network namespace that `file` refers to.
///
/// It runs in a thread of its own, since a namespace is a thread's property;
/// the caller stays where it is.
///
/// # Errors
///
/// When the thread cannot be started or may not enter the namespace.
pub(super) fn inside<T: Send>(file: &File, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    in_thread(|| setns(file, CloneFlags::CLONE_NEWNET), work)
}

/// Runs `work` in a new network namespace, which is gone when `work` returns.
///
/// # Errors
///
/// When the thread cannot be started or may not make a namespace.
pub(super) fn inside_new<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    in_thread(|| unshare(CloneFlags::CLONE_NEWNET), work)
}

fn in_thread<T: Send>(
    enter: impl FnOnce() -> nix::Result<()> + Send,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || enter().map(|()| work()))?
            .join()
            .map_err(|_| io::Error::other("the thread in the namespace panicked"))?
            .map_err(io::Error::from)
    })
}
