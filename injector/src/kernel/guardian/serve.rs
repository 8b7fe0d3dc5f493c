//! The guardian's own side: a loop that does what is due, and undoes it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use injector_common::Tgid;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::setsid,
};

use super::{
    PATIENCE,
    ending::{self, Ending},
    journal_of,
    protocol::{Remaining, Reply, Request, Status, Task, Work},
    setting::Setting,
    signals::{Count, Signals},
    workers::Workers,
};
use crate::kernel::{actuator::LEASE_NS, clock, journal::Journal};

/// How often the agent hears that the end takes its time.
const LIFE_SIGN: Duration = Duration::from_millis(500);

/// A task, and what has become of it.
struct Running {
    rule: u32,
    after_ns: u64,
    until_ns: u64,
    job: Job,
}

/// What is done and undone, or done alone.
enum Job {
    Setting(Box<Setting>),
    Signals(Box<Signals>),
    Workers(Box<Workers>),
    Ending(Box<Ending>),
}

impl Running {
    /// What it sets, if it does.
    fn setting(&self) -> Option<&Setting> {
        match &self.job {
            Job::Setting(setting) => Some(setting),
            Job::Signals(_) | Job::Workers(_) | Job::Ending(_) => None,
        }
    }

    fn setting_mut(&mut self) -> Option<&mut Setting> {
        match &mut self.job {
            Job::Setting(setting) => Some(setting),
            Job::Signals(_) | Job::Workers(_) | Job::Ending(_) => None,
        }
    }

    fn status(&mut self) -> Status {
        match &mut self.job {
            Job::Setting(setting) => setting.status(self.rule),
            Job::Signals(signals) => signals.status(self.rule),
            Job::Workers(workers) => workers.status(self.rule),
            Job::Ending(ending) => ending.status(self.rule),
        }
    }
}

struct Server {
    journal: Journal,
    tasks: Vec<Running>,
    /// What the targets of a rule count together.
    counts: BTreeMap<u32, Count>,
    /// Who gets no signal.
    spared: Vec<Tgid>,
    start_ns: Option<u64>,
    lease_until_ns: u64,
}

/// Serves the agent of experiment `id` until that says so, or is gone, or is told to stop.
///
/// # Errors
///
/// When it cannot stand by; nothing has been changed then.
pub fn serve(id: &str) -> io::Result<()> {
    // Whatever ends the agent's terminal or its group is not to end this.
    setsid()?;
    // A host without memory should end whoever has much of it.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    let ends = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ];
    let signals: SigSet = ends.into_iter().collect();
    signals.thread_block()?;
    let told = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    let mut server = Server {
        journal: Journal::new(&journal_of(id)),
        tasks: Vec::new(),
        counts: BTreeMap::new(),
        spared: vec![
            Tgid(1),
            Tgid(std::process::id()),
            Tgid(std::os::unix::process::parent_id()),
        ],
        start_ns: None,
        lease_until_ns: 0,
    };
    server.journal.open()?;
    reply(&Reply::Ready);
    let mut stdin = io::stdin().lock();
    let mut unread = Vec::new();
    'serve: loop {
        let mut ready = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(told.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, server.patience()) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => {
                // Without ears, the agent counts as gone.
                tracing::error!("poll: {error}");
                break;
            }
            Ok(_) => {}
        }
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let [speaks, signalled] = [is_ready(&ready[0]), is_ready(&ready[1])];
        if signalled {
            break;
        }
        if speaks {
            let mut chunk = [0; 4096];
            match stdin.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(length) => unread.extend_from_slice(&chunk[..length]),
            }
            while let Some(end) = unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                let Ok(request) = serde_json::from_slice(&line) else {
                    break 'serve;
                };
                if !server.obey(request) {
                    break 'serve;
                }
            }
        }
        // What goes wrong is in the tasks' statuses.
        let _ = server.step();
    }
    let left = server.end();
    server.tell();
    reply(&Reply::Ended(left));
    Ok(())
}

impl Server {
    /// Does what the agent asks for; whether to go on.
    fn obey(&mut self, request: Request) -> bool {
        match request {
            Request::Add(task) => {
                let done = self.add(task);
                self.tell();
                reply(&Reply::Done(done));
            }
            Request::Go { start_ns } => {
                self.start_ns = Some(start_ns);
                self.lease_until_ns = clock::boot_ns() + LEASE_NS;
                let done = self.step();
                // Should it be killed before the first beat, the agent knows of what.
                self.tell();
                reply(&Reply::Done(done));
            }
            Request::Beat => {
                self.lease_until_ns = clock::boot_ns() + LEASE_NS;
                let _ = self.step();
                self.tell();
            }
            Request::End => return false,
        }
        true
    }

