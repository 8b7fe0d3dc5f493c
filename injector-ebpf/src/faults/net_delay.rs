//! `net-delay`: the packet takes a detour through a device of ours, whose
//! queueing discipline holds it until it is due.
//!
//! What takes the detour is a clone that belongs to no socket, as a packet on
//! a wire does; a packet still owned would count against its sender's small
//! queue and stall TCP.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::generated::{bpf_clone_redirect, bpf_get_hash_recalc, bpf_ktime_get_ns},
};
use injector_common::{faults::net_delay, filter::EGRESS};

use crate::{
    maps::FLOWS,
    skb::{Skb, vanish},
};

/// Slots of the packet's control buffer. fq keeps its own data in the first
/// four from the moment that it queues the packet.
const CB_MAGIC: usize = 0;
const CB_DUE_LOW: usize = 1;
const CB_DUE_HIGH: usize = 2;
const CB_MAGIC_TOO: usize = 3;
/// Where the packet goes on; the one slot that survives the queue.
pub(crate) const CB_ONWARD: usize = 4;

/// Two words that mark a control buffer as filled in here.
const MAGIC: u32 = 0x696e_6a64;
const MAGIC_TOO: u32 = 0x7565_5f61;

/// Sends the packet through `hop`, to leave it at `due` (`CLOCK_MONOTONIC`).
/// `None` when the kernel refuses; the packet then goes on at once.
#[inline(always)]
pub(crate) fn apply(skb: &Skb, hop: u32, due: u64) -> Option<i32> {
    if hop == 0 {
        return None;
    }
    note(skb, due);
    // SAFETY: the context comes from the kernel.
    if unsafe { bpf_clone_redirect(skb.0, hop, 0) } != 0 {
        return None;
    }
    Some(vanish())
}

/// Notes in the packet when it is due.
#[inline(always)]
pub(crate) fn note(skb: &Skb, due: u64) {
    let cb = skb.cb();
    // SAFETY: context fields that a program may write.
    unsafe {
        (*cb)[CB_MAGIC] = MAGIC;
        (*cb)[CB_DUE_LOW] = due as u32;
        (*cb)[CB_DUE_HIGH] = (due >> 32) as u32;
        (*cb)[CB_MAGIC_TOO] = MAGIC_TOO;
        (*cb)[CB_ONWARD] = skb.ifindex();
    }
}

/// When the packet is due, if [`note`] was called on it; the note is spent.
#[inline(always)]
pub(crate) fn take_note(skb: &Skb) -> Option<u64> {
    let cb = skb.cb();
    // SAFETY: context fields.
    unsafe {
        if (*cb)[CB_MAGIC] != MAGIC || (*cb)[CB_MAGIC_TOO] != MAGIC_TOO {
            return None;
        }
        (*cb)[CB_MAGIC] = 0;
        Some(u64::from((*cb)[CB_DUE_LOW]) | (u64::from((*cb)[CB_DUE_HIGH]) << 32))
    }
}

/// When a packet that waits `delay_ns` is due, without overtaking the last one
/// of its flow.
#[inline(always)]
pub(crate) fn due(skb: &Skb, direction: u32, delay_ns: u64) -> u64 {
    // fq compares with CLOCK_MONOTONIC.
    // SAFETY: reads a clock.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the context comes from the kernel.
    let hash = unsafe { bpf_get_hash_recalc(skb.0) };
    let way = if direction == EGRESS { 0 } else { 1 << 63 };
    let flow = u64::from(hash) | (u64::from(skb.ifindex()) << 32) | way;
    if let Some(last) = FLOWS.get_ptr_mut(flow) {
        // SAFETY: an aligned u64 of a map value. Two CPUs that send packets of
        // one flow at the same time have no order between them to keep.
        unsafe {
            let due = net_delay::departure_ns(now, delay_ns, *last);
            *last = due;
            due
        }
    } else {
        let due = now + delay_ns;
        // A full table costs the order of one flow, not the delay.
        let _ = FLOWS.insert(flow, due, u64::from(BPF_ANY));
        due
    }
}
