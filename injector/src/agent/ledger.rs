//! Writing the ledger while an experiment runs.
//!
//! A thread of its own: a disk that does not answer must not cost the lease.

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use injector_common::RuleStats;

use crate::{
    error::SpecError,
    kernel::Hits,
    ledger::{
        Cut, End, FlowKey, FlowLine, Header, HitLine, Line, Lines, Recorded, Replayed, RuleEnd,
        Run, Spec,
    },
    model::{Experiment, Per},
    report::StoppedBy,
};

/// How often hits are taken out of the ring, which holds some 23,000: more than a
/// million each second do not fit.
const PERIOD: Duration = Duration::from_millis(20);

/// Where the kernel's release stands.
const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// What becomes of the hits of an experiment.
#[derive(Debug)]
pub struct Ledger {
    /// The file to write, if there is one.
    pub file: Option<LedgerFile>,
    /// What the user wrote.
    pub spec: Spec,
    /// The run that this one repeats, if it does.
    pub recorded: Option<Recorded>,
}

/// A file for a ledger, which is empty.
#[derive(Debug)]
pub struct LedgerFile {
    path: PathBuf,
    file: File,
}

const ALLOWED: &str = "a file that can be written, and that is not there yet or is empty";

/// Checks that a ledger may be written there. Changes nothing.
///
/// # Errors
///
/// When there is something in it, which would be lost.
pub fn check(path: &std::path::Path) -> Result<(), SpecError> {
    let problem = match fs::metadata(path) {
        Ok(known) if known.is_dir() => "is a directory",
        Ok(known) if known.len() != 0 => "is not empty, and would be lost",
        // Whether it can be made is seen when it is.
        Ok(_) | Err(_) => return Ok(()),
    };
    let problem = format!("{} {problem}", path.display());
    Err(SpecError::new("ledger", problem, ALLOWED))
}

impl LedgerFile {
    /// Makes the file, or takes one that is empty.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or is not empty.
    pub fn create(path: PathBuf) -> Result<Self, SpecError> {
        check(&path)?;
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| {
                let problem = format!("{} cannot be opened ({error})", path.display());
                SpecError::new("ledger", problem, ALLOWED)
            })?;
        Ok(Self { path, file })
    }

    /// Takes a file away again that was made here, if nothing was written.
    pub fn discard(path: &std::path::Path) {
        if fs::metadata(path).is_ok_and(|known| known.is_file() && known.len() == 0) {
            // It is empty: nothing is lost where it stays.
            let _ = fs::remove_file(path);
        }
    }
}

/// How a ledger ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// Hits that are not in it.
    pub(super) lost: u64,
    /// Why it has no last line, if so.
    pub(super) error: Option<String>,
    /// How much of the run before was done again.
    pub(super) replayed: Option<Replayed>,
}

/// What the thread is told in the end.
struct Finish {
    stats: Vec<RuleStats>,
    stopped_by: StoppedBy,
}

/// The thread that writes.
pub(super) struct Writer {
    thread: JoinHandle<Option<Ended>>,
    finish: Sender<Finish>,
}

impl Writer {
    /// Writes what the programs tell of an experiment that was put in force at `start_ns`.
    pub(super) fn start(ledger: Ledger, experiment: Experiment, hits: Hits, start_ns: u64) -> Self {
        let (finish, finished) = channel();
        let thread = thread::spawn(move || {
            let mut log = Log::new(ledger, &experiment, start_ns);
            log.until(hits, &finished)
        });
        Self { thread, finish }
    }

    /// Takes what is left in the ring, and ends the file.
    pub(super) fn end(self, stats: Vec<RuleStats>, stopped_by: StoppedBy) -> Ended {
        let injected = stats.iter().map(|stats| stats.injected).sum();
        // Whether it still listens is seen by its answer.
        let _ = self.finish.send(Finish { stats, stopped_by });
        let ended = self.thread.join().ok().flatten();
        ended.unwrap_or_else(|| {
            let error = "the thread that writes it has failed";
            tracing::error!("the ledger was given up: {error}");
            Ended {
                lost: injected,
                error: Some(error.to_owned()),
                replayed: None,
            }
        })
    }
}

/// A ledger that is being written.
struct Log<'a> {
    experiment: &'a Experiment,
    start_ns: u64,
    /// The file, until a write has failed.
    file: Option<Lines>,
    /// Why it was given up.
    error: Option<String>,
    recorded: Option<Recorded>,
    run: Run,
    /// Whether there is a file to write, or was.
    wants_file: bool,
    /// Hits that are gathered for the file.
    pending: u64,
    /// Hits that were told, and could not be written.
    unwritten: u64,
}

