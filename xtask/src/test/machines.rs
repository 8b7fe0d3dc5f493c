//! Virtual machines that run integration tests, as many side by side as the host has processors
//! for.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::results::Results;
use super::script::Script;
use crate::exec::say;
use crate::vm::qemu::Outcome;
use crate::vm::{Machine, print};

/// An emulated machine keeps about one processor busy, and more than two wait for the disk.
const SIDE_BY_SIDE: usize = 2;

/// How often a machine is started at most. Only an emulator that breaks lets one be started again:
/// that says nothing about the tests. What the guest does, and be it that it panics, counts.
const STARTS: u32 = 3;

/// A machine and what it shall run.
pub(crate) struct Job {
    pub(crate) machine: Machine,
    pub(crate) script: Script,
}

impl Job {
    /// What its results are listed under.
    fn place(&self) -> String {
        let kernel = &self.machine.kernel.name;
        if self.machine.icount {
            format!("{kernel} (icount, {})", self.machine.cpus)
        } else {
            kernel.clone()
        }
    }

    fn run(&self) -> Result<Results> {
        let place = self.place();
        let mut results = Results::default();
        results.start_place(&place);
        say(format!("{place}: start"));
        let mut outcome = self.start(&place, &mut results)?;
        for _ in 1..STARTS {
            let Outcome::Broke(_, how) = &outcome else {
                break;
            };
            outcome.report();
            results.start_again(how);
            say(format!("{place}: start again"));
            outcome = self.start(&place, &mut results)?;
        }
        let seconds = self.machine.limit.as_secs();
        let problem = match outcome.report() {
            0 => None,
            124 => Some(format!("the tests took more than {seconds} s")),
            125 => Some("the virtual machine died".to_owned()),
            126 => Some("the emulator broke, however often it was started".to_owned()),
            status => Some(format!("the shell ended with status {status}")),
        };
        results.end_place(problem);
        say(format!("{place}: end"));
        Ok(results)
    }

    /// Starts the machine once, for what has not run yet.
    fn start(&self, place: &str, results: &mut Results) -> Result<Outcome> {
        let script = self.script.without(&results.ended());
        let mut lines = Lines::new(place);
        let outcome = self.machine.run(&script, &mut |bytes| {
            results.feed(bytes);
            lines.feed(bytes);
        })?;
        lines.end();
        Ok(outcome)
    }
}

/// Runs all jobs and adds what they found in the order of the jobs.
///
/// # Errors
///
/// The first error of a machine that could not be started or watched, after all have ended.
pub(crate) fn run(jobs: &[Job], results: &mut Results) -> Result<()> {
    let queue = Mutex::new(jobs.iter().enumerate());
    let found = Mutex::new(Vec::new());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors.min(SIDE_BY_SIDE) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((index, job)) = next else { break };
                    let result = job.run();
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.push((index, result));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(index, _)| *index);
    for (_, result) in found {
        results.add(result?);
    }
    Ok(())
}

/// Prints whole lines, each after the place that it comes from.
struct Lines<'a> {
    place: &'a str,
    line: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(place: &'a str) -> Self {
        Self {
            place,
            line: Vec::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.line.extend_from_slice(bytes);
        let Some(last) = self.line.iter().rposition(|&byte| byte == b'\n') else {
            return;
        };
        let rest = self.line.split_off(last + 1);
        let lines = std::mem::replace(&mut self.line, rest);
        print(&self.marked(&lines));
    }

    fn end(&mut self) {
        if !self.line.is_empty() {
            self.feed(b"\n");
        }
    }

    fn marked(&self, lines: &[u8]) -> Vec<u8> {
        let mut marked = Vec::with_capacity(lines.len() * 2);
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            // Writing to memory cannot fail.
            drop(write!(marked, "{} | ", self.place));
            marked.extend_from_slice(line);
        }
        marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_names_its_place() {
        let lines = Lines::new("here");
        assert_eq!(lines.marked(b"a\n\nb\n"), b"here | a\nhere | \nhere | b\n");
    }
}
