//! `net-delay`: a fixed delay with even jitter around it.

use super::Params;
use crate::random::scale;

/// Longest delay, in ns: one minute. The queueing discipline that holds the
/// packets is set up for it.
pub const MAX_DELAY_NS: u64 = 60_000_000_000;

/// `RuleEntry::params` of a delay: the delay and the jitter, both in ns.
#[must_use]
pub const fn params(delay_ns: u64, jitter_ns: u64) -> Params {
    [delay_ns, jitter_ns, 0, 0]
}

/// The delay of one packet in ns, evenly spread over
/// `delay - jitter ..= delay + jitter`, both from `params`.
#[inline(always)]
#[must_use]
pub const fn delay_ns(params: Params, amount: u32) -> u64 {
    let [delay, jitter, ..] = params;
    if jitter == 0 {
        return delay;
    }
    delay.saturating_sub(jitter) + scale(amount, 2 * jitter)
}

/// When a packet that arrives at `now_ns` leaves, if it must not overtake the
/// one before it in its flow, which leaves at `previous_ns`.
///
/// The result keeps the jitter's bounds: the packet before arrived no later,
/// so it leaves no later than `now_ns + delay + jitter` either.
#[inline(always)]
#[must_use]
pub const fn departure_ns(now_ns: u64, delay_ns: u64, previous_ns: u64) -> u64 {
    let wanted = now_ns.saturating_add(delay_ns);
    if wanted < previous_ns {
        previous_ns
    } else {
        wanted
    }
}
