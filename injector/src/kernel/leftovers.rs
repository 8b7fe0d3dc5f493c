//! `injector stop --all`: ends running agents and removes what a crash left.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    cgroup,
    journal::{self, Entries, Leftover},
    netlink,
};
use crate::error::{CleanupError, CleanupErrors};

/// How long a running agent gets to clean up after itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prefix of the devices that we make.
const DEVICE_PREFIX: &str = "inj";

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopReport {
    /// Running agents that were told to stop, and did.
    pub stopped: Vec<u32>,
    /// What was removed, in words.
    pub removed: Vec<String>,
}

/// Ends every running agent, then removes whatever earlier ones left.
///
/// # Errors
///
/// Everything that is still there.
pub fn stop_all() -> Result<StopReport, CleanupErrors> {
    let mut report = StopReport::default();
    let mut left = Vec::new();
    for (path, entries) in journal::all() {
        if journal::is_alive(&entries) {
            if end(&entries) {
                report.stopped.push(entries.pid);
            } else {
                left.push(CleanupError {
                    what: format!("agent {}", entries.pid),
                    source: "it did not stop when told to".into(),
                    remedy: format!("kill -KILL {0}; injector stop --all", entries.pid),
                });
                continue;
            }
        }
        let namespaces = namespaces();
        let before = left.len();
        for leftover in &entries.leftovers {
            match clean(leftover, &namespaces) {
                Ok(true) => report.removed.push(describe(leftover)),
                Ok(false) => {}
                Err(error) => left.push(CleanupError {
                    what: describe(leftover),
                    source: error.into(),
                    remedy: remedy(leftover),
                }),
            }
        }
        if left.len() == before {
            journal::remove(&path);
        }
    }
    if left.is_empty() {
        Ok(report)
    } else {
        Err(CleanupErrors(left))
    }
}

/// Tells an agent to stop and waits until it has.
fn end(entries: &Entries) -> bool {
    let Ok(pid) = i32::try_from(entries.pid) else {
        return false;
    };
    // One that was stopped can only end after it goes on.
    for signal in [Signal::SIGTERM, Signal::SIGCONT] {
        // It may have ended meanwhile, which is what we want.
        let _ = kill(Pid::from_raw(pid), signal);
    }
    let patience = Instant::now() + PATIENCE;
    while journal::is_alive(entries) {
        if Instant::now() > patience {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Every network namespace that a process is in or that has a name.
fn namespaces() -> BTreeMap<u64, PathBuf> {
    let processes = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let is_process = name
                .to_string_lossy()
                .bytes()
                .all(|byte| byte.is_ascii_digit());
            is_process.then(|| entry.path().join("ns/net"))
        });
    let named = fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path());
    processes
        .chain(named)
        .filter_map(|path| fs::metadata(&path).ok().map(|data| (data.ino(), path)))
        .collect()
}

/// Removes a leftover; whether there was one.
fn clean(leftover: &Leftover, namespaces: &BTreeMap<u64, PathBuf>) -> io::Result<bool> {
    match leftover {
        Leftover::Cgroup { path } => {
            let there = path.exists();
            cgroup::remove(path).map(|()| there)
        }
        Leftover::Device { netns, name } => {
            // A namespace that is gone took its devices along.
            let Some(file) = open(namespaces, *netns)? else {
                return Ok(false);
            };
            if !name.starts_with(DEVICE_PREFIX) {
                return Err(io::Error::other("not a device of ours"));
            }
            netlink::run(&file, |handle| async move {
                let there = netlink::index_of(&handle, name).await?.is_some();
                netlink::remove(&handle, name).await.map(|()| there)
            })
        }
        Leftover::Filters {
            netns,
            ifindex,
            qdisc,
        } => {
            let Some(file) = open(namespaces, *netns)? else {
                return Ok(false);
            };
            let (ifindex, qdisc) = (*ifindex, *qdisc);
            netlink::run(&file, |mut handle| async move {
                let there = netlink::names(&handle)
                    .await?
                    .iter()
                    .any(|(i, _)| *i == ifindex);
                if there && qdisc {
                    netlink::remove_clsact(&mut handle, ifindex).await?;
                } else if there {
                    netlink::remove_filters(&mut handle, ifindex).await?;
                }
                Ok(there)
            })
        }
    }
}

fn open(namespaces: &BTreeMap<u64, PathBuf>, inode: u64) -> io::Result<Option<File>> {
    namespaces
        .get(&inode)
        .map(|path: &PathBuf| File::open(Path::new(path)))
        .transpose()
}

fn describe(leftover: &Leftover) -> String {
    match leftover {
        Leftover::Cgroup { path } => format!("cgroup {}", path.display()),
        Leftover::Device { netns, name } => format!("device {name} in net:[{netns}]"),
        Leftover::Filters { netns, ifindex, .. } => {
            format!("filters on interface {ifindex} in net:[{netns}]")
        }
    }
}

fn remedy(leftover: &Leftover) -> String {
    match leftover {
        Leftover::Cgroup { path } => {
            // Moves what still runs there to the cgroup above.
            let parent = path.parent().unwrap_or(path).display();
            let path = path.display();
            format!(
                "while read -r pid; do echo $pid >{parent}/cgroup.procs; done <{path}/cgroup.procs; \
                 rmdir {path}"
            )
        }
        Leftover::Device { name, .. } => format!("ip link del {name}, in that namespace"),
        Leftover::Filters { .. } => {
            "tc filter show dev INTERFACE egress, then tc filter del, in that namespace".to_owned()
        }
    }
}
