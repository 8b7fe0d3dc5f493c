//! Working inside another network namespace.

use std::{fs::File, io, thread};

use nix::sched::{CloneFlags, setns, unshare};

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
