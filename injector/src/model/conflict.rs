//! Rules that cannot both be meant. Pure.
//!
//! Hooks take the first rule that selects an operation, in the order of the
//! experiment. A rule that another one therefore hides would count no hit, and
//! the user would believe in a fault that never happened; so it is refused.

use std::path::Path;

use injector_common::Trigger;

use super::{
    After, Answer, CallFault, Fault, LossModel, PacketFault, Rule, Target,
    overlap::{filter_covers, filters_overlap},
};
use crate::error::ConflictError;

const ALLOWED: &str =
    "rules that differ in target, in time or in what they match, or a trigger on the first";

/// Refuses the first pair of rules that contradict each other.
///
/// `cover(a, b)` tells whether a target of rule `a` takes in one of rule `b`;
/// it is passed in because more is known after targets were resolved than
/// before.
///
/// # Errors
///
/// With both rules' names and why they cannot both be meant.
pub fn check(rules: &[Rule], cover: impl Fn(usize, usize) -> bool) -> Result<(), ConflictError> {
    for (b, second) in rules.iter().enumerate() {
        for (a, first) in rules.iter().enumerate().take(b) {
            let refuse = |reason: String| ConflictError {
                place: None,
                first: first.name.clone(),
                second: second.name.clone(),
                number: (b, rules.len()),
                reason: reason.into(),
                allowed: ALLOWED,
            };
            if first.name == second.name {
                return Err(refuse("they have the same name".to_owned()));
            }
            if first.removed || second.removed {
                continue;
            }
            // Packets are split as long as the experiment lasts, for whatever rule.
            if let Some(reason) = units_differ(first, second) {
                return Err(refuse(reason));
            }
            if let Some(reason) = both_checksums(first, second)
                && overlap_in_time(first, second)
                && (cover(a, b) || cover(b, a))
            {
                return Err(refuse(reason));
            }
            if let Some(reason) = same_clock(first, second) {
                return Err(ConflictError {
                    allowed: "one rule for each clock: monotonic, boottime",
                    ..refuse(reason)
                });
            }
            if let Some(reason) = same_file(first, second)
                && overlap_in_time(first, second)
                && cover(a, b)
                && cover(b, a)
            {
                return Err(refuse(reason));
            }
            // A rule that is in force for longer has hits before or after.
            let covers = |outer: usize, inner: usize| {
                outlasts(&rules[outer], &rules[inner]) && cover(outer, inner)
            };
            for hides in [hides_call, hides_connect, hides_answer, hides_function] {
                if let Some(reason) = hides(first, second).filter(|_| covers(a, b)) {
                    return Err(refuse(reason));
                }
            }
            // A call that fails at its entry gets no further, and a lost packet is
            // lost, whichever rule comes first.
            for hides in [fails_connect, loses_all] {
                for (outer, inner) in [(a, b), (b, a)] {
                    let reason = hides(&rules[outer], &rules[inner]);
                    if let Some(reason) = reason.filter(|_| covers(outer, inner)) {
                        return Err(refuse(reason));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Whether a target of `a` takes in one of `b`, as far as their names tell.
#[must_use]
pub fn targets_cover(a: &Rule, b: &Rule) -> bool {
    a.targets
        .iter()
        .any(|outer| b.targets.iter().any(|inner| target_covers(outer, inner)))
}

fn target_covers(outer: &Target, inner: &Target) -> bool {
    match (outer, inner) {
        (Target::Cgroup(outer), Target::Cgroup(inner)) => {
            let relative = |path: &'_ Path| -> std::path::PathBuf {
                path.strip_prefix("/")
                    .unwrap_or(path)
                    .components()
                    .collect()
            };
            relative(inner).starts_with(relative(outer))
        }
        (Target::Process(outer), Target::Process(inner)) => outer == inner,
        (Target::Command, Target::Command) => true,
        (Target::Cgroup(_) | Target::Process(_) | Target::Command, _) => false,
    }
}

fn overlap_in_time(a: &Rule, b: &Rule) -> bool {
    a.start < b.start.saturating_add(b.duration) && b.start < a.start.saturating_add(a.duration)
}

/// Whether `a` is in force whenever `b` is.
fn outlasts(a: &Rule, b: &Rule) -> bool {
    a.start <= b.start && a.start.saturating_add(a.duration) >= b.start.saturating_add(b.duration)
}

fn unconditional(rule: &Rule) -> bool {
    rule.trigger == Trigger::ALWAYS && !rule.shadow
}

/// Two rules of which the first has calls come back before the second could.
fn hides_call(first: &Rule, second: &Rule) -> Option<String> {
    let (Fault::Call(calls, fault), Fault::Call(others, other)) = (&first.fault, &second.fault)
    else {
        return None;
    };
    let (result, _) = fault.result_in_words().zip(other.result_in_words())?;
    let wanted = &calls.wanted;
    let common = wanted.iter().find(|call| others.wanted.contains(call))?;
    (unconditional(first) && calls.filter.covers(&others.filter)).then(|| {
        let (one, two, call) = (&first.name, &second.name, common.name);
        match fault {
            CallFault::Return(_) => format!(
                "`{one}` has every {call} of the same target return {result}, so `{two}` can never \
                 hit it"
            ),
            CallFault::Errno(_)
            | CallFault::Plausible
            | CallFault::Signal(_)
            | CallFault::Delay(_) => format!(
                "`{one}` fails every {call} of the same target with {result}, so `{two}` can never \
                 fail it"
            ),
        }
    })
}

/// Two rules on one function, of which the first leaves nothing to the second.
fn hides_function(first: &Rule, second: &Rule) -> Option<String> {
    let (one, other) = (first.fault.function()?, second.fault.function()?);
    (unconditional(first) && one.is_also(other)).then(|| {
        format!(
            "`{}` has every {} of the same target return {}, so `{}` can never hit it",
            first.name, one.name, one.value, second.name
        )
    })
}

/// Two refusals, of which the first leaves nothing to the second.
fn hides_connect(first: &Rule, second: &Rule) -> Option<String> {
    let (Fault::Refuse { filter, errno }, Fault::Refuse { filter: other, .. }) =
        (&first.fault, &second.fault)
    else {
        return None;
    };
    (unconditional(first) && filter_covers(filter, other)).then(|| {
        format!(
            "`{}` refuses every connect that `{}` could, with {}",
            first.name, second.name, errno.name
        )
    })
}

/// A `connect` that is not made, which leaves nothing to a refusal.
fn fails_connect(call: &Rule, refusal: &Rule) -> Option<String> {
    let (Fault::Call(calls, fault), Fault::Refuse { .. }) = (&call.fault, &refusal.fault) else {
        return None;
    };
    fault.result_in_words()?;
    let connects = calls.wanted.iter().any(|call| call.name == "connect");
    (unconditional(call) && connects && calls.filter.is_any()).then(|| {
        format!(
            "`{}` {} every connect before `{}` could",
            call.name,
            if matches!(fault, CallFault::Return(_)) {
                "answers"
            } else {
                "fails"
            },
            refusal.name
        )
    })
}

/// Two certain corruptions of the same packets, one noticed and one not.
fn both_checksums(first: &Rule, second: &Rule) -> Option<String> {
    let (
        Fault::Packet(filter, PacketFault::Corrupt(damage)),
        Fault::Packet(other, PacketFault::Corrupt(other_damage)),
    ) = (&first.fault, &second.fault)
    else {
        return None;
    };
    let contradict = damage.checksum != other_damage.checksum
        && unconditional(first)
        && unconditional(second)
        && filters_overlap(filter, other);
    contradict.then(|| "the same packets cannot carry a valid and a broken checksum".to_owned())
}

/// Two values for one file, which holds one.
fn same_file(first: &Rule, second: &Rule) -> Option<String> {
    let (one, other) = (first.fault.resource()?, second.fault.resource()?);
    let file = one.setting()?.file;
    (file == other.setting()?.file && one.device() == other.device())
        .then(|| format!("both set {file} of the same cgroup"))
}

/// Two shifts of one clock of the command, which has one.
fn same_clock(first: &Rule, second: &Rule) -> Option<String> {
    let clocks = |rule: &Rule| Some(rule.fault.resource()?.clock()?.clocks.which());
    let ([monotonic, boottime], [also_monotonic, also_boottime]) =
        (clocks(first)?, clocks(second)?);
    ((monotonic && also_monotonic) || (boottime && also_boottime))
        .then(|| "both shift one clock of the command".to_owned())
}

/// A loss that leaves no packet to another rule.
fn loses_all(loss: &Rule, other: &Rule) -> Option<String> {
    let Fault::Packet(filter, fault) = &loss.fault else {
        return None;
    };
    let all = match fault {
        PacketFault::Loss { model, .. } => *model == LossModel::Trigger,
        PacketFault::Partition => true,
        PacketFault::Delay(_)
        | PacketFault::Corrupt(_)
        | PacketFault::Duplicate { .. }
        | PacketFault::Reorder { .. }
        | PacketFault::Rate(_)
        | PacketFault::Reject { .. }
        | PacketFault::Reset { .. }
        | PacketFault::Dns(_) => false,
    };
    let Fault::Packet(other_filter, other_fault) = &other.fault else {
        return None;
    };
    // What sockets send is seen first, and is not all that passes an interface.
    let at_one_hook = fault.fails_calls() == other_fault.fails_calls();
    (all && at_one_hook && unconditional(loss) && filter_covers(filter, other_filter)).then(|| {
        format!(
            "`{}` loses every packet that `{}` could act on",
            loss.name, other.name
        )
    })
}

/// A packet that is split for one rule cannot be counted whole by another.
fn units_differ(first: &Rule, second: &Rule) -> Option<String> {
    let unit = |rule: &Rule| match &rule.fault {
        // A query is no super-packet.
        Fault::Packet(_, PacketFault::Dns(_))
        | Fault::Call(..)
        | Fault::Refuse { .. }
        | Fault::Function(_)
        | Fault::Resource(_) => None,
        Fault::Packet(filter, _) => Some(filter.unit),
    };
    let (one, other) = (unit(first)?, unit(second)?);
    (one != other).then(|| {
        "one counts packets and one segments; all rules on packets must have the same unit"
            .to_owned()
    })
}

/// A rejection or a reset that leaves no packet to a later one.
fn hides_answer(first: &Rule, second: &Rule) -> Option<String> {
    let (Fault::Packet(filter, fault), Fault::Packet(other_filter, other)) =
        (&first.fault, &second.fault)
    else {
        return None;
    };
    // A rejection by resets alone leaves what is not TCP, a reset leaves what
    // opens a connection.
    let tcp_alone = other_filter.takes_tcp_alone();
    let hides = match (fault, other) {
        (PacketFault::Reject { by, .. }, PacketFault::Reject { by: later, .. }) => {
            *by != Answer::Reset || tcp_alone || *later == Answer::Reset
        }
        (PacketFault::Reject { .. }, PacketFault::Reset { .. }) => true,
        (PacketFault::Reject { by, .. }, PacketFault::Dns(_)) => *by != Answer::Reset || tcp_alone,
        (PacketFault::Dns(dns), PacketFault::Dns(later)) => dns.hides(later),
        (PacketFault::Reset { after, .. }, PacketFault::Reset { .. }) => *after == After::Nothing,
        _ => false,
    };
    (hides && unconditional(first) && filter_covers(filter, other_filter)).then(|| {
        format!(
            "`{}` answers every packet that `{}` could",
            first.name, second.name
        )
    })
}

#[cfg(test)]
#[path = "conflict_tests.rs"]
mod tests;
