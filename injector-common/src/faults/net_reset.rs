//! `net-reset`: both ends of a TCP connection are told that it is over.

use super::Params;
use crate::{
    answer::{ACK, RST, SYN, Segment},
    filter::EGRESS,
};

/// Both ends are told.
pub const END_BOTH: u64 = 0;
/// The target's end alone.
pub const END_LOCAL: u64 = 1;
/// The peer's end alone.
pub const END_PEER: u64 = 2;

/// `RuleEntry::params` of a reset: one of the constants `END_…`; how many bytes
/// of payload go by before, and for how many ns.
#[must_use]
pub const fn params(end: u64, after_bytes: u64, after_ns: u64) -> Params {
    [end, after_bytes, after_ns, 0]
}

/// A connection as one rule sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StreamKey {
    /// The target's address.
    pub local: [u32; 4],
    /// The peer's.
    pub peer: [u32; 4],
    /// The target's port.
    pub local_port: u16,
    /// The peer's.
    pub peer_port: u16,
    /// The rule's position.
    pub rule: u32,
}

/// What was seen of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StreamSeen {
    /// Boot time in ns of the first packet.
    pub first_ns: u64,
    /// Bytes of payload, what was sent again included.
    pub bytes: u64,
}

/// Whether a rule has to remember connections.
#[inline(always)]
#[must_use]
pub const fn counts(params: Params) -> bool {
    params[1] | params[2] != 0
}

/// Whether a segment belongs to a connection that is open, and not to its
/// beginning or its sudden end.
#[inline(always)]
#[must_use]
pub const fn is_open(flags: u8) -> bool {
    flags & (ACK | SYN | RST) == ACK
}

/// Whether a connection has lasted long enough, before the present packet.
#[inline(always)]
#[must_use]
pub const fn is_due(params: Params, seen: StreamSeen, now_ns: u64) -> bool {
    seen.bytes >= params[1] && now_ns.saturating_sub(seen.first_ns) >= params[2]
}

/// Whether the sender of a packet that goes in `direction` is told, by an answer.
#[inline(always)]
#[must_use]
pub const fn tells_sender(params: Params, direction: u32) -> bool {
    let sender = if direction == EGRESS {
        END_LOCAL
    } else {
        END_PEER
    };
    params[0] == END_BOTH || params[0] == sender
}

/// Whether its receiver is told, by what becomes of the packet.
#[inline(always)]
#[must_use]
pub const fn tells_receiver(params: Params, direction: u32) -> bool {
    let receiver = if direction == EGRESS {
        END_PEER
    } else {
        END_LOCAL
    };
    params[0] == END_BOTH || params[0] == receiver
}

/// The reset in a segment's place: its receiver waits for the same number.
#[inline(always)]
#[must_use]
pub const fn in_place(segment: Segment) -> Segment {
    Segment {
        flags: RST | ACK,
        ..segment
    }
}
