//! `sys-return`: a system call does nothing, and succeeds.

use super::{Params, sys_errno};

/// The largest value that a call may return: of a count of bytes the kernel itself returns no more
/// (`MAX_RW_COUNT`, include/linux/fs.h).
pub const MAX_VALUE: u32 = 0x7fff_f000;

/// `RuleEntry::params` of calls that return this value, or what they were asked for if that is less.
#[must_use]
pub const fn params(value: u32) -> Params {
    [value as u64, 0, 0, 0]
}

/// Whether a call that was asked for so many bytes can be hit. One that was asked for none has
/// nothing that could get lost.
#[inline(always)]
#[must_use]
pub const fn acts(params: Params, length: u64) -> bool {
    params[0] == 0 || length != 0
}

/// What the call returns that was asked for so many bytes: never more than these, whatever the map
/// holds. A rule whose value is 0 asks nobody how many there are.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a value that was compared with MAX_VALUE"
)]
pub const fn value(params: Params, length: u64) -> u32 {
    let most = if length < MAX_VALUE as u64 {
        length
    } else {
        MAX_VALUE as u64
    };
    if params[0] < most {
        params[0] as u32
    } else {
        most as u32
    }
}

/// A value in a number below those of all errors, and so never 0, which stands for no result.
#[inline(always)]
#[must_use]
pub const fn packed(value: u32) -> i32 {
    let value = if value > MAX_VALUE { MAX_VALUE } else { value };
    i32::MIN + value as i32
}

/// Whether it is a value that was packed, and no error.
#[inline(always)]
#[must_use]
pub const fn is_packed(result: i32) -> bool {
    result <= i32::MIN + MAX_VALUE as i32
}

/// What a call returns: a value that was packed as itself, within 0 to [`MAX_VALUE`], and all else
/// as an error ([`sys_errno::clamp`]).
#[inline(always)]
#[must_use]
pub const fn result(result: i32) -> i32 {
    if is_packed(result) {
        result & i32::MAX
    } else {
        sys_errno::clamp(result)
    }
}

/// The number of the error that this result is; 0 for a value, and for how long a call waits.
#[inline(always)]
#[must_use]
pub const fn errno(result: i32) -> u32 {
    if result > 0 || is_packed(result) {
        0
    } else {
        result.unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::faults::sys_errno::MAX_ERRNO;

    #[test]
    fn a_value_is_no_more_than_was_asked_for() {
        assert_eq!(value(params(MAX_VALUE), 4096), 4096);
        assert_eq!(value(params(100), 4096), 100);
        assert_eq!(value(params(0), 4096), 0);
        assert_eq!(value(params(MAX_VALUE), u64::MAX), MAX_VALUE);
        assert!(acts(params(0), 0) && acts(params(1), 1) && !acts(params(1), 0));
    }

    #[test]
    fn errors_and_waits_are_no_values() {
        for wait in [1, i32::MAX] {
            assert!(!is_packed(wait));
            assert_eq!(errno(wait), 0);
        }
        for number in 1..=MAX_ERRNO.cast_signed() {
            assert_eq!(result(-number), -number);
            assert_eq!(errno(-number), number.unsigned_abs());
        }
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in 0..=MAX_VALUE) {
            let packed = packed(value);
            prop_assert!(packed < -4095);
            prop_assert_eq!(result(packed), value.cast_signed());
            prop_assert_eq!(errno(packed), 0);
        }

        /// Neither an address nor an error that the kernel keeps to itself.
        #[test]
        fn whatever_the_map_holds_is_a_value_or_an_error(
            params: [u64; 4],
            length: u64,
            garbage: i32,
        ) {
            let value = value(params, length);
            prop_assert!(value <= MAX_VALUE && u64::from(value) <= length);
            prop_assert_eq!(result(packed(value)), value.cast_signed());
            let result = result(garbage);
            let is_error = (-MAX_ERRNO.cast_signed()..0).contains(&result);
            prop_assert!(is_error || (0..=MAX_VALUE.cast_signed()).contains(&result));
        }
    }
}
