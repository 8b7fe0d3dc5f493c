//! Packets that a rule wants answered.

use injector_common::{FaultKind, RuleIndex, SiteEntry, filter::EGRESS, uses::Uses};

use super::passing::Passing;
use crate::{
    answer,
    decide::live,
    faults::{dns, net_loss, net_reject, net_reset},
    maps::{RULES, in_use, is},
};

/// Answers the packet as the rule says that selected it, and counts that.
#[inline(always)]
pub(super) fn apply(outcome: &mut Passing, site: &SiteEntry) -> Option<i32> {
    let (skb, direction) = (outcome.skb, outcome.direction);
    let (culprit, now) = (outcome.culprit, outcome.now);
    let rule = RULES.get(culprit)?.rule();
    let space = outcome.space();
    let verdict = if is(rule.kind, FaultKind::NetReject) {
        net_reject::apply(skb, space, rule, site, direction)
    } else if direction == EGRESS && is(rule.kind, FaultKind::Dns) {
        dns::apply(skb, space, rule, site, direction)
    } else if in_use(Uses::kind(FaultKind::NetReset)) {
        net_reset::apply(skb, space, rule, site, direction)
    } else {
        answer::REFUSED
    };
    if let Some(rule) = live(rule, culprit, now) {
        outcome.done(&rule, RuleIndex(culprit).mask(), verdict > answer::REFUSED);
    }
    match verdict {
        answer::REFUSED => None,
        answer::SPOILT => Some(net_loss::apply(false)),
        verdict => Some(verdict),
    }
}
