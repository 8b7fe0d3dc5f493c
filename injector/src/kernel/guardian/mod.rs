//! The guardian: a process of ours that sets values, and puts them back whatever becomes
//! of the agent.
//!
//! Programs and maps go with the agent's descriptors; a value in a control file does not.
//! So the guardian is to such values what programs are to packets: it has the deadline and
//! the lease, and acts on them by itself. It hears from the agent over a pipe that nobody
//! else has, and when that closes the agent is gone. It lives in a session of its own, in
//! the agent's cgroup, which no rule of this kind may take in. What it sets it writes down
//! first, in a journal of its own, for `injector stop --all`.

mod ending;
mod protocol;
mod serve;
mod setting;
mod signals;
mod tally;
mod workers;

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Write as _},
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

pub(super) use protocol::{Choice, Load, Status, Task, Work};
pub use serve::serve;
pub(super) use setting::put_back;
pub use workers::{WORKER, work};

use self::protocol::{Remaining, Reply, Request};
use super::{
    actuator::{Failure, LEASE_NS},
    control_file::{self, ControlFile},
    leftovers::{self, PutBack},
};
use crate::{
    error::CleanupError,
    report::resource::{Outcome, ValueReport},
};

/// The hidden command that a guardian runs as.
pub const COMMAND: &str = "guardian";

/// How long an answer is waited for: to set a limit on memory, the kernel has to get back
/// what is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may say nothing when it should: as it takes the agent for gone after the lease,
/// so the agent takes it.
const SILENCE: Duration = Duration::from_nanos(LEASE_NS);

/// What one look can add to its silence. Longer ago, it was the agent that was stopped.
const LOOK: Duration = Duration::from_secs(1);

/// The looks while something is waited for.
const SLICE: Duration = Duration::from_millis(100);

/// The name of the guardian's journal. It comes behind the agent's, which `stop --all`
/// therefore ends first.
fn journal_of(id: &str) -> String {
    format!("{id}.restore")
}

/// The agent's end of it.
pub(super) struct Guardian {
    id: String,
    child: Child,
    /// None once all is to be undone.
    requests: Option<ChildStdin>,
    replies: Receiver<Reply>,
    now: Vec<Status>,
    /// Cgroups whose processes it is to end.
    ends: Vec<PathBuf>,
    /// When it was last told that the agent lives.
    told: Instant,
    /// For how long it has said nothing since, as far as the agent itself was not stopped.
    silent: Duration,
    /// What could not be undone.
    left: Vec<CleanupError>,
}

impl fmt::Debug for Guardian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guardian")
            .field("pid", &self.child.id())
            .finish_non_exhaustive()
    }
}

impl Guardian {
    /// Starts one, for the experiment of this id, and waits until it stands by.
    pub(super) fn start(id: &str) -> Result<Self, Failure> {
        // The same program, also after its file was replaced.
        let child = Command::new("/proc/self/exe")
            .args([COMMAND, id])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()?;
        let mut guardian = Self::of(child, id)?;
        match guardian.hear(PATIENCE) {
            Ok(Reply::Ready) => Ok(guardian),
            Ok(_) | Err(_) => Err("it does not stand by".into()),
        }
    }

