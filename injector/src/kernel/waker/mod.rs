//! The waker: a process of ours that wakes the calls that wait asleep, and is the file system
//! whose pages they wait for ([`injector_common::sleep`]).
//!
//! Whatever ends it wakes all: with its descriptor of `/dev/fuse` the kernel ends every request.
//! It ends by itself when the agent is gone. When that has said nothing for as long as a lease,
//! it wakes all, and lets nobody wait until it hears of it again. Once it has ended, calls do not
//! wait, and count as errors of their rule.

mod fuse;
mod holder;
mod serve;

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Write as _},
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::Ordering::Acquire,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData};
use injector_common::sleep::{DUE, Dormitory, MAX_SLEEPERS, SLEEPER_WORDS};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

pub use self::serve::serve;
use super::{
    actuator::{Failure, LEASE_NS},
    clock,
    words::Words,
};
use crate::plan::Support;

/// The hidden command that a waker runs as.
pub const COMMAND: &str = "waker";

/// How long it may take to stand by.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one look can add to its silence. Longer ago, it was the agent that was stopped.
const LOOK: Duration = Duration::from_secs(1);

/// How long it may say nothing when it should.
const SILENCE: Duration = Duration::from_nanos(LEASE_NS);

/// Whether it can be had: the kernel has the file system.
pub(super) fn support() -> Support {
    fuse::Connection::open().map_or_else(
        |error| Support::Unsupported {
            reason: format!("no file system of ours (FUSE): {error}"),
        },
        |_| Support::Supported,
    )
}

/// The agent's end of it.
pub(super) struct Waker {
    child: Child,
    /// None once it has ended.
    life: Option<ChildStdin>,
    sleepers: Words,
    dormitory: Array<MapData, Dormitory>,
    /// When it was last told that the agent lives.
    told: Instant,
    /// For how long it has not served since, as far as the agent itself was not stopped.
    silent: Duration,
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker")
            .field("pid", &self.child.id())
            .finish_non_exhaustive()
    }
}

impl Waker {
    /// Starts one for these maps, and waits until it stands by.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or says why it cannot serve.
    pub(super) fn start(sleepers: MapData, dormitory: MapData) -> Result<Self, Failure> {
        let [of_sleepers, of_dormitory] =
            [&sleepers, &dormitory].map(|map| map.info().map(|info| info.id()));
        let sleepers_id = of_sleepers?.to_string();
        let words = MAX_SLEEPERS * u32::try_from(SLEEPER_WORDS)?;
        let sleepers = Words::new(Map::Array(sleepers), words)?;
        // The same program, also after its file was replaced.
        let mut child = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .args([sleepers_id, of_dormitory?.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()?;
        let (life, said) = (child.stdin.take(), child.stdout.take());
        let waker = Self {
            child,
            life,
            sleepers,
            dormitory: Array::try_from(Map::Array(dormitory))?,
            told: Instant::now(),
            silent: Duration::ZERO,
        };
        let mut said = said.ok_or("it has no output")?;
        let mut ready = [PollFd::new(said.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE)?;
        if poll(&mut ready, patience)? == 0 {
            return Err("it does not stand by".into());
        }
        let mut line = String::new();
        BufReader::new(&mut said).read_line(&mut line)?;
        if line.trim_end() != serve::READY {
            return Err(line.trim_end().into());
        }
        if let Some(pipe) = &waker.life {
            // One that does not read is not to stop whoever writes.
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(waker)
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it that the agent lives, and ends it if it serves no more: whoever sleeps is woken.
    pub(super) fn beat(&mut self) {
        let Some(pipe) = &mut self.life else {
            return;
        };
        let now = Instant::now();
        let silent = now.duration_since(self.told).min(LOOK);
        self.told = now;
        let gone =
            matches!(pipe.write(&[0]), Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
        let served = self.dormitory.get(&0, 0);
        let serves = served.is_ok_and(|at| at.served_until_ns > clock::boot_ns());
        self.silent = if serves {
            Duration::ZERO
        } else {
            self.silent + silent
        };
        if gone || self.silent >= SILENCE {
            let how = match self.child.try_wait() {
                Ok(Some(status)) if status.signal().is_some() => "was killed".to_owned(),
                Ok(Some(status)) => format!("ended by itself ({status})"),
                Ok(None) | Err(_) => "did not answer, and was ended".to_owned(),
            };
            tracing::error!(
                "the process that wakes calls {how}: none waits any more, which counts as errors"
            );
            self.end();
        }
    }

    /// Ends it, which wakes whoever sleeps. Once is enough.
    pub(super) fn end(&mut self) {
        if self.life.take().is_none() {
            return;
        }
        // It has nothing to put in order.
        let _ = self.child.kill();
        let begun = Instant::now();
        // Until it is gone, and whoever slept has counted that it was for less.
        while begun.elapsed() < SILENCE
            && (matches!(self.child.try_wait(), Ok(None)) || self.somebody_sleeps())
        {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn somebody_sleeps(&self) -> bool {
        let mut sleepers = self.sleepers.as_slice().chunks_exact(SLEEPER_WORDS);
        sleepers.any(|sleeper| sleeper[DUE].load(Acquire) != 0)
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.end();
    }
}
