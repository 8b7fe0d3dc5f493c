//! `net-corrupt`: bits or bytes of a packet arrive changed.

use super::Params;
use crate::{
    answer::fold,
    packet::{Facts, PROTO_ICMP, PROTO_TCP, PROTO_UDP},
    random::{self, amount, roll, scale},
};

/// The checksum fits the damaged bytes: the receiver's application sees them,
/// as after damage in a router's memory.
pub const CHECKSUM_VALID: u64 = 0;
/// The checksum stays that of the undamaged bytes: the receiver's stack drops the
/// packet and counts a checksum error, as after damage on the wire.
pub const CHECKSUM_BROKEN: u64 = 1;

/// What is behind the transport header is damaged.
pub const REGION_PAYLOAD: u64 = 0;
/// The transport header is damaged.
pub const REGION_HEADERS: u64 = 1;

/// Whole bytes change, each by any of its bits.
pub const UNIT_BYTES: u64 = 0;
/// Single bits flip.
pub const UNIT_BITS: u64 = 1;

/// The most bits or bytes of one packet that can be changed.
pub const MAX_CHANGES: u32 = 8;
/// The same for bytes of headers: that of UDP has no more that can be changed.
pub const MAX_HEADER_BYTES: u32 = 4;

/// `RuleEntry::params` of a corruption: who notices, how many of which unit are
/// changed (1 to [`MAX_CHANGES`]), and where.
#[must_use]
pub const fn params(checksum: u64, count: u32, unit: u64, region: u64) -> Params {
    [checksum, count as u64, unit, region]
}

/// Whether the packet must pass a device that fills in checksums.
///
/// Between two namespaces of one host a packet may travel without a checksum,
/// vouched for by the stack that made it; the receiver would not look at the
/// one that does not fit.
#[inline(always)]
#[must_use]
pub const fn needs_detour(params: Params) -> bool {
    params[0] == CHECKSUM_BROKEN
}

/// Where the checksum lies in a transport header; `None` where it is not known.
#[inline(always)]
#[must_use]
pub const fn checksum_offset(proto: u32) -> Option<u32> {
    match proto {
        PROTO_TCP => Some(16),
        PROTO_UDP => Some(6),
        PROTO_ICMP => Some(2),
        _ => None,
    }
}

/// The bytes of a packet that may be damaged: a stretch with up to two gaps.
///
/// In a header, what stays is the checksum, and what says how long something is,
/// TCP's data offset and UDP's length: a super-packet with a wrong one could not
/// be cut into segments any more, which older kernels do not survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it begins, from the start of the packet.
    start: u32,
    /// How many bytes of it may be damaged.
    len: u32,
    /// Before how many of them one byte is left out.
    gap: u32,
    /// Before how many of them two more are.
    long_gap: u32,
}

/// A gap behind any byte.
const NO_GAP: u32 = i32::MAX as u32;

impl Region {
    /// No byte at all.
    pub const NONE: Self = Self {
        start: 0,
        len: 0,
        gap: NO_GAP,
        long_gap: NO_GAP,
    };

    /// The region of a packet in a frame of `frame_len` bytes; empty for a later
    /// fragment and for a transport whose checksum is not known here.
    #[inline(always)]
    #[must_use]
    pub const fn of(facts: &Facts, frame_len: u32, params: Params) -> Self {
        if checksum_offset(facts.proto).is_none() || facts.is_fragment() {
            return Self::NONE;
        }
        if params[3] == REGION_PAYLOAD {
            return Self {
                start: facts.payload_offset,
                len: facts.payload_len(frame_len),
                ..Self::NONE
            };
        }
        let start = facts.transport_offset;
        let header_len = facts.payload_offset.saturating_sub(start);
        if facts.payload_offset > facts.end(frame_len) {
            // Cut off within its header.
            return Self::NONE;
        }
        match facts.proto {
            PROTO_TCP if header_len < 20 => Self::NONE,
            // Before the data offset there are 12 bytes, between it and the
            // checksum 3.
            PROTO_TCP => Self {
                start,
                len: header_len - 3,
                gap: 12,
                long_gap: 15,
            },
            // The ports.
            PROTO_UDP => Self {
                start,
                len: 4,
                ..Self::NONE
            },
            _ => Self {
                start,
                len: 6,
                gap: NO_GAP,
                long_gap: 2,
            },
        }
    }

