//! Atomic operations on map values.

use core::arch::asm;

/// Adds to a counter and returns what it held before.
///
/// The old value makes budgets exact: of any number of CPUs, each gets a
/// number of its own. Needs Linux 5.12 (BPF atomics with fetch).
///
/// # Safety
///
/// `counter` points to an aligned `u64` inside a map value.
#[inline(always)]
pub(crate) unsafe fn fetch_add(counter: *mut u64, amount: u64) -> u64 {
    let mut value = amount;
    // SAFETY: the caller vouches for the pointer; the instruction touches
    // nothing else.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({counter} + 0), {value})",
            counter = in(reg) counter,
            value = inout(reg) value,
        );
    }
    value
}

/// Puts a value in place of another one and returns that (Linux 5.12).
///
/// # Safety
///
/// `place` points to an aligned `u64` inside a map value.
#[inline(always)]
pub(crate) unsafe fn exchange(place: *mut u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: the caller vouches for the pointer; the instruction touches nothing
    // else.
    unsafe {
        asm!(
            "{value} = xchg_64({place} + 0, {value})",
            place = in(reg) place,
            value = inout(reg) value,
        );
    }
    value
}

/// Sets bits.
///
/// # Safety
///
/// `word` points to an aligned `u64` inside a map value.
#[inline(always)]
pub(crate) unsafe fn set_bits(word: *mut u64, bits: u64) {
    // SAFETY: the caller vouches for the pointer.
    unsafe {
        asm!(
            "lock *(u64 *)({word} + 0) |= {bits}",
            word = in(reg) word,
            bits = in(reg) bits,
        );
    }
}
