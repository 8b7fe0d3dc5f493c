//! The clocks that the command is started with.

use nix::time::{ClockId, clock_gettime};

use crate::{
    error::{Error, SpecError, Unsupported},
    kernel::timens::{self, ClockError, Offsets},
    model::{ClockShift, Experiment, Rule},
    spec::{clock, duration},
};

/// The clocks that its rules give the command, if any does.
pub(super) fn of(experiment: &Experiment) -> Option<Offsets> {
    let shifts = shifts(experiment);
    (!shifts.is_empty()).then(|| {
        let sum = |of: usize| {
            let of = shifts.iter().filter(|(.., shift)| shift.clocks.which()[of]);
            of.map(|(.., shift)| shift.by_ns).sum()
        };
        Offsets {
            monotonic_ns: sum(0),
            boottime_ns: sum(1),
        }
    })
}

/// Refuses clocks that cannot be had, which the kernel tells.
pub(super) fn check(experiment: &Experiment) -> Result<(), Error> {
    for (number, rule, shift) in shifts(experiment) {
        let [monotonic, boottime] = shift.clocks.which();
        let offsets = Offsets {
            monotonic_ns: if monotonic { shift.by_ns } else { 0 },
            boottime_ns: if boottime { shift.by_ns } else { 0 },
        };
        match timens::try_out(offsets) {
            Ok(()) => {}
            Err(ClockError::Range) => {
                let error = out_of_range(shift);
                return Err(error.below(&format!("rules[{number}]")).into());
            }
            Err(error) => {
                return Err(Unsupported {
                    what: format!("rule {} ({})", rule.name, rule.fault.kind().name()).into(),
                    needs: "a time namespace (Linux 5.6)".into(),
                    found: error.to_string().into(),
                }
                .into());
            }
        }
    }
    Ok(())
}

/// The rules that shift a clock, with their numbers.
fn shifts(experiment: &Experiment) -> Vec<(usize, &Rule, ClockShift)> {
    let rules = experiment.rules.iter().enumerate();
    rules
        .filter_map(|(number, rule)| Some((number, rule, rule.fault.resource()?.clock()?)))
        .collect()
}

fn out_of_range(shift: ClockShift) -> SpecError {
    let now = |clock| {
        let now = clock_gettime(clock).map(std::time::Duration::from);
        let whole = now.map(|now| std::time::Duration::from_secs(now.as_secs()));
        duration::format(whole.unwrap_or_default())
    };
    SpecError::new(
        "by",
        format!(
            "{} would take a clock below 0, or beyond 146 years",
            clock::format(shift.by_ns)
        ),
        format!(
            "as much as clocks allow: now CLOCK_MONOTONIC is {}, CLOCK_BOOTTIME {}",
            now(ClockId::CLOCK_MONOTONIC),
            now(ClockId::CLOCK_BOOTTIME)
        ),
    )
}
