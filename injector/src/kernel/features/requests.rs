//! Which requests of io_uring the kernel knows.

use std::io;

use injector_common::requests::Request;
use io_uring::{IoUring, Probe, opcode as op};
use nix::libc;

use super::no;
use crate::{
    model::Syscall,
    plan::{Features, Support},
};

/// Asks for those of these calls that are requests, if that was not done yet.
pub(super) fn probe(features: &mut Features, calls: impl Iterator<Item = Syscall>) {
    let known = &mut features.requests;
    let untried = calls.filter_map(|call| Some((call, call.as_request()?)));
    let untried: Vec<_> = untried
        .filter(|(call, _)| !known.contains_key(call))
        .collect();
    if untried.is_empty() {
        return;
    }
    let operations = ask();
    for (call, request) in untried {
        let support = match &operations {
            Ok(operations) if operations.is_supported(operation(request)) => Support::Supported,
            Ok(_) => no(format!("the kernel knows no {}", call.name)),
            Err(error) => refused(error),
        };
        known.insert(call, support);
    }
}

fn refused(error: &io::Error) -> Support {
    let reason = format!("io_uring cannot be had: {error}");
    match error.raw_os_error() {
        // Not built in, forbidden, or without this question.
        Some(libc::ENOSYS | libc::EPERM | libc::EINVAL) => no(reason),
        // Something else was wrong, such as too many open files.
        _ => Support::Inconclusive { reason },
    }
}

/// `IORING_REGISTER_PROBE` (Linux 5.6). There is no ring where the kernel was built without them, or
/// where `kernel.io_uring_disabled` is 2 (Linux 6.6).
fn ask() -> io::Result<Probe> {
    let ring = IoUring::new(1)?;
    let mut operations = Probe::new();
    ring.submitter().register_probe(&mut operations)?;
    Ok(operations)
}

/// The first operation that asks for it.
const fn operation(request: Request) -> u8 {
    match request {
        Request::Read => op::Read::CODE,
        Request::Write => op::Write::CODE,
        Request::Openat => op::OpenAt::CODE,
        Request::Statx => op::Statx::CODE,
        Request::Unlinkat => op::UnlinkAt::CODE,
        Request::Renameat => op::RenameAt::CODE,
        Request::Mkdirat => op::MkDirAt::CODE,
        Request::Symlinkat => op::SymlinkAt::CODE,
        Request::Linkat => op::LinkAt::CODE,
        Request::Setxattr => op::SetXattr::CODE,
        Request::Getxattr => op::GetXattr::CODE,
        Request::Ftruncate => op::Ftruncate::CODE,
        Request::Socket => op::Socket::CODE,
        Request::Connect => op::Connect::CODE,
        Request::Accept => op::Accept::CODE,
        Request::Bind => op::Bind::CODE,
        Request::Listen => op::Listen::CODE,
        Request::Send => op::Send::CODE,
        Request::Recv => op::Recv::CODE,
        Request::Shutdown => op::Shutdown::CODE,
    }
}
