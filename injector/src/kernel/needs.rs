//! What only some rules need of the programs, and what takes time or memory to have.

use injector_common::{kinds::Family, uses::Uses};

use crate::model::{Experiment, Fault, PacketFilter, Per, Rule, Target};

/// What an experiment needs.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// The parts that its rules use; the programs are loaded without the others.
    pub(super) uses: Uses,
    /// Where fields of the kernel lie: for programs that follow processes, or look into
    /// files or sockets.
    pub(super) fields: bool,
    /// Room to remember conversations.
    pub(super) conversations: bool,
    /// Room to remember TCP connections.
    pub(super) streams: bool,
    /// Room for a link of each flow.
    pub(super) flow_links: bool,
    /// Room for a count of each flow, process or thread.
    pub(super) turns: bool,
    /// Room for hits on their way to the ledger.
    pub(super) ledger: bool,
}

impl Needs {
    /// Every part of the programs, to try whether the kernel takes it, but no memory
    /// for what they would remember.
    pub(super) const TRIAL: Self = Self {
        uses: Uses::EVERYTHING,
        fields: true,
        conversations: false,
        streams: false,
        flow_links: false,
        turns: false,
        ledger: false,
    };

    /// Everything that rules may need, for rules that are not known yet.
    pub const ANYTHING: Self = Self {
        uses: Uses::EVERYTHING.without(Uses::LEDGER),
        fields: true,
        conversations: true,
        streams: true,
        flow_links: true,
        turns: true,
        ledger: false,
    };

    /// What the rules of an experiment need.
    #[must_use]
    pub fn of(experiment: &Experiment) -> Self {
        let rules = &experiment.rules;
        let fields = rules.iter().any(|rule| {
            matches!(
                rule.fault.kind().family(),
                Family::Syscall | Family::Connect | Family::Function
            ) || matches!(rule.fault, Fault::Packet(..))
                || rule
                    .targets
                    .iter()
                    .any(|target| matches!(target, Target::Process(_)))
        });
        let mut filters = rules.iter().filter_map(|rule| rule.fault.filter());
        let has = |test: fn(&Fault) -> bool| rules.iter().any(|rule| test(&rule.fault));
        Self {
            uses: rules
                .iter()
                .fold(Uses::NOTHING, |uses, rule| uses.and(parts(rule))),
            fields,
            ledger: false,
            turns: rules.iter().any(|rule| rule.per != Per::Rule),
            flow_links: has(Fault::links_flows),
            streams: has(Fault::counts_streams),
            conversations: filters.any(PacketFilter::follows_conversations),
        }
    }
}

impl Needs {
    /// The same, with hits told one by one.
    #[must_use]
    pub const fn with_ledger(self) -> Self {
        Self {
            uses: self.uses.and(Uses::LEDGER),
            ledger: true,
            ..self
        }
    }
}

