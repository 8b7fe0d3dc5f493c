//! `sys-errno`: a system call fails with a chosen error.

use super::Params;
use crate::random::{amount, scale};

/// Largest error number that a rule may use (`EHWPOISON`). Larger ones are the
/// kernel's own, and reach user space as nonsense.
pub const MAX_ERRNO: u32 = 133;

/// How many errors a rule may choose from.
pub const MAX_ERRORS: usize = 8;

/// `RuleEntry::params` of a failing call: for each error 32 bits, the lowest 8 its number and
/// the others up to which of 2^24 shares it is chosen, including that one. The last error has the
/// last share; what follows is 0.
///
/// Weights are at least 1 and at most [`MAX_WEIGHT`]. Each error gets at least one share.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "shares have 24 bits, and error numbers 8"
)]
pub fn params(errors: &[(u32, u32)]) -> Params {
    let errors = &errors[..errors.len().min(MAX_ERRORS)];
    let total: u64 = errors.iter().map(|&(_, weight)| u64::from(weight)).sum();
    let (mut params, mut sum) = ([0; 4], 0);
    for (index, &(errno, weight)) in errors.iter().enumerate() {
        sum += u64::from(weight);
        let upto = (sum * SHARES / total.max(1)).saturating_sub(1) as u32;
        let entry = upto << 8 | errno & 0xff;
        params[index / 2] |= u64::from(entry) << (32 * (index % 2));
    }
    params
}

/// Shares that errors are chosen by.
const SHARES: u64 = 1 << 24;

/// The largest weight of an error: the smallest share of eight errors is still met.
pub const MAX_WEIGHT: u32 = 1_000_000;

/// `RuleEntry::params` of calls that fail with an error of their own [`ErrorList`]: no error has
/// this number.
pub const PLAUSIBLE: Params = [0xff, 0, 0, 0];

/// Whether calls fail with an error of their own list.
#[inline(always)]
#[must_use]
pub const fn is_plausible(params: Params) -> bool {
    params[0] == PLAUSIBLE[0]
}

/// How many errors a call's list can have.
pub const MAX_LISTED: usize = 32;

/// The errors that one call can plausibly fail with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ErrorList {
    /// Their numbers, a byte each, from the lowest of the first word.
    pub errors: [u64; MAX_LISTED / 8],
    /// How many there are.
    pub count: u64,
}

impl ErrorList {
    /// The list of these errors.
    #[must_use]
    pub fn of(errors: &[u32]) -> Self {
        let mut list = Self::default();
        for (place, &errno) in errors.iter().take(MAX_LISTED).enumerate() {
            list.errors[place / 8] |= u64::from(errno & 0xff) << (8 * (place % 8));
            list.count += 1;
        }
        list
    }

    /// The value that the call of this draw returns: minus the number of an error of the list,
    /// each as likely as another.
    #[inline(always)]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a place in the list, and a number of 8 bits"
    )]
    pub const fn choose(&self, draw: u64) -> i32 {
        let place = scale(amount(draw), self.count.saturating_sub(1)) as usize;
        // The masks bound what the verifier takes for any number.
        let errno = self.errors[place / 8 % (MAX_LISTED / 8)] >> (8 * (place % 8)) & 0xff;
        if errno == 0 || errno > MAX_ERRNO as u64 {
            FALLBACK
        } else {
            -(errno as i32)
        }
    }
}

