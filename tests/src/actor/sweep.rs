//! A victim that makes many system calls, each by its own number.
//!
//! What a call needs is prepared before the first round, by calls that rules may fail later. What
//! it changes is undone once it has succeeded, in part by others of these calls, which then count
//! too; or not at all where it may be repeated.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::{self, File, OpenOptions},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd},
        unix::{
            ffi::OsStrExt as _,
            fs::symlink,
            net::{UnixDatagram, UnixListener},
        },
    },
    path::{Path, PathBuf},
    sync::atomic::Ordering::{Relaxed, Release},
};

use anyhow::Context as _;
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use syscalls::{Sysno, syscall};

use super::{calls::MAIN, end_child, wait_child};
use crate::board::Board;

macro_rules! sweep {
    ($(fn $call:ident($fixture:ident) { $($body:tt)* })+) => {
        /// Every call, by its name.
        pub(super) const CALLS: &[super::Named] = &[
            $((stringify!($call), |$fixture: &Fixture| -> Outcomes { $($body)* }),)+
        ];
    };
}

mod files;
mod others;

/// Options of a sweeping victim.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A folder of the victim's own, for the results
    #[arg(long)]
    pub folder: PathBuf,
    /// An empty folder for calls on files
    #[arg(long)]
    pub files: PathBuf,
}

/// What became of one call's repetitions in a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How many succeeded.
    pub succeeded: u64,
    /// How many failed.
    pub failed: u64,
    /// Error number of the last failure.
    pub errno: u32,
}

/// Where the results of a round are, in the victim's folder.
pub const RESULTS: &str = "results.json";

/// Outcomes by the name of the call.
pub type Results = BTreeMap<String, Outcome>;

/// A call with its error number.
type Outcomes<T = ()> = Result<T, u32>;
/// A call by its name.
type Named = (&'static str, fn(&Fixture) -> Outcomes);

const PAGE: usize = 4096;
/// Bytes of a file handle that file systems of tests need at most.
const HANDLE: usize = 128;

/// What the calls work on.
struct Fixture {
    /// A file with a few bytes, and an attribute.
    file: CString,
    /// Where there is nothing.
    fresh: CString,
    /// A folder that may or may not be there, since rules may forbid to remove it.
    doomed: CString,
    /// A symbolic link to the file.
    link: CString,
    /// An empty folder.
    empty: CString,
    /// A folder that something is mounted on.
    mounted: CString,
    /// The file again, opened.
    open: File,
    folder: File,
    /// A file that can be opened by a handle, which not all file systems have, and a folder
    /// beside it.
    handle: [u8; HANDLE],
    beside: File,
    inotify: OwnedFd,
    listener: UnixListener,
    pair: (UnixDatagram, UnixDatagram),
    /// Of which nothing is received any more.
    spare: (UnixDatagram, UnixDatagram),
    page: usize,
    segment: usize,
    semaphore: usize,
    queue: usize,
    affinity: [u64; 16],
    capabilities: [u32; 6],
}

/// Version of `capset`'s header that has two words for each set (capget(2)).
const CAPABILITIES: [u32; 2] = [0x2008_0522, 0];
const NAME: &std::ffi::CStr = c"trusted.injector";
const HERE: RawFd = libc::AT_FDCWD;
/// In place of a descriptor, an id or a key.
const NONE: i32 = -1;

impl Fixture {
    fn prepare(folder: &Path, own: &Path) -> anyhow::Result<Self> {
        // What is mounted and what System V calls make goes with this process.
        unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNS)?;
        let text = |name: &str| CString::new(folder.join(name).as_os_str().as_bytes());
        let path = folder.join("file");
        fs::write(&path, [b'x'; 64])?;
        symlink(&path, folder.join("link"))?;
        for name in ["empty", "mounted"] {
            fs::create_dir(folder.join(name))?;
        }
        let file = text("file")?;
        let path_of = file.as_ptr();
        let mounted = text("mounted")?;
        let listener = UnixListener::bind(folder.join("socket"))?;
        listener.set_nonblocking(true)?;
        let by_handle = own.join("by_handle");
        fs::write(&by_handle, "x")?;
        let by_handle = CString::new(by_handle.as_os_str().as_bytes())?;
        let mut handle = [0; HANDLE];
        handle[..4].copy_from_slice(&u32::try_from(HANDLE - 8)?.to_ne_bytes());
        let (mut mount_id, to_handle) = (0_u32, handle.as_mut_ptr());
        let (mut affinity, mut capabilities) = ([0_u64; 16], [0_u32; 6]);
        let header = CAPABILITIES.as_ptr();
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let prepared = (|| {
            let root = c"/".as_ptr();
            sys!(mount, 0, root, 0, libc::MS_REC | libc::MS_PRIVATE, 0)?;
            mount(&mounted)?;
            sys!(setxattr, path_of, NAME.as_ptr(), c"x".as_ptr(), 1, 0)?;
            sys!(
                name_to_handle_at,
                HERE,
                by_handle.as_ptr(),
                to_handle,
                &raw mut mount_id,
                0
            )?;
            sys!(
                sched_getaffinity,
                0,
                size_of_val(&affinity),
                affinity.as_mut_ptr()
            )?;
            sys!(capget, header, capabilities.as_mut_ptr())?;
            Ok([
                sys!(inotify_init1, 0)?,
                sys!(mmap, 0, PAGE, libc::PROT_READ, private, NONE, 0)?,
                sys!(shmget, libc::IPC_PRIVATE, PAGE, 0o600)?,
                sys!(semget, libc::IPC_PRIVATE, 1, 0o600)?,
                sys!(msgget, libc::IPC_PRIVATE, 0o600)?,
            ])
        })();
        let [inotify, page, segment, semaphore, queue] = prepared
            .map_err(|errno: u32| std::io::Error::from_raw_os_error(errno.cast_signed()))?;
        // SAFETY: the kernel has just returned this descriptor, and nobody else knows of it.
        let inotify = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(inotify)?) };
        Ok(Self {
            fresh: text("fresh")?,
            doomed: text("doomed")?,
            link: text("link")?,
            empty: text("empty")?,
            open: OpenOptions::new().read(true).write(true).open(&path)?,
            folder: File::open(folder)?,
            beside: File::open(own)?,
            pair: UnixDatagram::pair()?,
            spare: UnixDatagram::pair()?,
            file,
            mounted,
            handle,
            inotify,
            listener,
            page,
            segment,
            semaphore,
            queue,
            affinity,
            capabilities,
        })
    }

    /// Where `path` there is nothing again.
    fn unlinked(&self, made: Outcomes<usize>) -> Outcomes {
        made?;
        sys!(unlink, self.fresh.as_ptr()).map(drop)
    }

    /// Attributes of the file are there again.
    fn attributed(&self, removed: Outcomes<usize>) -> Outcomes {
        removed?;
        let (file, value) = (self.file.as_ptr(), c"x".as_ptr());
        sys!(setxattr, file, NAME.as_ptr(), value, 1, 0).map(drop)
    }

    /// Renamed, and back by another call.
    fn renamed(&self, renamed: Outcomes<usize>) -> Outcomes {
        renamed?;
        sys!(rename, self.fresh.as_ptr(), self.file.as_ptr()).map(drop)
    }

    /// One message for calls that take several.
    fn messages(
        &self,
        call: impl FnOnce(RawFd, *mut libc::mmsghdr) -> Outcomes<usize>,
    ) -> Outcomes {
        let mut bytes = [b'x'; 8];
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: zero is a valid value for every field of this C structure.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = &raw mut part;
        message.msg_hdr.msg_iovlen = 1;
        call(self.pair.0.as_raw_fd(), &raw mut message).map(drop)
    }
}

