//! Putting changes of a spec file in force while it runs.

use std::{
    fmt,
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval},
};

use super::{Sabotaged, probe};
use crate::{
    actuate::Injection,
    error::Error,
    kernel::check_room,
    model::Experiment,
    plan,
    resolve::{self, LinuxHost, RuleScope, names},
};

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_millis(200);

/// Reads an experiment anew.
pub(super) type Read = dyn Fn() -> Result<Experiment, Error> + Send + Sync;

/// A file that an experiment was read from, and may be read from again.
#[derive(Clone)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// Reads it as it was read the first time.
    pub read: Arc<dyn Fn() -> Result<Experiment, Error> + Send + Sync>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// What tells one content of a file from the next: its device, inode, length and times.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp([i64; 5]);

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self([
            metadata.dev().cast_signed(),
            metadata.ino().cast_signed(),
            metadata.size().cast_signed(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ])
    }
}

/// A changed experiment, with what its targets are now.
pub(super) struct Changed {
    experiment: Experiment,
    scopes: Vec<RuleScope>,
}

/// Looks whether the file has changed.
pub(super) struct Reloads {
    source: Option<Source>,
    seen: Option<Stamp>,
    turns: tokio::time::Interval,
    /// What a thread is finding out. Not one of the runtime's: reading may take long, as
    /// where a name has to be resolved, and the lease must be kept meanwhile.
    answer: Option<oneshot::Receiver<Result<Changed, Error>>>,
}

impl Reloads {
    /// Of a file that was read just now.
    pub(super) fn new(source: Option<Source>) -> Self {
        let mut turns = interval(PERIOD);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reloads = Self {
            source,
            seen: None,
            turns,
            answer: None,
        };
        reloads.seen = reloads.stamp();
        reloads
    }

    /// The next change of the file, or why there is none. Can be dropped and called again.
    pub(super) async fn news(&mut self, running: &Experiment) -> Result<Changed, Error> {
        if self.source.is_none() {
            return std::future::pending().await;
        }
        loop {
            if let Some(answer) = &mut self.answer {
                let found = answer.await;
                self.answer = None;
                if let Ok(found) = found {
                    return found;
                }
            }
            self.turns.tick().await;
            // A file that is gone for a moment is about to be replaced.
            let Some(stamp) = self.stamp() else { continue };
            if self.seen != Some(stamp) {
                self.seen = Some(stamp);
                self.answer = self.read(running);
            }
        }
    }

    fn stamp(&self) -> Option<Stamp> {
        let metadata = self.source.as_ref()?.file.metadata().ok()?;
        Some(Stamp::of(&metadata))
    }

    /// Reads the file on a thread of its own.
    fn read(&self, running: &Experiment) -> Option<oneshot::Receiver<Result<Changed, Error>>> {
        let (sender, receiver) = oneshot::channel();
        let read = Arc::clone(&self.source.as_ref()?.read);
        let running = running.clone();
        thread::spawn(move || {
            // Nobody waits any more once the experiment has ended.
            drop(sender.send(find(&running, &*read)));
        });
        Some(receiver)
    }
}

fn find(running: &Experiment, read: &Read) -> Result<Changed, Error> {
    let mut experiment = running.changed(&read()?)?;
    names::resolve_names(&mut experiment, names::look_up)?;
    let scopes = resolve::resolve(&experiment, &LinuxHost::new()?)?;
    Ok(Changed { experiment, scopes })
}

/// Puts a change in force. What is in force stays so if that fails.
///
/// # Errors
///
/// When the change cannot be had, or the kernel refuses a step.
pub(super) fn apply(injection: &mut Injection<Sabotaged>, changed: &Changed) -> Result<(), Error> {
    let Changed { experiment, scopes } = changed;
    let features = probe(injection.actuator().inner().programs(), experiment);
    let next = plan::build(experiment, scopes, &features)?;
    let kernel = injection.actuator().inner();
    if let Ok(attach) = features.packets {
        kernel.attach_by(attach);
    }
    check_room(&next, kernel.attaches_by())?;
    for note in &next.notes {
        tracing::warn!("{note}");
    }
    let start = Instant::now();
    injection.change(next)?;
    let left = experiment.rules.iter().filter(|rule| !rule.removed).count();
    tracing::info!(
        "changed: {left} rules in force, after {:?}",
        start.elapsed()
    );
    Ok(())
}
