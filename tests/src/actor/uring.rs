//! A victim that has io_uring do its work, in each way in which requests are served, and notes what
//! came of each.

use std::{
    ffi::CString,
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    path::{Path, PathBuf},
    ptr::null_mut,
    sync::atomic::Ordering::Release,
};

use anyhow::{Context as _, ensure};
use io_uring::{
    IoUring, Probe, opcode as op,
    squeue::{Entry, Flags},
    types::{Fd, OpenHow, statx},
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrLike as _, socket};

use super::paths::Outcomes;
use crate::board::Board;

/// Options of such a victim.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A folder that [`prepare`] was called with
    #[arg(long)]
    pub folder: PathBuf,
    /// The file to write the outcomes to, as JSON
    #[arg(long)]
    pub outcomes: PathBuf,
    /// Make one request alone, which waits for the next round
    #[arg(long)]
    pub waits: bool,
}

/// The folders in it that the same requests are made in.
pub const PLACES: [&str; 2] = ["in", "out"];

/// How requests are served: where they are handed over, by a worker, or by the thread that looks
/// for them. These begin the names of outcomes.
pub const WAYS: [&str; 3] = ["at once", "by a worker", "by polling"];

/// Makes what the requests are about.
///
/// # Errors
///
/// When the folder cannot be written to.
pub fn prepare(folder: &Path) -> std::io::Result<()> {
    for (place, way) in PLACES.iter().flat_map(|place| WAYS.map(|way| (place, way))) {
        let folder = folder.join(place).join(way);
        fs::create_dir_all(folder.join("empty"))?;
        for name in ["file", "gone", "old"] {
            fs::write(folder.join(name), "some text")?;
        }
    }
    Ok(())
}

/// Makes every request once in each way.
///
/// # Errors
///
/// When what the requests need cannot be had.
pub fn run(board: &Board, options: &Options) -> anyhow::Result<()> {
    let mut outcomes = Outcomes::new();
    if options.waits {
        outcomes.insert("recv".to_owned(), wait(board)?);
    }
    for way in WAYS.iter().copied().filter(|_| !options.waits) {
        let mut ring = Ring::new(way)?;
        for place in PLACES {
            let folder = options.folder.join(place).join(way);
            for (name, errno) in in_folder(&mut ring, &folder)? {
                outcomes.insert(format!("{way}, {place}: {name}"), errno);
            }
        }
        for (name, errno) in on_sockets(&mut ring)? {
            outcomes.insert(format!("{way}: {name}"), errno);
        }
    }
    let text = serde_json::to_vec(&outcomes)?;
    fs::write(&options.outcomes, text).context("cannot write the outcomes")
}

/// Has a request wait for what the thread itself sends in the next round, so that it is served when
/// that call returns; and returns its error.
fn wait(board: &Board) -> anyhow::Result<u32> {
    let mut ring = IoUring::new(2).context("no io_uring")?;
    let (one, end) = UnixStream::pair()?;
    let mut buffer = [0_u8; 16];
    let request = op::Recv::new(Fd(one.as_raw_fd()), buffer.as_mut_ptr(), 16).build();
    // SAFETY: the buffer is there until the request is over.
    unsafe { ring.submission().push(&request) }?;
    ring.submit()?;
    board.actors[0].thread.store(std::process::id(), Release);
    ensure!(board.next_round(0).is_some(), "there was no round");
    ensure!(ring.completion().is_empty(), "it did not wait");
    // The standard library sends.
    nix::unistd::write(&end, b"text")?;
    let result = ring.completion().next().context("it was not served")?;
    Ok(result.result().min(0).unsigned_abs())
}

/// A ring whose requests are all served the same way.
struct Ring {
    ring: IoUring,
    known: Probe,
    flags: Flags,
}

impl Ring {
    fn new(way: &str) -> anyhow::Result<Self> {
        let mut builder = IoUring::builder();
        let mut flags = Flags::empty();
        match way {
            "by a worker" => flags = Flags::ASYNC,
            "by polling" => {
                builder.setup_sqpoll(1000);
            }
            _ => {}
        }
        let ring = builder.build(8).context("no io_uring")?;
        let mut known = Probe::new();
        ring.submitter().register_probe(&mut known)?;
        Ok(Self { ring, known, flags })
    }

    /// Makes the request, if the kernel knows it, and notes what comes of it.
    ///
    /// Whatever its pointers lead to outlives this, and so the request.
    fn make(
        &mut self,
        found: &mut Found,
        name: &str,
        code: u8,
        entry: Entry,
    ) -> anyhow::Result<()> {
        if !self.known.is_supported(code) {
            return Ok(());
        }
        let entry = entry.flags(self.flags);
        // SAFETY: see above; the request is over when this returns.
        unsafe { self.ring.submission().push(&entry) }?;
        self.ring.submit_and_wait(1)?;
        let result = self.ring.completion().next().context("no completion")?;
        let errno = result.result().min(0).unsigned_abs();
        found.push((name.to_owned(), errno));
        Ok(())
    }
}

type Found = Vec<(String, u32)>;

