//! Which packets a rule means.

use crate::packet::Facts;

/// Direction bit: packets that the target sends.
pub const EGRESS: u32 = 1;
/// Direction bit: packets that the target receives.
pub const INGRESS: u32 = 2;

/// Family bit: IPv4 packets.
pub const FAMILY_V4: u16 = 1;
/// Family bit: IPv6 packets.
pub const FAMILY_V6: u16 = 2;

/// Direction bits as a filter keeps them.
#[must_use]
pub const fn directions(bits: u32) -> u16 {
    (bits & (EGRESS | INGRESS)) as u16
}

/// A conjunction of conditions on a packet.
///
/// "Local" is the target's end of the packet, "peer" the other one, whichever
/// way the packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PacketFilter {
    /// Address of the peer's network, IPv4 as `::ffff:a.b.c.d`, in the order
    /// of the wire, read as native words.
    pub peer_addr: [u32; 4],
    /// Mask of the peer's network; all zero matches every address.
    pub peer_mask: [u32; 4],
    /// Lowest peer port. 0 together with 65535 as the highest: any packet,
    /// with ports or without.
    pub peer_port_first: u16,
    /// Highest peer port.
    pub peer_port_last: u16,
    /// Lowest local port.
    pub local_port_first: u16,
    /// Highest local port.
    pub local_port_last: u16,
    /// [`EGRESS`], [`INGRESS`] or both.
    pub directions: u16,
    /// [`FAMILY_V4`], [`FAMILY_V6`] or both. Addresses alone do not tell: `::/0` takes
    /// in `::ffff:0:0/96`, under which IPv4 addresses are kept here.
    pub families: u16,
    /// IP protocol number; 0 for any. 1 stands for ICMP of both families.
    pub proto: u32,
}

impl PacketFilter {
    /// Matches every packet in both directions.
    pub const ANY: Self = Self {
        peer_addr: [0; 4],
        peer_mask: [0; 4],
        peer_port_first: 0,
        peer_port_last: u16::MAX,
        local_port_first: 0,
        local_port_last: u16::MAX,
        directions: directions(EGRESS | INGRESS),
        families: FAMILY_V4 | FAMILY_V6,
        proto: 0,
    };

    /// Whether a packet that goes in `direction` matches.
    #[inline(always)]
    #[must_use]
    pub const fn matches(&self, facts: &Facts, direction: u32) -> bool {
        let (peer, peer_port, local_port) = if direction == EGRESS {
            (&facts.dst, facts.dst_port, facts.src_port)
        } else {
            (&facts.src, facts.src_port, facts.dst_port)
        };
        // Differences are gathered instead of branched on: each branch would
        // double the paths that the verifier walks for every rule.
        let strange = ((peer[0] ^ self.peer_addr[0]) & self.peer_mask[0])
            | ((peer[1] ^ self.peer_addr[1]) & self.peer_mask[1])
            | ((peer[2] ^ self.peer_addr[2]) & self.peer_mask[2])
            | ((peer[3] ^ self.peer_addr[3]) & self.peer_mask[3]);
        strange == 0
            && self.directions as u32 & direction != 0
            && self.families & family_bit(facts.family) != 0
            && (self.proto == 0 || self.proto == facts.proto)
            && in_range(peer_port, self.peer_port_first, self.peer_port_last)
            && in_range(local_port, self.local_port_first, self.local_port_last)
    }
}

/// The bit of family 4 or 6. They differ in their second bit, and a shift
/// spares the verifier the two paths of a comparison.
#[inline(always)]
const fn family_bit(family: u8) -> u16 {
    FAMILY_V4 << (family >> 1 & 1)
}

#[inline(always)]
const fn in_range(port: u16, first: u16, last: u16) -> bool {
    port >= first && port <= last
}
