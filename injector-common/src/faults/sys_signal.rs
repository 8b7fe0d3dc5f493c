//! `sys-signal`: a system call brings a signal.

use super::Params;

/// Largest number of a signal that a rule may send: the last of those before the real-time ones.
pub const MAX_SIGNAL: u32 = 31;

/// `RuleEntry::params` of a call that brings this signal.
#[must_use]
pub const fn params(signal: u32) -> Params {
    [signal as u64, 0, 0, 0]
}

/// The signal to send; `None` if the parameters name none.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a value that was compared with MAX_SIGNAL"
)]
pub const fn signal(params: Params) -> Option<u32> {
    if params[0] == 0 || params[0] > MAX_SIGNAL as u64 {
        None
    } else {
        Some(params[0] as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signals_are_sent() {
        for number in 1..=MAX_SIGNAL {
            assert_eq!(signal(params(number)), Some(number));
        }
        for number in [0, MAX_SIGNAL + 1, u32::MAX] {
            assert_eq!(signal(params(number)), None);
        }
        assert_eq!(signal([1 << 32, 0, 0, 0]), None);
    }
}