impl<'a> Log<'a> {
    fn new(ledger: Ledger, experiment: &'a Experiment, start_ns: u64) -> Self {
        let rules = &experiment.rules;
        let mut log = Self {
            experiment,
            start_ns,
            file: ledger
                .file
                .map(|LedgerFile { path, file }| Lines::new(path, file)),
            error: None,
            wants_file: false,
            recorded: ledger.recorded,
            run: Run {
                per_flow: rules.iter().map(|rule| rule.per == Per::Flow).collect(),
                ..Run::default()
            },
            pending: 0,
            unwritten: 0,
        };
        log.wants_file = log.file.is_some();
        let release = fs::read_to_string(RELEASE).unwrap_or_default();
        let header = Header::new(experiment, release.trim().to_owned(), ledger.spec);
        log.write(&Line::Header(header));
        log.flush();
        log
    }

    /// Writes a line, if there is still a file for it.
    fn write(&mut self, line: &Line<'_>) {
        if self.file.as_mut().is_some_and(|file| file.add(line)) {
            self.flush();
        }
    }

    /// Writes what was gathered. After a failure no more is written, so that the file has
    /// no gap but the one at its end.
    fn flush(&mut self) {
        let Some(file) = &mut self.file else {
            return;
        };
        let pending = std::mem::take(&mut self.pending);
        if let Err(Cut { reason, lines }) = file.flush() {
            tracing::error!("{reason}: the ledger ends here");
            // Other lines than hits may be among them, and are none of those that count.
            self.unwritten += lines.min(pending);
            self.file = None;
            self.error = Some(reason);
        }
    }

    /// Writes hits until the end; what came of it, or nothing if nobody waits for it.
    fn until(&mut self, mut hits: Hits, finished: &Receiver<Finish>) -> Option<Ended> {
        loop {
            match finished.recv_timeout(PERIOD) {
                Err(RecvTimeoutError::Timeout) => self.take(&mut hits),
                Ok(finish) => {
                    self.take(&mut hits);
                    return Some(self.finish(&hits, &finish));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.take(&mut hits);
                    return None;
                }
            }
        }
    }

    fn take(&mut self, hits: &mut Hits) {
        let (experiment, start_ns) = (self.experiment, self.start_ns);
        hits.take(|hit| {
            let index = hit.rule as usize;
            let Some(rule) = experiment.rules.get(index) else {
                return;
            };
            let line = HitLine::new(hit, rule, start_ns);
            self.note(index, line.flow, hit.n);
            if self.file.is_some() {
                // It is one of those that may fail now.
                self.pending += 1;
                self.write(&Line::Hit(line));
            } else if self.wants_file {
                self.unwritten += 1;
            }
        });
        self.flush();
    }

    /// Notes a hit: its number only where somebody will compare it.
    fn note(&mut self, rule: usize, flow: Option<FlowKey>, n: u64) {
        if self.recorded.is_some() {
            self.run.note(rule, flow, n);
        } else {
            self.run.hits.entry((rule, flow)).or_default();
        }
    }

    fn finish(&mut self, hits: &Hits, finish: &Finish) -> Ended {
        let Finish { stats, stopped_by } = finish;
        self.run.matched = stats.iter().map(|stats| stats.matched).collect();
        self.count_packets(hits);
        let rules = &self.experiment.rules;
        let lost: u64 = stats.iter().map(|stats| stats.unlisted).sum();
        if self.file.is_some() {
            let counted = std::mem::take(&mut self.run.packets);
            for (&(rule, flow), &packets) in &counted {
                if !self.run.hits.contains_key(&(rule, Some(flow))) {
                    continue;
                }
                self.write(&Line::Flow(FlowLine {
                    rule: (&*rules[rule].name).into(),
                    flow,
                    packets,
                }));
            }
            self.run.packets = counted;
            let ends = rules.iter().zip(stats);
            self.write(&Line::End(End {
                stopped_by: *stopped_by,
                lost,
                rules: ends
                    .map(|(rule, stats)| RuleEnd::new(rule, stats))
                    .collect(),
            }));
            self.flush();
        }
        let replayed = self.recorded.take().map(|recorded| {
            if lost != 0 {
                tracing::error!("{lost} hits are missing, and flows may seem to differ by them");
            }
            self.run.compare(&recorded.run)
        });
        Ended {
            lost: lost + self.unwritten,
            error: self.error.take(),
            replayed,
        }
    }

    /// Reads how many packets the flows had that were hit, now or before.
    fn count_packets(&mut self, hits: &Hits) {
        let now = self.run.hits.keys();
        let before = self
            .recorded
            .iter()
            .flat_map(|recorded| recorded.run.hits.keys());
        let keys = now
            .chain(before)
            .filter_map(|&(rule, flow)| Some((rule, flow?)));
        let per_flow = &self.run.per_flow;
        let mut packets = std::collections::BTreeMap::new();
        for (rule, flow) in keys.filter(|(rule, _)| per_flow.get(*rule) == Some(&true)) {
            let index = u32::try_from(rule).unwrap_or(u32::MAX);
            match hits.packets(flow.seed(self.experiment.seed, index)) {
                Ok(count) => drop(packets.insert((rule, flow), count)),
                Err(error) => tracing::error!("the packets of a flow cannot be counted: {error}"),
            }
        }
        self.run.packets = packets;
    }
}
