//! What an agent leaves that no kernel object owns, written down before it is
//! made, so that `injector stop --all` can finish after a crash.
//!
//! ```text
//! /run/injector/<id>.json   one per running agent; gone when it ended well
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Where journals lie: a file system that a reboot empties, as it does the
/// things written down.
pub(super) const DIRECTORY: &str = "/run/injector";

/// Version of the journal's form.
const VERSION: u32 = 1;

/// Something that outlives the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Leftover {
    /// A cgroup.
    Cgroup {
        /// Its directory.
        path: PathBuf,
    },
    /// A network device.
    Device {
        /// Inode of its namespace.
        netns: u64,
        /// Its name.
        name: String,
    },
    /// Filters at an interface's clsact qdisc.
    Filters {
        /// Inode of its namespace.
        netns: u64,
        /// Its index.
        ifindex: u32,
        /// Whether the qdisc is ours too.
        qdisc: bool,
    },
}

/// An agent's journal, as it lies on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entries {
    version: u32,
    /// The agent's process id.
    pub(super) pid: u32,
    /// When the agent started, in clock ticks after boot (proc(5), field 22):
    /// together with the id it names one process for good.
    pub(super) started: u64,
    /// What it has made.
    pub(super) leftovers: Vec<Leftover>,
}

/// The journal of this agent.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    entries: Entries,
}

impl Journal {
    /// Opens the journal of experiment `id`; nothing is written yet.
    pub(super) fn new(id: &str) -> Self {
        let pid = std::process::id();
        Self {
            path: Path::new(DIRECTORY).join(format!("{id}.json")),
            entries: Entries {
                version: VERSION,
                pid,
                started: start_time(pid).unwrap_or(0),
                leftovers: Vec::new(),
            },
        }
    }

    /// Writes down this agent, with nothing to leave yet, so that
    /// `injector stop --all` finds it.
    ///
    /// # Errors
    ///
    /// When the journal cannot be written.
    pub(super) fn open(&mut self) -> io::Result<()> {
        self.write()
    }

    /// Writes down what is about to be made.
    ///
    /// # Errors
    ///
    /// When the journal cannot be written; nothing may be made then.
    pub(super) fn add(&mut self, leftover: Leftover) -> io::Result<()> {
        if self.entries.leftovers.contains(&leftover) {
            return Ok(());
        }
        self.entries.leftovers.push(leftover);
        self.write()
    }

    /// Strikes out what is gone again.
    pub(super) fn strike(&mut self, leftover: &Leftover) {
        self.entries.leftovers.retain(|known| known != leftover);
        // The journal then says too much, which clean-up tolerates.
        let _ = self.write();
    }

    /// Strikes out the filters: every program is detached.
    pub(super) fn strike_filters(&mut self) {
        self.entries
            .leftovers
            .retain(|known| !matches!(known, Leftover::Filters { .. }));
    }

    /// Removes the journal, if nothing is left to write down.
    pub(super) fn close(&mut self) {
        if self.entries.leftovers.is_empty() {
            remove(&self.path);
        }
    }

    fn write(&self) -> io::Result<()> {
        fs::create_dir_all(DIRECTORY)?;
        let draft = self.path.with_extension("draft");
        fs::write(&draft, serde_json::to_vec(&self.entries)?)?;
        fs::rename(&draft, &self.path)
    }
}

/// Removes a journal, and the directory with the last one.
pub(super) fn remove(path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir(DIRECTORY);
}

/// Every journal, with its file. One that cannot be read is passed over with a
/// warning.
pub(super) fn all() -> Vec<(PathBuf, Entries)> {
    let Ok(files) = fs::read_dir(DIRECTORY) else {
        return Vec::new();
    };
    files
        .flatten()
        .map(|file| file.path())
        .filter_map(|path| {
            let entries = fs::read(&path)
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok());
            if entries.is_none() {
                tracing::warn!("{}: not a journal of this version", path.display());
            }
            entries.map(|entries| (path, entries))
        })
        .filter(|(_, entries): &(PathBuf, Entries)| entries.version == VERSION)
        .collect()
}

/// Whether the agent that wrote a journal still runs.
pub(super) fn is_alive(entries: &Entries) -> bool {
    start_time(entries.pid).is_some_and(|started| started == entries.started)
}

/// When a process started, in clock ticks after boot; `None` without one.
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
