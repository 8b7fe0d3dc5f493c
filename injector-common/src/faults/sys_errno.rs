//! `sys-errno`: a system call fails with a chosen error.

use super::Params;

/// Largest error number that a rule may use (`EHWPOISON`). Larger ones are the
/// kernel's own, and reach user space as nonsense.
pub const MAX_ERRNO: u32 = 133;

/// `RuleEntry::params` of a failing call: the error number.
#[must_use]
pub const fn params(errno: u32) -> Params {
    [errno as u64, 0, 0, 0]
}

/// The value that the call returns: minus the error number.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the value was compared with MAX_ERRNO"
)]
pub const fn return_value(params: Params) -> i32 {
    let errno = params[0];
    if errno == 0 || errno > MAX_ERRNO as u64 {
        FALLBACK
    } else {
        -(errno as i32)
    }
}

/// EIO.
const FALLBACK: i32 = -5;

/// Forces a return value into `-133..=-1`, whatever the map held.
///
/// The clamp matters for safety: -4096 from a security hook crashes the kernel
/// (`IS_ERR` does not see it), and Linux 6.12's verifier accepts only a return
/// value that it can prove to lie in -4095..=0.
#[inline(always)]
#[must_use]
pub const fn clamp(value: i32) -> i32 {
    if value < -(MAX_ERRNO as i32) || value > -1 {
        FALLBACK
    } else {
        value
    }
}
