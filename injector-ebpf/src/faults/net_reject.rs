//! `net-reject`: the packet becomes an answer to its sender.

use aya_ebpf::bindings::__sk_buff;
use injector_common::{
    RuleEntry, SiteEntry,
    answer::{self, TCP_LEN},
    faults::{Params, net_reject},
    packet::{Facts, PROTO_TCP},
};

use crate::{
    answer::{
        COMPLETE, Made, REFUSED, SPOILT, cut, make_icmp, segment, start_value, swap_link,
        turn_round, write_segment,
    },
    skb::Skb,
    workspace::Workspace,
};

/// Whether the packet may be answered as the rule says.
#[inline(always)]
pub(crate) fn can(facts: &Facts, params: Params) -> bool {
    let by_reset = net_reject::by_reset(params, facts.proto == PROTO_TCP);
    answer::may_be_answered(facts, by_reset)
}

/// Answers the packet, and returns the verdict on it, [`REFUSED`] or [`SPOILT`].
///
/// A function of its own for the sake of the stack.
#[inline(never)]
pub(crate) fn apply(
    skb: *mut __sk_buff,
    space: &mut Workspace,
    rule: &RuleEntry,
    site: &SiteEntry,
    direction: u32,
) -> i32 {
    let (skb, params) = (&Skb(skb), rule.params);
    let made = if net_reject::by_reset(params, space.facts.proto == PROTO_TCP) {
        reset(skb, space, site.l2_len)
    } else {
        let icmp = net_reject::icmp(params, space.facts.family);
        make_icmp(skb, space, site.l2_len, icmp)
    };
    match made {
        Made::Done => turn_round(skb, direction, site),
        Made::Refused => REFUSED,
        Made::Spoilt => SPOILT,
    }
}

/// Makes the packet a reset that answers it.
#[inline(always)]
fn reset(skb: &Skb, space: &mut Workspace, l2_len: u32) -> Made {
    let (facts, draft) = (&space.facts, &mut space.draft);
    let Some(segment) = segment(skb, facts) else {
        return Made::Refused;
    };
    let refusal = segment.refusal(facts.payload_len(skb.len()));
    let device_sums = start_value(skb.0, facts) != COMPLETE;
    let made = cut(skb, facts, l2_len, TCP_LEN);
    if made != Made::Done {
        return made;
    }
    draft.begin(facts, l2_len);
    draft.turn();
    if write_segment(skb, draft, refusal, device_sums) && swap_link(skb, l2_len) {
        Made::Done
    } else {
        Made::Spoilt
    }
}
