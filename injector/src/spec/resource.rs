//! What a target is given: processors, bytes, disks; and which rules may do without a trigger.

use std::{path::PathBuf, str::FromStr, time::Duration};

use injector_common::Trigger;
use nix::sys::signal::Signal;

use crate::{
    error::SpecError,
    model::{Device, Fault, ResourceFault, Rule, Signals, Target},
    spec::{
        decimal,
        duration::{self, Span},
        rate,
        text::{Text, ValueError, is_digits},
    },
};

/// Processor time, in millionths of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus(pub u64);

const CPUS_ALLOWED: &str = "processors, from 0.01 to 1024, such as 0.5";

impl FromStr for Cpus {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what| ValueError::new(text, what, CPUS_ALLOWED);
        match decimal::times(text, 1_000_000) {
            Ok(millionths @ 10_000..=1_024_000_000) => Ok(Self(millionths)),
            Ok(_) => Err(refuse("is out of range")),
            Err(_) => Err(refuse("is not a number of processors")),
        }
    }
}

/// A number of bytes, also per second; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount(pub u64);

const AMOUNT_ALLOWED: &str = "a number of bytes, at least 1, or with a unit of tc(8) out of b, kb, mb, gb \
     (times 1024; kib, mib, gib mean the same), such as 64mib";

impl FromStr for Amount {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match rate::bytes(text) {
            Some(bytes @ 1..) => Ok(Self(bytes)),
            Some(0) => Err(ValueError::new(text, "is nothing", AMOUNT_ALLOWED)),
            None => Err(ValueError::new(
                text,
                "is not a number of bytes",
                AMOUNT_ALLOWED,
            )),
        }
    }
}

impl FromStr for Device {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let allowed = "a whole disk, as a device (/dev/sda) or by its numbers (8:0)";
        if text.starts_with('/') {
            return Ok(Self::Node(PathBuf::from(text)));
        }
        let numbers = text
            .split_once(':')
            .filter(|(major, minor)| is_digits(major) && is_digits(minor));
        let numbers =
            numbers.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        numbers
            .map(|(major, minor)| Self::Numbers { major, minor })
            .ok_or_else(|| ValueError::new(text, "is not a device", allowed))
    }
}

/// A signal, by name or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalName(pub Signal);

impl FromStr for SignalName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let allowed =
            "the name of a signal as in signal(7), such as SIGTERM or TERM, or its number, 1 to 31";
        let by_number = || Signal::try_from(text.parse::<i32>().ok()?).ok();
        let by_name = |name: &str| name.parse::<Signal>().ok();
        let found = if is_digits(text) {
            by_number()
        } else {
            by_name(text).or_else(|| by_name(&format!("SIG{text}")))
        };
        found
            .map(Self)
            .ok_or_else(|| ValueError::new(text, "is not a signal", allowed))
    }
}

/// How far apart rounds of signals are, if there are several.
///
/// # Errors
///
/// When they would be too close.
pub fn every(given: Option<Text<Span>>) -> Result<Option<Duration>, SpecError> {
    let least = Duration::from_millis(10);
    match given {
        Some(Text(Span(every))) if every < least => {
            let problem = format!("is {}", duration::format(every));
            Err(SpecError::new("every", problem, "at least 10ms"))
        }
        Some(Text(Span(every))) => Ok(Some(every)),
        None => Ok(None),
    }
}

/// Refuses a trigger for a fault that does not happen to one operation after the other.
///
/// # Errors
///
/// With the option that makes no sense.
pub(super) fn check_trigger(
    fault: &Fault,
    trigger: &Trigger,
    has_percent: bool,
    has_when: bool,
) -> Result<(), SpecError> {
    // Signals are to one process after the other.
    if fault.resource().is_none_or(ResourceFault::is_for_processes) {
        return Ok(());
    }
    let given = [
        ("percent", has_percent),
        ("when", has_when),
        ("times", trigger.times != 0),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((field, _)) => Err(SpecError::new(
            field,
            format!(
                "is not for {}, which holds for all that the target does",
                fault.kind().name()
            ),
            "none of percent, when and times",
        )),
    }
}

