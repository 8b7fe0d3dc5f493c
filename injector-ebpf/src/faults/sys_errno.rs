//! `sys-errno`: the call fails.

use injector_common::{faults::sys_errno, uses::Uses};

use crate::{
    decide::Live,
    maps::{ERRORS, in_use},
};

/// What the call returns that a rule hits by this draw, by what it is known by.
#[inline(always)]
pub(crate) fn value(rule: &Live<'_>, draw: u64, call: u32) -> i32 {
    let params = rule.rule.params;
    if in_use(Uses::ERROR_LISTS) && sys_errno::is_plausible(params) {
        plausible(call, draw)
    } else {
        sys_errno::return_value(params, draw)
    }
}

/// One of the errors that the call's own list has.
///
/// A function of its own, for the sake of the stack.
#[inline(never)]
fn plausible(call: u32, draw: u64) -> i32 {
    let list = ERRORS.get(call);
    list.map_or(sys_errno::clamp(0), |list| list.choose(draw))
}
