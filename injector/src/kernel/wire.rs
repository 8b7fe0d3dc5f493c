//! From the model to what lies in the maps.

mod calls;
mod dns;
mod filter;

use std::time::Duration;

use injector_common::{
    RuleEntry, RuleIndex, SiteEntry, Trigger,
    abi::per,
    faults::{
        Params, net_corrupt, net_delay, net_duplicate, net_loss, net_partition, net_rate,
        net_refuse, net_reject, net_reorder, net_reset, sys_delay, sys_errno, sys_return,
        sys_signal, user_return,
    },
    filter::PacketFilter as WireFilter,
    random::rule_seed,
    waiting::UNLIMITED,
};

pub(super) use self::calls::{call_filter, error_list};
pub(super) use self::dns::queries;
pub(super) use self::filter::{peer_key, peer_value, peers};
use crate::model::{
    After, Answer, CallFault, CallFilter, Checksum, Damage, Delay, End, ErrorChoice, Experiment,
    Extent, Fault, LossModel, PacketFault, PacketFilter, Per, Region, Rule, Unreachable,
    Visibility,
};
use crate::resolve::services;

/// A rule that is never in force.
pub(super) const BLANK: RuleEntry = RuleEntry {
    start_ns: 0,
    deadline_ns: 0,
    seed: 0,
    queue_memory: UNLIMITED,
    trigger: Trigger::ALWAYS,
    params: [0; 4],
    filter: WireFilter::ANY,
    kind: 0,
    enabled: 0,
    key: 0,
    per: per::RULE,
    shadow: 0,
    _pad: 0,
};

/// The entry of the rule at `index`, for an experiment that starts at boot
/// time `start_ns`. A delay is drawn from the table at `table`, if it needs one.
pub(super) fn entry(
    experiment: &Experiment,
    index: u32,
    rule: &Rule,
    start_ns: u64,
    table: Option<u32>,
    key: u32,
) -> RuleEntry {
    if rule.removed {
        return BLANK;
    }
    let start_ns = start_ns.saturating_add(nanos(rule.start));
    RuleEntry {
        start_ns,
        deadline_ns: start_ns.saturating_add(nanos(rule.duration)),
        seed: rule_seed(experiment.seed, index),
        queue_memory: rule
            .fault
            .queue_memory()
            .map_or(UNLIMITED, |memory| memory.bytes),
        trigger: rule.trigger,
        params: match &rule.fault {
            Fault::Packet(_, fault) => packet_params(fault, table),
            Fault::Call(_, CallFault::Errno(errors)) => {
                let choice = |choice: &ErrorChoice| (choice.errno.value, choice.weight);
                sys_errno::params(&errors.iter().map(choice).collect::<Vec<_>>())
            }
            Fault::Call(_, CallFault::Plausible) => sys_errno::PLAUSIBLE,
            Fault::Call(_, CallFault::Signal(signal)) => {
                sys_signal::params((*signal as i32).unsigned_abs())
            }
            Fault::Call(_, CallFault::Delay(delay)) => {
                sys_delay::params(micros(delay.delay), micros(delay.jitter))
            }
            Fault::Call(_, CallFault::Return(value)) => sys_return::params(*value),
            Fault::Function(function) => user_return::params(function.value.bits),
            Fault::Refuse { errno, .. } => net_refuse::params(errno.value),
            // The guardian's, and no program's.
            Fault::Resource(_) => Params::default(),
        },
        filter: rule
            .fault
            .conditions()
            .map_or(WireFilter::ANY, filter::entry),
        kind: rule.fault.kind() as u32,
        enabled: 1,
        key,
        per: match rule.per {
            Per::Rule => per::RULE,
            Per::Flow => per::FLOW,
            Per::Process => per::PROCESS,
            Per::Thread => per::THREAD,
            Per::Program => per::PROGRAM,
        },
        shadow: u32::from(rule.shadow),
        _pad: 0,
    }
}

