//! `net-delay`: a fixed delay with jitter around it.

use super::Params;
use crate::random::{mix, scale};

/// Longest delay, in ns: one minute. The queueing discipline that holds the
/// packets is set up for it.
pub const MAX_DELAY_NS: u64 = 60_000_000_000;

/// How many values a table has that a delay is drawn from: the inverse of a
/// distribution function at even steps.
pub const TABLE_SIZE: usize = 4096;

/// What one jitter is in a table's values, as in netem's (`NETEM_DIST_SCALE`).
pub const TABLE_SCALE: u64 = 1 << TABLE_SHIFT;
const TABLE_SHIFT: u32 = 13;

/// The values of a distribution, in jitters × [`TABLE_SCALE`].
pub type Table = [i16; TABLE_SIZE];

/// Bit of `params[3]`: packets may overtake each other.
const MAY_OVERTAKE: u64 = 1;

/// `RuleEntry::params` of a delay: the delay and the jitter, both in ns.
#[must_use]
pub const fn params(delay_ns: u64, jitter_ns: u64) -> Params {
    [delay_ns, jitter_ns, 0, 0]
}

/// The same delay, drawn from the table at `index` and not evenly.
#[must_use]
pub const fn from_table(params: Params, index: u32) -> Params {
    let [delay, jitter, rest, flags] = params;
    let rest = rest & 0xffff_ffff | (index as u64 + 1) << 32;
    [delay, jitter, rest, flags]
}

/// The same delay, of which each is the last one's again in this share of
/// packets, out of 2^31: a correlation that leaves the distribution as it is.
#[must_use]
pub const fn correlated(params: Params, share: u32) -> Params {
    let [delay, jitter, rest, flags] = params;
    let rest = rest & !0xffff_ffff | share as u64;
    [delay, jitter, rest, flags]
}

/// The same delay, under which packets may overtake each other.
#[must_use]
pub const fn overtaking(params: Params) -> Params {
    let [delay, jitter, rest, flags] = params;
    [delay, jitter, rest, flags | MAY_OVERTAKE]
}

/// Whether packets may overtake each other.
#[inline(always)]
#[must_use]
pub const fn may_overtake(params: Params) -> bool {
    params[3] & MAY_OVERTAKE != 0
}

/// The table that delays are drawn from, if they are not drawn evenly.
#[inline(always)]
#[must_use]
pub const fn table(params: Params) -> Option<u32> {
    let index = (params[2] >> 32) as u32;
    if index == 0 { None } else { Some(index - 1) }
}

/// Whether packets' delays are correlated.
#[inline(always)]
#[must_use]
pub const fn is_correlated(params: Params) -> bool {
    params[2] & 0xffff_ffff != 0
}

/// Whether the packet of this draw waits as long as the one before it.
#[inline(always)]
#[must_use]
pub const fn repeats(params: Params, draw: u64) -> bool {
    // Independent of both halves of the draw, which have their uses.
    mix(draw) >> 33 < params[2] & 0xffff_ffff
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

/// Which of a table's values the packet of this amount draws.
#[inline(always)]
#[must_use]
pub const fn table_slot(amount: u32) -> u32 {
    // TABLE_SIZE is 2^12.
    amount >> 20
}

/// The delay of one packet in ns that drew `value` from a table; never less
/// than none.
#[inline(always)]
#[must_use]
pub const fn table_delay_ns(params: Params, value: i16) -> u64 {
    let [delay, jitter, ..] = params;
    let spread = (jitter * value.unsigned_abs() as u64) >> TABLE_SHIFT;
    if value < 0 {
        delay.saturating_sub(spread)
    } else {
        delay + spread
    }
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
