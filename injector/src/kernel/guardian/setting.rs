//! A value that is set in a control file, and put back.

use std::{
    fs::File,
    fs::TryLockError,
    io,
    os::unix::fs::MetadataExt as _,
    thread,
    time::{Duration, Instant},
};

use super::{
    protocol::{Remaining, Status},
    tally::{self, Counters},
};
use crate::{
    kernel::{
        control_file::{self, ControlFile, Undo, tightened},
        journal::{self, Journal, Leftover},
    },
    report::resource::{Outcome, ResourceReport, ValueReport},
};

/// How long a cgroup may take to freeze. A process that waits for a disk freezes when
/// that answers.
const FREEZING: Duration = Duration::from_millis(500);

/// A value to set.
pub(super) struct Setting {
    file: ControlFile,
    wanted: String,
    /// While it is set.
    held: Option<Held>,
    /// What the kernel counted in times that are over.
    counted: Counters,
    /// How often it was set, and how often that failed.
    set: u64,
    failed: u64,
    report: ValueReport,
    problems: Vec<String>,
    /// Device and inode of the file, whatever path leads there.
    identity: (u64, u64),
    /// Kept so that no other injector sets the same.
    _lock: File,
}

/// What is known of a value that is set.
struct Held {
    before: String,
    set: String,
    counted: Counters,
}