fn packet_params(fault: &PacketFault, table: Option<u32>) -> Params {
    match fault {
        PacketFault::Loss { model, visibility } => {
            let params = match *model {
                LossModel::Trigger => net_loss::independent(),
                LossModel::Gilbert(model) => net_loss::gilbert(model),
                LossModel::Markov(model) => net_loss::markov(model),
            };
            match visibility {
                // The hook of a rule says that the call fails.
                Visibility::Silent | Visibility::Call => params,
                Visibility::Local => net_loss::told(params),
            }
        }
        PacketFault::Delay(delay) => delay_params(delay, table),
        PacketFault::Duplicate { copies } => net_duplicate::params(*copies),
        PacketFault::Reorder { delay, .. } => net_reorder::params(nanos(*delay)),
        PacketFault::Rate(link) => net_rate::params(net_rate::Link {
            rate: link.rate,
            burst: link.burst,
            overhead: link.overhead,
            queue_ns: nanos(link.queue),
            per_flow: link.per == Per::Flow,
        }),
        PacketFault::Partition => net_partition::params(),
        PacketFault::Corrupt(damage) => damage_params(*damage),
        PacketFault::Reject { by, code } => net_reject::params(
            match by {
                Answer::Either => net_reject::BY_EITHER,
                Answer::Reset => net_reject::BY_RESET,
                Answer::Icmp => net_reject::BY_ICMP,
            },
            match code {
                Unreachable::Net => net_reject::NET,
                Unreachable::Host => net_reject::HOST,
                Unreachable::Proto => net_reject::PROTO,
                Unreachable::Port => net_reject::PORT,
                Unreachable::NetProhibited => net_reject::NET_PROHIBITED,
                Unreachable::HostProhibited => net_reject::HOST_PROHIBITED,
                Unreachable::Admin => net_reject::ADMIN,
                Unreachable::PolicyFail => net_reject::POLICY_FAIL,
                Unreachable::RejectRoute => net_reject::REJECT_ROUTE,
            },
        ),
        PacketFault::Dns(rule) => dns::params(rule),
        PacketFault::Reset { end, after } => {
            let end = match end {
                End::Local => net_reset::END_LOCAL,
                End::Peer => net_reset::END_PEER,
                End::Both => net_reset::END_BOTH,
            };
            match after {
                After::Nothing => net_reset::params(end, 0, 0),
                After::Bytes(bytes) => net_reset::params(end, *bytes, 0),
                After::Time(time) => net_reset::params(end, 0, nanos(*time)),
            }
        }
    }
}

fn damage_params(damage: Damage) -> Params {
    let checksum = match damage.checksum {
        Checksum::Valid => net_corrupt::CHECKSUM_VALID,
        Checksum::Broken => net_corrupt::CHECKSUM_BROKEN,
    };
    let (count, unit) = match damage.extent {
        Extent::Bits(count) => (count, net_corrupt::UNIT_BITS),
        Extent::Bytes(count) => (count, net_corrupt::UNIT_BYTES),
    };
    let region = match damage.region {
        Region::Payload => net_corrupt::REGION_PAYLOAD,
        Region::Headers => net_corrupt::REGION_HEADERS,
    };
    net_corrupt::params(checksum, count, unit, region)
}

fn delay_params(delay: &Delay, table: Option<u32>) -> Params {
    let mut params = net_delay::params(nanos(delay.delay), nanos(delay.jitter));
    params = net_delay::correlated(params, delay.correlation);
    if let Some(index) = table {
        params = net_delay::from_table(params, index);
    }
    if delay.reorder {
        params = net_delay::overtaking(params);
    }
    params
}

/// Nanoseconds of a duration; 584 years at most.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Microseconds of a duration; 71 minutes at most.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// What the rules in these masks make of an interface, before it is known which devices
/// belong to it.
pub(super) fn site(rules: u64, owner: u64, sends: u64, splits: u64) -> SiteEntry {
    SiteEntry {
        rules,
        owner,
        sends,
        splits,
        ..SiteEntry::default()
    }
}

/// The rules for which conversations have to be remembered.
pub(super) fn by_state(experiment: &Experiment) -> u64 {
    rules_that(experiment, |rule| {
        let filter = rule.fault.filter();
        filter.is_some_and(PacketFilter::follows_conversations)
    })
}

/// The rules that have conditions on calls.
pub(super) fn by_call(experiment: &Experiment) -> u64 {
    calls_that(experiment, |filter| !filter.is_any())
}

/// The rules that leave out services of the host. The guardian leaves them out by itself.
pub(super) fn sparing(experiment: &Experiment) -> u64 {
    rules_that(experiment, |rule| {
        rule.fault.resource().is_none() && services::spares(rule)
    })
}

/// The rules for which it has to be found out where a file lies.
pub(super) fn by_place(experiment: &Experiment) -> u64 {
    calls_that(experiment, |filter| !filter.paths.is_any())
}

/// The rules for which it has to be found out which functions a call came through.
pub(super) fn by_chain(experiment: &Experiment) -> u64 {
    calls_that(experiment, CallFilter::asks_for_chain)
}

fn calls_that(experiment: &Experiment, so: fn(&CallFilter) -> bool) -> u64 {
    rules_that(experiment, |rule| {
        rule.fault.calls().is_some_and(|calls| so(&calls.filter))
    })
}

/// The rules for which queries of DNS have to be read.
pub(super) fn by_query(experiment: &Experiment) -> u64 {
    rules_that(experiment, |rule| rule.fault.queries().is_some())
}

/// Those of the rules that are still there of which this holds, as a mask.
fn rules_that(experiment: &Experiment, so: impl Fn(&Rule) -> bool) -> u64 {
    let rules = (0u32..).zip(&experiment.rules);
    let rules = rules.filter(|(_, rule)| !rule.removed && so(rule));
    rules.fold(0, |mask, (index, _)| mask | RuleIndex(index).mask())
}
