//! `injector stop --all`: ends running agents and removes what a crash left.

use std::{
    fs::File,
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    net::if_::if_indextoname,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    cgroup,
    clsact::{self, Held},
    control_file::ControlFile,
    guardian,
    journal::{self, Entries, Found, Leftover, Place},
    netlink, netns,
    owner::{Fate, Owner},
};
use crate::{
    error::{CleanupError, CleanupErrors},
    report::resource::Outcome,
};

/// How long a running agent gets to clean up after itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prefix of the devices that we make.
const DEVICE_PREFIX: &str = "inj";

/// This command.
const STOP_ALL: &str = "injector stop --all";

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopReport {
    /// Running agents that were told to stop, and did.
    pub stopped: Vec<u32>,
    /// What was removed, in words.
    pub removed: Vec<String>,
    /// Values that were put back, and those that were not because somebody else has
    /// changed them meanwhile, in words.
    pub restored: Vec<String>,
}

/// Ends every running agent, then removes whatever earlier ones left.
///
/// # Errors
///
/// Everything that is still there.
pub fn stop_all() -> Result<StopReport, CleanupErrors> {
    let mut report = StopReport::default();
    let mut left = Vec::new();
    for file in journal::all() {
        match file {
            Found::Journal(path, entries) => stop(&path, entries, &mut report, &mut left),
            // What it names and the journal does not was not made yet.
            Found::Draft(path, owner) => {
                if owner.fate() == Fate::Gone {
                    journal::remove(&path);
                    report.removed.push(format!("draft {}", path.display()));
                }
            }
            Found::Unreadable(path, reason) => left.push(unreadable(&path, reason)),
        }
    }
    if left.is_empty() {
        Ok(report)
    } else {
        Err(CleanupErrors(left))
    }
}

/// Ends one agent and removes what it left.
fn stop(path: &Path, mut entries: Entries, report: &mut StopReport, left: &mut Vec<CleanupError>) {
    match entries.owner.fate() {
        Fate::Gone => {}
        Fate::Runs(pid) => {
            if !end(entries.owner, pid) {
                left.push(CleanupError {
                    what: format!("agent {pid}"),
                    source: "it did not stop when told to".into(),
                    remedy: format!("kill -KILL {pid}; injector stop --all"),
                });
                return;
            }
            report.stopped.push(pid);
            // It may have written down more since, and has removed what it
            // could.
            match journal::read(path) {
                Ok(Some(now)) => entries = now,
                Ok(None) => return,
                Err(reason) => return left.push(unreadable(path, reason)),
            }
        }
        Fate::Unseen => {
            left.push(CleanupError {
                what: format!("agent {} of another pid namespace", entries.owner.pid()),
                source: "it may run, and cannot be seen from here".into(),
                remedy: "injector stop --all, in the host's pid namespace".to_owned(),
            });
            return;
        }
    }
    clean_all(path, &entries, report, left);
}

/// Removes all that a journal names, and the journal if nothing is left.
fn clean_all(
    path: &Path,
    entries: &Entries,
    report: &mut StopReport,
    left: &mut Vec<CleanupError>,
) {
    let before = left.len();
    // The last first: a filter before the qdisc that holds it.
    for leftover in entries.leftovers.iter().rev() {
        match clean(leftover, &mut report.restored) {
            Ok(true) => report.removed.push(describe(leftover)),
            Ok(false) => {}
            Err(error) => left.push(remaining(leftover, error)),
        }
    }
    if left.len() == before {
        journal::remove(path);
    }
}

/// What has become of a value in a journal.
#[derive(Debug)]
pub(super) struct PutBack {
    /// Where.
    pub(super) file: ControlFile,
    /// The value before.
    pub(super) before: String,
    /// The value that was set.
    pub(super) set: String,
    /// What has become of it.
    pub(super) outcome: Outcome,
}

/// Puts back what the journal of this name names, whose owner is gone: what has become of each
/// value, and what is still there.
pub(super) fn put_back_all(name: &str) -> (Vec<PutBack>, Vec<CleanupError>) {
    let (mut values, mut left) = (Vec::new(), Vec::new());
    let path = journal::path_of(name);
    match journal::read(&path) {
        Ok(Some(entries)) => {
            // The last first.
            for leftover in entries.leftovers.iter().rev() {
                let Leftover::Value { file, before, set } = leftover else {
                    left.push(remaining(leftover, io::Error::other("not a value")));
                    continue;
                };
                let outcome = guardian::put_back(file, before, set);
                if let Outcome::Remains(why) = &outcome {
                    left.push(remaining(leftover, io::Error::other(why.clone())));
                }
                values.push(PutBack {
                    file: file.clone(),
                    before: before.clone(),
                    set: set.clone(),
                    outcome,
                });
            }
            if left.is_empty() {
                journal::remove(&path);
            }
        }
        Ok(None) => {}
        Err(reason) => left.push(unreadable(&path, reason)),
    }
    // One that it was writing when it was killed.
    journal::remove_drafts(name);
    (values, left)
}

fn unreadable(path: &Path, reason: String) -> CleanupError {
    CleanupError {
        what: format!("{}, with whatever it names,", path.display()),
        source: reason.into(),
        remedy: format!("rm {}", path.display()),
    }
}

