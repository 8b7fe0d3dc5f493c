//! The `clsact` qdisc and the filters in it, before TCX links (Linux 6.6).
//!
//! A filter belongs to nobody: it stays until somebody removes it, and so does
//! the qdisc that holds it. Ours are known by the id of their program, which the
//! kernel gives out once. Names and tags are those of every agent, and a handle
//! may be another filter's by now.
//!
//! Everything here acts on the calling thread's network namespace.

use std::{
    fmt, io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::programs::ProgramFd;
use nix::libc;

use super::tc::{Header, Request, find, number, put, text};

/// `TC_H_CLSACT` (linux/pkt_sched.h): where the qdisc hangs. An `ingress` qdisc
/// hangs there too, so an interface has one of them at most.
const PARENT: u32 = 0xffff_fff1;
/// The handle of either.
const HANDLE: u32 = 0xffff_0000;

/// Attributes of any traffic-control object, and of a filter of kind `bpf`
/// (linux/rtnetlink.h, linux/pkt_cls.h).
mod attribute {
    pub(super) const KIND: u16 = 1;
    pub(super) const OPTIONS: u16 = 2;
    pub(super) const BPF_FD: u16 = 6;
    pub(super) const BPF_NAME: u16 = 7;
    pub(super) const BPF_FLAGS: u16 = 8;
    pub(super) const BPF_ID: u16 = 11;
}

/// `TCA_BPF_FLAG_ACT_DIRECT`: the program's result is the verdict.
const ACT_DIRECT: u32 = 1;
/// `ETH_P_ALL` (linux/if_ether.h), in network order as the kernel wants it.
const EVERY_PROTOCOL: u16 = 3u16.to_be();

/// A side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Ingress,
    Egress,
}

