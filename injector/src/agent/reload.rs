//! Putting changes of a spec file in force while it runs.

use std::{
    fmt,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
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
type Read = dyn Fn() -> Result<Experiment, Error> + Send + Sync;

/// A file that an experiment is read from, and may be read from again.
#[derive(Clone)]
pub struct Source {
    file: PathBuf,
    read: Arc<Read>,
    seen: Option<Stamp>,
}

impl Source {
    /// A file, and what reads it. To be called before it is read for the first time: what
    /// is written later is a change, also while the rules are being put in force.
    pub fn new(
        file: PathBuf,
        read: impl Fn() -> Result<Experiment, Error> + Send + Sync + 'static,
    ) -> Self {
        Self {
            seen: Stamp::of(&file),
            read: Arc::new(read),
            file,
        }
    }
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
    /// None if the file is not there.
    fn of(file: &Path) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self([
            metadata.dev().cast_signed(),
            metadata.ino().cast_signed(),
            metadata.size().cast_signed(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ]))
    }
}

/// A changed experiment, with what its targets are now.
pub(super) struct Changed {
    experiment: Experiment,
    scopes: Vec<RuleScope>,
    /// How long it took to find out.
    read_in: Duration,
}

/// Looks whether the file has changed.
pub(super) struct Reloads {
    source: Option<Source>,
    turns: tokio::time::Interval,
    /// What a thread is finding out. Not one of the runtime's: reading may take long, as
    /// where a name has to be resolved, and the lease must be kept meanwhile.
    answer: Option<oneshot::Receiver<Result<Changed, Error>>>,
}

impl Reloads {
    pub(super) fn new(source: Option<Source>) -> Self {
        let mut turns = interval(PERIOD);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            source,
            turns,
            answer: None,
        }
    }

    /// The next change of the file, or why there is none. Can be dropped and called again.
    pub(super) async fn news(&mut self, running: &Experiment) -> Result<Changed, Error> {
        let Some(source) = &mut self.source else {
            return std::future::pending().await;
        };
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
            let Some(stamp) = Stamp::of(&source.file) else {
                continue;
            };
            if source.seen != Some(stamp) {
                source.seen = Some(stamp);
                self.answer = Some(read(Arc::clone(&source.read), running.clone()));
            }
        }
    }
}

/// Reads the file on a thread of its own.
fn read(read: Arc<Read>, running: Experiment) -> oneshot::Receiver<Result<Changed, Error>> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        // Nobody waits any more once the experiment has ended.
        drop(sender.send(find(&running, &*read)));
    });
    receiver
}

fn find(running: &Experiment, read: &Read) -> Result<Changed, Error> {
    let start = Instant::now();
    let mut experiment = running.changed(&read()?)?;
    names::resolve_names(&mut experiment, names::look_up)?;
    let scopes = resolve::resolve(&experiment, &LinuxHost::new()?)?;
    Ok(Changed {
        experiment,
        scopes,
        read_in: start.elapsed(),
    })
}

/// Puts a change in force. What is in force stays so if that fails.
///
/// # Errors
///
/// When the change cannot be had, or the kernel refuses a step.
pub(super) fn apply(injection: &mut Injection<Sabotaged>, changed: &Changed) -> Result<(), Error> {
    let Changed {
        experiment,
        scopes,
        read_in,
    } = changed;
    let start = Instant::now();
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
    let planned_in = start.elapsed();
    injection.change(next)?;
    let changed_in = start.elapsed() - planned_in;
    let left = experiment.rules.iter().filter(|rule| !rule.removed).count();
    tracing::info!(
        "changed: {left} rules in force, after {changed_in:?} \
         (reading took {read_in:?}, planning {planned_in:?})"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::ErrorKind, path::Path};

    use tokio::time::timeout;

    use super::*;
    use crate::error::HostError;

    /// A file whose reading fails, which is seen like any other outcome.
    fn unreadable(file: &Path) -> Source {
        let path = file.to_owned();
        Source::new(path.clone(), move || {
            let path = path.clone();
            let source = ErrorKind::InvalidData.into();
            Err(HostError { path, source }.into())
        })
    }

    fn running() -> Experiment {
        Experiment {
            id: "1".to_owned(),
            name: "test".to_owned(),
            seed: 1,
            duration: Duration::from_secs(60),
            rules: Vec::new(),
            command: None,
            whole_host: false,
        }
    }

    async fn sees_a_change(reloads: &mut Reloads, within: Duration) -> bool {
        let running = running();
        timeout(within, reloads.news(&running)).await.is_ok()
    }

    #[tokio::test]
    async fn what_is_written_before_the_rules_are_in_force_is_seen() {
        let file = tempfile::NamedTempFile::new().expect("make a file");
        let source = unreadable(file.path());
        fs::write(file.path(), "changed").expect("write a file");
        let mut reloads = Reloads::new(Some(source));
        assert!(sees_a_change(&mut reloads, 100 * PERIOD).await);
        assert!(!sees_a_change(&mut reloads, 3 * PERIOD).await, "seen twice");
    }
}
