//! Kinds that have a say in which packets are selected.

use injector_common::{
    Trigger,
    faults::net_loss::{CERTAIN, Gilbert},
    trigger::THRESHOLD_ALWAYS,
};

use crate::{
    error::SpecError,
    model::{LossModel, PacketFault},
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
        PacketFault::Loss { model, .. } => settle_loss(model, trigger, has_percent),
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
        PacketFault::Delay(_)
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

fn settle_loss(
    model: &mut LossModel,
    trigger: &mut Trigger,
    has_percent: bool,
) -> Result<(), SpecError> {
    match *model {
        LossModel::Trigger => Ok(()),
        LossModel::Gilbert(_) | LossModel::Markov(_) if has_percent => Err(SpecError::new(
            "percent",
            "is given together with a model of loss, which has a share of its own",
            "no percent beside burst or markov",
        )),
        LossModel::Gilbert(_) | LossModel::Markov(_) => Ok(()),
        LossModel::Correlated { correlation } => {
            if trigger.threshold == THRESHOLD_ALWAYS {
                return Err(SpecError::new(
                    "correlation",
                    "where every packet is lost, nothing is correlated",
                    "a percent below 100 beside it",
                ));
            }
            *model = LossModel::Gilbert(correlated(trigger.threshold, correlation));
            trigger.threshold = THRESHOLD_ALWAYS;
            Ok(())
        }
    }
}

/// A link on which this share of packets is lost, out of 2^32, and neighbouring
/// losses have this correlation, out of 2^31.
///
/// netem mixes each packet's random number with the last one's, which changes
/// the rate that was asked for. A chain whose states are "lost" and "not lost"
/// has both exactly.
fn correlated(threshold: u64, correlation: u32) -> Gilbert {
    let certain = u64::from(CERTAIN);
    // Numbers below 2^31 whose product has 62 bits.
    let scaled = |share: u64, by: u64| u32::try_from((share * by) >> 31).unwrap_or(CERTAIN);
    let lost = threshold / 2;
    let fresh = certain - u64::from(correlation).min(certain);
    Gilbert {
        p: scaled(lost, fresh).max(1),
        r: scaled(certain - lost, fresh).max(1),
        bad: CERTAIN,
        good: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_keeps_the_rate() {
        // 20 % lost, correlated by half.
        let Gilbert { p, r, .. } = correlated(THRESHOLD_ALWAYS / 5, CERTAIN / 2);
        let (p, r) = (
            f64::from(p) / f64::from(CERTAIN),
            f64::from(r) / f64::from(CERTAIN),
        );
        assert!((p / (p + r) - 0.2).abs() < 1e-6, "{p} {r}");
        assert!((1.0 - p - r - 0.5).abs() < 1e-6, "{p} {r}");
    }
}
