//! `net-duplicate`: packets arrive more than once.

use super::Params;

/// The most copies that one rule makes of a packet.
pub const MAX_COPIES: u32 = 4;

/// `RuleEntry::params` of a duplication: how many copies, at most [`MAX_COPIES`].
#[must_use]
pub const fn params(copies: u32) -> Params {
    [copies as u64, 0, 0, 0]
}

/// How many copies, whatever the map holds.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "it is compared first")]
pub const fn copies(params: Params) -> u32 {
    if params[0] > MAX_COPIES as u64 {
        MAX_COPIES
    } else {
        params[0] as u32
    }
}