    fn add(&mut self, task: Task) -> Result<(), String> {
        let until_ns = task.after_ns.saturating_add(task.duration_ns);
        let job = match task.work {
            Work::Set { file, value } => {
                let others: Vec<&Setting> =
                    self.tasks.iter().filter_map(Running::setting).collect();
                let setting = Setting::new(file, value, &others)?;
                // The rules may name it in two ways.
                let meets = |other: &&Running| {
                    let is_same = other.setting().is_some_and(|held| held.is_same(&setting));
                    is_same && task.after_ns < other.until_ns && other.after_ns < until_ns
                };
                if let Some(other) = self.tasks.iter().find(meets) {
                    return Err(format!(
                        "{}: rules {} and {} would set it at one time",
                        setting.path(),
                        other.rule,
                        task.rule
                    ));
                }
                Job::Setting(Box::new(setting))
            }
            Work::End { cgroup } => Job::Ending(Box::new(Ending::new(cgroup))),
            Work::Run { cgroup, load } => Job::Workers(Box::new(Workers::new(cgroup, load))),
            Work::Signal {
                whom,
                signal,
                every_ns,
                choice,
                spares,
            } => Job::Signals(Box::new(Signals::new(
                choice,
                (whom, spares),
                signal,
                every_ns,
                task.after_ns,
            )?)),
        };
        self.tasks.push(Running {
            rule: task.rule,
            after_ns: task.after_ns,
            until_ns,
            job,
        });
        Ok(())
    }

    /// Does what is due now, and undoes what is over: the first thing that went wrong.
    ///
    /// The end comes first: two rules may set one file one after the other.
    fn step(&mut self) -> Result<(), String> {
        let now = clock::boot_ns();
        let Some(start) = self.start_ns else {
            return Ok(());
        };
        let vouched = now < self.lease_until_ns;
        let since = now.saturating_sub(start);
        let due = |task: &Running| vouched && (task.after_ns..task.until_ns).contains(&since);
        undo(&mut self.tasks, &mut self.journal, |task| !due(task));
        let _ = self.reap();
        let spared = self.spared();
        for task in &mut self.tasks {
            // An agent that is stopped may go on, and a process that was ended may not.
            if let Job::Ending(ending) = &mut task.job
                && since >= task.until_ns
            {
                ending.step(&spared);
            }
        }
        let mut result = Ok(());
        for task in self.tasks.iter_mut().filter(|task| due(task)) {
            match &mut task.job {
                Job::Setting(setting) if !setting.is_set() && !setting.is_over() => {
                    result = result.and(setting.set(&mut self.journal));
                }
                Job::Workers(workers) if !workers.are_on() && !workers.are_over() => {
                    result = result.and(workers.start());
                }
                Job::Setting(_) | Job::Workers(_) | Job::Ending(_) => {}
                Job::Signals(signals) => {
                    let count = self.counts.entry(task.rule).or_default();
                    signals.step(since, count, &spared);
                }
            }
        }
        result
    }

    /// Who gets no signal: those that need not be told of, and workers.
    fn spared(&self) -> Vec<Tgid> {
        let mut spared = self.spared.clone();
        for task in &self.tasks {
            if let Job::Workers(workers) = &task.job {
                spared.extend(workers.ids());
            }
        }
        spared
    }

    /// How long nothing is due.
    fn patience(&self) -> PollTimeout {
        let Some(start) = self.start_ns else {
            return PollTimeout::NONE;
        };
        let now = clock::boot_ns();
        let edges = self.tasks.iter().flat_map(|task| {
            let round = match &task.job {
                Job::Setting(_) | Job::Workers(_) | Job::Ending(_) => None,
                Job::Signals(signals) => signals.next_ns().filter(|&next| next < task.until_ns),
            };
            [Some(task.after_ns), Some(task.until_ns), round]
        });
        let edges = edges.flatten().map(|edge| start.saturating_add(edge));
        let next = edges
            .chain([self.lease_until_ns])
            .filter(|&edge| edge > now)
            .min();
        // What could not be put back is tried again.
        let again = next.is_none()
            && self
                .tasks
                .iter()
                .filter_map(Running::setting)
                .any(Setting::is_set);
        let ends = |task: &Running| match &task.job {
            Job::Ending(ending) => ending.is_under_way(),
            Job::Setting(_) | Job::Workers(_) | Job::Signals(_) => false,
        };
        if self.tasks.iter().any(ends) {
            return u16::try_from(ending::LOOK.as_millis())
                .map_or(PollTimeout::MAX, PollTimeout::from);
        }
        let wait_ns = match next {
            Some(next) => next - now,
            None if again => 100_000_000,
            None => return PollTimeout::NONE,
        };
        // Rounded up, so that it is due when the wait is over.
        let millis = wait_ns.div_ceil(1_000_000).min(60_000);
        u16::try_from(millis).map_or(PollTimeout::MAX, PollTimeout::from)
    }

    /// Tells the agent how all stands.
    fn tell(&mut self) {
        let now = self.tasks.iter_mut().map(Running::status);
        reply(&Reply::Now(now.collect()));
    }