    /// Whether there are enough bytes for what the parameters ask: one for each
    /// that changes, or for every four bits.
    #[inline(always)]
    #[must_use]
    pub const fn has_room(&self, params: Params) -> bool {
        let (count, len) = (params[1], self.len as u64);
        let most = if params[2] == UNIT_BITS { len * 4 } else { len };
        count >= 1 && count <= MAX_CHANGES as u64 && count <= most
    }

    /// Offset of one of the bytes from the start of the packet.
    #[inline(always)]
    #[must_use]
    pub const fn offset(&self, place: u32) -> u32 {
        // 1 where the place is at or behind the gap; comparisons would be paths of
        // their own to the verifier.
        let behind = self.gap.wrapping_sub(place.wrapping_add(1)) >> 31;
        let far_behind = self.long_gap.wrapping_sub(place.wrapping_add(1)) >> 31;
        self.start
            .wrapping_add(place)
            .wrapping_add(behind)
            .wrapping_add(far_behind * 2)
    }

    /// Change number `k` of a packet, from 0: the byte's offset from the start of
    /// the packet, and the bits to flip in it, never none. `None` behind the last
    /// change, or where the region has no room for them.
    ///
    /// The region's bits or bytes are divided into as many parts as there are
    /// changes, and one of each part is drawn; so no two are the same.
    #[inline(always)]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a place is less than `len`, a u32"
    )]
    pub const fn change(&self, params: Params, draw: u64, k: u64) -> Option<(u32, u8)> {
        let count = params[1];
        if k >= count || !self.has_room(params) {
            return None;
        }
        let draw = random::draw(draw, k);
        let len = self.len as u64;
        let (place, pattern) = if params[2] == UNIT_BITS {
            // In pairs, so that the other bit of one is nobody else's.
            let first = (len * 8 * k / count) & !1;
            let end = (len * 8 * (k + 1) / count) & !1;
            let unit = first + scale(amount(draw), end - first - 1);
            (unit >> 3, 1 << (unit & 7))
        } else {
            let first = len * k / count;
            let end = len * (k + 1) / count;
            let place = first + scale(amount(draw), end - first - 1);
            // Any bits but none.
            (place, 1 + scale(roll(draw), 254) as u8)
        };
        Some((self.offset(place as u32), pattern))
    }
}

/// What damage does to the sum that a checksum is made of (RFC 1071).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Sum of what the damaged bytes were, as words of the wire.
    old: u32,
    /// Sum of what they are.
    new: u32,
}

impl Sums {
    /// Nothing is damaged yet. Not 0, which is not folded to what its equals are.
    pub const NONE: Self = Self {
        old: 0xffff,
        new: 0xffff,
    };

    /// Damages the byte that lies `offset` bytes into what is summed up, and
    /// returns what it becomes.
    ///
    /// Changes that cancel out in the sum would leave the checksum right. Where
    /// this one does that, other bits of the byte flip instead.
    #[inline(always)]
    #[must_use]
    pub const fn damage(&mut self, offset: u32, old: u8, pattern: u8) -> u8 {
        // The byte at an even offset is the upper half of its word.
        let shift = 8 - (offset & 1) * 8;
        self.old += (old as u32) << shift;
        let mut new = old ^ pattern;
        if fold((self.new + ((new as u32) << shift)) as u64) == fold(self.old as u64) {
            new = old ^ other(pattern);
        }
        self.new += (new as u32) << shift;
        new
    }

    /// What the changes were and what they are, as two words of the wire in the
    /// order of memory, whose difference is that of the sums.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> (u16, u16) {
        (fold(self.old as u64).to_be(), fold(self.new as u64).to_be())
    }

    /// The start value from which a device comes to the checksum that fits the
    /// bytes as they were. Start values are in the order of memory.
    #[inline(always)]
    #[must_use]
    pub const fn undone(&self, start: u16) -> u16 {
        let (old, new) = self.words();
        fold(start as u64 + old as u64 + !new as u64)
    }
}

/// Other bits to flip in place of these: of a single bit the one that it makes a
/// pair with.
const fn other(pattern: u8) -> u8 {
    let swapped = (pattern & 0x55) << 1 | (pattern & 0xaa) >> 1;
    // Where that is the same, each pair has both or none.
    if swapped == pattern {
        pattern ^ 1
    } else {
        swapped
    }
}
