//! `net-loss` has no parameters: a packet is there or it is not.

/// `RuleEntry::params` of a loss.
#[must_use]
pub const fn params() -> [u64; 2] {
    [0, 0]
}
