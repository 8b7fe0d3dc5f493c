//! `sys-errno`: the call fails.

use aya_ebpf::bindings::pt_regs;
use injector_common::{faults::sys_errno, uses::Uses};

use crate::{
    calls,
    decide::Live,
    maps::{ERRORS, in_use},
};

/// What the call returns that a rule hits by this draw.
#[inline(always)]
pub(crate) fn value(rule: &Live<'_>, draw: u64, registers: *const pt_regs) -> i32 {
    let params = rule.rule.params;
    if in_use(Uses::ERROR_LISTS) && sys_errno::is_plausible(params) {
        plausible(registers, draw)
    } else {
        sys_errno::return_value(params, draw)
    }
}

/// One of the errors that the call's own list has.
///
/// A function of its own, for the sake of the stack.
#[inline(never)]
fn plausible(registers: *const pt_regs, draw: u64) -> i32 {
    let list = calls::number(registers).and_then(|number| ERRORS.get(number));
    list.map_or(sys_errno::clamp(0), |list| list.choose(draw))
}
