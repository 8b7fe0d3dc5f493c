//! The open sockets of a process, aimed at from user space.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use aya::maps::{MapData, SkStorage};
use injector_common::Tgid;
use nix::libc;

/// Leaves `rules` in every open socket of a process; returns how many.
///
/// A process that ends meanwhile has no sockets left to leave anything in.
///
/// # Errors
///
/// When a live process's descriptors may not be duplicated.
pub(super) fn tag(
    map: &mut SkStorage<&mut MapData, u64>,
    tgid: Tgid,
    rules: u64,
) -> io::Result<usize> {
    let directory = Path::new("/proc").join(tgid.to_string()).join("fd");
    let Ok(entries) = fs::read_dir(&directory) else {
        return Ok(0);
    };
    let Some(process) = pidfd_open(tgid)? else {
        return Ok(0);
    };
    let mut tagged = 0;
    for entry in entries.flatten() {
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_string_lossy().parse::<i32>();
        let (true, Ok(number)) = (is_socket, number) else {
            continue;
        };
        let Some(socket) = pidfd_getfd(&process, number)? else {
            continue;
        };
        // A socket of another family than IP has no packets here, and some
        // have no storage.
        let known = map.get(&socket.as_raw_fd(), 0).unwrap_or(0);
        if map.insert(&socket.as_raw_fd(), known | rules, 0).is_ok() {
            tagged += 1;
        }
    }
    Ok(tagged)
}

/// pidfd_open(2), Linux 5.3; `None` for a process that is gone.
fn pidfd_open(tgid: Tgid) -> io::Result<Option<OwnedFd>> {
    // SAFETY: takes integers only.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, tgid.0, 0) })
}

/// pidfd_getfd(2), Linux 5.6; `None` for a descriptor that is closed by now.
fn pidfd_getfd(process: &OwnedFd, number: i32) -> io::Result<Option<OwnedFd>> {
    // SAFETY: takes integers only.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

fn descriptor(result: libc::c_long) -> io::Result<Option<OwnedFd>> {
    if let Ok(fd) = i32::try_from(result)
        && fd >= 0
    {
        // SAFETY: the kernel just gave us this descriptor; nobody else has it.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::EBADF | libc::EINVAL) => Ok(None),
        _ => Err(error),
    }
}