impl Setting {
    /// Prepares it: nobody else may set the same from now on.
    pub(super) fn new(file: ControlFile, wanted: String, others: &[&Self]) -> Result<Self, String> {
        let path = file.path.display();
        let said = |error: io::Error| format!("{path}: {error}");
        let opened = File::open(&file.path).map_err(said)?;
        let data = opened.metadata().map_err(said)?;
        let identity = (data.dev(), data.ino());
        // Rules of one experiment may set one after the other.
        let ours = others.iter().any(|other| other.identity == identity);
        match opened.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if ours => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("{path} is in the hands of another injector"));
            }
            Err(TryLockError::Error(error)) => return Err(said(error)),
        }
        // Only now: nobody else who asks can be about to set it.
        if let Some(owner) = journal::set_by(&file) {
            return Err(format!(
                "{path} was set by another injector, which {owner}; \
                 `injector stop --all` puts back what one left that was killed"
            ));
        }
        Ok(Self {
            report: ValueReport {
                path: file.path.clone(),
                device: file.device.clone(),
                before: None,
                set: wanted.clone(),
                outcome: Outcome::NotSet,
            },
            file,
            wanted,
            held: None,
            counted: Counters::new(),
            set: 0,
            failed: 0,
            problems: Vec::new(),
            identity,
            _lock: opened,
        })
    }

    /// Whether both set the same: one file, and one disk's line there.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.identity == other.identity && self.file.device == other.file.device
    }

    /// The file, for people.
    pub(super) fn path(&self) -> std::path::Display<'_> {
        self.file.path.display()
    }

    /// Whether it is set.
    pub(super) const fn is_set(&self) -> bool {
        self.held.is_some()
    }

    /// Whether it is to be left alone from now on.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.report.outcome, Outcome::Changed(_) | Outcome::Gone) || self.failed > 0
    }

    /// Sets it.
    pub(super) fn set(&mut self, journal: &mut Journal) -> Result<(), String> {
        self.try_set(journal).inspect_err(|problem| {
            self.failed += 1;
            self.problems.push(problem.clone());
        })
    }

    fn try_set(&mut self, journal: &mut Journal) -> Result<(), String> {
        let path = self.file.path.display();
        let said = |error: io::Error| format!("{path}: {error}");
        let before = self.file.read().map_err(said)?;
        let set = tightened(&before, &self.wanted).map_err(|why| format!("{path}: {why}"))?;
        let leftover = Leftover::Value {
            file: self.file.clone(),
            before: before.clone(),
            set: set.clone(),
        };
        journal
            .add(leftover.clone())
            .map_err(|error| format!("the journal: {error}"))?;
        let counted = tally::read(&self.file);
        let written = self.file.write(&set).and_then(|()| self.file.read());
        let problem = match written {
            Ok(now) if now == set => None,
            // What would not be known as ours could not be put back later.
            Ok(now) => Some(format!("the kernel makes `{now}` of `{set}`")),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            let problem = format!("{}: {problem}", self.file.path.display());
            let outcome = put_back(&self.file, &before, &set);
            let is_settled = match self.file.read() {
                Ok(now) => now == before,
                Err(error) => control_file::is_gone(&error),
            };
            if is_settled {
                journal.strike(&leftover);
            } else {
                // It is tried again when its time is over.
                self.report.before = Some(before.clone());
                self.report.set.clone_from(&set);
                self.report.outcome = outcome;
                self.held = Some(Held {
                    before,
                    set,
                    counted,
                });
            }
            return Err(problem);
        }
        self.report.before = Some(before.clone());
        self.report.set.clone_from(&set);
        self.report.outcome = Outcome::Set;
        self.set += 1;
        self.held = Some(Held {
            before,
            set,
            counted,
        });
        if self.file.path.ends_with("cgroup.freeze") && !frozen(&self.file) {
            self.problems.push(format!(
                "{}: some of its processes are in the kernel's hands and run on until they come out",
                self.file.cgroup().display()
            ));
        }
        Ok(())
    }

    /// Puts the value from before back, if what is there is still ours. What cannot be put
    /// back stays set, in the journal and in the result.
    pub(super) fn restore(&mut self, journal: &mut Journal) -> Option<Remaining> {
        let held = self.held.take()?;
        let grown = tally::growth(&held.counted, &tally::read(&self.file));
        for (name, value) in grown {
            *self.counted.entry(name).or_default() += value;
        }
        let leftover = Leftover::Value {
            file: self.file.clone(),
            before: held.before.clone(),
            set: held.set.clone(),
        };
        self.report.outcome = put_back(&self.file, &held.before, &held.set);
        if let Outcome::Remains(why) = &self.report.outcome {
            let remaining = Remaining {
                what: format!("{} = `{}`", self.file.path.display(), held.set),
                why: why.clone(),
                remedy: self.file.command(&held.before),
            };
            self.held = Some(held);
            return Some(remaining);
        }
        journal.strike(&leftover);
        None
    }

    /// How it stands.
    pub(super) fn status(&self, rule: u32) -> Status {
        let mut kernel = self.counted.clone();
        if let Some(held) = &self.held {
            for (name, value) in tally::growth(&held.counted, &tally::read(&self.file)) {
                *kernel.entry(name).or_default() += value;
            }
        }
        let (matched, injected) = if self.file.path.ends_with("cgroup.freeze") {
            (self.set, self.set)
        } else {
            tally::hits(&self.file.path, &self.report.set, &kernel)
        };
        Status {
            rule,
            matched: matched + self.failed,
            injected,
            passed: matched.saturating_sub(injected),
            exhausted: 0,
            errors: self.failed,
            report: ResourceReport {
                values: vec![self.report.clone()],
                kernel,
                problems: self.problems.clone(),
            },
        }
    }
}

/// Puts a value back, unless somebody else has changed it.
pub(in crate::kernel) fn put_back(file: &ControlFile, before: &str, set: &str) -> Outcome {
    let undone = file
        .read()
        .and_then(|now| match file.undo(&now, before, set) {
            Undo::Write(value) => file.write(&value).map(|()| Outcome::Restored),
            Undo::WriteSome(value) => {
                file.write(&value)?;
                file.read().map(Outcome::Changed)
            }
            Undo::Nothing => Ok(Outcome::Restored),
            Undo::Leave => Ok(Outcome::Changed(now)),
        });
    match undone {
        Ok(outcome) => outcome,
        Err(error) if control_file::is_gone(&error) => Outcome::Gone,
        Err(error) => Outcome::Remains(error.to_string()),
    }
}

/// Waits a moment until the cgroup is frozen; whether it is.
fn frozen(file: &ControlFile) -> bool {
    let events = file.cgroup().join("cgroup.events");
    let end = Instant::now() + FREEZING;
    loop {
        let text = std::fs::read_to_string(&events).unwrap_or_default();
        if text.lines().any(|line| line == "frozen 1") {
            return true;
        }
        // One without processes has nothing to wait for.
        if text.lines().any(|line| line == "populated 0") {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
}
