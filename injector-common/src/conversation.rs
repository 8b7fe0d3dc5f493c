//! Which packets begin a conversation and which belong to one.
//!
//! TCP says so itself, by its flags. For UDP a conversation is what two ports
//! exchange, in both directions; its first packet that a hook sees is the one
//! that begins it.

use crate::{
    answer::{ACK, SYN},
    filter::EGRESS,
    packet::{Facts, PROTO_UDP},
};

/// [`Facts::state`] of a packet that belongs to no conversation, as far as can
/// be told: neither TCP nor UDP, or a later fragment.
pub const STATE_NONE: u8 = 0;
/// [`Facts::state`] of a packet that begins a conversation.
pub const STATE_NEW: u8 = 1;
/// [`Facts::state`] of any other packet of a conversation.
pub const STATE_ESTABLISHED: u8 = 2;

/// How far to the left the bits lie that programs at interfaces remember.
pub const AT_INTERFACES: u32 = 0;
/// How far to the left those lie that programs at sockets remember: a packet passes
/// both, and is no answer to itself.
pub const AT_SOCKETS: u32 = 4;

/// The state of a TCP packet with these flags.
#[inline(always)]
#[must_use]
pub const fn tcp_state(flags: u16) -> u8 {
    if flags & (SYN | ACK) as u16 == SYN as u16 {
        STATE_NEW
    } else {
        STATE_ESTABLISHED
    }
}

/// A conversation, the same for both of its directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Conversation {
    /// The lower end's address.
    pub low: [u32; 4],
    /// The higher end's address.
    pub high: [u32; 4],
    /// The lower end's port.
    pub low_port: u16,
    /// The higher end's port.
    pub high_port: u16,
}

impl Conversation {
    /// The conversation of a packet, if it is one that has to be remembered,
    /// and the bit by which its way and the hook are remembered.
    #[inline(always)]
    #[must_use]
    pub const fn of(facts: &Facts, direction: u32) -> Option<(Self, u64)> {
        if facts.proto != PROTO_UDP || facts.src_port | facts.dst_port == 0 {
            return None;
        }
        let hook = if direction == EGRESS { 1 } else { 2 };
        let (src, dst) = (facts.src, facts.dst);
        let from = (pair(src[0], src[1]), pair(src[2], src[3]), facts.src_port);
        let to = (pair(dst[0], dst[1]), pair(dst[2], dst[3]), facts.dst_port);
        let up = from.0 < to.0
            || (from.0 == to.0 && (from.1 < to.1 || (from.1 == to.1 && from.2 <= to.2)));
        Some(if up {
            let conversation = Self {
                low: src,
                high: dst,
                low_port: facts.src_port,
                high_port: facts.dst_port,
            };
            (conversation, hook)
        } else {
            let conversation = Self {
                low: dst,
                high: src,
                low_port: facts.dst_port,
                high_port: facts.src_port,
            };
            (conversation, hook << 2)
        })
    }
}

const fn pair(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// The state of a packet with this `bit`, in a conversation of which `seen` is
/// remembered, both of one place.
///
/// On loopback one packet passes both hooks, and is no answer to itself: it is
/// new to a hook that has seen none of its way, unless there was an answer.
#[inline(always)]
#[must_use]
pub const fn udp_state(seen: u64, bit: u64) -> u8 {
    let answers = if bit & 0b0011 != 0 { 0b1100 } else { 0b0011 };
    if seen & (bit | answers) == 0 {
        STATE_NEW
    } else {
        STATE_ESTABLISHED
    }
}
