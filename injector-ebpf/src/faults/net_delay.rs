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
    faults::{
        Params,
        net_delay::{self, TABLE_SIZE},
    },
    filter::{EGRESS, INGRESS},
    random,
};

use crate::{
    maps::{FLOWS, TABLES, chain},
    skb::{Skb, Stamp},
};

/// Slots of the packet's control buffer, beside those of its stamp.
const CB_DUE_LOW: usize = 1;
const CB_DUE_HIGH: usize = 2;
/// Where the packet goes on; a slot that survives the queue.
const CB_ONWARD: usize = 4;
/// Bit of that slot: it goes on up the stack, as a packet that arrives. No
/// interface has an index this large.
const UPWARD: u32 = 1 << 31;

/// The device took the packet.
pub(crate) const TAKEN: u32 = 0;
/// The device's queue has no room for it (`NET_XMIT_DROP`).
pub(crate) const NO_ROOM: u32 = 1;

/// Sends a copy of the packet through `hop`, to leave it at `due`
/// (`CLOCK_MONOTONIC`): [`TAKEN`], [`NO_ROOM`], or a greater number when the kernel
/// did not take it.
#[inline(always)]
pub(crate) fn send(skb: &Skb, direction: u32, hop: u32, due: u64) -> u32 {
    if hop == 0 {
        return u32::MAX;
    }
    note(skb, direction, due);
    // SAFETY: the context comes from the kernel.
    unsafe { bpf_clone_redirect(skb.0, hop, 0) as u32 }
}

/// Notes in the packet when it is due.
#[inline(always)]
pub(crate) fn note(skb: &Skb, direction: u32, due: u64) {
    let cb = skb.cb();
    // SAFETY: context fields that a program may write.
    unsafe {
        (*cb)[CB_DUE_LOW] = due as u32;
        (*cb)[CB_DUE_HIGH] = (due >> 32) as u32;
    }
    note_onward(skb, direction);
    skb.set_stamp(Stamp::NOTED);
}

/// Notes in the packet where it goes on from a device of ours.
#[inline(always)]
pub(crate) fn note_onward(skb: &Skb, direction: u32) {
    let way = if direction == INGRESS { UPWARD } else { 0 };
    // SAFETY: a context field that a program may write.
    unsafe { (*skb.cb())[CB_ONWARD] = skb.ifindex() | way };
}

/// When the packet is due, if [`note`] was called on it; the note is spent.
#[inline(always)]
pub(crate) fn take_note(skb: &Skb) -> Option<u64> {
    if skb.stamp() != Stamp::NOTED {
        return None;
    }
    skb.set_stamp(Stamp::NONE);
    let cb = skb.cb();
    // SAFETY: context fields.
    unsafe { Some(u64::from((*cb)[CB_DUE_LOW]) | (u64::from((*cb)[CB_DUE_HIGH]) << 32)) }
}

/// Sends a packet that comes out of a device of ours on to its interface, with the priority
/// that it had and what the programs there have to know.
#[inline(always)]
pub(crate) fn go_on(skb: &Skb, stamp: Stamp) -> i32 {
    skb.restore_priority();
    skb.set_stamp(stamp);
    // SAFETY: a context field, and a helper that only notes the index.
    unsafe {
        let onward = (*skb.cb())[CB_ONWARD];
        let flags = if onward & UPWARD != 0 {
            u64::from(BPF_F_INGRESS)
        } else {
            0
        };
        bpf_redirect(onward & !UPWARD, flags) as i32
    }
}

/// Whether the packet was judged already; the stamp is spent.
#[inline(always)]
pub(crate) fn was_judged(skb: &Skb) -> bool {
    let left = match skb.stamp() {
        Stamp::JUDGED => Stamp::NONE,
        Stamp::JUDGED_AND_NOTED => Stamp::NOTED,
        Stamp::JUDGED_TWICE => Stamp::JUDGED,
        _ => return false,
    };
    skb.set_stamp(left);
    true
}

/// How long the packet of this draw waits, in ns.
#[inline(always)]
pub(crate) fn delay_ns(params: Params, index: u32, direction: u32, draw: u64) -> u64 {
    let mut amount = random::amount(draw);
    if net_delay::is_correlated(params)
        && let Some(last) = chain(index, direction)
    {
        // SAFETY: an aligned u64 of a map value. Two CPUs may both repeat the
        // same draw; each is one that was drawn.
        unsafe {
            // The upper half tells a first packet, which has none before it.
            let known = last.read_volatile();
            if known >> 32 != 0 && net_delay::repeats(params, draw) {
                amount = known as u32;
            } else {
                last.write_volatile(u64::from(amount) | 1 << 32);
            }
        }
    }
    match net_delay::table(params) {
        None => net_delay::delay_ns(params, amount),
        Some(table) => {
            let Some(values) = TABLES.get(table) else {
                return net_delay::delay_ns(params, amount);
            };
            let slot = net_delay::table_slot(amount) as usize;
            net_delay::table_delay_ns(params, values[slot % TABLE_SIZE])
        }
    }
}

/// The time, in ns, that departures are compared with (`CLOCK_MONOTONIC`).
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: reads a clock.
    unsafe { bpf_ktime_get_ns() }
}

/// Names the packet's flow on this interface in this direction.
#[inline(always)]
pub(crate) fn flow(skb: &Skb, direction: u32) -> u64 {
    // SAFETY: the context comes from the kernel.
    let hash = unsafe { bpf_get_hash_recalc(skb.0) };
    let way = if direction == EGRESS { 0 } else { 1 << 63 };
    u64::from(hash) | (u64::from(skb.ifindex()) << 32) | way
}

/// When a packet that waits `delay_ns` is due, without overtaking the last one
/// of its flow.
#[inline(always)]
pub(crate) fn due(skb: &Skb, direction: u32, delay_ns: u64) -> u64 {
    let now = now();
    let flow = flow(skb, direction);
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
