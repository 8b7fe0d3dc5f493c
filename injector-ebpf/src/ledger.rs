//! Telling the agent of hits one by one, for its ledger.

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, helpers::bpf_get_current_pid_tgid};
use injector_common::{Hit, flow::Flow, packet::Facts};

use crate::{
    atomic::fetch_add,
    maps::{LEDGER, STATS},
};

/// What is told of an operation beside what it is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Told {
    /// Its number.
    pub(crate) n: u64,
    /// How long it waits.
    pub(crate) wait_ns: u64,
}

/// Tells of a packet that the rule at `index` hit.
///
/// Functions of their own, for the sake of the stack: what they write lies in the ring.
#[inline(never)]
pub(crate) fn packet(facts: &Facts, direction: u32, index: u32, told: &Told, now: u64) {
    let Some(mut place) = LEDGER.reserve(0) else {
        unlisted(index);
        return;
    };
    let flow = Flow::of(facts, direction);
    let hit: *mut Hit = place.as_mut_ptr();
    // SAFETY: the kernel set room for a hit aside. Field by field, so that none of it
    // lies on the stack.
    unsafe {
        (*hit).time_ns = now;
        (*hit).n = told.n;
        (*hit).wait_ns = told.wait_ns;
        (*hit).local = flow.local;
        (*hit).peer = flow.peer;
        (*hit).rule = index;
        (*hit).tgid = 0;
        (*hit).tid = 0;
        (*hit).errno = 0;
        (*hit).local_port = flow.local_port;
        (*hit).peer_port = flow.peer_port;
        (*hit).protocol = flow.protocol;
        (*hit).direction = direction as u8;
        (*hit)._pad = 0;
    }
    // The agent looks by itself: to wake it for each hit would cost more than the hit.
    place.submit(u64::from(BPF_RB_NO_WAKEUP));
}

/// Tells of a call that the rule at `index` hit, and of the error that it fails with; 0 for none.
#[inline(never)]
pub(crate) fn call(index: u32, n: u64, now: u64, errno: u32) {
    let Some(mut place) = LEDGER.reserve(0) else {
        unlisted(index);
        return;
    };
    let hit: *mut Hit = place.as_mut_ptr();
    // The upper half is the process, the lower one the thread.
    let caller = bpf_get_current_pid_tgid();
    // SAFETY: as above.
    unsafe {
        (*hit).time_ns = now;
        (*hit).n = n;
        (*hit).wait_ns = 0;
        (*hit).local = [0; 4];
        (*hit).peer = [0; 4];
        (*hit).rule = index;
        (*hit).tgid = (caller >> 32) as u32;
        (*hit).tid = caller as u32;
        (*hit).errno = errno;
        (*hit).local_port = 0;
        (*hit).peer_port = 0;
        (*hit).protocol = 0;
        (*hit).direction = 0;
        (*hit)._pad = 0;
    }
    place.submit(u64::from(BPF_RB_NO_WAKEUP));
}

/// Counts a hit that the ring has no room for.
#[inline(always)]
fn unlisted(index: u32) {
    if let Some(stats) = STATS.get_ptr_mut(index) {
        // SAFETY: an aligned u64 of a map value.
        unsafe { fetch_add(&raw mut (*stats).unlisted, 1) };
    }
}
