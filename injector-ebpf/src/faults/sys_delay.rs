//! `sys-delay`: the call waits.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_ktime_get_ns};
use injector_common::{
    RuleEntry,
    faults::sys_delay::{MAX_SPIN_US, delay_us},
    random,
};

use crate::{
    atomic::fetch_add,
    decide::{ENOUGH, GO_ON, repeat},
    maps::STATS,
};

/// How long a call waits in µs, and by which rule, in one number that is not 0.
#[inline(always)]
pub(crate) const fn packed(us: u32, rule: u32) -> i32 {
    (us & 0xff_ffff | (rule & 63) << 24) as i32
}

/// The two of them again.
#[inline(always)]
pub(crate) const fn unpacked(wait: i32) -> (u32, u32) {
    (wait as u32 & 0xff_ffff, wait as u32 >> 24 & 63)
}

/// How long the call that a rule hits by this draw waits, [`packed`].
///
/// A function of its own, so that what it keeps does not lie on the stack while files are looked
/// at.
#[inline(never)]
pub(crate) fn wait(rule: &RuleEntry, index: u32, draw: u64, longest: u32, now: u64) -> i32 {
    let us = delay_us(rule.params, random::amount(draw), longest);
    // Nobody waits beyond the rule's end.
    let left = rule.deadline_ns.saturating_sub(now) / 1_000;
    if u64::from(us) <= left {
        return packed(us, index);
    }
    if let Some(stats) = STATS.get_ptr_mut(index) {
        // SAFETY: an aligned u64 of a map value.
        unsafe { fetch_add(&raw mut (*stats).cut_short, 1) };
    }
    packed(left as u32 | 1, index)
}

/// How often the clock is read in a turn. With the turns that [`repeat`] makes, a reading may
/// take as little as 8 ns.
const READINGS: u32 = 64;

/// Waits busy for so long, at most 1 ms: nothing else runs on this processor meanwhile.
///
/// A function of its own, so that what it keeps does not lie on the stack while rules are asked.
#[inline(never)]
pub(crate) fn spin(us: u32) {
    let us = if us > MAX_SPIN_US { MAX_SPIN_US } else { us };
    // SAFETY: reads a clock.
    let mut until = unsafe { bpf_ktime_get_ns() } + u64::from(us) * 1_000;
    repeat(turn, &mut until);
}

/// # Safety
///
/// Called by the kernel, with the state of [`spin`].
unsafe extern "C" fn turn(
    _map: *mut c_void,
    _turn: *const u32,
    _value: *const u64,
    until: *mut u64,
) -> u64 {
    let mut reading = 0;
    while reading < READINGS {
        // SAFETY: see above; and a clock is read.
        if unsafe { bpf_ktime_get_ns() >= *until } {
            return ENOUGH;
        }
        reading += 1;
    }
    GO_ON
}