    /// The agent's end of this one.
    fn of(mut child: Child, id: &str) -> io::Result<Self> {
        let (sender, replies) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let Ok(reply) = serde_json::from_str(&line) else {
                        return;
                    };
                    if sender.send(reply).is_err() {
                        return;
                    }
                }
            });
        }
        let guardian = Self {
            id: id.to_owned(),
            requests: child.stdin.take(),
            child,
            replies,
            now: Vec::new(),
            ends: Vec::new(),
            told: Instant::now(),
            silent: Duration::ZERO,
            left: Vec::new(),
        };
        // One that does not read is not to stop whoever writes.
        if let Some(pipe) = &guardian.requests {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(guardian)
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Hands over what is to be done when its time comes.
    pub(super) fn add(&mut self, task: Task) -> Result<(), Failure> {
        if let Work::End { cgroup } = &task.work {
            self.ends.push(cgroup.clone());
        }
        self.ask(&Request::Add(task))
    }

    /// Lets time begin, at this boot time, and waits until all is done that begins then.
    pub(super) fn go(&mut self, start_ns: u64) -> Result<(), Failure> {
        self.ask(&Request::Go { start_ns })
    }

    /// Tells it that the agent lives, and hears how all stands. Never waits for it, unless it
    /// is ending.
    pub(super) fn beat(&mut self) {
        if self.requests.is_none() {
            return;
        }
        let now = Instant::now();
        self.silent += now.duration_since(self.told).min(LOOK);
        self.told = now;
        // A pipe that is full is part of its silence.
        let sent = self.send(&Request::Beat, Duration::ZERO);
        let ends = sent.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        loop {
            match self.replies.try_recv() {
                Ok(Reply::Ended(left)) => {
                    tracing::error!(
                        "the guardian was told to stop: what it set is put back, for good"
                    );
                    self.complain(
                        "the guardian was told to stop; what it had set was put back then",
                    );
                    return self.ended(left);
                }
                Ok(reply) => self.note(reply),
                // Its last words come before its end.
                Err(TryRecvError::Empty) if ends && now.elapsed() < SILENCE => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(TryRecvError::Empty) if ends || self.silent >= SILENCE => {
                    return self.take_over(RecvTimeoutError::Timeout);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    return self.take_over(RecvTimeoutError::Disconnected);
                }
            }
        }
    }

    /// How all stands, target by target.
    pub(super) fn now(&self) -> &[Status] {
        &self.now
    }

    /// Has all undone, and waits for it. Once is enough.
    pub(super) fn end(&mut self) {
        if self.requests.is_none() {
            return;
        }
        let _ = self.send(&Request::End, Duration::ZERO);
        loop {
            match self.hear(SILENCE) {
                Ok(Reply::Ended(left)) => return self.ended(left),
                Ok(reply) => self.note(reply),
                Err(error) => return self.take_over(error),
            }
        }
    }

    /// What could not be undone, once.
    pub(super) fn take_left(&mut self) -> Vec<CleanupError> {
        std::mem::take(&mut self.left)
    }

    /// Sends a request, if there is room for it within this time.
    fn send(&mut self, request: &Request, patience: Duration) -> io::Result<()> {
        let Some(pipe) = &mut self.requests else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let mut rest = line.as_slice();
        let begun = Instant::now();
        while !rest.is_empty() {
            match pipe.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < patience =>
                {
                    let mut room = [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut room, PollTimeout::from(100_u8))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next that it says, if it says something within this time. In slices, so that time in
    /// which the agent is stopped hardly counts.
    fn hear(&mut self, patience: Duration) -> Result<Reply, RecvTimeoutError> {
        let mut waited = Duration::ZERO;
        loop {
            match self.replies.recv_timeout(SLICE) {
                Err(RecvTimeoutError::Timeout) if waited < patience => waited += SLICE,
                heard => return heard,
            }
        }
    }

    fn ask(&mut self, request: &Request) -> Result<(), Failure> {
        self.send(request, PATIENCE)?;
        loop {
            match self.hear(PATIENCE) {
                Ok(Reply::Done(result)) => {
                    self.silent = Duration::ZERO;
                    return result.map_err(Failure::from);
                }
                Ok(Reply::Ended(left)) => {
                    self.ended(left);
                    return Err("the guardian was told to stop".into());
                }
                Ok(reply) => self.note(reply),
                Err(error) => {
                    let problem = format!("the guardian does not answer: {error}");
                    self.take_over(error);
                    return Err(problem.into());
                }
            }
        }
    }

    fn note(&mut self, reply: Reply) {
        self.silent = Duration::ZERO;
        if let Reply::Now(now) = reply {
            self.now = now;
        }
    }

    /// Notes for each rule what went wrong with all of them.
    fn complain(&mut self, problem: &str) {
        for status in &mut self.now {
            status.report.problems.push(problem.to_owned());
        }
    }

    /// It has undone all, but for these.
    fn ended(&mut self, left: Vec<Remaining>) {
        self.requests = None;
        if !self.has_ended(SILENCE) {
            self.kill();
        }
        let left = left.into_iter().map(|remaining| CleanupError {
            what: remaining.what,
            source: remaining.why.into(),
            remedy: remaining.remedy,
        });
        self.left.extend(left);
    }

    /// Whether it has ended, or does so within this time.
    fn has_ended(&mut self, patience: Duration) -> bool {
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(None) if begun.elapsed() < patience => {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }

    /// Ends it.
    fn kill(&mut self) {
        let _ = self.child.kill();
        if !self.has_ended(SILENCE) {
            let pid = self.child.id();
            self.left.push(CleanupError {
                what: format!("guardian {pid}"),
                source: "the kernel does not let go of it".into(),
                remedy: format!("kill -KILL {pid}"),
            });
        }
    }

    /// It is gone or does not answer: what it wrote down is undone here.
    fn take_over(&mut self, why: RecvTimeoutError) {
        self.requests = None;
        let is_gone = why == RecvTimeoutError::Disconnected && self.has_ended(SLICE);
        let how = match self.child.try_wait() {
            Ok(Some(status)) if is_gone && status.signal().is_some() => "was killed".to_owned(),
            Ok(Some(status)) if is_gone => format!("ended by itself ({status})"),
            Ok(_) | Err(_) => "did not answer, and was ended".to_owned(),
        };
        tracing::error!("the guardian {how}: what it set is put back, for good");
        if !is_gone {
            self.kill();
        }
        // What it said before.
        while let Ok(reply) = self.replies.recv_timeout(SLICE) {
            self.note(reply);
        }
        for cgroup in self.ends.drain(..) {
            if let Err(problem) = ending::kill(&cgroup) {
                tracing::error!("what runs there is not ended: {problem}");
            }
        }
        let (values, left) = leftovers::put_back_all(&journal_of(&self.id));
        for PutBack { file, outcome, .. } in &values {
            tracing::warn!("{}: {outcome}", file.path.display());
        }
        self.left.extend(left);
        let reports = self.now.iter_mut().flat_map(|now| &mut now.report.values);
        settle(&mut reports.collect::<Vec<_>>(), values, ControlFile::read);
        self.complain(&format!(
            "the guardian {how}; the agent then put back what it had set, for the rest of the run"
        ));
    }
}

/// Notes what has become of values that the guardian had set and others have put back, with
/// what it last said of them.
fn settle(
    reports: &mut [&mut ValueReport],
    values: Vec<PutBack>,
    read: impl Fn(&ControlFile) -> io::Result<String>,
) {
    for value in values {
        // Two rules may set one file one after the other.
        let likely = |report: &ValueReport| match report.outcome {
            Outcome::Set | Outcome::Remains(_) => 0,
            Outcome::NotSet if report.set == value.set => 1,
            Outcome::NotSet => 2,
            Outcome::Restored | Outcome::Changed(_) | Outcome::Gone => 3,
        };
        let same = reports
            .iter_mut()
            .filter(|report| report.path == value.file.path && report.device == value.file.device);
        if let Some(report) = same.min_by_key(|report| likely(report)) {
            report.before = Some(value.before);
            report.set = value.set;
            report.outcome = value.outcome;
        }
    }
    // What it had struck from its journal, it had put back or left by itself.
    for report in reports {
        if report.outcome != Outcome::Set {
            continue;
        }
        let file = ControlFile {
            path: report.path.clone(),
            device: report.device.clone(),
        };
        report.outcome = match read(&file) {
            Ok(now) if report.before.as_ref() == Some(&now) => Outcome::Restored,
            Ok(now) if report.set == now => Outcome::Set,
            Ok(now) => Outcome::Changed(now),
            Err(error) if control_file::is_gone(&error) => Outcome::Gone,
            Err(error) => Outcome::Remains(error.to_string()),
        };
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(file: &str, set: &str, outcome: Outcome) -> ValueReport {
        ValueReport {
            path: file.into(),
            device: None,
            before: (outcome != Outcome::NotSet).then(|| "max".to_owned()),
            set: set.to_owned(),
            outcome,
        }
    }

    fn file(path: &str) -> ControlFile {
        ControlFile {
            path: path.into(),
            device: None,
        }
    }

    /// One that neither reads nor says anything, and has one rule.
    fn mute() -> Guardian {
        let child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut guardian = Guardian::of(child, "no-experiment").expect("a pipe");
        guardian.now = vec![Status::default()];
        guardian
    }

    #[track_caller]
    fn assert_told(guardian: &Guardian, what: &str) {
        assert!(guardian.requests.is_none(), "it is still waited for");
        let problems = &guardian.now[0].report.problems;
        assert!(problems[0].contains(what), "{problems:?}");
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn one_that_says_nothing_is_ended() {
        let mut guardian = mute();
        let begun = Instant::now();
        // More than a pipe holds.
        for _ in 0..20_000 {
            let _ = guardian.send(&Request::Beat, Duration::ZERO);
        }
        guardian.beat();
        assert!(guardian.requests.is_some(), "after {:?}", begun.elapsed());
        assert!(begun.elapsed() < SILENCE, "{:?}", begun.elapsed());
        // As if the agent had been stopped for a minute: that is no silence of the guardian's.
        let minute = Duration::from_secs(60);
        guardian.silent = Duration::ZERO;
        guardian.told = Instant::now().checked_sub(minute).expect("a time");
        guardian.beat();
        assert!(guardian.requests.is_some(), "the agent was stopped");
        guardian.told = Instant::now().checked_sub(minute).expect("a time");
        guardian.beat();
        assert_told(&guardian, "did not answer");
    }

    #[test]
    fn one_that_was_killed_is_told_apart() {
        let mut guardian = mute();
        guardian.child.kill().expect("kill it");
        guardian.end();
        assert_told(&guardian, "was killed");
    }

    #[test]
    fn values_that_others_put_back_are_told() {
        let mut reports = [
            report("/a/pids.max", "5", Outcome::Restored),
            report("/a/pids.max", "6", Outcome::NotSet),
            report("/a/pids.max", "7", Outcome::NotSet),
            report("/b/pids.max", "5", Outcome::Set),
            report("/c/pids.max", "5", Outcome::Set),
            report("/d/pids.max", "5", Outcome::Set),
            report("/e/pids.max", "5", Outcome::NotSet),
        ];
        let put_back = |path: &str, set: &str, outcome| PutBack {
            file: file(path),
            before: "9".to_owned(),
            set: set.to_owned(),
            outcome,
        };
        let values = vec![
            put_back("/a/pids.max", "7", Outcome::Restored),
            put_back("/b/pids.max", "5", Outcome::Changed("8".to_owned())),
        ];
        let mut refs: Vec<&mut ValueReport> = reports.iter_mut().collect();
        settle(&mut refs, values, |file| {
            assert_ne!(file.path, std::path::Path::new("/b/pids.max"));
            if file.path.starts_with("/c") {
                Ok("max".to_owned())
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        });
        let outcomes = reports.each_ref().map(|report| report.outcome.clone());
        assert_eq!(
            outcomes,
            [
                Outcome::Restored,
                Outcome::NotSet,
                Outcome::Restored,
                Outcome::Changed("8".to_owned()),
                Outcome::Restored,
                Outcome::Gone,
                Outcome::NotSet,
            ]
        );
        assert_eq!(reports[2].before.as_deref(), Some("9"));
    }
}
