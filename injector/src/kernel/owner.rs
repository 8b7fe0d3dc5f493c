//! Whether the process that wrote a journal still runs.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use serde::{Deserialize, Serialize};

/// Inode number of the initial pid namespace (linux/proc_ns.h), from which every
/// process can be seen.
const INITIAL_PID_NS: u64 = 0xefff_fffc;

/// A process for good: ids are used again, but not with the same start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// Its id in its own pid namespace.
    pid: u32,
    /// Inode number of that namespace.
    pid_namespace: u64,
    /// When it started, in clock ticks after boot (proc(5), field 22).
    started: u64,
}

/// What has become of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has ended.
    Gone,
    /// It runs, and has this id here.
    Runs(u32),
    /// Its pid namespace cannot be seen from here.
    Unseen,
}

impl Owner {
    /// This process.
    pub(super) fn this() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            pid_namespace: pid_namespace("self").unwrap_or(0),
            started: start_time(pid).unwrap_or(0),
        }
    }

    /// In a form that file names may hold.
    pub(super) fn file_name(self) -> String {
        format!("{}-{}-{}", self.pid, self.pid_namespace, self.started)
    }

    /// The other way round.
    pub(super) fn from_file_name(name: &str) -> Option<Self> {
        let mut numbers = name.split('-').map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Self {
            pid: next()?.try_into().ok()?,
            pid_namespace: next()?,
            started: next()?,
        })
    }

    /// Its id as the journal has it, where it has no other here.
    pub(super) const fn pid(self) -> u32 {
        self.pid
    }

    /// What has become of it.
    pub(super) fn fate(self) -> Fate {
        let here = pid_namespace("self");
        if here == Some(self.pid_namespace) {
            return if start_time(self.pid) == Some(self.started) {
                Fate::Runs(self.pid)
            } else {
                Fate::Gone
            };
        }
        let mut processes = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        match processes.find(|&pid| self.is_inside(pid)) {
            Some(pid) => Fate::Runs(pid),
            None if here == Some(INITIAL_PID_NS) => Fate::Gone,
            None => Fate::Unseen,
        }
    }

    /// Whether it is the process that has the id `pid` here and lives in a pid
    /// namespace below.
    fn is_inside(self, pid: u32) -> bool {
        pid_namespace(&pid.to_string()) == Some(self.pid_namespace)
            && start_time(pid) == Some(self.started)
            && innermost_id(pid) == Some(self.pid)
    }
}

/// The pid namespace of a process.
fn pid_namespace(pid: &str) -> Option<u64> {
    let path = Path::new("/proc").join(pid).join("ns/pid");
    fs::metadata(path).ok().map(|data| data.ino())
}

/// The id that a process has in its own pid namespace: the last of those in its
/// `NSpid` line.
fn innermost_id(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

/// When a process started; `None` without one.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name that may hold anything, in parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs() {
        let this = Owner::this();
        assert_eq!(this.fate(), Fate::Runs(std::process::id()));
        let earlier = Owner {
            started: this.started.wrapping_sub(1),
            ..this
        };
        assert_eq!(earlier.fate(), Fate::Gone);
    }

    #[test]
    fn an_owner_survives_a_file_name() {
        let this = Owner::this();
        assert_eq!(Owner::from_file_name(&this.file_name()), Some(this));
        assert_eq!(Owner::from_file_name("7-8"), None);
        assert_eq!(Owner::from_file_name("x-7-8"), None);
    }
}
