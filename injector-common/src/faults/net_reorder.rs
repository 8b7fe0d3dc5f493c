//! `net-reorder`: selected packets go ahead of those before them, which wait.

use super::Params;

/// `RuleEntry::params` of a reordering: how long packets wait that are not
/// selected, in ns.
#[must_use]
pub const fn params(delay_ns: u64) -> Params {
    [delay_ns, 0, 0, 0]
}

/// How long a packet waits that is not selected, in ns.
#[inline(always)]
#[must_use]
pub const fn delay_ns(params: Params) -> u64 {
    params[0]
}
