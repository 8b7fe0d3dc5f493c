//! Looking into another network namespace, and asking netlink there.

use std::{fs::File, io, path::Path, thread};

use nix::sched::{CloneFlags, setns};
use rtnetlink::Handle;

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

/// Runs requests to rtnetlink in the network namespace of the calling thread.
///
/// # Errors
///
/// What the requests return, or where there is no netlink.
pub fn ask_netlink<T, F>(requests: impl FnOnce(Handle) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let result = requests(handle).await;
        connection.abort();
        result
    })
}
