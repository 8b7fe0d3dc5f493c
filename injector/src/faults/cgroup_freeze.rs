//! `cgroup-freeze`: nothing in the target runs.

use injector_common::FaultKind;
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{Fault, ResourceFault},
};

/// The kind.
#[derive(Debug)]
pub struct CgroupFreeze;

/// It has no options of its own.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Raw {}

impl FaultKindDef for CgroupFreeze {
    const KIND: FaultKind = FaultKind::CgroupFreeze;
    const SUMMARY: &'static str = "Nothing in the target runs";
    const MANUAL: &'static str = "\
Every process of the cgroup, and of those below it, stops wherever it is, as a machine does that
hangs: connections stay open and are not served, what others send queues up in the kernel, timers
that run out meanwhile are late. Afterwards all goes on where it was. The kernel does this
(cgroup.freeze = 1) and no process gets a signal; unlike SIGSTOP, its parent is not told.

A guardian, a process of the injector, thaws the cgroup at the end of the time, when the agent is
killed, and within 2 s when the agent is stopped. A cgroup that is frozen already is refused, and
so is pid:N, which has no cgroup to itself.";
    const EXAMPLES: &'static str = "\
Examples:
  A service hangs for ten seconds:
    injector inject cgroup-freeze --target cgroup:/web --for 10s";
    type Raw = Raw;

    fn validate(_: Raw) -> Result<Fault, SpecError> {
        Ok(Fault::Resource(ResourceFault::Freeze))
    }
}

pub(super) fn explain() -> String {
    "freezes all processes of the target".to_owned()
}