/// Tells an agent to stop and waits until it has.
fn end(owner: Owner, pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else {
        return false;
    };
    // One that was stopped can only end after it goes on.
    for signal in [Signal::SIGTERM, Signal::SIGCONT] {
        // It may have ended meanwhile, which is what we want.
        let _ = kill(Pid::from_raw(pid), signal);
    }
    let patience = Instant::now() + PATIENCE;
    while owner.fate() != Fate::Gone {
        if Instant::now() > patience {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Removes a leftover; whether there was one. What is put back and not removed is told in
/// `restored`.
fn clean(leftover: &Leftover, restored: &mut Vec<String>) -> io::Result<bool> {
    match leftover {
        Leftover::Value { file, before, set } => {
            let path = file.path.display();
            match guardian::put_back(file, before, set) {
                Outcome::Restored => restored.push(format!("restored {path} to `{before}`")),
                Outcome::Changed(now) => restored.push(format!(
                    "left {path} alone: it was `{set}`, and somebody else has changed it to `{now}`"
                )),
                Outcome::Remains(why) => return Err(io::Error::other(why)),
                Outcome::Gone | Outcome::NotSet | Outcome::Set => {}
            }
            Ok(false)
        }
        Leftover::Cgroup { path } => {
            let there = path.exists();
            cgroup::remove(path).map(|()| there)
        }
        Leftover::Device { netns, name } => {
            // A namespace that is gone took its devices along.
            let Some(file) = open(*netns)? else {
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
        Leftover::Filter { place, program } => {
            let Some(file) = open(place.netns)? else {
                return Ok(false);
            };
            netns::inside(&file, || clsact::detach(place.ifindex, *program)).flatten()
        }
        Leftover::Qdisc { place } => {
            let Some(file) = open(place.netns)? else {
                return Ok(false);
            };
            let there = netns::inside(&file, || clsact::held(place.ifindex)).flatten()?;
            if there != Held::Clsact {
                return Ok(false);
            }
            let _lock = netns::lock(&file)?;
            netns::inside(&file, || clsact::remove_if_empty(place.ifindex)).flatten()
        }
    }
}

fn open(netns: netns::Identity) -> io::Result<Option<File>> {
    netns::find(netns).map(File::open).transpose()
}

fn describe(leftover: &Leftover) -> String {
    let inode = |netns: &netns::Identity| netns.inode;
    match leftover {
        Leftover::Cgroup { path } => format!("cgroup {}", path.display()),
        Leftover::Value { file, set, .. } => format!("`{set}` in {}", file.path.display()),
        Leftover::Device { netns, name } => format!("device {name} in net:[{}]", inode(netns)),
        Leftover::Qdisc { place } => format!(
            "clsact qdisc of interface {} in net:[{}]",
            place.ifindex,
            inode(&place.netns)
        ),
        Leftover::Filter { place, program } => format!(
            "filter with program {program} on interface {} in net:[{}]",
            place.ifindex,
            inode(&place.netns)
        ),
    }
}

/// A journal that still names what remains.
pub(super) fn remaining_journal(path: &Path) -> CleanupError {
    CleanupError {
        what: format!("journal {}", path.display()),
        source: "it names what remains".into(),
        remedy: STOP_ALL.to_owned(),
    }
}

/// A leftover that could not be removed, with a command that removes it.
pub(super) fn remaining(leftover: &Leftover, error: io::Error) -> CleanupError {
    CleanupError {
        what: describe(leftover),
        source: error.into(),
        remedy: remedy(leftover),
    }
}

fn remedy(leftover: &Leftover) -> String {
    match leftover {
        Leftover::Cgroup { path } => remove_cgroup(path),
        Leftover::Value { file, before, .. } => file.command(before),
        Leftover::Device { netns, name } => inside(*netns, |_| format!("ip link del {name}")),
        Leftover::Qdisc { place } => inside(place.netns, |file| {
            format!("tc qdisc del dev {} clsact", name_of(file, *place))
        }),
        Leftover::Filter { place, program } => inside(place.netns, |file| {
            let filters = netns::inside(file, || clsact::filters_of(place.ifindex, *program));
            let words = match filters.flatten().as_deref() {
                Ok([filter, ..]) => filter.words(),
                // Nobody can say which of them it is, so all of them.
                Ok([]) | Err(_) => "egress".to_owned(),
            };
            format!("tc filter del dev {} {words}", name_of(file, *place))
        }),
    }
}

/// Moves what still runs there to the cgroup above, and removes it.
fn remove_cgroup(path: &Path) -> String {
    let parent = path.parent().unwrap_or(path).display();
    let path = path.display();
    format!(
        "while read -r pid; do echo $pid >{parent}/cgroup.procs; done <{path}/cgroup.procs; \
         rmdir {path}"
    )
}

/// A command that acts in a namespace.
fn inside(netns: netns::Identity, command: impl FnOnce(&File) -> String) -> String {
    let found = netns::find(netns).and_then(|path| Some((File::open(&path).ok()?, path)));
    match found {
        Some((file, path)) => format!("nsenter --net={} {}", path.display(), command(&file)),
        None => STOP_ALL.to_owned(),
    }
}

/// The name of an interface, or else what the kernel takes for one.
fn name_of(netns: &File, place: Place) -> String {
    netns::inside(netns, || if_indextoname(place.ifindex))
        .ok()
        .and_then(|name| name.ok()?.into_string().ok())
        .unwrap_or_else(|| format!("if{}", place.ifindex))
}
