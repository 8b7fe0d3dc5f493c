//! The host and the virtual machines that run integration tests, as many side by side as the host
//! has processors for.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::results::Results;
use super::script::Script;
use crate::exec::{command, say};
use crate::vm::qemu::Outcome;
use crate::vm::{Machine, print};

/// What the host's results are listed under.
pub(crate) const HOST: &str = "host";

/// An emulated machine keeps about one processor busy, and more than two wait for the disk.
const SIDE_BY_SIDE: usize = 2;

/// How often a machine is started at most. Only an emulator that breaks lets one be started again:
/// that says nothing about the tests. What the guest does, and be it that it panics, counts.
const STARTS: u32 = 3;

/// What shall run in one place.
pub(crate) struct Job {
    /// The machine that runs it; without one the host does.
    pub(crate) machine: Option<Machine>,
    pub(crate) script: Script,
}

impl Job {
    /// What its results are listed under.
    fn place(&self) -> String {
        let Some(machine) = &self.machine else {
            return HOST.to_owned();
        };
        let kernel = &machine.kernel.name;
        if machine.icount {
            format!("{kernel} (icount, {})", machine.cpus)
        } else {
            kernel.clone()
        }
    }

    fn pace(&self) -> Pace {
        match &self.machine {
            None => Pace::Host,
            Some(machine) if machine.icount => Pace::Counted,
            Some(_) => Pace::Clocked,
        }
    }

    fn run(&self) -> Result<Results> {
        let place = self.place();
        let mut results = Results::default();
        results.start_place(&place);
        say(format!("{place}: start"));
        let problem = match &self.machine {
            Some(machine) => self.in_machine(machine, &place, &mut results),
            None => self.on_host(&place, &mut results),
        }?;
        results.end_place(problem);
        say(format!("{place}: end"));
        Ok(results)
    }

    /// Runs the script on the host and returns what went wrong with the whole of it.
    fn on_host(&self, place: &str, results: &mut Results) -> Result<Option<String>> {
        let mut shell = command("sh");
        shell
            .args(["-c", &self.script.without(&[])])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = shell.spawn().context("cannot start a shell")?;
        let mut stdout = child
            .stdout
            .take()
            .context("the shell has no standard output")?;
        let mut lines = Lines::new(place);
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = stdout.read(&mut buffer) {
            results.feed(&buffer[..length]);
            lines.feed(&buffer[..length]);
        }
        lines.end();
        let status = child.wait().context("cannot wait for the tests")?;
        Ok((!status.success()).then(|| format!("the shell ended with {status}")))
    }

    /// The same in a machine.
    fn in_machine(
        &self,
        machine: &Machine,
        place: &str,
        results: &mut Results,
    ) -> Result<Option<String>> {
        let mut outcome = self.start(machine, place, results)?;
        for _ in 1..STARTS {
            let Outcome::Broke(_, how) = &outcome else {
                break;
            };
            outcome.report();
            results.start_again(how);
            say(format!("{place}: start again"));
            outcome = self.start(machine, place, results)?;
        }
        let seconds = machine.limit.as_secs();
        Ok(match outcome.report() {
            0 => None,
            124 => Some(format!("the tests took more than {seconds} s")),
            125 => Some("the virtual machine died".to_owned()),
            126 => Some("the emulator broke, however often it was started".to_owned()),
            status => Some(format!("the shell ended with status {status}")),
        })
    }

    /// Starts the machine once, for what has not run yet.
    fn start(&self, machine: &Machine, place: &str, results: &mut Results) -> Result<Outcome> {
        let script = self.script.without(&results.ended());
        let mut lines = Lines::new(place);
        let outcome = machine.run(&script, &mut |bytes| {
            results.feed(bytes);
            lines.feed(bytes);
        })?;
        lines.end();
        Ok(outcome)
    }
}

/// What a place needs of the processors beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// The host's tests, which wait most of the time, and not for long.
    Host,
    /// A machine whose clock goes as the host's does.
    Clocked,
    /// A machine whose clock counts instructions: it disturbs nobody, and nobody disturbs it.
    Counted,
}

/// Jobs that nobody has begun, by their numbers.
struct Queue {
    waiting: Vec<(usize, Pace)>,
    host_runs: bool,
}

impl Queue {
    fn new(jobs: &[Job]) -> Self {
        Self {
            waiting: jobs.iter().map(Job::pace).enumerate().collect(),
            host_runs: false,
        }
    }

    /// The first job that may begin now. While the host's tests run, only machines may that
    /// disturb nobody.
    fn next(&mut self) -> Option<(usize, Pace)> {
        let may_begin = |pace| !self.host_runs || pace == Pace::Counted;
        let first = self.waiting.iter().position(|&(_, pace)| may_begin(pace))?;
        let next = self.waiting.remove(first);
        self.host_runs |= next.1 == Pace::Host;
        Some(next)
    }

    /// That one has ended.
    fn end(&mut self, pace: Pace) {
        self.host_runs &= pace != Pace::Host;
    }
}

/// Runs all jobs and adds what they found in the order of the jobs.
///
/// # Errors
///
/// The first error of a machine that could not be started or watched, after all have ended.
pub(crate) fn run(jobs: &[Job], results: &mut Results) -> Result<()> {
    let queue = Mutex::new(Queue::new(jobs));
    let queue = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let found = Mutex::new(Vec::new());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors.min(SIDE_BY_SIDE) {
            scope.spawn(|| {
                while !queue().waiting.is_empty() {
                    let next = queue().next();
                    let Some((index, pace)) = next else {
                        std::thread::sleep(Duration::from_secs(1));
                        continue;
                    };
                    let result = jobs[index].run();
                    queue().end(pace);
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
    fn nothing_that_is_in_a_hurry_runs_beside_the_host() {
        let paces = [Pace::Host, Pace::Clocked, Pace::Counted, Pace::Clocked];
        let mut queue = Queue {
            waiting: paces.into_iter().enumerate().collect(),
            host_runs: false,
        };
        assert_eq!(queue.next(), Some((0, Pace::Host)));
        assert_eq!(queue.next(), Some((2, Pace::Counted)));
        assert_eq!(queue.next(), None);
        queue.end(Pace::Counted);
        assert_eq!(queue.next(), None);
        queue.end(Pace::Host);
        assert_eq!(queue.next(), Some((1, Pace::Clocked)));
        assert_eq!(queue.next(), Some((3, Pace::Clocked)));
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn each_line_names_its_place() {
        let lines = Lines::new("here");
        assert_eq!(lines.marked(b"a\n\nb\n"), b"here | a\nhere | \nhere | b\n");
    }
}
