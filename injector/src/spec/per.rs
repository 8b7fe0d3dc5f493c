//! What a rule keeps one of each for.

use std::str::FromStr;

use crate::{
    error::SpecError,
    model::{Delay, Fault, Link, LossModel, PacketFault, Per},
    spec::text::{ValueError, word},
};

impl FromStr for Per {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let words = [("rule", Self::Rule), ("flow", Self::Flow)];
        word(text, &words, "rule or flow")
    }
}

/// Brings what the user wants one of each for and the fault together: whether the rule
/// counts per flow.
///
/// # Errors
///
/// Where the fault draws for nothing, or not for flows.
pub(super) fn settle(fault: &mut Fault, per: Per) -> Result<Per, SpecError> {
    if per == Per::Rule {
        return Ok(per);
    }
    match fault {
        Fault::Packet(_, fault) => settle_packet(fault),
        Fault::SysErrno { .. } => Err(refuse("system calls belong to no flow")),
        Fault::Refuse { .. } => Err(refuse(
            "a connection that is refused is no flow yet, it has no port of its own",
        )),
    }
}

fn settle_packet(fault: &mut PacketFault) -> Result<Per, SpecError> {
    match fault {
        PacketFault::Rate(Link { per, .. }) => {
            // It takes every packet, and has nothing to count by.
            *per = Per::Flow;
            Ok(Per::Rule)
        }
        PacketFault::Partition => Err(refuse(
            "a partition lets no packet through, whatever its flow",
        )),
        PacketFault::Loss { model, .. } if *model != LossModel::Trigger => Err(refuse(
            "burst, markov and correlation are links that all flows of a rule share",
        )),
        PacketFault::Delay(Delay { correlation, .. }) if *correlation != 0 => Err(refuse(
            "with correlation, a delay follows from that of the packet before it, of whatever flow",
        )),
        PacketFault::Loss { .. }
        | PacketFault::Delay(_)
        | PacketFault::Corrupt(_)
        | PacketFault::Duplicate { .. }
        | PacketFault::Reorder { .. }
        | PacketFault::Reject { .. }
        | PacketFault::Reset { .. }
        | PacketFault::Dns(_) => Ok(Per::Flow),
    }
}

fn refuse(why: &'static str) -> SpecError {
    SpecError::new("per", why, "rule, or none at all")
}
