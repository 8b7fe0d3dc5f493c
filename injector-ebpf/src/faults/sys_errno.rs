//! `sys-errno`: the call fails.

use injector_common::faults::sys_errno;

use crate::decide::Live;

/// Counts the call that a rule hits by this draw, and gives what it returns.
#[inline(always)]
pub(crate) fn value(rule: &Live<'_>, index: u32, (n, draw): (u64, u64)) -> i32 {
    rule.hit_call(index, n);
    sys_errno::return_value(rule.rule.params, draw)
}
