//! Processes of ours in the target's cgroup, which take what it has.

use std::{
    collections::BTreeMap,
    fs, hint,
    io::{self, Read as _},
    os::unix::process::{ExitStatusExt as _, parent_id},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use injector_common::Tgid;
use nix::sys::{
    prctl::set_pdeathsig,
    signal::{SigSet, Signal},
};

use super::protocol::{Load, Status};
use crate::report::resource::ResourceReport;

/// The hidden command that a worker runs as.
pub const WORKER: &str = "worker";

/// A busy worker's turn, in ms.
const MILLIS: u32 = 10;
const TURN: Duration = Duration::from_millis(MILLIS as u64);

/// The steps that memory is taken in, in bytes.
const STEP: usize = 1 << 20;

/// Workers to start and to end.
pub(super) struct Workers {
    cgroup: PathBuf,
    load: Load,
    running: Vec<Child>,
    /// Not waited for yet.
    killed: Vec<Child>,
    started: u64,
    failed: u64,
    /// In times that are over, in µs.
    used_usec: u64,
    /// At last.
    held_bytes: u64,
    problems: Vec<String>,
}

impl Workers {
    pub(super) const fn new(cgroup: PathBuf, load: Load) -> Self {
        Self {
            cgroup,
            load,
            running: Vec::new(),
            killed: Vec::new(),
            started: 0,
            failed: 0,
            used_usec: 0,
            held_bytes: 0,
            problems: Vec::new(),
        }
    }

    /// Whether some were started and not ended by this.
    pub(super) fn are_on(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether none is to be started any more: the first could not be, or all were ended by
    /// somebody else.
    pub(super) fn are_over(&self) -> bool {
        !self.problems.is_empty()
    }

    /// The ids of those that are there.
    pub(super) fn ids(&self) -> impl Iterator<Item = Tgid> + '_ {
        let there = self.running.iter().chain(&self.killed);
        there.map(|child| Tgid(child.id()))
    }

    /// Starts them.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let count = match self.load {
            Load::Cpu { workers, .. } => workers,
            Load::Memory { .. } => 1,
        };
        for _ in 0..count {
            match self.spawn() {
                Ok(child) => {
                    self.running.push(child);
                    self.started += 1;
                }
                Err(error) => {
                    let problem = format!("a worker in {}: {error}", self.cgroup.display());
                    self.failed += 1;
                    self.problems.push(problem.clone());
                    self.kill();
                    return Err(problem);
                }
            }
        }
        Ok(())
    }

    fn spawn(&self) -> io::Result<Child> {
        let (work, amount) = match self.load {
            Load::Cpu { load_ppm, .. } => ("cpu", load_ppm),
            Load::Memory { bytes } => ("memory", bytes),
        };
        let mut child = Command::new("/proc/self/exe")
            .args([WORKER, work, &amount.to_string()])
            .arg(std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()?;
        // It is moved, and does not join by itself before it is executed: in a frozen cgroup it
        // would never get so far, and who starts it waits for that.
        let moved = fs::write(self.cgroup.join("cgroup.procs"), child.id().to_string());
        if let Err(error) = moved {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        // The end of its input tells it to begin.
        drop(child.stdin.take());
        Ok(child)
    }

    /// Kills them, and does not wait until they are gone.
    pub(super) fn kill(&mut self) {
        self.look();
        for mut child in self.running.drain(..) {
            self.used_usec += used_usec(child.id());
            let _ = child.kill();
            self.killed.push(child);
        }
    }

    /// The ids of those that were killed and are still there. One takes the longer the more
    /// memory it has.
    pub(super) fn reap(&mut self) -> impl Iterator<Item = u32> + '_ {
        self.killed
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        self.killed.iter().map(Child::id)
    }

    /// Notes what has become of them.
    fn look(&mut self) {
        if let (Load::Memory { .. }, Some(child)) = (self.load, self.running.first()) {
            self.held_bytes = held_bytes(child.id()).max(self.held_bytes);
        }
        let problems = &mut self.problems;
        self.running.retain_mut(|child| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                let by = status
                    .signal()
                    .map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
                problems.push(format!("a worker was ended by {by}, and not started anew"));
                false
            }
            Err(_) => true,
        });
    }

    /// How they stand.
    pub(super) fn status(&mut self, rule: u32) -> Status {
        self.look();
        let now: u64 = self.running.iter().map(|child| used_usec(child.id())).sum();
        let counter = match self.load {
            Load::Cpu { .. } => ("worker_usec", self.used_usec + now),
            Load::Memory { .. } => ("held_bytes", self.held_bytes),
        };
        Status {
            rule,
            matched: self.started + self.failed,
            injected: self.started,
            errors: self.failed,
            report: ResourceReport {
                kernel: BTreeMap::from([(counter.0.to_owned(), counter.1)]),
                problems: self.problems.clone(),
                ..ResourceReport::default()
            },
            ..Status::default()
        }
    }
}

/// Processor time of a process in µs, as exact as its ticks of 10 ms are.
fn used_usec(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    // The 14th and 15th field (proc_pid_stat(5)), of which two lie before `rest`.
    let fields = rest.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks * 10_000
}

/// Memory of a process in bytes.
fn held_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// A worker's own side: keeps a processor busy for so many millionths of the time, or holds so
/// many bytes, until somebody kills it.
pub fn work(work: &str, amount: u64, guardian: u32) {
    // Its guardian hears of some by a descriptor; this is to be ended by any, like others there.
    let _ = SigSet::all().thread_unblock();
    let _ = set_pdeathsig(Signal::SIGKILL);
    let _ = io::stdin().read_to_end(&mut Vec::new());
    // The guardian is spared by the OOM killer, and this is like any process of the target.
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    let is_wanted = || parent_id() == guardian;
    if work == "memory" {
        let mut held = Vec::new();
        while is_wanted() {
            if (held.len() * STEP) as u64 >= amount {
                thread::sleep(Duration::from_secs(1));
            } else {
                // Every page is written to, or it would not be there.
                held.push(vec![1u8; STEP]);
            }
        }
        return;
    }
    // As many ns per ms as millionths of the time.
    let busy = Duration::from_nanos(amount.min(1_000_000)) * MILLIS;
    while is_wanted() {
        let start = Instant::now();
        while start.elapsed() < busy {
            for _ in 0..1000 {
                hint::spin_loop();
            }
        }
        thread::sleep(TURN.saturating_sub(start.elapsed()));
    }
}
