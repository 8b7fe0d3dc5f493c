//! System calls, timed in a process of their own.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::Context as _;

use serde::{Deserialize, Serialize};
use syscalls::{Sysno, syscall};

use crate::command::{Place, Process};

/// How often the whole measurement is done. The shortest counts: whatever else
/// happened meanwhile can only add.
pub(super) const ROUNDS: u32 = 9;

/// What takes so long is done so many times less often.
const COSTLY: u32 = 20;

/// How the calls are made.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// How many calls of each kind in a round
    #[arg(long, default_value_t = COUNT)]
    count: u32,
    /// The file to open and read
    #[arg(long, default_value = "/dev/null")]
    file: PathBuf,
}

/// How many calls of each kind are in a round where nothing else is said.
pub(super) const COUNT: u32 = 2000;

/// A process that makes calls: how it is started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner<'a> {
    /// The words that start it, before its own: a tracer's.
    pub(super) beneath: &'a [&'a str],
    /// How many calls of each kind are in a round.
    pub(super) count: u32,
    /// The file that it opens and reads.
    pub(super) file: &'a Path,
}

impl Default for Manner<'_> {
    fn default() -> Self {
        Self {
            beneath: &[],
            count: COUNT,
            file: Path::new("/dev/null"),
        }
    }
}

/// How long each call took, in ns.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Cost {
    /// `openat` of a file, with the `close` that follows a success.
    pub(super) openat: f64,
    /// `getppid`.
    pub(super) getppid: f64,
    /// `pread64` of a byte of that file, which was opened before.
    pub(super) pread: f64,
    /// `getuid`, which no rule here names.
    pub(super) getuid: f64,
    /// A child that ends at once, until its parent has waited for it.
    pub(super) fork: f64,
    /// `socket`, with the `close` that follows it.
    pub(super) socket: f64,
    /// How many of `openat`, `getppid` and `pread64` failed, in all rounds.
    pub(super) failed: u64,
}

/// A process that measures whenever it is told to. It runs since before any
/// fault, which could keep it from starting.
#[derive(Debug)]
pub(super) struct Caller {
    control: BufReader<UnixStream>,
    _process: Process,
}

impl Caller {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub(super) fn start(place: Place<'_>) -> Self {
        Self::start_so(place, &Manner::default())
    }

    /// Starts it in a manner.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub(super) fn start_so(place: Place<'_>, manner: &Manner<'_>) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("make a pair of sockets");
        let program = std::env::current_exe().expect("the path of the running program");
        let mut words = manner.beneath.iter().map(Path::new).chain([&*program]);
        let mut command = place.command(words.next().expect("a program"));
        command
            .args(words)
            .args(["calls", "--count", &manner.count.to_string(), "--file"])
            .arg(manner.file)
            .stdin(Stdio::from(OwnedFd::from(theirs)));
        Self {
            control: BufReader::new(ours),
            _process: Process(command.spawn().expect("start a caller")),
        }
    }

    /// Lets it measure.
    ///
    /// # Panics
    ///
    /// When it is gone.
    #[track_caller]
    pub(super) fn measure(&mut self) -> Cost {
        writeln!(self.control.get_mut()).expect("tell a caller");
        let mut line = String::new();
        self.control.read_line(&mut line).expect("hear a caller");
        serde_json::from_str(&line).expect("a caller's answer")
    }
}

/// Measures whenever a line comes on standard input, and answers there.
///
/// # Errors
///
/// When the file cannot be opened, or the answer not be written.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let path = CString::new(options.file.as_os_str().as_bytes())?;
    let file =
        File::open(&options.file).with_context(|| format!("open {}", options.file.display()))?;
    let control = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut control = BufReader::new(UnixStream::from(control));
    let mut line = String::new();
    while control.read_line(&mut line)? > 0 {
        let mut answer = serde_json::to_string(&measure(options.count, &path, &file))?;
        answer.push('\n');
        control.get_mut().write_all(answer.as_bytes())?;
        line.clear();
    }
    Ok(())
}

fn measure(count: u32, path: &CStr, file: &File) -> Cost {
    let mut failed = 0;
    let mut note = |result: Result<usize, _>| {
        failed += u64::from(result.is_err());
        result.ok()
    };
    Cost {
        openat: best(count, || {
            // SAFETY: the path ends in a zero; nobody else has the descriptor.
            unsafe {
                let opened = syscall!(Sysno::openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY);
                if let Some(opened) = note(opened) {
                    syscall!(Sysno::close, opened).ok();
                }
            }
        }),
        getppid: best(count, || {
            // SAFETY: a call without arguments.
            note(unsafe { syscall!(Sysno::getppid) });
        }),
        pread: best(count, || {
            let mut byte = 0_u8;
            // SAFETY: the kernel writes a byte, for which there is room.
            note(unsafe { syscall!(Sysno::pread64, file.as_raw_fd(), &raw mut byte, 1, 0) });
        }),
        getuid: best(count, || {
            // SAFETY: a call without arguments.
            unsafe { syscall!(Sysno::getuid) }.ok();
        }),
        fork: best(count / COSTLY, fork_and_wait),
        socket: best(count / COSTLY, || {
            // SAFETY: nobody else has the descriptor.
            unsafe {
                let kind = libc::SOCK_DGRAM;
                if let Ok(socket) = syscall!(Sysno::socket, libc::AF_INET, kind, 0) {
                    syscall!(Sysno::close, socket).ok();
                }
            }
        }),
        failed,
    }
}

fn fork_and_wait() {
    // SAFETY: this process has one thread, and the child ends at once.
    unsafe {
        match syscall!(Sysno::fork) {
            Ok(0) => libc::_exit(0),
            Ok(_) => drop(syscall!(Sysno::wait4, usize::MAX, 0, 0, 0)),
            Err(_) => {}
        }
    }
}

/// The shortest time per call among all rounds, in ns.
fn best(count: u32, mut call: impl FnMut()) -> f64 {
    let round = |_| {
        let start = Instant::now();
        for _ in 0..count {
            call();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}
