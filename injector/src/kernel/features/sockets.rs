//! Whether programs can be had where sockets send, receive and connect.

use std::fs::File;

use aya::{
    Ebpf,
    programs::{CgroupSkb, CgroupSockAddr, ProgramError},
};
use injector_common::names;

use super::no;
use crate::{
    kernel::{
        cgroup, links,
        object::{self, once, refusal},
    },
    plan::Support,
};

fn root_cgroup() -> Result<File, Support> {
    match cgroup::mount_point().map(File::open) {
        Ok(Ok(root)) => Ok(root),
        Ok(Err(error)) => Err(no(format!("the root cgroup: {error}"))),
        Err(error) => Err(no(error.to_string())),
    }
}

/// Tries to attach programs where sockets send and receive, without a rule to refuse a
/// packet by.
pub(super) fn send(ebpf: &mut Ebpf) -> Support {
    let root = match root_cgroup() {
        Ok(root) => root,
        Err(why) => return why,
    };
    for name in [names::PROG_SEND, names::PROG_HEAR] {
        let mut attempt = || -> Result<(), ProgramError> {
            let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
            let program: &mut CgroupSkb = program.try_into()?;
            once(program.load())?;
            links::attach_packets_of_sockets(program, &root).map(drop)
        };
        if let Err(error) = attempt() {
            return no(refusal(&error));
        }
    }
    Support::Supported
}

/// Tries to attach programs at `connect`, without a rule to refuse it by.
pub(super) fn connect(ebpf: &mut Ebpf, chooses: bool) -> Support {
    let root = match root_cgroup() {
        Ok(root) => root,
        Err(why) => return why,
    };
    for name in object::connect_programs(chooses) {
        let mut attempt = || -> Result<(), ProgramError> {
            let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
            let program: &mut CgroupSockAddr = program.try_into()?;
            once(program.load())?;
            links::attach_connect(program, &root).map(drop)
        };
        if let Err(error) = attempt() {
            return no(refusal(&error));
        }
    }
    Support::Supported
}
