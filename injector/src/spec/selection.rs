//! Kinds that have a say in which packets are selected.

use injector_common::{Trigger, trigger::THRESHOLD_ALWAYS};

use crate::{
    error::SpecError,
    model::{LossModel, PacketFault},
    spec::loss::Share,
};

/// Brings a kind's own selection and the rule's trigger together.
///
/// # Errors
///
/// Where both want to select.
pub(super) fn settle(
    fault: &mut PacketFault,
    trigger: &mut Trigger,
    has_percent: bool,
    has_when: bool,
) -> Result<(), SpecError> {
    match fault {
        PacketFault::Loss {
            model: LossModel::Gilbert(_) | LossModel::Markov(_),
            ..
        } if has_percent => Err(SpecError::new(
            "percent",
            "is given together with a model of loss, which has a share of its own",
            "no percent beside burst or markov",
        )),
        PacketFault::Reorder { gap, .. } if *gap > 1 => {
            if has_when {
                return Err(SpecError::new(
                    "gap",
                    "is given together with when",
                    "one of the two: gap or when",
                ));
            }
            (trigger.first, trigger.step) = (*gap, *gap);
            Ok(())
        }
        PacketFault::Reorder { .. } if !can_overtake(trigger) => {
            let (field, problem) = if has_when {
                ("when", "has no packet go ahead of one that waits")
            } else if has_percent {
                ("percent", "has every packet go ahead, so that none waits")
            } else {
                (
                    "percent",
                    "is not given, and so every packet would go ahead and none wait",
                )
            };
            let allowed = "a percent below 100, a gap of at least 2, or a when that leaves out a packet \
                           before one that goes ahead, such as 2+2";
            Err(SpecError::new(field, problem, allowed))
        }
        PacketFault::Rate(_) if has_percent || has_when || trigger.times != 0 => {
            Err(SpecError::new(
                "rate",
                "a link takes all packets that match, and cannot leave some out",
                "no percent, when or times",
            ))
        }
        PacketFault::Partition if has_percent || has_when || trigger.times != 0 => {
            let field = if has_percent {
                "percent"
            } else if has_when {
                "when"
            } else {
                "times"
            };
            Err(SpecError::new(
                field,
                "leaves some packets out, and a partition lets none through",
                "none of percent, when and times; or the kind net-loss",
            ))
        }
        PacketFault::Loss { .. }
        | PacketFault::Delay(_)
        | PacketFault::Dns(_)
        | PacketFault::Corrupt(_)
        | PacketFault::Duplicate { .. }
        | PacketFault::Reorder { .. }
        | PacketFault::Rate(_)
        | PacketFault::Partition
        | PacketFault::Reject { .. }
        | PacketFault::Reset { .. } => Ok(()),
    }
}

/// Whether a packet that is selected can come behind one that is not.
const fn can_overtake(trigger: &Trigger) -> bool {
    let Trigger {
        threshold,
        first,
        last,
        step,
        times,
        correlation: _,
    } = *trigger;
    let second = first.saturating_add(step);
    threshold != THRESHOLD_ALWAYS || first > 1 || (step > 1 && second <= last && times != 1)
}

/// Correlates a trigger's draws.
///
/// # Errors
///
/// Where it draws for nothing.
pub(super) fn correlate(trigger: &mut Trigger, Share(correlation): Share) -> Result<(), SpecError> {
    if correlation != 0 && trigger.threshold == THRESHOLD_ALWAYS {
        return Err(SpecError::new(
            "correlation",
            "where every packet is hit, nothing is correlated",
            "a percent below 100 beside it",
        ));
    }
    // From 31 bits to 32.
    trigger.correlation = u64::from(correlation) * 2;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::spec::{
        build::{Entropy, build},
        document,
    };

    #[test]
    fn a_packet_goes_ahead_of_one_that_waits() {
        for (options, field) in [
            ("", Some("percent")),
            ("percent: 100", Some("percent")),
            ("gap: 1", Some("percent")),
            ("times: 5", Some("percent")),
            ("gap: 1, percent: 100", Some("percent")),
            ("when: 1", Some("when")),
            ("when: 1+", Some("when")),
            ("when: 1..9", Some("when")),
            ("when: 1..2+2", Some("when")),
            ("when: 1+2, times: 1", Some("when")),
            ("percent: 99.9", None),
            ("gap: 2", None),
            ("gap: 2, percent: 100", None),
            ("when: 2", None),
            ("when: 2+", None),
            ("when: 2+, times: 1", None),
            ("when: 1..3+2", None),
            ("when: 1+2, times: 2", None),
        ] {
            let comma = if options.is_empty() { "" } else { ", " };
            let rule = format!("{{kind: net-reorder, target: pid:7, delay: 1ms{comma}{options}}}");
            let text = format!("version: 1\nfor: 1s\nrules: [{rule}]");
            let input = document::parse("x.yaml".as_ref(), text.as_bytes()).expect(options);
            let found = build(input, Entropy { id: 1, seed: 1 }).err();
            let found = found.map(|error| error.to_string());
            let expected = field.map(|field| format!("rules[0].{field}: "));
            let fits = match (&found, expected) {
                (Some(found), Some(expected)) => found.contains(&expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(fits, "{options}: {found:?}");
        }
    }
}
