//! Super-packets of segmentation offload, split into the packets that they are on the
//! wire, so that rules are asked for each of these.
//!
//! A program cannot split a packet. The kernel does, where it hands a super-packet to a
//! device without offload; so the packet passes a pair of ours before it is judged. It is
//! the packet itself and no copy, still with its socket, by which its owner is found when
//! it comes back. All packets that such rules are aimed at go that way, so that small
//! ones do not overtake the segments of a larger one.

use aya_ebpf::helpers::generated::bpf_redirect;
use injector_common::{SiteEntry, filter::EGRESS};

use crate::{
    faults::net_delay,
    skb::{Skb, Stamp},
};

/// Sends the packet through the pair that begins at `device`: the verdict on it.
#[inline(always)]
pub(crate) fn split(skb: &Skb, direction: u32, device: u32) -> i32 {
    net_delay::note_onward(skb, direction);
    skb.keep_priority();
    // SAFETY: the helper only notes the index.
    unsafe { bpf_redirect(device, 0) as i32 }
}

/// Whether the packet has been split where this interface's packets are. The stamp stays
/// for the agents behind this one.
#[inline(always)]
pub(crate) fn is_split(skb: &Skb, site: &SiteEntry, direction: u32) -> bool {
    if direction == EGRESS {
        // Its stamp may be lost on the way.
        skb.arrived_at() == site.split_return
    } else {
        skb.stamp() == Stamp::SPLIT
    }
}
