//! `net-refuse`: `connect` fails with a chosen error.

use super::{Params, sys_errno};

/// The only error where a program cannot choose one: `EPERM`.
pub const FIXED_ERRNO: u32 = 1;

/// `RuleEntry::params` of a refusal: the error number.
#[must_use]
pub fn params(errno: u32) -> Params {
    sys_errno::params(&[(errno, 1)])
}

/// The value that `connect` returns: minus the error number.
#[inline(always)]
#[must_use]
pub const fn return_value(params: Params) -> i32 {
    sys_errno::return_value(params, 0)
}
