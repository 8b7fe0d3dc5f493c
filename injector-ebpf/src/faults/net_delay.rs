//! `net-delay`: the packet takes a detour through a device of ours, whose
//! queueing discipline holds it until it is due.
//!
//! What takes the detour is a clone that belongs to no socket, as a packet on
//! a wire does; a packet still owned would count against its sender's small
//! queue and stall TCP.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_INGRESS},
    helpers::generated::{bpf_clone_redirect, bpf_get_hash_recalc, bpf_ktime_get_ns, bpf_redirect},
};
use injector_common::{
    faults::net_delay,
    filter::{EGRESS, INGRESS},
};

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
const CB_ONWARD: usize = 4;
/// Bit of that slot: it goes on up the stack, as a packet that arrives. No
/// interface has an index this large.
const UPWARD: u32 = 1 << 31;

/// Two words that mark a control buffer as filled in here.
const MAGIC: u32 = 0x696e_6a64;
const MAGIC_TOO: u32 = 0x7565_5f61;
/// In place of the first: the packet has waited.
const WAITED: u32 = 0x696e_6a77;

/// Sends the packet through `hop`, to leave it at `due` (`CLOCK_MONOTONIC`).
/// `None` when the kernel refuses; the packet then goes on at once.
#[inline(always)]
pub(crate) fn apply(skb: &Skb, direction: u32, hop: u32, due: u64) -> Option<i32> {
    if hop == 0 {
        return None;
    }
    note(skb, direction, due);
    // SAFETY: the context comes from the kernel.
    if unsafe { bpf_clone_redirect(skb.0, hop, 0) } != 0 {
        return None;
    }
    Some(vanish())
}

/// Notes in the packet when it is due.
#[inline(always)]
pub(crate) fn note(skb: &Skb, direction: u32, due: u64) {
    let cb = skb.cb();
    // SAFETY: context fields that a program may write.
    unsafe {
        (*cb)[CB_MAGIC] = MAGIC;
        (*cb)[CB_DUE_LOW] = due as u32;
        (*cb)[CB_DUE_HIGH] = (due >> 32) as u32;
        (*cb)[CB_MAGIC_TOO] = MAGIC_TOO;
        (*cb)[CB_ONWARD] = skb.ifindex() | if direction == INGRESS { UPWARD } else { 0 };
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

/// Sends a packet that has waited on to its interface.
#[inline(always)]
pub(crate) fn go_on(skb: &Skb) -> i32 {
    let cb = skb.cb();
    // SAFETY: context fields, and a helper that only notes the index.
    unsafe {
        let onward = (*cb)[CB_ONWARD];
        (*cb)[CB_MAGIC] = WAITED;
        (*cb)[CB_MAGIC_TOO] = MAGIC_TOO;
        let flags = if onward & UPWARD != 0 {
            u64::from(BPF_F_INGRESS)
        } else {
            0
        };
        bpf_redirect(onward & !UPWARD, flags) as i32
    }
}

/// Whether an arriving packet has waited already; the mark is spent.
#[inline(always)]
pub(crate) fn has_waited(skb: &Skb) -> bool {
    let cb = skb.cb();
    // SAFETY: context fields.
    unsafe {
        let waited = (*cb)[CB_MAGIC] == WAITED && (*cb)[CB_MAGIC_TOO] == MAGIC_TOO;
        if waited {
            (*cb)[CB_MAGIC] = 0;
        }
        waited
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
