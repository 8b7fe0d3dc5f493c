//! How much memory the packets take that wait, in all queues of the agent.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_for_each_map_elem};
use injector_common::{
    RuleEntry,
    waiting::{self, AT_BYTES, AT_FIRST},
};

use crate::{
    atomic::{exchange, fetch_add},
    decide::{ENOUGH, GO_ON},
    faults::net_delay::now,
    maps::WAITING,
};

/// Whether what waits takes all the memory that a packet of this rule may find
/// taken. Several CPUs that ask at the same time may each be told that it does not.
#[inline(always)]
pub(crate) fn is_full(rule: &RuleEntry) -> bool {
    let Some(bytes) = WAITING.get(AT_BYTES) else {
        return false;
    };
    // SAFETY: an aligned u64 of a map value.
    unsafe { core::ptr::from_ref(bytes).read_volatile() >= rule.queue_memory }
}

/// Counts a packet that waits until `due` (`CLOCK_MONOTONIC`), from now until then,
/// or up to the end of a slot of time.
#[inline(always)]
pub(crate) fn hold(frame_len: u32, due: u64) {
    let (Some(bytes), Some(first)) = (WAITING.get_ptr_mut(AT_BYTES), WAITING.get_ptr_mut(AT_FIRST))
    else {
        return;
    };
    let cost = waiting::cost(frame_len);
    // SAFETY: aligned u64s of a map. Where another CPU turns the wheel past the slot
    // meanwhile, the packet counts for one more turn.
    unsafe {
        let place = waiting::place(waiting::tick(due), first.read_volatile());
        let Some(slot) = WAITING.get_ptr_mut(place) else {
            return;
        };
        fetch_add(bytes, cost);
        fetch_add(slot, cost);
    }
}

/// What a turn of the wheels takes out of the sum.
struct Turn {
    /// The first tick before it, and after it.
    before: u64,
    first: u64,
    /// The wheel that it has come to, and how many slots of it were over so far.
    wheel: u32,
    step: u32,
    /// Bytes.
    out: u64,
}

/// Takes out of the sum what is due by now.
///
/// A function of its own, and not inlined: what is only done once per tick
/// would be a second way into the rules.
#[inline(never)]
pub(crate) fn turn() {
    let (Some(bytes), Some(first)) = (WAITING.get_ptr_mut(AT_BYTES), WAITING.get_ptr_mut(AT_FIRST))
    else {
        return;
    };
    let tick = waiting::tick(now());
    // SAFETY: aligned u64s of a map. Of several CPUs, each takes what none before it
    // has taken: a slot is emptied by an exchange.
    unsafe {
        if first.read_volatile() >= tick {
            return;
        }
        let before = exchange(first, tick);
        // A zero that the verifier does not know, or it would follow each slot on its own.
        let zero = (before >> 63) as u32;
        let mut turn = Turn {
            before,
            // Where packets are rare, none waits any more when the next one comes. To return
            // here would be another way into the rules.
            first: if bytes.read_volatile() == 0 {
                before
            } else {
                tick
            },
            wheel: zero,
            step: zero,
            out: 0,
        };
        let map = &raw const WAITING;
        let state = (&raw mut turn).cast();
        bpf_for_each_map_elem(map.cast_mut().cast(), turn_slot as *mut c_void, state, 0);
        fetch_add(bytes, turn.out.wrapping_neg());
    }
}

/// Empties the next slot that is over. The walk over all slots of the map serves to call this
/// often enough, and ends with the first wheel that does not turn, as then no slower one does:
/// what it costs grows with the time since the last packet, and not with the slots that there
/// are.
///
/// # Safety
///
/// Called by the kernel, with the state of [`turn`].
unsafe extern "C" fn turn_slot(
    _map: *mut c_void,
    _index: *const u32,
    _slot: *mut u64,
    turn: *mut Turn,
) -> u64 {
    // SAFETY: see above.
    let turn = unsafe { &mut *turn };
    let mut place = waiting::over(turn.wheel, turn.step, turn.before, turn.first);
    if place.is_none() && turn.step > 0 {
        turn.wheel += 1;
        turn.step = 0;
        place = waiting::over(turn.wheel, 0, turn.before, turn.first);
    }
    let Some(slot) = place.and_then(|place| WAITING.get_ptr_mut(place)) else {
        return ENOUGH;
    };
    turn.step += 1;
    // SAFETY: a value of the map.
    unsafe { take_out(slot, &mut turn.out) };
    GO_ON
}

/// Empties a slot into a sum.
///
/// # Safety
///
/// `slot` is an aligned u64 of a map.
#[inline(always)]
unsafe fn take_out(slot: *mut u64, out: &mut u64) {
    // SAFETY: see above.
    unsafe {
        if slot.read_volatile() != 0 {
            *out = out.wrapping_add(exchange(slot, 0));
        }
    }
}
