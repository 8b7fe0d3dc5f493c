//! `net-loss` has no parameters: a packet is there or it is not.

use super::Params;

/// `RuleEntry::params` of a loss.
#[must_use]
pub const fn params() -> Params {
    [0; 4]
}