/// `make!(ring, found, "name", Operation::new(…)…)`
macro_rules! make {
    ($ring:ident, $found:ident, $name:literal, $operation:ident($($argument:expr),*) $(.$option:ident($value:expr))*) => {
        $ring.make(
            &mut $found,
            $name,
            op::$operation::CODE,
            op::$operation::new($($argument),*)$(.$option($value))*.build(),
        )?
    };
}

fn in_folder(ring: &mut Ring, folder: &Path) -> anyhow::Result<Found> {
    let at = |name: &str| CString::new(folder.join(name).as_os_str().as_bytes());
    let (path, gone, empty, old) = (at("file")?, at("gone")?, at("empty")?, at("old")?);
    let (new, made, link, linked) = (at("new")?, at("made")?, at("link")?, at("linked")?);
    let opened = fs::File::options()
        .read(true)
        .write(true)
        .open(folder.join("file"))?;
    let file = Fd(opened.as_raw_fd());
    let cwd = Fd(libc::AT_FDCWD);
    let attribute = c"trusted.injector";
    let mut buffer = [0_u8; 16];
    let part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: 4,
    };
    let (_from, into) = nix::unistd::pipe()?;
    let how = OpenHow::new();
    let mut about = Box::<libc::statx>::new_uninit();
    let about = about.as_mut_ptr().cast::<statx>();

    let mut found = Found::new();
    make!(ring, found, "openat", OpenAt(cwd, path.as_ptr()));
    make!(
        ring,
        found,
        "openat2",
        OpenAt2(cwd, path.as_ptr(), &raw const how)
    );
    make!(ring, found, "read", Read(file, buffer.as_mut_ptr(), 4));
    make!(ring, found, "readv", Readv(file, &raw const part, 1));
    make!(ring, found, "write", Write(file, buffer.as_ptr(), 4));
    make!(ring, found, "writev", Writev(file, &raw const part, 1));
    make!(
        ring,
        found,
        "splice",
        Splice(file, 0, Fd(into.as_raw_fd()), -1, 4)
    );
    make!(ring, found, "fallocate", Fallocate(file, 64));
    make!(ring, found, "ftruncate", Ftruncate(file, 32));
    make!(ring, found, "statx", Statx(cwd, path.as_ptr(), about));
    make!(
        ring,
        found,
        "setxattr",
        SetXattr(attribute.as_ptr(), buffer.as_ptr().cast(), path.as_ptr(), 4)
    );
    make!(
        ring,
        found,
        "getxattr",
        GetXattr(
            attribute.as_ptr(),
            buffer.as_mut_ptr().cast(),
            path.as_ptr(),
            16
        )
    );
    make!(ring, found, "mkdirat", MkDirAt(cwd, made.as_ptr()));
    make!(
        ring,
        found,
        "symlinkat",
        SymlinkAt(cwd, path.as_ptr(), link.as_ptr())
    );
    make!(
        ring,
        found,
        "linkat",
        LinkAt(cwd, path.as_ptr(), cwd, linked.as_ptr())
    );
    make!(
        ring,
        found,
        "renameat",
        RenameAt(cwd, old.as_ptr(), cwd, new.as_ptr())
    );
    make!(ring, found, "unlinkat", UnlinkAt(cwd, gone.as_ptr()));
    make!(
        ring,
        found,
        "unlinkat of a directory",
        UnlinkAt(cwd, empty.as_ptr()).flags(libc::AT_REMOVEDIR)
    );
    Ok(found)
}

fn on_sockets(ring: &mut Ring) -> anyhow::Result<Found> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let waiting = TcpStream::connect(listener.local_addr()?)?;
    let other = TcpListener::bind("127.0.0.1:0")?;
    let peer = SockaddrIn::from(SocketAddrV4::new(
        Ipv4Addr::LOCALHOST,
        other.local_addr()?.port(),
    ));
    let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    let tcp = || {
        socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
    };
    let (caller, bound, listening): (OwnedFd, OwnedFd, OwnedFd) = (tcp()?, tcp()?, tcp()?);
    let (one, mut end) = UnixStream::pair()?;
    end.write_all(b"text")?;
    let fd = |socket: &dyn AsRawFd| Fd(socket.as_raw_fd());
    let mut buffer = [0_u8; 16];

    let mut found = Found::new();
    make!(
        ring,
        found,
        "socket",
        Socket(libc::AF_INET, libc::SOCK_STREAM, 0)
    );
    make!(
        ring,
        found,
        "bind",
        Bind(fd(&bound), any.as_ptr(), any.len())
    );
    make!(ring, found, "listen", Listen(fd(&listening), 4));
    make!(
        ring,
        found,
        "connect",
        Connect(fd(&caller), peer.as_ptr(), peer.len())
    );
    make!(
        ring,
        found,
        "accept",
        Accept(fd(&listener), null_mut(), null_mut())
    );
    make!(ring, found, "send", Send(fd(&one), buffer.as_ptr(), 4));
    make!(ring, found, "recv", Recv(fd(&one), buffer.as_mut_ptr(), 16));
    make!(ring, found, "shutdown", Shutdown(fd(&one), libc::SHUT_WR));
    drop(waiting);
    ensure!(!found.is_empty(), "the kernel knows none of these");
    Ok(found)
}
