//! `pid:N`.

use std::collections::BTreeSet;

use injector_common::Tgid;

use super::host::{Host, Process};
use crate::error::SpecError;

const ALLOWED: &str = "the id of a running process other than PID 1, kernel threads and the injector itself, such as `pidof` prints";

/// Checks that a pid is a process that may be hit.
pub(super) fn find(pid: u32, host: &impl Host) -> Result<Tgid, SpecError> {
    let refuse = |what: &str| SpecError::new("target", format!("pid:{pid} {what}"), ALLOWED);
    if pid == 1 {
        return Err(refuse("is PID 1: the host would not survive it"));
    }
    if Tgid(pid) == host.own_tgid() {
        return Err(refuse("is the injector itself"));
    }
    let Some(status) = host.process(pid) else {
        return Err(refuse("is not a running process"));
    };
    if status.kernel_thread {
        return Err(refuse("is a kernel thread"));
    }
    if status.tgid != Tgid(pid) {
        return Err(SpecError {
            allowed: format!("the process: pid:{}", status.tgid).into(),
            ..refuse(&format!("is a thread of process {}", status.tgid))
        });
    }
    Ok(status.tgid)
}

/// A process and all its descendants, the process first.
pub(super) fn tree(root: Tgid, processes: &[Process]) -> Vec<Tgid> {
    let mut tree = vec![root];
    let mut seen = BTreeSet::from([root]);
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        next += 1;
        for process in processes.iter().filter(|process| process.parent == parent) {
            if seen.insert(process.tgid) {
                tree.push(process.tgid);
            }
        }
    }
    tree
}
