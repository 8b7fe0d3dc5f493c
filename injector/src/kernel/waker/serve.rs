//! The waker's own side: a loop that wakes who is due.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::atomic::Ordering::{Acquire, Release},
    time::Duration,
};

use aya::maps::{Map, MapData};
use injector_common::sleep::{DUE, Dormitory, MAX_SLEEPERS, SLEEPER_WORDS, WOKEN, slot_at};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    unistd::{ForkResult, Pid, close, fork, pipe2, setsid},
};

use super::{fuse::Connection, holder};
use crate::kernel::{actuator::LEASE_NS, clock, words::Words};

/// What it says when it stands by.
pub(super) const READY: &str = "ready";

/// How often it looks up even if nobody is due, to say that it serves, and to see whether the
/// agent lives.
const LOOK_NS: u64 = 250_000_000;

/// Words of the dormitory, and the places of its fields among them.
const DORMITORY_WORDS: usize = size_of::<Dormitory>() / size_of::<u64>();
const BASE: usize = 0;
const SERVED_UNTIL: usize = 1;
const HOLDER: usize = 2;

/// What an event is about.
const FUSE: u64 = 0;
const AGENT: u64 = 1;
const TIMER: u64 = 2;

/// Serves the agent whose maps have these ids until that is gone. While it says nothing for longer
/// than a lease, nobody waits.
///
/// # Errors
///
/// When it cannot serve; it has said so.
pub fn serve(sleepers: u32, dormitory: u32) -> io::Result<()> {
    // Whatever ends the agent's terminal or its group is not to end this before the agent.
    setsid()?;
    // A host without memory should end whoever has much of it.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    let waker = Waker::stand_by(sleepers, dormitory);
    let said = match &waker {
        Ok(_) => READY.to_owned(),
        Err(error) => error.to_string(),
    };
    writeln!(io::stdout(), "{said}")?;
    waker?.wake()
}

struct Waker {
    connection: Connection,
    sleepers: Words,
    dormitory: Words,
    timer: TimerFd,
    lease_until_ns: u64,
    _mount: OwnedFd,
}

impl Waker {
    /// Mounts the file, and has a process hold memory of it.
    fn stand_by(sleepers: u32, dormitory: u32) -> io::Result<Self> {
        let sleepers = words(sleepers, MAX_SLEEPERS as usize * SLEEPER_WORDS)?;
        let dormitory = words(dormitory, DORMITORY_WORDS)?;
        let mut connection = Connection::open()?;
        let mount = connection.mount()?;
        let (holder, base) = start_holder(&mut connection, &mount)?;
        connection.make_pages()?;
        let there = dormitory.as_slice();
        there[BASE].store(base, Release);
        there[HOLDER].store(u64::from(holder.as_raw().cast_unsigned()), Release);
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC)?;
        Ok(Self {
            connection,
            sleepers,
            dormitory,
            timer,
            // The agent beats from when its rules are in force. To attach many programs takes it
            // longer than a lease.
            lease_until_ns: u64::MAX,
            _mount: mount,
        })
    }

    /// Wakes who is due, for as long as the agent lives.
    fn wake(mut self) -> io::Result<()> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let stdin = io::stdin();
        // What nobody is due for is not taken up, so the connection is always ready: of interest
        // is what comes.
        let comes = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(self.connection.device(), EpollEvent::new(comes, FUSE))?;
        epoll.add(&stdin, EpollEvent::new(EpollFlags::EPOLLIN, AGENT))?;
        epoll.add(&self.timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        loop {
            let now = clock::boot_ns();
            let is_over = now >= self.lease_until_ns;
            // Nobody lies down any more until the agent beats again.
            let served_until = if is_over { 0 } else { now + LEASE_NS };
            self.dormitory.as_slice()[SERVED_UNTIL].store(served_until, Release);
            let next = self.wake_due(if is_over { u64::MAX } else { now })?;
            let at = Duration::from_nanos(next.min(now.saturating_add(LOOK_NS)));
            self.timer.set(
                Expiration::OneShot(TimeSpec::from_duration(at)),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )?;
            let mut events = [EpollEvent::empty(); 4];
            let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => 0,
                result => result?,
            };
            for event in &events[..count] {
                match event.data() {
                    AGENT => {
                        let mut beats = [0; 64];
                        if stdin.lock().read(&mut beats)? == 0 {
                            return Ok(());
                        }
                        self.lease_until_ns = clock::boot_ns() + LEASE_NS;
                    }
                    TIMER => drop(self.timer.wait()),
                    _ => {}
                }
            }
        }
    }

    /// Wakes those who are due by this boot time, and with them those who lay down before them.
    /// When the next one is due.
    fn wake_due(&mut self, now: u64) -> io::Result<u64> {
        let sleepers = self.sleepers.as_slice();
        let (mut due, mut next) = (0u32, u64::MAX);
        for sleeper in sleepers.chunks_exact(SLEEPER_WORDS) {
            match sleeper[DUE].load(Acquire) {
                0 => {}
                at if at <= now => due += 1,
                at => next = next.min(at),
            }
        }
        while due > 0 {
            let mut woken = None;
            let asked = self.connection.answer(|offset| {
                let slot = usize::try_from(slot_at(offset)).unwrap_or(usize::MAX);
                let Some(sleeper) = sleepers.chunks_exact(SLEEPER_WORDS).nth(slot) else {
                    return;
                };
                // Before the answer: whoever wakes knows by it that it was woken.
                sleeper[WOKEN].fetch_add(1, Release);
                woken = Some(sleeper[DUE].load(Acquire) <= now);
            })?;
            if !asked {
                // Whoever is due and has not lain down yet comes, which is an event.
                break;
            }
            if woken == Some(true) {
                due -= 1;
            }
        }
        Ok(next)
    }
}

/// The words of an array map.
fn words(id: u32, count: usize) -> io::Result<Words> {
    let map = MapData::from_id(id).map_err(io::Error::other)?;
    let count = u32::try_from(count).map_err(io::Error::other)?;
    Words::new(Map::Array(map), count)
}

/// Starts the holder of the mounted file; its process id, and the address of its memory.
fn start_holder(connection: &mut Connection, mount: &OwnedFd) -> io::Result<(Pid, u64)> {
    let (hears, says) = pipe2(OFlag::O_CLOEXEC)?;
    let waker = std::process::id();
    // SAFETY: this process has one thread, so that the child may do whatever this may.
    let holder = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // The connection has to end with the waker.
            for fd in [connection.device().as_raw_fd(), 0, 1] {
                let _ = close(fd);
            }
            drop(hears);
            holder::live(mount.as_fd(), File::from(says), waker)
        }
    };
    drop(says);
    // It opens the file that is served here.
    loop {
        let mut ready = [
            PollFd::new(connection.device().as_fd(), PollFlags::POLLIN),
            PollFd::new(hears.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            result => result?,
        };
        let has_said = ready[1].any().unwrap_or(true);
        if has_said {
            break;
        }
        while connection.answer(|_| ())? {}
    }
    let mut address = [0; size_of::<u64>()];
    File::from(hears).read_exact(&mut address)?;
    match u64::from_ne_bytes(address) {
        0 => Err(io::Error::other("no memory of the file can be had")),
        base => Ok((holder, base)),
    }
}