impl Side {
    const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` or `…EGRESS`.
    const fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// What hangs where a clsact qdisc would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Nothing,
    Clsact,
    /// An `ingress` qdisc. It takes filters for packets that arrive, and leaves
    /// no room for a clsact.
    Ingress,
}

/// A filter that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    side: Side,
    handle: u32,
    /// Priority in the upper half, protocol in the lower.
    info: u32,
    /// Id of its program, if it has one.
    program: Option<u32>,
}

impl Filter {
    const fn priority(&self) -> u32 {
        self.info >> 16
    }

    /// What names it in `tc filter del dev INTERFACE …`.
    pub(super) fn words(&self) -> String {
        let Self { side, handle, .. } = self;
        format!("{side} pref {} handle {handle:#x} bpf", self.priority())
    }
}

/// What an interface has.
///
/// # Errors
///
/// When the kernel does not answer.
pub(super) fn held(ifindex: u32) -> io::Result<Held> {
    let mut held = Held::Nothing;
    let request = Request::new(libc::RTM_GETQDISC, libc::NLM_F_DUMP, Header::default());
    request.send(|header, attributes| {
        if (header.ifindex, header.parent) != (ifindex, PARENT) {
            return;
        }
        held = match text(find(attributes, attribute::KIND)) {
            b"clsact" => Held::Clsact,
            _ => Held::Ingress,
        };
    })?;
    Ok(held)
}

/// Adds the qdisc.
///
/// # Errors
///
/// EEXIST when there is one by now, ENOENT when the kernel has none to offer.
pub(super) fn add(ifindex: u32) -> io::Result<()> {
    let header = Header {
        ifindex,
        handle: HANDLE,
        parent: PARENT,
        info: 0,
    };
    Request::new(
        libc::RTM_NEWQDISC,
        libc::NLM_F_CREATE | libc::NLM_F_EXCL,
        header,
    )
    .with(attribute::KIND, b"clsact\0")
    .send(|_, _| {})
}

/// Removes the qdisc if no filter is left in it; whether it was removed.
///
/// The kernel cannot do both in one step. Agents keep each other out meanwhile
/// ([`super::netns::lock`]); a filter that somebody else adds between the two
/// goes with the qdisc.
///
/// # Errors
///
/// What the kernel refused; an interface without one is no error.
pub(super) fn remove_if_empty(ifindex: u32) -> io::Result<bool> {
    if held(ifindex)? != Held::Clsact || !filters(ifindex)?.is_empty() {
        return Ok(false);
    }
    let header = Header {
        ifindex,
        handle: 0,
        parent: PARENT,
        info: 0,
    };
    let request = Request::new(libc::RTM_DELQDISC, 0, header).with(attribute::KIND, b"clsact\0");
    unless_gone(request.send(|_, _| {}))
}

/// Attaches a program as a filter, before those of others: one of them may end the search, and
/// a packet that waits comes by again, which others must see once. Returns whether that is so:
/// nothing can come before a filter of another kind that has the first priority.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn attach(
    ifindex: u32,
    side: Side,
    program: &ProgramFd,
    name: &str,
) -> io::Result<bool> {
    let mut others = filters(ifindex)?;
    others.retain(|filter| filter.side == side);
    let first = others.iter().map(Filter::priority).min();
    let priority = first.map_or(CHOSEN_BY_KERNEL, |first| first.saturating_sub(1).max(1));
    match attach_at(ifindex, side, priority, program, name) {
        Ok(()) => Ok(true),
        Err(_) if priority == 1 => {
            attach_at(ifindex, side, CHOSEN_BY_KERNEL, program, name).map(|()| false)
        }
        Err(error) => Err(error),
    }
}

/// Stands for a priority that is lower than that of any filter which was added
/// with one, as a rule.
const CHOSEN_BY_KERNEL: u32 = 0;

fn attach_at(
    ifindex: u32,
    side: Side,
    priority: u32,
    program: &ProgramFd,
    name: &str,
) -> io::Result<()> {
    let header = Header {
        ifindex,
        handle: 0,
        parent: side.parent(),
        info: priority << 16 | u32::from(EVERY_PROTOCOL),
    };
    let fd = program.as_fd().as_raw_fd();
    let mut options = Vec::new();
    put(&mut options, attribute::BPF_FD, &fd.to_ne_bytes());
    put(
        &mut options,
        attribute::BPF_NAME,
        &[name.as_bytes(), b"\0"].concat(),
    );
    put(
        &mut options,
        attribute::BPF_FLAGS,
        &ACT_DIRECT.to_ne_bytes(),
    );
    Request::new(
        libc::RTM_NEWTFILTER,
        libc::NLM_F_CREATE | libc::NLM_F_EXCL,
        header,
    )
    .with(attribute::KIND, b"bpf\0")
    .with(attribute::OPTIONS, &options)
    .send(|_, _| {})
}

/// Every filter on both sides of an interface, whoever added it.
///
/// # Errors
///
/// When the kernel does not answer.
pub(super) fn filters(ifindex: u32) -> io::Result<Vec<Filter>> {
    let mut found = Vec::new();
    for side in Side::ALL {
        let header = Header {
            ifindex,
            handle: 0,
            parent: side.parent(),
            info: 0,
        };
        Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, header).send(
            |header, attributes| {
                let options = find(attributes, attribute::OPTIONS);
                let program = match text(find(attributes, attribute::KIND)) {
                    b"bpf" => number(find(options, attribute::BPF_ID)),
                    _ => None,
                };
                found.push(Filter {
                    side,
                    handle: header.handle,
                    info: header.info,
                    program,
                });
            },
        )?;
    }
    Ok(found)
}

/// The filters of one program.
///
/// # Errors
///
/// When the kernel does not answer.
pub(super) fn filters_of(ifindex: u32, program: u32) -> io::Result<Vec<Filter>> {
    let mut filters = filters(ifindex)?;
    filters.retain(|filter| filter.program == Some(program));
    Ok(filters)
}

/// Removes the filters of one program; whether there were any.
///
/// # Errors
///
/// What the kernel refused; a filter or interface that is gone is no error.
pub(super) fn detach(ifindex: u32, program: u32) -> io::Result<bool> {
    let mut any = false;
    for filter in filters_of(ifindex, program)? {
        let header = Header {
            ifindex,
            handle: filter.handle,
            parent: filter.side.parent(),
            info: filter.info,
        };
        let request = Request::new(libc::RTM_DELTFILTER, 0, header).with(attribute::KIND, b"bpf\0");
        any |= unless_gone(request.send(|_, _| {}))?;
    }
    Ok(any)
}

/// Whether something was removed; that it was gone already is no error.
fn unless_gone(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