    /// The workers that were killed and are still there.
    fn reap(&mut self) -> Vec<u32> {
        let jobs = self.tasks.iter_mut().map(|task| &mut task.job);
        jobs.flat_map(|job| match job {
            Job::Workers(workers) => workers.reap().collect(),
            Job::Setting(_) | Job::Signals(_) | Job::Ending(_) => Vec::new(),
        })
        .collect()
    }

    /// Undoes all; what could not be undone. Of values, the journal still names them.
    fn end(&mut self) -> Vec<Remaining> {
        let mut left = undo(&mut self.tasks, &mut self.journal, |_| true);
        self.journal.close();
        self.tell();
        let (begun, mut told) = (Instant::now(), Instant::now());
        let mut still = self.reap();
        self.end_processes();
        while (!still.is_empty() || self.ends_processes()) && begun.elapsed() < PATIENCE {
            thread::sleep(if still.is_empty() {
                ending::LOOK
            } else {
                Duration::from_millis(1)
            });
            if told.elapsed() > LIFE_SIGN {
                // The agent would take silence for an end.
                self.tell();
                told = Instant::now();
            }
            still = self.reap();
            self.end_processes();
        }
        let workers = still.into_iter().map(|pid| (format!("worker {pid}"), pid));
        let others = self
            .endings()
            .flat_map(|ending| ending.running())
            .map(|Tgid(pid)| (format!("process {pid}"), pid));
        let one_by_one = workers.chain(others).map(|(what, pid)| Remaining {
            what,
            why: "the kernel does not let go of it".to_owned(),
            remedy: format!("kill -KILL {pid}"),
        });
        // What cannot be listed is in a cgroup all the same.
        let unlisted = self
            .endings()
            .filter(|ending| ending.is_populated() && ending.running().is_empty())
            .map(|ending| Remaining {
                what: format!("processes in {}", ending.cgroup().display()),
                why: "the kernel does not let go of them".to_owned(),
                remedy: format!("echo 1 > {}/cgroup.kill", ending.cgroup().display()),
            });
        left.extend(one_by_one.chain(unlisted));
        left
    }

    /// Ends the processes that end with their rules; those that have not yet.
    fn end_processes(&mut self) {
        let spared = self.spared();
        for task in &mut self.tasks {
            if let Job::Ending(ending) = &mut task.job {
                ending.step(&spared);
            }
        }
    }

    /// Whether any of those still runs.
    fn ends_processes(&self) -> bool {
        self.endings().any(Ending::is_populated)
    }

    fn endings(&self) -> impl Iterator<Item = &Ending> {
        self.tasks.iter().filter_map(|task| {
            if let Job::Ending(ending) = &task.job {
                Some(&**ending)
            } else {
                None
            }
        })
    }
}

/// Undoes what those tasks did that are over; what could not be undone, and is tried again.
///
/// Workers are killed first and not waited for here: that may take long, and nobody is to wait
/// for a value meanwhile.
fn undo(
    tasks: &mut [Running],
    journal: &mut Journal,
    is_over: impl Fn(&Running) -> bool,
) -> Vec<Remaining> {
    let mut over: Vec<&mut Running> = tasks.iter_mut().filter(|task| is_over(task)).collect();
    for task in &mut over {
        if let Job::Workers(workers) = &mut task.job {
            workers.kill();
        }
    }
    // The last first.
    let settings = over.iter_mut().rev();
    settings
        .filter_map(|task| task.setting_mut()?.restore(journal))
        .collect()
}

/// Tells the agent, if it is still there.
fn reply(reply: &Reply) {
    let Ok(mut line) = serde_json::to_vec(reply) else {
        return;
    };
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, path::Path};

    use super::*;
    use crate::kernel::control_file::ControlFile;

    fn server() -> Server {
        Server {
            journal: Journal::new("no-experiment"),
            tasks: Vec::new(),
            counts: BTreeMap::new(),
            spared: Vec::new(),
            start_ns: None,
            lease_until_ns: 0,
        }
    }

    fn task(path: &Path, device: &str, after_ns: u64) -> Task {
        Task {
            rule: 0,
            after_ns,
            duration_ns: 10,
            work: Work::Set {
                file: ControlFile {
                    path: path.to_owned(),
                    device: Some(device.to_owned()),
                },
                value: "rbps=1".to_owned(),
            },
        }
    }

    #[test]
    fn one_line_is_set_by_one_rule_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("io.max");
        fs::write(&path, "").expect("a file");
        let other_name = folder.path().join("link");
        symlink(folder.path(), &other_name).expect("a link");
        let other_name = other_name.join("io.max");
        let mut server = server();
        assert_eq!(server.add(task(&path, "8:0", 10)), Ok(()));
        for after_ns in [1, 10, 19] {
            let problem = server.add(task(&other_name, "8:0", after_ns));
            let problem = problem.expect_err("at one time");
            assert!(problem.contains("at one time"), "{problem}");
        }
        assert_eq!(server.add(task(&path, "8:0", 0)), Ok(()));
        assert_eq!(server.add(task(&other_name, "8:0", 20)), Ok(()));
        assert_eq!(server.add(task(&path, "8:16", 10)), Ok(()));
    }
}
