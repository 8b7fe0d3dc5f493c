//! `sys-errno`: the call fails.

use injector_common::faults::sys_errno;

use crate::decide::Live;

/// What the call returns that a rule hits by this draw.
#[inline(always)]
pub(crate) fn value(rule: &Live<'_>, draw: u64) -> i32 {
    sys_errno::return_value(rule.rule.params, draw)
}
