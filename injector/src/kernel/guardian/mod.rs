//! The guardian: a process of ours that sets values, and puts them back whatever becomes
//! of the agent.
//!
//! Programs and maps go with the agent's descriptors; a value in a control file does not.
//! So the guardian is to such values what programs are to packets: it has the deadline and
//! the lease, and acts on them by itself. It hears from the agent over a pipe that nobody
//! else has, and when that closes the agent is gone. It lives in a session of its own, in
//! the agent's cgroup, which no rule of this kind may take in. What it sets it writes down
//! first, in a journal of its own, for `injector stop --all`.

mod protocol;
mod serve;
mod setting;
mod signals;
mod tally;
mod workers;

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError},
    thread,
    time::{Duration, Instant},
};

pub(super) use protocol::{Choice, Load, Status, Task, Work};
pub use serve::serve;
pub(super) use setting::put_back;
pub use workers::{WORKER, work};

use self::protocol::{Remaining, Reply, Request};
use super::{actuator::Failure, journal, leftovers};
use crate::error::CleanupError;

/// The hidden command that a guardian runs as.
pub const COMMAND: &str = "guardian";

/// How long an answer is waited for: to set a limit on memory, the kernel has to get back
/// what is there.
const PATIENCE: Duration = Duration::from_secs(10);

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
        let mut child = Command::new("/proc/self/exe")
            .args([COMMAND, id])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()?;
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
        let mut guardian = Self {
            id: id.to_owned(),
            requests: child.stdin.take(),
            child,
            replies,
            now: Vec::new(),
            left: Vec::new(),
        };
        match guardian.next(PATIENCE) {
            Ok(Reply::Ready) => Ok(guardian),
            Ok(_) | Err(_) => Err("it does not stand by".into()),
        }
    }

    /// Hands over what is to be done when its time comes.
    pub(super) fn add(&mut self, task: Task) -> Result<(), Failure> {
        self.ask(&Request::Add(task))
    }

    /// Lets time begin, at this boot time, and waits until all is done that begins then.
    pub(super) fn go(&mut self, start_ns: u64) -> Result<(), Failure> {
        self.ask(&Request::Go { start_ns })
    }

    /// Tells it that the agent lives, and hears how all stands.
    pub(super) fn beat(&mut self) {
        if self.requests.is_none() {
            return;
        }
        let sent = self.send(&Request::Beat);
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
                Err(TryRecvError::Empty) if sent.is_ok() => return,
                // Its last words come before its end.
                Err(TryRecvError::Empty) => thread::sleep(Duration::from_millis(1)),
                Err(TryRecvError::Disconnected) => return self.take_over(),
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
        let _ = self.send(&Request::End);
        let end = Instant::now() + PATIENCE;
        loop {
            match self.next(end.saturating_duration_since(Instant::now())) {
                Ok(Reply::Ended(left)) => return self.ended(left),
                Ok(reply) => self.note(reply),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return self.take_over();
                }
            }
        }
    }

    /// What could not be undone, once.
    pub(super) fn take_left(&mut self) -> Vec<CleanupError> {
        std::mem::take(&mut self.left)
    }

    fn send(&mut self, request: &Request) -> io::Result<()> {
        let Some(pipe) = &mut self.requests else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        pipe.write_all(&line)
    }

    fn next(&mut self, patience: Duration) -> Result<Reply, RecvTimeoutError> {
        self.replies.recv_timeout(patience)
    }

    fn ask(&mut self, request: &Request) -> Result<(), Failure> {
        self.send(request)?;
        loop {
            match self.next(PATIENCE) {
                Ok(Reply::Done(result)) => return result.map_err(Failure::from),
                Ok(Reply::Ended(left)) => {
                    self.ended(left);
                    return Err("the guardian was told to stop".into());
                }
                Ok(reply) => self.note(reply),
                Err(error) => return Err(format!("the guardian does not answer: {error}").into()),
            }
        }
    }

    fn note(&mut self, reply: Reply) {
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
        let _ = self.child.wait();
        let left = left.into_iter().map(|remaining| CleanupError {
            what: remaining.what,
            source: remaining.why.into(),
            remedy: remaining.remedy,
        });
        self.left.extend(left);
    }

    /// It is gone or does not answer: what it wrote down is undone here.
    fn take_over(&mut self) {
        tracing::error!("the guardian was killed or hangs: what it set is put back, for good");
        self.requests = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.complain("the guardian was killed; what it had set was put back then");
        let (done, left) = leftovers::clean_one(&journal::path_of(&journal_of(&self.id)));
        for what in done {
            tracing::warn!("{what}");
        }
        self.left.extend(left);
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.end();
    }
}
