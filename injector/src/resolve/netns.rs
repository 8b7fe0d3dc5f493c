//! Looking into another network namespace.

use std::{fs::File, io, path::Path, thread};

use nix::sched::{CloneFlags, setns};

/// Runs `work` in the network namespace that the file at `path` opens.
///
/// It runs in a thread of its own: a namespace is a thread's property, and the
/// caller stays where it is.
///
/// # Errors
///
/// Where the file cannot be opened or the namespace not be entered.
pub fn in_netns<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let file = File::open(path)?;
    let run = || {
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    };
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, run)?
            .join()
            .map_err(|_| io::Error::other("the thread in the namespace panicked"))?
    })
}
