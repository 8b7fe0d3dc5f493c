//! What a rule keeps one of each for.

use std::str::FromStr;

use injector_common::Trigger;

use crate::{
    error::SpecError,
    model::{Delay, Fault, Link, LossModel, PacketFault, Per},
    spec::text::{ValueError, word},
};

impl FromStr for Per {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let words = [
            Self::Rule,
            Self::Flow,
            Self::Process,
            Self::Thread,
            Self::Program,
        ]
        .map(|per| (per.name(), per));
        word(text, &words, "rule, flow, process, thread or program")
    }
}

/// Brings what the user wants one of each for and the fault together: whether the rule
/// counts per flow, process, thread or program.
///
/// # Errors
///
/// Where the fault draws for nothing, or not for these.
pub(super) fn settle(fault: &mut Fault, trigger: &Trigger, per: Per) -> Result<Per, SpecError> {
    if per == Per::Rule {
        return Ok(per);
    }
    if trigger.correlation != 0 {
        return Err(refuse(
            "with correlation, a draw follows from the one before it, of whatever flow",
        ));
    }
    match fault {
        Fault::Call(..) if per.is_caller() => Ok(per),
        Fault::Call(..) => Err(SpecError::new(
            "per",
            "system calls belong to no flow",
            "rule, process, thread or program, or none at all",
        )),
        Fault::Function(_) if per.is_caller() => Ok(per),
        Fault::Function(_) => Err(SpecError::new(
            "per",
            "functions belong to no flow",
            "rule, process, thread or program, or none at all",
        )),
        Fault::Packet(_, fault) if per == Per::Flow => settle_packet(fault),
        Fault::Packet(..) => Err(SpecError::new(
            "per",
            "a packet does not tell which process or thread has sent it",
            "rule or flow, or none at all",
        )),
        Fault::Refuse { .. } if per.is_caller() => Err(refuse(
            "refusals are counted together; sys-errno on connect counts per process, thread or program",
        )),
        Fault::Resource(_) => Err(refuse("what a target is given is not counted")),
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
            "burst and markov are links that all flows of a rule share",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{faults::explain, spec::document};

    /// The only rule of a file, with these keys.
    fn rule(keys: &str) -> (Fault, Option<Per>) {
        let text =
            format!("version: 1\nfor: 1s\nrules: [{{kind: {keys}, target: pid:1, per: flow}}]");
        let input = document::parse("x.yaml".as_ref(), text.as_bytes()).expect(keys);
        let rule = input.rules.into_iter().next().expect("a rule");
        let crate::spec::kind::RawKind::Fault(raw) = rule.what else {
            panic!("{keys}: a kind");
        };
        (raw.validate().expect(keys), rule.per)
    }

    #[test]
    fn what_draws_for_packets_counts_per_flow() {
        for keys in [
            "net-loss",
            "net-delay, delay: 1ms, jitter: 1ms",
            "net-corrupt",
            "net-duplicate",
            "net-reorder, delay: 1ms",
            "net-reject",
            "net-reset",
            "dns, answer: timeout",
        ] {
            let (mut fault, per) = rule(keys);
            let per = per.expect("it was given");
            assert_eq!(
                settle(&mut fault, &Trigger::ALWAYS, per),
                Ok(Per::Flow),
                "{keys}"
            );
            assert_eq!(
                settle(&mut fault, &Trigger::ALWAYS, Per::Rule),
                Ok(Per::Rule),
                "{keys}"
            );
        }
    }

    #[test]
    fn calls_count_per_caller_and_nothing_else_does() {
        for per in [Per::Process, Per::Thread, Per::Program] {
            for (keys, allowed) in [
                ("sys-errno, call: read, errno: EIO", None),
                ("sys-signal, call: read, signal: SIGUSR1", None),
                ("user-return, function: f, file: /a, return: 0", None),
                ("net-loss", Some("rule or flow")),
                ("net-rate, rate: 1mbit", Some("rule or flow")),
                ("net-refuse", Some("rule, or none")),
                ("cgroup-freeze", Some("rule, or none")),
            ] {
                let (mut fault, _) = rule(keys);
                match (settle(&mut fault, &Trigger::ALWAYS, per), allowed) {
                    (Ok(settled), None) => assert_eq!(settled, per, "{keys}"),
                    (Err(error), Some(allowed)) => {
                        assert!(error.to_string().contains(allowed), "{keys}: {error}");
                    }
                    (settled, _) => panic!("{keys}: {settled:?}"),
                }
            }
        }
        let (mut fault, _) = rule("sys-errno, call: read, errno: EIO");
        let error = settle(&mut fault, &Trigger::ALWAYS, Per::Flow).expect_err("no flow");
        assert!(
            error
                .to_string()
                .contains("rule, process, thread or program"),
            "{error}"
        );
    }

    #[test]
    fn a_link_is_what_each_flow_has() {
        let (mut fault, _) = rule("net-rate, rate: 1mbit");
        assert!(!explain(&fault).contains("for each flow"));
        assert_eq!(
            settle(&mut fault, &Trigger::ALWAYS, Per::Flow),
            Ok(Per::Rule)
        );
        assert!(explain(&fault).contains("for each flow"));
    }
}
