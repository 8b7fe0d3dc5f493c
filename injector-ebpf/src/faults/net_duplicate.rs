//! `net-duplicate`: a copy of the packet goes the same way.

use aya_ebpf::{bindings::BPF_F_INGRESS, helpers::generated::bpf_clone_redirect};
use injector_common::{faults::net_duplicate::MAX_COPIES, filter::EGRESS};

use crate::{
    faults::net_delay::{JUDGED, JUDGED_AND_NOTED, JUDGED_TWICE, mark, was_judged},
    skb::Skb,
};

/// Sends copies of the packet on its way, ahead of it. Whether all were sent.
///
/// Each comes back to this hook, which knows it by its mark.
#[inline(always)]
pub(crate) fn apply(skb: &Skb, direction: u32, copies: u32, loopback: bool) -> bool {
    if direction == EGRESS {
        return send(skb, 0, JUDGED, copies);
    }
    if loopback {
        // One that is sent up the stack there has lost its route, and is taken
        // for a forgery of a local address. One that is sent around keeps it.
        return send(skb, 0, JUDGED_TWICE, copies);
    }
    send(skb, u64::from(BPF_F_INGRESS), JUDGED, copies)
}

/// The same for a packet in which the time is noted when it is due.
#[inline(always)]
pub(crate) fn apply_noted(skb: &Skb, copies: u32) -> bool {
    send(skb, 0, JUDGED_AND_NOTED, copies)
}

#[inline(always)]
fn send(skb: &Skb, flags: u64, word: u32, copies: u32) -> bool {
    let mut sent = true;
    mark(skb, word);
    for copy in 0..MAX_COPIES {
        if copy >= copies {
            break;
        }
        // SAFETY: the context comes from the kernel.
        sent &= unsafe { bpf_clone_redirect(skb.0, skb.ifindex(), flags) } == 0;
    }
    was_judged(skb);
    if word == JUDGED_TWICE {
        was_judged(skb);
    }
    sent
}
