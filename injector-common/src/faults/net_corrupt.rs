//! `net-corrupt`: one byte of the payload is flipped.

use super::Params;
use crate::random::scale;

/// The checksum fits the damaged bytes: the receiver's application sees them,
/// as after damage in a router's memory.
pub const CHECKSUM_VALID: u64 = 0;
/// The checksum fits the original bytes: the receiver's stack drops the packet
/// and counts a checksum error, as after damage on the wire.
pub const CHECKSUM_BROKEN: u64 = 1;

/// `RuleEntry::params` of a corruption: [`CHECKSUM_VALID`] or [`CHECKSUM_BROKEN`].
#[must_use]
pub const fn params(checksum: u64) -> Params {
    [checksum, 0, 0, 0]
}

/// Whether the packet must pass a device that fills in checksums.
///
/// Between two namespaces of one host a packet may travel without a checksum,
/// vouched for by the stack that made it; the receiver would not look at the
/// one that was damaged.
#[inline(always)]
#[must_use]
pub const fn needs_detour(params: Params) -> bool {
    params[0] == CHECKSUM_BROKEN
}

/// Where in a payload of `len` bytes the flipped byte lies, and the bits to
/// flip in it, never none. `None` where there is no payload.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the scaled value is less than `len`, a u32"
)]
pub const fn place(len: u32, amount: u32) -> Option<(u32, u8)> {
    if len == 0 {
        return None;
    }
    // The low bits choose the pattern, all of them the place.
    let pattern = (amount & 0xff) as u8;
    let pattern = if pattern == 0 { 0x80 } else { pattern };
    Some((scale(amount, len as u64 - 1) as u32, pattern))
}
