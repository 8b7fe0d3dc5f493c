//! Attached programs, and how each is detached again.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use aya::programs::{
    CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, KProbe, Lsm, RawTracePoint,
    SchedClassifier, UProbe,
    cgroup_skb::CgroupSkbLink,
    cgroup_sock::CgroupSockLink,
    cgroup_sock_addr::CgroupSockAddrLink,
    kprobe::KProbeLink,
    links::CgroupAttachMode,
    lsm::LsmLink,
    raw_trace_point::RawTracePointLink,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcError},
    uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
};
use aya::programs::{LinkOrder, ProgramError};
use nix::libc;

use super::{journal::Place, modify_return};
use crate::plan::PacketAttach;

/// A program in force.
#[derive(Debug)]
pub(super) enum Attached {
    /// Gone with its descriptor: dropping it detaches.
    Owned(OwnedLink),
    /// A filter that stays until it is removed.
    Filter(Filter),
}

/// A filter, as its remover finds it.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Its namespace, held open.
    pub(super) netns: Arc<File>,
    /// Its interface.
    pub(super) place: Place,
    /// Id of its program.
    pub(super) program: u32,
}

/// A link that the kernel detaches when its descriptor is closed.
#[derive(Debug)]
#[expect(dead_code, reason = "held for its Drop")]
pub(super) enum OwnedLink {
    Tcx(SchedClassifierLink),
    KProbe(KProbeLink),
    Lsm(LsmLink),
    RawTracePoint(RawTracePointLink),
    CgroupSock(CgroupSockLink),
    CgroupSockAddr(CgroupSockAddrLink),
    CgroupSkb(CgroupSkbLink),
    UProbe(UProbeLink),
    Direct(OwnedFd),
}

/// Whether an interface needs a clsact qdisc added before a filter.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn add_clsact(name: &str) -> Result<bool, ProgramError> {
    match tc::qdisc_add_clsact(name) {
        Ok(()) => Ok(true),
        Err(TcError::AlreadyAttached) => Ok(false),
        Err(TcError::NetlinkError(error)) if is_exists(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_exists(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error() == Some(libc::EEXIST);
        }
        cause = error.source();
    }
    false
}

/// Attaches a packet program to an interface of the calling thread's
/// namespace.
///
/// Ours is the first in line. A packet that waits comes by again afterwards, and
/// programs of others must see it once.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn attach_packets(
    program: &mut SchedClassifier,
    interface: &str,
    side: TcAttachType,
    by: PacketAttach,
) -> Result<SchedClassifierLink, ProgramError> {
    let options = match by {
        PacketAttach::Tcx => TcAttachOptions::TcxOrder(LinkOrder::first()),
        // The kernel gives a new filter a priority before the others'.
        PacketAttach::Clsact => TcAttachOptions::Netlink(NlOptions::default()),
    };
    let link = program.attach_with_options(interface, side, options)?;
    program.take_link(link)
}

/// Attaches to the entry of a kernel function.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn attach_kprobe(
    program: &mut KProbe,
    function: &str,
) -> Result<Attached, ProgramError> {
    let link = program.attach(function, 0)?;
    Ok(Attached::Owned(OwnedLink::KProbe(program.take_link(link)?)))
}

/// Attaches to a function of an open file, for whoever enters it, or for this thread alone. The program
/// finds `cookie` with each call.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn attach_uprobe(
    program: &mut UProbe,
    file: &File,
    offset: u64,
    cookie: u64,
    scope: UProbeScope,
) -> Result<Attached, ProgramError> {
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(offset),
        cookie: Some(cookie),
    };
    // The file itself, whatever its path leads to by now.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = program.attach(point, path, scope)?;
    Ok(Attached::Owned(OwnedLink::UProbe(program.take_link(link)?)))
}

/// Attaches to the hook that the program was loaded for.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn attach_lsm(program: &mut Lsm) -> Result<Attached, ProgramError> {
    let link = program.attach()?;
    Ok(Attached::Owned(OwnedLink::Lsm(program.take_link(link)?)))
}

/// Attaches to the function that a program of the agent's own loader was loaded for.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn attach_direct(program: BorrowedFd<'_>) -> Result<Attached, ProgramError> {
    let link = modify_return::attach(program)?;
    Ok(Attached::Owned(OwnedLink::Direct(link)))
}

/// Attaches to a raw tracepoint.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn attach_tracepoint(
    program: &mut RawTracePoint,
    name: &str,
) -> Result<Attached, ProgramError> {
    let link = program.attach(name)?;
    Ok(Attached::Owned(OwnedLink::RawTracePoint(
        program.take_link(link)?,
    )))
}

/// Attaches to the sockets made below a cgroup, beside other programs: a link
/// always allows others, and refuses the flag that says so.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn attach_sockets(
    program: &mut CgroupSock,
    cgroup: &File,
) -> Result<Attached, ProgramError> {
    let link = program.attach(cgroup, CgroupAttachMode::Single)?;
    Ok(Attached::Owned(OwnedLink::CgroupSock(
        program.take_link(link)?,
    )))
}

/// Attaches to the hook that the program was loaded for, below a cgroup, beside
/// other programs as above.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn attach_connect(
    program: &mut CgroupSockAddr,
    cgroup: &File,
) -> Result<Attached, ProgramError> {
    let link = program.attach(cgroup, CgroupAttachMode::Single)?;
    Ok(Attached::Owned(OwnedLink::CgroupSockAddr(
        program.take_link(link)?,
    )))
}

/// Attaches to what sockets below a cgroup send or receive, as the program was made
/// for, beside other programs as above.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn attach_packets_of_sockets(
    program: &mut CgroupSkb,
    cgroup: &File,
) -> Result<Attached, ProgramError> {
    let egress = CgroupSkbAttachType::Egress;
    let way = program.expected_attach_type().unwrap_or(egress);
    let link = program.attach(cgroup, way, CgroupAttachMode::Single)?;
    Ok(Attached::Owned(OwnedLink::CgroupSkb(
        program.take_link(link)?,
    )))
}
