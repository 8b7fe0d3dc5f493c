//! `net-loss`: the packet vanishes.

use crate::skb::vanish;

/// The verdict that loses the packet.
#[inline(always)]
pub(crate) fn apply() -> i32 {
    vanish()
}
