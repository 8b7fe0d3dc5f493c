//! What the victims do. This half of the crate runs in the victim's process,
//! started through the `injector-victim` program.

/// Makes a system call by its number.
macro_rules! sys {
    ($call:ident $(, $argument:expr)*) => {{
        // SAFETY: every pointer among the arguments points to memory that is
        // long enough for the call and outlives it; see each use.
        let result = unsafe { syscall!(Sysno::$call $(, $argument)*) };
        result.map_err(|errno| errno.into_raw().unsigned_abs())
    }};
}

pub mod calls;
pub mod calls32;
pub mod chain;
pub mod dial;
pub mod dns;
pub mod forks;
pub mod packet;
pub mod paths;
pub mod serving;
pub mod sockets;
pub mod sweep;
pub mod sweep32;
pub mod tcp;
pub mod udp;
pub mod uring;

use std::{path::PathBuf, time::Duration};

use nix::{
    sys::{prctl, signal::Signal},
    time::{ClockId, clock_gettime},
};

/// Command line of the victim program.
#[derive(Debug, clap::Parser)]
pub struct Options {
    /// File of the board
    #[arg(long)]
    pub board: PathBuf,
    /// How many rounds to do before ending; without it, until told to end
    #[arg(long, default_value_t = u32::MAX)]
    pub rounds: u32,
    /// What to do
    #[command(subcommand)]
    pub work: Work,
}

/// What a victim can do.
#[derive(Debug, clap::Subcommand)]
pub enum Work {
    /// Make system calls
    Calls(calls::Options),
    /// Make calls as 32-bit programs do
    Calls32(calls32::Options),
    /// Write to a file from below several functions
    Chain(chain::Options),
    /// Make many system calls, one after the other
    Sweep(sweep::Options),
    /// Make calls as 32-bit programs do, by their numbers
    Sweep32(sweep32::Options),
    /// Go to files by every way that leads to them
    Paths(paths::Options),
    /// Have io_uring do what it can
    Uring(uring::Options),
    /// Make calls on sockets of several families and peers
    Sockets(sockets::Options),
    /// Fork children that make system calls and send packets
    Forks(forks::Options),
    /// Make connections, and exchange bytes through them
    Dial(dial::CallOptions),
    /// Answer those who do
    Answer(dial::AnswerOptions),
    /// Ask a name server
    Ask(dns::AskOptions),
    /// Be one
    ServeNames(dns::ServeOptions),
    /// Send numbered UDP packets
    UdpSend(udp::SendOptions),
    /// Receive numbered UDP packets
    UdpReceive(udp::ReceiveOptions),
    /// Send a stream of known bytes over TCP
    TcpSend(tcp::SendOptions),
    /// Receive streams of known bytes over TCP
    TcpReceive(tcp::ReceiveOptions),
}

/// Does a victim's work until the rounds are done.
///
/// # Errors
///
/// When the work cannot be set up. A fault that hits the work itself is not an
/// error but a result on the board.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let board = crate::board::Shared::map(&options.board)?;
    match &options.work {
        Work::Calls(work) => calls::run(&board, options.rounds, work),
        Work::Calls32(work) => calls32::run(&board, work),
        Work::Chain(work) => chain::run(work),
        Work::Sweep(work) => sweep::run(&board, options.rounds, work),
        Work::Sweep32(work) => {
            sweep32::run(&board, work);
            Ok(())
        }
        Work::Paths(work) => paths::run(work),
        Work::Uring(work) => uring::run(&board, work),
        Work::Sockets(work) => sockets::run(work),
        Work::Forks(work) => forks::run(&board, work),
        Work::Dial(work) => dial::call(&board, options.rounds, work),
        Work::Answer(work) => dial::answer(&board, work),
        Work::Ask(work) => dns::ask(&board, options.rounds, work),
        Work::ServeNames(work) => dns::serve(&board, work),
        Work::UdpSend(work) => udp::send(&board, options.rounds, work),
        Work::UdpReceive(work) => udp::receive(&board, options.rounds, work),
        Work::TcpSend(work) => tcp::send(&board, options.rounds, work),
        Work::TcpReceive(work) => tcp::receive(&board, options.rounds, work),
    }
}

/// Which thread or process of a victim does the work.
///
/// Whatever it is, it is made when a round starts, and so after a fault that
/// was put in force before the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Worker {
    /// The first thread of the process.
    Main,
    /// Another thread of the process.
    Thread,
    /// A child process.
    Child,
    /// A child of a child process.
    Grandchild,
}

impl Worker {
    /// Does the work in this worker and waits for its end.
    ///
    /// # Errors
    ///
    /// The work's own error, or that the worker could not be made.
    pub fn run(self, work: impl FnOnce() -> anyhow::Result<()> + Send) -> anyhow::Result<()> {
        match self {
            Self::Main => work(),
            Self::Thread => std::thread::scope(|scope| scope.spawn(work).join())
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Self::Child => in_child(work),
            Self::Grandchild => in_child(|| in_child(work)),
        }
    }
}

/// Does the work in a forked child and waits for its end.
fn in_child(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    match fork()? {
        None => {
            let failed = work()
                .inspect_err(|error| eprintln!("victim's child: {error:#}"))
                .is_err();
            end_child(i32::from(failed))
        }
        Some(child) => {
            anyhow::ensure!(wait_child(child)? == 0, "the child failed");
            Ok(())
        }
    }
}

/// Forks; `None` in the child, which dies with its parent.
fn fork() -> nix::Result<Option<nix::unistd::Pid>> {
    // SAFETY: callers are single-threaded at this point or their child makes
    // only direct system calls, so no lock is held by a thread that is gone.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Some(child)),
        nix::unistd::ForkResult::Child => {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            Ok(None)
        }
    }
}

/// Ends a forked child at once, without the parent's destructors.
fn end_child(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Waits for a child and returns its status, or 128 plus the signal that ended it.
fn wait_child(child: nix::unistd::Pid) -> nix::Result<i32> {
    use nix::sys::wait::{WaitStatus, waitpid};
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(status),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Monotonic time in ns: the same clock in every process of the machine.
fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        u64::try_from(Duration::from(time).as_nanos()).unwrap_or(u64::MAX)
    })
}