/// The value that the call of this draw returns: minus the number of the error that it is
/// chosen for.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the parts of a word, and a value that was compared with MAX_ERRNO"
)]
pub const fn return_value(params: Params, draw: u64) -> i32 {
    let share = amount(draw) >> 8;
    let mut index = 0;
    while index < MAX_ERRORS {
        let entry = (params[index / 2] >> (32 * (index % 2))) as u32;
        if share <= entry >> 8 {
            let errno = entry & 0xff;
            return if errno == 0 || errno > MAX_ERRNO {
                FALLBACK
            } else {
                -(errno as i32)
            };
        }
        index += 1;
    }
    FALLBACK
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::draw;

    #[test]
    fn one_error_is_always_chosen() {
        let params = params(&[(28, 1)]);
        for draw in [0, 1, 0xffff_ffff, u64::MAX] {
            assert_eq!(return_value(params, draw), -28);
        }
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        const COUNT: u32 = 100_000;
        let weights = [(5, 60), (28, 25), (12, 14), (4, 1)];
        let params = params(&weights);
        let mut seen = [0_u32; MAX_ERRNO as usize + 1];
        for n in 0..u64::from(COUNT) {
            seen[return_value(params, draw(7, n)).unsigned_abs() as usize] += 1;
        }
        for (errno, weight) in weights {
            // Five standard deviations of a binomial distribution.
            let expected = f64::from(COUNT) * f64::from(weight) / 100.0;
            let bound = 5.0 * (expected * (1.0 - f64::from(weight) / 100.0)).sqrt();
            let seen = f64::from(seen[errno as usize]);
            assert!(
                (seen - expected).abs() < bound,
                "{errno}: {seen} of {expected}"
            );
        }
    }

    #[test]
    fn the_smallest_weight_among_the_largest_is_met() {
        let mut errors = [(1, MAX_WEIGHT); MAX_ERRORS];
        errors[0] = (2, 1);
        let params = params(&errors);
        assert_eq!(return_value(params, 0), -2);
        assert_eq!(return_value(params, 0xffff_ffff), -1);
    }

    #[test]
    fn each_error_of_a_list_is_as_likely() {
        const COUNT: u32 = 100_000;
        let list = ErrorList::of(&[2, 3, 5, 7, 11]);
        let mut seen = [0_u32; MAX_ERRNO as usize + 1];
        for n in 0..u64::from(COUNT) {
            seen[list.choose(draw(7, n)).unsigned_abs() as usize] += 1;
        }
        for errno in [2, 3, 5, 7, 11] {
            // Five standard deviations of a binomial distribution.
            let (expected, bound) = (f64::from(COUNT) / 5.0, 633.0);
            let seen = f64::from(seen[errno]);
            assert!((seen - expected).abs() < bound, "{errno}: {seen}");
        }
    }

    #[test]
    fn no_list_and_no_weights_are_taken_for_the_other() {
        assert!(is_plausible(PLAUSIBLE));
        assert!(!is_plausible(params(&[(MAX_ERRNO, MAX_WEIGHT)])));
        assert_eq!(return_value(PLAUSIBLE, 0), FALLBACK);
        assert_eq!(ErrorList::default().choose(u64::MAX), FALLBACK);
    }

    proptest! {
        #[test]
        fn only_what_is_listed_is_chosen(
            errors in proptest::collection::vec(1..=MAX_ERRNO, 1..=MAX_LISTED),
            draw: u64,
        ) {
            let value = ErrorList::of(&errors).choose(draw);
            prop_assert!(errors.iter().any(|&errno| value == -(errno as i32)));
        }

        #[test]
        fn any_list_gives_an_error(errors: [u64; 4], count: u64, draw: u64) {
            let value = ErrorList { errors, count }.choose(draw);
            prop_assert_eq!(value, clamp(value));
        }

        #[test]
        fn weights_are_no_list(
            errors in proptest::collection::vec((1..=MAX_ERRNO, 1..=MAX_WEIGHT), 1..=MAX_ERRORS),
        ) {
            prop_assert!(!is_plausible(params(&errors)));
        }

        #[test]
        fn only_what_was_named_is_chosen(
            errors in proptest::collection::vec((1..=MAX_ERRNO, 1..=MAX_WEIGHT), 1..=MAX_ERRORS),
            draw: u64,
        ) {
            let value = return_value(params(&errors), draw);
            prop_assert!(errors.iter().any(|&(errno, _)| value == -(errno as i32)));
        }
    }
}
