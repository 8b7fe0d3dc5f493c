//! A victim that goes to files by every way that leads to them, and notes what came of each.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::symlink},
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use syscalls::{Sysno, syscall};

/// Options of a victim that goes to files.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A folder that [`prepare`] was called with
    #[arg(long)]
    pub folder: PathBuf,
    /// The file to write the outcomes to, as JSON
    #[arg(long)]
    pub outcomes: PathBuf,
}

/// The error number of each way; 0 for none.
pub type Outcomes = BTreeMap<String, u32>;

/// Makes what the victim goes to: `in` and `out` with files, and links from one to the other.
///
/// # Errors
///
/// When the folder is not empty or cannot be written to.
pub fn prepare(folder: &Path) -> anyhow::Result<()> {
    let at = |name: &str| folder.join(name);
    for name in ["in/sub", "out/bound", "out/beside"] {
        fs::create_dir_all(at(name))?;
    }
    for name in ["in/a.wal", "in/sub/b.log", "out/c.wal", "out/d.log"] {
        fs::write(at(name), name)?;
    }
    symlink(at("in/a.wal"), at("out/link"))?;
    symlink("../in", at("out/folder"))?;
    fs::hard_link(at("in/a.wal"), at("out/hard"))?;
    Ok(())
}

/// Goes every way once.
///
/// # Errors
///
/// When a way cannot be prepared, which needs other calls than those that rules fail.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let outcomes = outcomes(&options.folder)?;
    let text = serde_json::to_vec(&outcomes)?;
    fs::write(&options.outcomes, text).context("cannot write the outcomes")
}

fn outcomes(folder: &Path) -> anyhow::Result<Outcomes> {
    let mut outcomes = Outcomes::new();
    let mut note = |way: &str, result: Result<(), u32>| {
        outcomes.insert(way.to_owned(), result.err().unwrap_or(0));
    };
    let at = |name: &str| folder.join(name);
    let open = |name: &str| openat(libc::AT_FDCWD, &at(name), libc::O_RDONLY).map(drop);
    note("a file in it", open("in/a.wal"));
    note("a file below it", open("in/sub/b.log"));
    note("a file beside it", open("out/c.wal"));
    note("another beside it", open("out/d.log"));
    note("by dots", open("out/../in/./sub/../a.wal"));
    note("by a symbolic link", open("out/link"));
    note("by a link to the folder", open("out/folder/a.wal"));
    note("by a hard link", open("out/hard"));

    let directory = |name: &str| openat(libc::AT_FDCWD, &at(name), libc::O_PATH);
    let (inside, outside) = (directory("in"), directory("out"));
    let (inside, outside) = (
        inside.map_err(|errno| anyhow::anyhow!("in: {errno}"))?,
        outside.map_err(|errno| anyhow::anyhow!("out: {errno}"))?,
    );
    let from = |directory: &OwnedFd, name: &str| {
        openat(directory.as_raw_fd(), Path::new(name), libc::O_RDONLY).map(drop)
    };
    note("from its descriptor", from(&inside, "a.wal"));
    note("up from the other's", from(&outside, "../in/a.wal"));
    let how = [
        libc::O_RDONLY.unsigned_abs().into(),
        0,
        libc::RESOLVE_IN_ROOT,
    ];
    let name = CString::new("/a.wal")?;
    let rooted = sys!(openat2, inside.as_raw_fd(), name.as_ptr(), how.as_ptr(), 24);
    note("from it as root", rooted.map(close));
    let known = openat(inside.as_raw_fd(), Path::new("sub/b.log"), libc::O_PATH);
    let again = known.and_then(|known| {
        let path = format!("/proc/self/fd/{}", known.as_raw_fd());
        openat(libc::AT_FDCWD, Path::new(&path), libc::O_RDONLY).map(drop)
    });
    note("by the link of a descriptor", again);

    let bound = at("out/bound");
    let none: Option<&str> = None;
    mount(Some(&at("in")), &bound, none, MsFlags::MS_BIND, none).context("cannot bind")?;
    note("by a bind mount", open("out/bound/sub/b.log"));
    umount2(&bound, MntFlags::MNT_DETACH).context("cannot unmount")?;

    note("a new file in it", create(&at("in/new")));
    note("a new file beside it", create(&at("out/new")));
    note("a directory in it", mkdir(&at("in/made")));
    note("a directory beside it", mkdir(&at("out/made")));
    note("moving one in", rename(&at("out/made"), &at("in/moved")));
    note("moving one out", rename(&at("in/sub"), &at("out/sub")));
    note(
        "what may have moved out",
        open("out/sub/b.log").or_else(|errno| {
            // It has not, if moving failed.
            if errno == libc::ENOENT.unsigned_abs() {
                Ok(())
            } else {
                Err(errno)
            }
        }),
    );
    Ok(outcomes)
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

fn openat(directory: libc::c_int, path: &Path, flags: libc::c_int) -> Result<OwnedFd, u32> {
    let path = c_path(path);
    let flags = flags | libc::O_CLOEXEC;
    sys!(openat, directory, path.as_ptr(), flags, 0).map(owned)
}

fn create(path: &Path) -> Result<(), u32> {
    let path = c_path(path);
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC;
    sys!(openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o600).map(close)
}

fn mkdir(path: &Path) -> Result<(), u32> {
    let path = c_path(path);
    sys!(mkdir, path.as_ptr(), 0o700).map(drop)
}

fn rename(from: &Path, to: &Path) -> Result<(), u32> {
    let (from, to) = (c_path(from), c_path(to));
    sys!(rename, from.as_ptr(), to.as_ptr()).map(drop)
}

/// The descriptor that a call returned.
fn owned(descriptor: usize) -> OwnedFd {
    let descriptor = i32::try_from(descriptor).unwrap_or(-1);
    // SAFETY: the kernel has just given it to this process, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn close(descriptor: usize) {
    drop(owned(descriptor));
}