fn mount(on: &CString) -> Outcomes<usize> {
    let kind = c"tmpfs".as_ptr();
    sys!(mount, kind, on.as_ptr(), kind, 0, 0)
}

/// Closes what a call has opened. (An `OwnedFd` may ask `fcntl` before.)
fn closed(opened: Outcomes<usize>) -> Outcomes {
    sys!(close, opened?).map(drop)
}

/// Ends the child that a call has made, and waits for its end.
fn reaped(forked: Outcomes<usize>) -> Outcomes {
    let child = forked?;
    if child == 0 {
        end_child(0);
    }
    let child = nix::unistd::Pid::from_raw(i32::try_from(child).unwrap_or(-1));
    wait_child(child).map(drop).map_err(|error| error as u32)
}

/// An answer that says that the call was asked and had nothing to do.
fn or_nothing_there(done: Outcomes<usize>) -> Outcomes {
    match done {
        Err(errno) if errno == libc::EAGAIN.unsigned_abs() => Ok(()),
        done => done.map(drop),
    }
}

fn own_ids() -> (usize, usize) {
    let number = |id: i32| usize::try_from(id).unwrap_or(0);
    let (process, thread) = (nix::unistd::getpid(), nix::unistd::gettid());
    (number(process.as_raw()), number(thread.as_raw()))
}

/// Makes every call as often as the board says, one round after the other.
///
/// # Errors
///
/// When something cannot be prepared, or results cannot be written.
pub fn run(board: &Board, rounds: u32, options: &Options) -> anyhow::Result<()> {
    let fixture = Fixture::prepare(&options.files, &options.folder).context("prepare the calls")?;
    let actor = &board.actors[MAIN];
    actor.thread.store(std::process::id(), Release);
    let mut last = 0;
    for _ in 0..rounds {
        let Some(round) = board.next_round(last) else {
            break;
        };
        let count = board.count.load(Relaxed);
        let results: Results = [files::CALLS, others::CALLS]
            .into_iter()
            .flatten()
            .map(|(name, call)| ((*name).to_owned(), repeated(count, || call(&fixture))))
            .collect();
        let mut file = File::create(options.folder.join(RESULTS))?;
        serde_json::to_writer(&mut file, &results)?;
        let fd = usize::try_from(file.into_raw_fd())?;
        closed(Ok(fd)).map_err(|errno| std::io::Error::from_raw_os_error(errno.cast_signed()))?;
        actor.round.store(round, Release);
        last = round;
    }
    Ok(())
}

fn repeated(count: u64, call: impl Fn() -> Outcomes) -> Outcome {
    let mut outcome = Outcome::default();
    for _ in 0..count {
        match call() {
            Ok(()) => outcome.succeeded += 1,
            Err(errno) => {
                outcome.failed += 1;
                outcome.errno = errno;
            }
        }
    }
    outcome
}
