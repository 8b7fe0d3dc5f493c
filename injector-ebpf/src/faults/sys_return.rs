//! `sys-return`: the call does nothing, and succeeds.

use injector_common::{RuleEntry, faults::sys_return};

use crate::calls::Invocation;

/// Whether a rule can hit the call.
#[inline(always)]
pub(crate) fn acts(rule: &RuleEntry, invocation: Invocation) -> bool {
    sys_return::acts(rule.params, length(rule, invocation))
}

/// What the call returns that a rule hits, [`sys_return::packed`].
#[inline(always)]
pub(crate) fn value(rule: &RuleEntry, invocation: Invocation) -> i32 {
    sys_return::packed(sys_return::value(rule.params, length(rule, invocation)))
}

/// How many bytes the call was asked for, if that is to be known: its third argument, in every call
/// that a rule may have return anything but 0.
///
/// A function of its own, for the sake of the stack.
#[inline(never)]
fn length(rule: &RuleEntry, invocation: Invocation) -> u64 {
    if rule.params[0] == 0 {
        return 0;
    }
    invocation.argument(2).unwrap_or(0)
}
