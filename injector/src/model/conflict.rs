//! Rules that cannot both be meant. Pure.
//!
//! Hooks take the first rule that selects an operation, in the order of the
//! experiment. A rule that another one therefore hides would count no hit, and
//! the user would believe in a fault that never happened; so it is refused.

use std::{net::IpAddr, path::Path};

use injector_common::Trigger;

use super::{Cidr, Direction, Fault, LossModel, PacketFault, PacketFilter, Protocol, Rule, Target};
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
                reason: reason.into(),
                allowed: ALLOWED,
            };
            if first.name == second.name {
                return Err(refuse("they have the same name".to_owned()));
            }
            if !overlap_in_time(first, second) {
                continue;
            }
            if let Some(reason) = hides_call(first, second).filter(|_| cover(a, b)) {
                return Err(refuse(reason));
            }
            if let Some(reason) = both_checksums(first, second)
                && (cover(a, b) || cover(b, a))
            {
                return Err(refuse(reason));
            }
            // A lost packet is lost, whichever rule comes first.
            for (loss, other, covered) in [(first, second, (a, b)), (second, first, (b, a))] {
                if let Some(reason) = loses_all(loss, other).filter(|_| cover(covered.0, covered.1))
                {
                    return Err(refuse(reason));
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

fn unconditional(rule: &Rule) -> bool {
    rule.trigger == Trigger::ALWAYS
}

/// Two failing calls, of which the first leaves nothing to the second.
fn hides_call(first: &Rule, second: &Rule) -> Option<String> {
    let (Fault::SysErrno { calls, errno }, Fault::SysErrno { calls: others, .. }) =
        (&first.fault, &second.fault)
    else {
        return None;
    };
    let common = calls.iter().find(|call| others.contains(call))?;
    unconditional(first).then(|| {
        format!(
            "`{}` fails every {} of the same target with {}, so `{}` can never fail it",
            first.name, common.name, errno.name, second.name
        )
    })
}

/// Two certain corruptions of the same packets, one noticed and one not.
fn both_checksums(first: &Rule, second: &Rule) -> Option<String> {
    let (
        Fault::Packet(filter, PacketFault::Corrupt { checksum }),
        Fault::Packet(
            other,
            PacketFault::Corrupt {
                checksum: other_checksum,
            },
        ),
    ) = (&first.fault, &second.fault)
    else {
        return None;
    };
    let contradict = checksum != other_checksum
        && unconditional(first)
        && unconditional(second)
        && filters_overlap(filter, other);
    contradict.then(|| "the same packets cannot carry a valid and a broken checksum".to_owned())
}

/// A loss that leaves no packet to another rule.
fn loses_all(loss: &Rule, other: &Rule) -> Option<String> {
    let Fault::Packet(
        filter,
        PacketFault::Loss {
            model: LossModel::Trigger,
            ..
        },
    ) = &loss.fault
    else {
        return None;
    };
    let other_filter = other.fault.filter()?;
    (unconditional(loss) && filter_covers(filter, other_filter)).then(|| {
        format!(
            "`{}` loses every packet that `{}` could act on",
            loss.name, other.name
        )
    })
}

/// Whether every packet that `inner` matches is matched by `outer` too.
#[must_use]
pub fn filter_covers(outer: &PacketFilter, inner: &PacketFilter) -> bool {
    (outer.direction == Direction::Both || outer.direction == inner.direction)
        && (outer.protocol == Protocol::Any || outer.protocol == inner.protocol)
        && covers(outer.peer.as_ref(), inner.peer.as_ref(), cidr_covers)
        && covers(
            outer.peer_ports.as_ref(),
            inner.peer_ports.as_ref(),
            range_covers,
        )
        && covers(
            outer.local_ports.as_ref(),
            inner.local_ports.as_ref(),
            range_covers,
        )
        && covers(
            outer.interface.as_ref(),
            inner.interface.as_ref(),
            |a, b| a == b,
        )
}

/// `None` stands for any value.
fn covers<T>(outer: Option<&T>, inner: Option<&T>, covers: impl Fn(&T, &T) -> bool) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => covers(outer, inner),
    }
}

/// Whether some packet can match both.
#[must_use]
pub fn filters_overlap(a: &PacketFilter, b: &PacketFilter) -> bool {
    let ways = a.direction == b.direction
        || a.direction == Direction::Both
        || b.direction == Direction::Both;
    let protocols =
        a.protocol == b.protocol || a.protocol == Protocol::Any || b.protocol == Protocol::Any;
    ways && protocols
        && overlap(a.peer.as_ref(), b.peer.as_ref(), |a, b| {
            cidr_covers(a, b) || cidr_covers(b, a)
        })
        && overlap(a.peer_ports.as_ref(), b.peer_ports.as_ref(), ranges_overlap)
        && overlap(
            a.local_ports.as_ref(),
            b.local_ports.as_ref(),
            ranges_overlap,
        )
        && overlap(a.interface.as_ref(), b.interface.as_ref(), |a, b| a == b)
}

fn overlap<T>(a: Option<&T>, b: Option<&T>, overlap: impl Fn(&T, &T) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => overlap(a, b),
        (None, _) | (_, None) => true,
    }
}

type Ports = std::ops::RangeInclusive<u16>;

fn range_covers(outer: &Ports, inner: &Ports) -> bool {
    outer.start() <= inner.start() && inner.end() <= outer.end()
}

fn ranges_overlap(a: &Ports, b: &Ports) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

fn cidr_covers(outer: &Cidr, inner: &Cidr) -> bool {
    let prefix = u32::from(outer.prefix);
    outer.prefix <= inner.prefix
        && match (outer.address, inner.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= prefix,
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= prefix,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
}

#[cfg(test)]
#[path = "conflict_tests.rs"]
mod tests;
