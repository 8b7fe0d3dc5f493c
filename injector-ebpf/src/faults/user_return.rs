//! `user-return`: the function does nothing, and returns.

use aya_ebpf::bindings::pt_regs;
use injector_common::faults::user_return::{self, Entry};

use crate::maps::RULES;

/// What the function returns by the version of a rule that hits, as
/// [`packed`](user_return::packed).
#[inline(always)]
pub(crate) fn value(packed: i32) -> Option<u64> {
    let key = user_return::key(packed)?;
    let slot = RULES.get(key >> 1)?;
    let rule = if key & 1 == 0 {
        &slot.versions[0]
    } else {
        &slot.versions[1]
    };
    Some(user_return::value(rule.params))
}

/// Where the thread at these registers goes on to return, if it is at the function's entry.
#[inline(always)]
pub(crate) fn back(entry: Entry, registers: *const pt_regs) -> Option<u64> {
    // SAFETY: the context comes from the kernel.
    entry.back(unsafe { (&raw const (*registers).rip).read_volatile() })
}

/// Sends the thread to the `ret`, with its result.
#[inline(always)]
pub(crate) fn apply(registers: *mut pt_regs, back: u64, value: u64) {
    // SAFETY: the context comes from the kernel, which lets programs write these.
    unsafe {
        (&raw mut (*registers).rax).write_volatile(value);
        (&raw mut (*registers).rip).write_volatile(back);
    }
}
