//! What an agent leaves that no kernel object owns, written down before it is
//! made, so that `injector stop --all` can finish after a crash.
//!
//! ```text
//! /run/injector/<id>.json           one per running agent; gone when it ended well
//! /run/injector/<id>-<owner>.draft  its next version, until that has its name
//! ```

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    control_file::ControlFile,
    netns,
    owner::{Fate, Owner},
};

/// Where journals lie: a file system that a reboot empties, as it does the
/// things written down.
const DIRECTORY: &str = "/run/injector";

/// Version of the journal's form.
const VERSION: u32 = 1;

/// An interface of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Its namespace.
    pub(super) netns: netns::Identity,
    /// Its index.
    pub(super) ifindex: u32,
}

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
        /// Its namespace.
        netns: netns::Identity,
        /// Its name.
        name: String,
    },
    /// The clsact qdisc of an interface, made by this agent, or by another one
    /// that may end before this one: the last of them removes it.
    Qdisc {
        /// Where it hangs.
        #[serde(flatten)]
        place: Place,
    },
    /// A filter in a clsact qdisc, whoever made that.
    Filter {
        /// Where the qdisc hangs.
        #[serde(flatten)]
        place: Place,
        /// Id of its program, which the kernel gives out once.
        program: u32,
    },
    /// A value in a control file of somebody's cgroup.
    Value {
        /// The file.
        #[serde(flatten)]
        file: ControlFile,
        /// The value before, which is put back.
        before: String,
        /// The value that was set. Whatever else is found there is somebody else's.
        set: String,
    },
}

/// An agent's journal, as it lies on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entries {
    version: u32,
    /// The agent that wrote it.
    #[serde(flatten)]
    pub(super) owner: Owner,
    /// What it has made, in this order.
    pub(super) leftovers: Vec<Leftover>,
}

/// The journal of this agent.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    draft: PathBuf,
    entries: Entries,
}

impl Journal {
    /// Opens the journal of experiment `id`; nothing is written yet.
    pub(super) fn new(id: &str) -> Self {
        let directory = Path::new(DIRECTORY);
        let owner = Owner::this();
        Self {
            path: path_of(id),
            draft: directory.join(format!("{id}-{}.draft", owner.file_name())),
            entries: Entries {
                version: VERSION,
                owner,
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
        if self.holds(&leftover) {
            return Ok(());
        }
        self.entries.leftovers.push(leftover);
        self.write()
    }

    /// Whether this is written down.
    pub(super) fn holds(&self, leftover: &Leftover) -> bool {
        self.entries.leftovers.contains(leftover)
    }

    /// The device of this name, if it is written down.
    pub(super) fn device(&self, wanted: &str) -> Option<Leftover> {
        let is_it =
            |known: &&Leftover| matches!(known, Leftover::Device { name, .. } if name == wanted);
        self.entries.leftovers.iter().find(is_it).cloned()
    }

    /// Whether a filter at this place is written down.
    pub(super) fn holds_filter_at(&self, wanted: Place) -> bool {
        self.entries
            .leftovers
            .iter()
            .any(|known| matches!(known, Leftover::Filter { place, .. } if *place == wanted))
    }

    /// Strikes out what is gone again.
    pub(super) fn strike(&mut self, leftover: &Leftover) {
        let before = self.entries.leftovers.len();
        self.entries.leftovers.retain(|known| known != leftover);
        if self.entries.leftovers.len() != before {
            // The journal then says too much, which clean-up tolerates.
            let _ = self.write();
        }
    }

    /// Removes the journal, if nothing is left to write down; otherwise returns
    /// its file.
    pub(super) fn close(&mut self) -> Option<&Path> {
        if self.entries.leftovers.is_empty() {
            remove(&self.path);
            None
        } else {
            Some(&self.path)
        }
    }

    /// Whether another agent, running or not, has written this down too.
    pub(super) fn others_hold(&self, leftover: &Leftover) -> bool {
        all().iter().any(|file| match file {
            Found::Journal(path, entries) => {
                *path != self.path && entries.leftovers.contains(leftover)
            }
            Found::Draft(..) | Found::Unreadable(..) => false,
        })
    }

    fn write(&self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.entries)?;
        let mut attempt = 0;
        loop {
            fs::create_dir_all(DIRECTORY)?;
            match fs::write(&self.draft, &text) {
                // Another agent, the last one, has just removed the directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < 16 => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
                Ok(()) => return fs::rename(&self.draft, &self.path),
            }
        }
    }
}

/// Where the journal of this name lies.
pub(super) fn path_of(id: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{id}.json"))
}

/// What has become of whoever has set a control file, and written that down; `None` if nobody
/// has.
pub(super) fn set_by(wanted: &ControlFile) -> Option<&'static str> {
    all().into_iter().find_map(|file| match file {
        Found::Journal(_, entries) => {
            let sets = |leftover: &Leftover| {
                matches!(leftover, Leftover::Value { file, .. } if file == wanted)
            };
            let owner = entries.owner;
            (owner != Owner::this() && entries.leftovers.iter().any(sets)).then(|| {
                match owner.fate() {
                    Fate::Gone => "is gone and did not put it back",
                    Fate::Runs(_) | Fate::Unseen => "still runs",
                }
            })
        }
        Found::Draft(..) | Found::Unreadable(..) => None,
    })
}

/// Removes a journal or a draft, and the directory with the last one.
pub(super) fn remove(path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir(DIRECTORY);
}

/// Removes the drafts of the journal of this name, whose owner is gone.
pub(super) fn remove_drafts(name: &str) {
    for found in all() {
        if let Found::Draft(path, owner) = found
            && path.file_stem().and_then(OsStr::to_str)
                == Some(&format!("{name}-{}", owner.file_name()))
            && owner.fate() == Fate::Gone
        {
            remove(&path);
        }
    }
}

/// A file among the journals.
#[derive(Debug)]
pub(super) enum Found {
    /// A journal.
    Journal(PathBuf, Entries),
    /// The next version of a journal. Whatever only the draft names has not
    /// been made yet.
    Draft(PathBuf, Owner),
    /// A file that should be one of these and is not, with the reason.
    Unreadable(PathBuf, String),
}

/// Every journal and draft. Files of other kinds are not ours.
pub(super) fn all() -> Vec<Found> {
    let Ok(files) = fs::read_dir(DIRECTORY) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| match path.extension().and_then(OsStr::to_str) {
            Some("json") => read(&path).transpose().map(|entries| match entries {
                Ok(entries) => Found::Journal(path, entries),
                Err(reason) => Found::Unreadable(path, reason),
            }),
            Some("draft") => Some(match draft_owner(&path) {
                Some(owner) => Found::Draft(path, owner),
                None => Found::Unreadable(path, "no draft of a journal".to_owned()),
            }),
            Some(_) | None => None,
        })
        .collect()
}

/// Reads a journal; `None` when it is gone by now.
///
/// # Errors
///
/// Why it cannot be read.
pub(super) fn read(path: &Path) -> Result<Option<Entries>, String> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let entries: Entries =
        serde_json::from_slice(&text).map_err(|error| format!("no journal: {error}"))?;
    if entries.version != VERSION {
        return Err(format!("a journal of version {}", entries.version));
    }
    Ok(Some(entries))
}

fn draft_owner(path: &Path) -> Option<Owner> {
    let (_, owner) = path.file_stem()?.to_str()?.split_once('-')?;
    Owner::from_file_name(owner)
}