/// Refuses targets that have no cgroup of their own, or that could not begin.
///
/// # Errors
///
/// With what to name instead.
pub(super) fn check_targets(rule: &Rule) -> Result<(), SpecError> {
    let Some(fault) = rule.fault.resource() else {
        return Ok(());
    };
    let kind = fault.kind().name();
    for target in &rule.targets {
        match target {
            Target::Cgroup(_) | Target::Process(_) if fault.clock().is_some() => {
                return Err(SpecError::new(
                    "target",
                    format!(
                        "{target} runs already, and the kernel lets no process change the clocks that it reads"
                    ),
                    "a command to start (`-- CMD ARGS…`)",
                ));
            }
            Target::Process(pid) if !fault.is_for_processes() => {
                return Err(SpecError::new(
                    "target",
                    format!("pid:{pid} has no cgroup to itself, which {kind} needs"),
                    format!(
                        "cgroup:PATH, such as the one that /proc/{pid}/cgroup names with all in it, or \
                         a command to start (`-- CMD ARGS…`)"
                    ),
                ));
            }
            Target::Command if *fault == ResourceFault::Freeze && rule.start.is_zero() => {
                return Err(SpecError::new(
                    "target",
                    "a command that is frozen from the start could not even begin",
                    "cgroup:PATH, or in a file a rule that has a start",
                ));
            }
            Target::Command if is_once(fault) && rule.start.is_zero() => {
                return Err(SpecError::new(
                    "every",
                    "is missing: a command is not there yet when the rule starts",
                    "an every, or in a file a rule that has a start",
                ));
            }
            Target::Cgroup(_) | Target::Command | Target::Process(_) => {}
        }
    }
    Ok(())
}

/// Refuses a time other than the experiment's for what a command has from its start to its end.
///
/// # Errors
///
/// With the field that is too much.
pub(super) fn check_time(rule: &Rule, experiment: Duration) -> Result<(), SpecError> {
    if rule
        .fault
        .resource()
        .and_then(ResourceFault::clock)
        .is_none()
    {
        return Ok(());
    }
    let kind = rule.fault.kind().name();
    let field = match () {
        () if !rule.start.is_zero() => "start",
        () if rule.duration != experiment => "for",
        () => return Ok(()),
    };
    let problem = format!("is not for {kind}: a process has its clocks from its start to its end");
    Err(SpecError::new(
        field,
        problem,
        "the experiment's own time, without start and for",
    ))
}

/// Whether it happens at the start and never again.
const fn is_once(fault: &ResourceFault) -> bool {
    matches!(fault, ResourceFault::Signal(Signals { every: None, .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_exact() {
        assert_eq!("0.5".parse(), Ok(Cpus(500_000)));
        assert_eq!("2".parse(), Ok(Cpus(2_000_000)));
        for bad in ["", "0", "0.009", "1025", "-1", "half", "1e3", "0.0000001"] {
            assert!(bad.parse::<Cpus>().is_err(), "{bad}");
        }
        assert_eq!("64mib".parse(), Ok(Amount(64 << 20)));
        assert_eq!("1".parse(), Ok(Amount(1)));
        for bad in ["", "0", "-1", "1.5b", "64mibi"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["SIGTERM", "TERM", "15"] {
            assert_eq!(text.parse(), Ok(SignalName(Signal::SIGTERM)), "{text}");
        }
        for bad in ["", "0", "-1", "64", "SIGNONE", "+15", "sigterm "] {
            assert!(bad.parse::<SignalName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_have_two_forms() {
        assert_eq!(
            "8:16".parse(),
            Ok(Device::Numbers {
                major: 8,
                minor: 16
            })
        );
        assert_eq!("/dev/vda".parse(), Ok(Device::Node("/dev/vda".into())));
        for bad in ["", "vda", "8", "8:", ":0", "8:0:1", "+8:0"] {
            assert!(bad.parse::<Device>().is_err(), "{bad}");
        }
    }
}
