//! `net-loss`: the packet vanishes.

use aya_ebpf::bindings::TC_ACT_SHOT;
use injector_common::faults::{Params, net_loss};

use crate::{maps::chain, skb::vanish};

/// The verdict that loses the packet.
#[inline(always)]
pub(crate) fn apply(told: bool) -> i32 {
    if told {
        // The sender's stack learns of it, as of a full queue.
        TC_ACT_SHOT as i32
    } else {
        vanish()
    }
}

/// Whether the rule's model, if it has one, loses the packet of this draw.
///
/// Two CPUs may step the chain at the same time; one of the steps is then lost,
/// and the chain goes on from the other.
#[inline(always)]
pub(crate) fn selects(params: Params, index: u32, direction: u32, draw: u64) -> bool {
    if !net_loss::has_memory(params) {
        return true;
    }
    let Some(chain) = chain(index, direction) else {
        return false;
    };
    // SAFETY: an aligned u64 of a map value.
    unsafe {
        let (next, lost) = net_loss::step(params, chain.read_volatile(), draw);
        chain.write_volatile(next);
        lost
    }
}