/// The parts that a rule uses.
fn parts(rule: &Rule) -> Uses {
    let fault = &rule.fault;
    let (detours, queues) = match fault {
        Fault::Packet(_, fault) if !rule.shadow => (fault.detours(), fault.holds()),
        Fault::Packet(..)
        | Fault::Call(..)
        | Fault::Refuse { .. }
        | Fault::Function(_)
        | Fault::Resource(_) => (false, false),
    };
    let asks_of_calls = fault.calls().is_some_and(|calls| !calls.filter.is_any());
    let asks_of_sockets = fault
        .calls()
        .is_some_and(|calls| calls.filter.asks_for_socket());
    let asks_for_chain = fault
        .calls()
        .is_some_and(|calls| calls.filter.asks_for_chain());
    let splits = fault.filter().is_some_and(PacketFilter::splits);
    let asks = |so: fn(&PacketFilter) -> bool| fault.conditions().is_some_and(so);
    let ports = asks(|filter| !(filter.peer_ports.is_any() && filter.local_ports.is_any()));
    let frames = asks(|filter| !(filter.marks.is_any() && filter.sizes.is_any()));
    Uses::kind(fault.kind())
        .and_if(detours, Uses::DETOURS)
        .and_if(queues, Uses::QUEUES)
        .and_if(ports, Uses::PORTS)
        .and_if(frames, Uses::FRAMES)
        .and_if(asks(|filter| !filter.locals.is_any()), Uses::LOCALS)
        .and_if(rule.per == Per::Flow, Uses::FLOWS)
        .and_if(rule.per.is_caller(), Uses::CALLERS)
        .and_if(splits, Uses::SEGMENTS)
        .and_if(rule.trigger.correlation != 0, Uses::CORRELATION)
        .and_if(asks_of_calls, Uses::CALL_FILTERS)
        .and_if(asks_of_sockets, Uses::SOCKETS)
        .and_if(asks_for_chain, Uses::CHAINS)
        .and_if(fault.is_plausible(), Uses::ERROR_LISTS)
        .and_if(rule.shadow, Uses::SHADOW)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use injector_common::{FaultKind, Trigger};

    use super::*;
    use crate::model::{CallFault, Calls, Choice, Direction, Mark, PacketFault, QueueMemory, Unit};

    fn rule(filter: PacketFilter, fault: PacketFault) -> Rule {
        Rule {
            name: String::new(),
            targets: vec![Target::Command],
            fault: Fault::Packet(filter, fault),
            trigger: Trigger::ALWAYS,
            per: Per::Rule,
            start: Duration::ZERO,
            duration: Duration::from_secs(1),
            shadow: false,
            removed: false,
        }
    }

    #[test]
    fn a_rule_uses_its_kind_and_what_its_options_ask_for() {
        let any = || PacketFilter::new(Direction::Both);
        let loss = Uses::kind(FaultKind::NetLoss);
        assert_eq!(parts(&rule(any(), PacketFault::LOSS)), loss);

        let ports = PacketFilter {
            local_ports: Choice::from(vec![80..=80]),
            ..any()
        };
        let of_ports = parts(&rule(ports, PacketFault::LOSS));
        assert_eq!(of_ports, loss.and(Uses::PORTS));

        for of_frames in [
            PacketFilter {
                sizes: Choice::from(vec![40..=60]),
                ..any()
            },
            PacketFilter {
                marks: Choice::from(vec![Mark { value: 1, mask: 1 }]),
                ..any()
            },
        ] {
            let uses = parts(&rule(of_frames, PacketFault::LOSS));
            assert_eq!(uses, loss.and(Uses::FRAMES));
        }

        let local = PacketFilter {
            locals: Choice::from(vec!["10.0.0.0/8".parse().expect("a network")]),
            ..any()
        };
        let of_local = parts(&rule(local, PacketFault::LOSS));
        assert_eq!(of_local, loss.and(Uses::LOCALS));

        let split = PacketFilter {
            unit: Unit::Segment,
            ..any()
        };
        let of_segments = parts(&rule(split, PacketFault::LOSS));
        assert_eq!(of_segments, loss.and(Uses::SEGMENTS));

        let late = PacketFault::Reorder {
            delay: Duration::from_millis(1),
            gap: 1,
            memory: QueueMemory::DEFAULT,
        };
        let reorder = Uses::kind(FaultKind::NetReorder);
        let of_late = parts(&rule(any(), late));
        assert_eq!(of_late, reorder.and(Uses::DETOURS).and(Uses::QUEUES));

        let by_flow = Rule {
            per: Per::Flow,
            ..rule(any(), PacketFault::LOSS)
        };
        assert_eq!(parts(&by_flow), loss.and(Uses::FLOWS));

        let errno = Fault::Call(Calls::default(), CallFault::Plausible);
        let by_thread = Rule {
            per: Per::Thread,
            fault: errno,
            ..rule(any(), PacketFault::LOSS)
        };
        let plausible = Uses::kind(FaultKind::SysErrno).and(Uses::ERROR_LISTS);
        assert_eq!(parts(&by_thread), plausible.and(Uses::CALLERS));

        let mut of_sockets = Calls::default();
        of_sockets.filter.peers = Some(Box::new(PacketFilter {
            peer_ports: Choice::from(vec![80..=80]),
            ..any()
        }));
        let on_sockets = Rule {
            fault: Fault::Call(of_sockets, CallFault::Plausible),
            ..rule(any(), PacketFault::LOSS)
        };
        let filtered = plausible.and(Uses::CALL_FILTERS).and(Uses::PORTS);
        assert_eq!(parts(&on_sockets), filtered.and(Uses::SOCKETS));

        let mut by_function = Calls::default();
        let function = "save@/srv/app".parse().expect("a function");
        by_function.filter.functions.these.push(function);
        let of_chain = Rule {
            fault: Fault::Call(by_function, CallFault::Plausible),
            ..rule(any(), PacketFault::LOSS)
        };
        let filtered = plausible.and(Uses::CALL_FILTERS);
        assert_eq!(parts(&of_chain), filtered.and(Uses::CHAINS));

        let mut correlated = rule(any(), PacketFault::LOSS);
        correlated.trigger.correlation = 1;
        assert_eq!(parts(&correlated), loss.and(Uses::CORRELATION));
    }
}
