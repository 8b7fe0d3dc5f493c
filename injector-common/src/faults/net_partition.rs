//! `net-partition`: the target and its peers are out of each other's reach.

use super::{Params, net_loss};

/// `RuleEntry::params` of a partition: those of a loss of which nobody is told,
/// as of a cable that is cut far away.
#[must_use]
pub const fn params() -> Params {
    net_loss::independent()
}
