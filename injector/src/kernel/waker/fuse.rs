//! As much of the kernel's protocol for file systems in user space as a file of one page per
//! sleeper needs (include/uapi/linux/fuse.h, version 7.31).

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use injector_common::sleep::{MAX_SLEEPERS, offset};
use nix::libc;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

/// Bytes of a request's header, and of an answer's.
const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;

/// Room for a request: at least 8 KiB (`FUSE_MIN_READ_BUFFER`).
const ROOM: usize = 16 * 1024;

/// The file is the root of its file system (`FUSE_ROOT_ID`).
const ROOT: u64 = 1;

/// For how long attributes hold, in s: for good.
const FOREVER_S: u64 = 1 << 30;

mod opcode {
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const BATCH_FORGET: u32 = 42;
}

/// `FUSE_NOTIFY_STORE`: puts data into the kernel's cache of the file.
const NOTIFY_STORE: i32 = 4;
/// `FOPEN_KEEP_CACHE`: what is in the cache stays when the file is opened.
const KEEP_CACHE: u32 = 2;

/// A connection to the kernel, as the server of a file system.
pub(super) struct Connection {
    device: File,
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens one, which serves no file system yet.
    ///
    /// # Errors
    ///
    /// When the kernel has no such file systems, or this process may not open `/dev/fuse`.
    pub(super) fn open() -> io::Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/fuse")?;
        Ok(Self {
            device,
            buffer: vec![0; ROOM],
        })
    }

    /// The descriptor of the connection, to be waited for.
    pub(super) const fn device(&self) -> &File {
        &self.device
    }

    /// Mounts the file, nowhere: nobody finds it but by this descriptor, and it is gone with the
    /// last one who has it open.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub(super) fn mount(&self) -> io::Result<OwnedFd> {
        let file_system = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let device = self.device.as_raw_fd().to_string();
        for (key, value) in [
            ("fd", device.as_str()),
            ("rootmode", "100400"),
            ("user_id", "0"),
            ("group_id", "0"),
        ] {
            fsconfig_set_string(&file_system, key, value)?;
        }
        fsconfig_create(&file_system)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        Ok(fsmount(
            &file_system,
            FsMountFlags::FSMOUNT_CLOEXEC,
            attributes,
        )?)
    }

    /// Takes up the next request and answers it, a read by `EIO`: the page it wants stays as it
    /// is, not there. `before` hears first where that page lies in the file. Whether anything was
    /// asked for.
    ///
    /// # Errors
    ///
    /// When the kernel has ended the connection.
    pub(super) fn answer(&mut self, before: impl FnOnce(u64)) -> io::Result<bool> {
        let length = loop {
            match (&self.device).read(&mut self.buffer) {
                Ok(length) => break length,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(false),
                    // One that was ended while it was read.
                    Some(libc::ENOENT | libc::EINTR) => {}
                    _ => return Err(error),
                },
            }
        };
        let request = self.buffer.get(..length).unwrap_or_default();
        let (opcode, unique) = (word32(request, 4), word64(request, 8));
        let body = request.get(IN_HEADER..).unwrap_or_default();
        let reply = match opcode {
            opcode::INIT => Some((0, init())),
            opcode::GETATTR => Some((0, attributes())),
            opcode::OPEN => Some((0, words(&[0, u64::from(KEEP_CACHE)]))),
            opcode::READ => {
                before(word64(body, 8));
                Some((libc::EIO, Vec::new()))
            }
            opcode::RELEASE | opcode::FLUSH => Some((0, Vec::new())),
            // What they are about has its answer already, or wants none.
            opcode::INTERRUPT | opcode::FORGET | opcode::BATCH_FORGET => None,
            _ => Some((libc::ENOSYS, Vec::new())),
        };
        if let Some((error, body)) = reply {
            self.send(unique, -error, &body)?;
        }
        Ok(true)
    }

    /// Has the kernel make a page for each sleeper, in the name of this process: not there, but
    /// known. Otherwise it would make it in the name of who waits for it first.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub(super) fn make_pages(&self) -> io::Result<()> {
        for slot in 0..MAX_SLEEPERS {
            // A byte does not make the page whole.
            let mut store = words(&[ROOT, offset(slot), 1]);
            store.push(0);
            self.send(0, NOTIFY_STORE, &store)?;
        }
        Ok(())
    }

    fn send(&self, unique: u64, error: i32, body: &[u8]) -> io::Result<()> {
        let length = OUT_HEADER + body.len();
        let mut message = Vec::with_capacity(length);
        message.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        message.extend(error.to_ne_bytes());
        message.extend(unique.to_ne_bytes());
        message.extend(body);
        match (&self.device).write(&message) {
            // Whoever asked is gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result.map(drop),
        }
    }
}

/// `fuse_init_out`: nothing is read ahead.
fn init() -> Vec<u8> {
    let mut reply = Vec::new();
    for word in [7u32, 31, 0, 0] {
        reply.extend(word.to_ne_bytes());
    }
    // How many requests may be in the background; none is.
    for word in [16u16, 12] {
        reply.extend(word.to_ne_bytes());
    }
    // The largest write, and the grain of times in ns.
    for word in [4_096u32, 1] {
        reply.extend(word.to_ne_bytes());
    }
    reply.resize(64, 0);
    reply
}

/// `fuse_attr_out`: a file with a page for each sleeper.
fn attributes() -> Vec<u8> {
    const REGULAR_FILE: u32 = 0o100_400;
    const BLOCK: u32 = 4_096;
    let mut reply = words(&[FOREVER_S, 0, ROOT, offset(MAX_SLEEPERS), 0, 0, 0, 0]);
    // Three times' nanoseconds, mode, links, owner and group, device, block size, flags.
    for word in [0, 0, 0, REGULAR_FILE, 1, 0, 0, 0, BLOCK, 0] {
        reply.extend(word.to_ne_bytes());
    }
    reply
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_ne_bytes)
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of include/uapi/linux/fuse.h.
    #[test]
    fn answers_are_as_long_as_the_kernel_wants_them() {
        assert_eq!(init().len(), 64);
        assert_eq!(attributes().len(), 104);
        assert_eq!(word64(&attributes(), 24), offset(MAX_SLEEPERS));
        assert_eq!(word32(&attributes(), 16 + 48 + 12), 0o100_400);
    }
}
