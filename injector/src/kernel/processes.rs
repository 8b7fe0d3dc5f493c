//! Processes that come and go while rules are aimed at them.

use std::{collections::BTreeMap, fs, io};

use injector_common::Tgid;

use crate::resolve;

/// `PF_EXITING` (linux/sched.h), set before the kernel tells of a process's end.
const PF_EXITING: u64 = 4;

/// A process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    tgid: Tgid,
    parent: Tgid,
    /// It has ended, or will have before it does anything else.
    ends: bool,
}

/// A process, if it is there.
fn look(tgid: Tgid) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
    let (state, parent, flags) = resolve::parse_stat(&stat)?;
    Some(Process {
        tgid,
        parent,
        ends: resolve::has_ended(state) || flags & PF_EXITING != 0,
    })
}

/// Whether a process is there and not about to end.
pub(super) fn is_running(tgid: Tgid) -> bool {
    look(tgid).is_some_and(|process| !process.ends)
}

/// Those of `roots` that run, and all running descendants of `roots`.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub(super) fn trees(roots: &[Tgid]) -> io::Result<Vec<Tgid>> {
    let mut ends = BTreeMap::new();
    let mut children: BTreeMap<Tgid, Vec<Tgid>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(process) = pid.map(Tgid).and_then(look) {
            ends.insert(process.tgid, process.ends);
            children
                .entry(process.parent)
                .or_default()
                .push(process.tgid);
        }
    }
    let mut found = Vec::new();
    let mut pending = roots.to_vec();
    while let Some(tgid) = pending.pop() {
        // Each is met once: a root may be another's descendant.
        if let Some(ends) = ends.remove(&tgid) {
            if !ends {
                found.push(tgid);
            }
            pending.extend(children.remove(&tgid).unwrap_or_default());
        }
    }
    Ok(found)
}
