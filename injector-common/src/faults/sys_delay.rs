//! `sys-delay`: a system call takes longer.

use super::Params;
use crate::random::scale;

/// Longest time that a call waits asleep, in µs: 10 s. Until it is over, some of what other
/// programs of this kind are taken away with has to wait.
pub const MAX_SLEEP_US: u32 = 10_000_000;

/// Longest time that a call waits busy, in µs: 1 ms. Nothing else runs on its processor then.
pub const MAX_SPIN_US: u32 = 1_000;

/// Whether what a call returned is what its caller gets. Of a call that a signal interrupts it is a
/// word to the kernel itself, which has the call begin anew or makes an error of it
/// (`ERESTARTSYS` to `ERESTART_RESTARTBLOCK`, include/linux/errno.h).
#[inline(always)]
#[must_use]
pub const fn is_result(returned: i64) -> bool {
    returned < -516 || returned > -512
}

/// `RuleEntry::params` of calls that wait `delay_us - jitter_us ..= delay_us + jitter_us`.
#[must_use]
pub const fn params(delay_us: u32, jitter_us: u32) -> Params {
    [delay_us as u64, jitter_us as u64, 0, 0]
}

/// How long the call of this amount waits, in µs: evenly spread, at least 1 and at most `most`.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a value that was compared with one of 32 bits"
)]
pub const fn delay_us(params: Params, amount: u32, most: u32) -> u32 {
    let [delay, jitter, ..] = params;
    // Whatever the map holds.
    let (delay, jitter) = (delay & 0xffff_ffff, jitter & 0xffff_ffff);
    let delay = if jitter == 0 {
        delay
    } else {
        delay.saturating_sub(jitter) + scale(amount, 2 * jitter)
    };
    if delay == 0 {
        1
    } else if delay > most as u64 {
        most
    } else {
        delay as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_anew_is_no_result() {
        for returned in [i64::MIN, -4095, -517, -511, -4, -1, 0, 1, i64::MAX] {
            assert!(is_result(returned), "{returned}");
        }
        for returned in -516..=-512 {
            assert!(!is_result(returned), "{returned}");
        }
    }

    #[test]
    fn delays_are_spread_and_bounded() {
        for amount in [0, 1 << 31, u32::MAX] {
            assert_eq!(delay_us(params(500, 0), amount, MAX_SPIN_US), 500);
        }
        let jittery = params(500, 100);
        assert_eq!(delay_us(jittery, 0, MAX_SPIN_US), 400);
        assert_eq!(delay_us(jittery, 1 << 31, MAX_SPIN_US), 500);
        assert!((599..=600).contains(&delay_us(jittery, u32::MAX, MAX_SPIN_US)));
        assert_eq!(delay_us(params(5_000, 0), 0, MAX_SPIN_US), MAX_SPIN_US);
        for garbage in [[u64::MAX; 4], [1 << 40, 1 << 41, 0, 0], [0, u64::MAX, 0, 0]] {
            for amount in [0, 7, u32::MAX] {
                let delay = delay_us(garbage, amount, MAX_SLEEP_US);
                assert!((1..=MAX_SLEEP_US).contains(&delay), "{delay}");
            }
        }
    }
}
