//! How much memory the packets take that wait, in all queues of the agent.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_for_each_map_elem};
use injector_common::{
    RuleEntry,
    waiting::{self, AT_BYTES, AT_FIRST, WHEELS},
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
        let mut turn = Turn {
            before: exchange(first, tick),
            first: tick,
            out: 0,
        };
        let step = if tick.wrapping_sub(turn.before) <= waiting::MAX_STEPS {
            turn_wheel as *mut c_void
        } else {
            empty as *mut c_void
        };
        let map = &raw const WAITING;
        bpf_for_each_map_elem(map.cast_mut().cast(), step, (&raw mut turn).cast(), 0);
        fetch_add(bytes, turn.out.wrapping_neg());
    }
}

/// Turns one wheel, by a few slots: the walk over all slots serves to count the wheels, and
/// ends with the first that does not turn, as then no slower one does.
///
/// # Safety
///
/// Called by the kernel, with the state of [`turn`].
unsafe extern "C" fn turn_wheel(
    _map: *mut c_void,
    wheel: *const u32,
    _slot: *mut u64,
    turn: *mut Turn,
) -> u64 {
    // SAFETY: see above.
    unsafe {
        let wheel = *wheel;
        if wheel >= WHEELS {
            return ENOUGH;
        }
        for step in 0..waiting::MAX_STEPS {
            let Some(place) = waiting::over(wheel, step, (*turn).before, (*turn).first) else {
                return if step == 0 { ENOUGH } else { GO_ON };
            };
            if let Some(slot) = WAITING.get_ptr_mut(place) {
                take_out(slot, &mut (*turn).out);
            }
        }
    }
    GO_ON
}

/// Empties one slot, if its time is over.
///
/// # Safety
///
/// Called by the kernel, with a value of the map and the state of [`turn`].
unsafe extern "C" fn empty(
    _map: *mut c_void,
    index: *const u32,
    slot: *mut u64,
    turn: *mut Turn,
) -> u64 {
    // SAFETY: see above.
    unsafe {
        if *index < AT_BYTES && waiting::is_over(*index, (*turn).before, (*turn).first) {
            take_out(slot, &mut (*turn).out);
        }
    }
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
