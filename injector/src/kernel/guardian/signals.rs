//! Signals to processes, now or again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use injector_common::{Tgid, Trigger, random, trigger::Verdict};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::protocol::{Choice, Status};
use crate::{
    kernel::{cgroup, processes},
    report::resource::ResourceReport,
    resolve::services,
};

/// How often a round looks again for what was forked meanwhile.
const LOOKS: usize = 32;

/// Who gets signals.
enum Whom {
    /// Whatever is in a cgroup then.
    Cgroup(PathBuf),
    /// A process, and whatever it has forked: those that are known so far.
    Tree(BTreeMap<Tgid, OwnedFd>),
}

/// A signal to send.
pub(super) struct Signals {
    whom: Whom,
    /// Whether services of the host are left out.
    spares: bool,
    signal: Signal,
    every_ns: Option<u64>,
    trigger: Trigger,
    seed: u64,
    /// When the next round is due, in ns after the start.
    next_ns: Option<u64>,
    errors: u64,
    counts: Status,
}

/// What the targets of one rule count together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    occurrences: u64,
    spent: u64,
}

impl Signals {
    /// To a cgroup, or to the process of this id. The latter is held from now on.
    pub(super) fn new(
        choice: Choice,
        (whom, spares): (Result<PathBuf, u32>, bool),
        signal: i32,
        every_ns: Option<u64>,
        after_ns: u64,
    ) -> Result<Self, String> {
        let whom = match whom {
            Ok(cgroup) => Whom::Cgroup(cgroup),
            Err(pid) => {
                let held = hold(Tgid(pid)).map_err(|error| format!("pid:{pid}: {error}"))?;
                Whom::Tree([(Tgid(pid), held)].into())
            }
        };
        let signal = Signal::from_named_raw(signal).ok_or("it is no signal")?;
        Ok(Self {
            whom,
            spares,
            signal,
            every_ns,
            trigger: choice.trigger(),
            seed: choice.seed,
            next_ns: Some(after_ns),
            errors: 0,
            counts: Status::default(),
        })
    }

    /// When the next round is due, in ns after the start.
    pub(super) const fn next_ns(&self) -> Option<u64> {
        self.next_ns
    }

    /// Signals whoever is there, if it is time.
    pub(super) fn step(&mut self, since_ns: u64, count: &mut Count, spared: &[Tgid]) {
        let Some(due) = self.next_ns.filter(|&next| next <= since_ns) else {
            return;
        };
        self.round(count, spared);
        // What could not be done in time is not made up for.
        self.next_ns = self.every_ns.map(|every| {
            let missed = since_ns.saturating_sub(due) / every.max(1);
            due.saturating_add(every.saturating_mul(missed + 1))
        });
    }

    fn round(&mut self, count: &mut Count, spared: &[Tgid]) {
        let mut seen: BTreeSet<Tgid> = spared.iter().copied().collect();
        // What is killed may have forked before.
        let looks = if self.signal == Signal::KILL {
            LOOKS
        } else {
            1
        };
        for _ in 0..looks {
            let found = match self.find(&seen) {
                Ok(found) => found,
                Err(problem) => {
                    self.errors += 1;
                    let problems = &mut self.counts.report.problems;
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                    return;
                }
            };
            if found.is_empty() {
                return;
            }
            for (tgid, held) in found {
                seen.insert(tgid);
                self.one(&held, count);
                if let Whom::Tree(known) = &mut self.whom {
                    known.insert(tgid, held);
                }
            }
        }
    }

    /// One process, which may have ended meanwhile.
    fn one(&mut self, held: &OwnedFd, count: &mut Count) {
        let n = count.occurrences + 1;
        let roll = random::roll(random::draw(self.seed, n));
        let status = &mut self.counts;
        let verdict = if self.trigger.selects(n, roll) {
            self.trigger.within_budget(count.spent)
        } else {
            Verdict::Pass
        };
        match verdict {
            Verdict::Pass => status.passed += 1,
            Verdict::Exhausted => status.exhausted += 1,
            Verdict::Inject => match pidfd_send_signal(held, self.signal) {
                Ok(()) => {
                    status.injected += 1;
                    count.spent += 1;
                }
                // It ended by itself.
                Err(Errno::SRCH) => return,
                Err(error) => {
                    status.errors += 1;
                    status.report.problems.push(error.to_string());
                }
            },
        }
        status.matched += 1;
        count.occurrences = n;
    }

    /// Running processes of the target but those seen, each held.
    fn find(&mut self, seen: &BTreeSet<Tgid>) -> Result<Vec<(Tgid, OwnedFd)>, String> {
        let spares = self.spares;
        let is_new =
            |tgid: &Tgid| !(seen.contains(tgid) || spares && services::of_process(*tgid).is_some());
        let hold_all = |tgids: Vec<Tgid>| -> Vec<(Tgid, OwnedFd)> {
            let new = tgids.into_iter().filter(is_new);
            new.filter_map(|tgid| Some((tgid, hold(tgid).ok()?)))
                .collect()
        };
        match &mut self.whom {
            Whom::Cgroup(path) => {
                let inside = || {
                    cgroup::processes(path).map_err(|error| format!("{}: {error}", path.display()))
                };
                let mut held = hold_all(inside()?);
                // A number that was given to another process before it was held.
                let still: BTreeSet<Tgid> = inside()?.into_iter().collect();
                held.retain(|(tgid, _)| still.contains(tgid) && processes::is_running(*tgid));
                Ok(held)
            }
            Whom::Tree(known) => {
                // The number of one that has ended may be another's by now.
                known.retain(|_, held| !has_ended(held));
                let roots: Vec<Tgid> = known.keys().copied().collect();
                let tree = processes::trees(&roots).map_err(|error| format!("/proc: {error}"))?;
                let mut held = hold_all(tree);
                let still = processes::trees(&roots).map_err(|error| format!("/proc: {error}"))?;
                held.retain(|(tgid, _)| still.contains(tgid));
                Ok(held)
            }
        }
    }

    /// How it stands.
    pub(super) fn status(&self, rule: u32) -> Status {
        Status {
            rule,
            matched: self.counts.matched + self.errors,
            errors: self.counts.errors + self.errors,
            report: ResourceReport {
                problems: self.counts.report.problems.clone(),
                ..ResourceReport::default()
            },
            ..self.counts.clone()
        }
    }
}

/// Whether a process has ended: its descriptor can be read then (pidfd_open(2)).
fn has_ended(held: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(held.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::ZERO) != Ok(0)
}

fn hold(tgid: Tgid) -> Result<OwnedFd, Errno> {
    let raw = i32::try_from(tgid.0).map_err(|_| Errno::SRCH)?;
    pidfd_open(Pid::from_raw(raw).ok_or(Errno::SRCH)?, PidfdFlags::empty())
}
