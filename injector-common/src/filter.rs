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

/// [`PacketFilter::peers`]: address and mask say all of the peer.
pub const PEERS_BY_MASK: u32 = 0;
/// [`PacketFilter::peers`]: the peer table is asked; a peer that it does not
/// know does not match.
pub const PEERS_LISTED: u32 = 1;
/// [`PacketFilter::peers`]: the peer table is asked; a peer that it does not
/// know matches.
pub const PEERS_EXCEPTED: u32 = 2;

/// Value of a network in the peer table: its addresses match.
pub const PEER_IN: u32 = 1;
/// Value of a network in the peer table: its addresses do not match.
pub const PEER_OUT: u32 = 0;

/// How many ranges of ports a rule can name for one end.
pub const MAX_PORT_RANGES: usize = 8;

/// Direction bits as a filter keeps them.
#[must_use]
pub const fn directions(bits: u32) -> u16 {
    (bits & (EGRESS | INGRESS)) as u16
}

/// A set of ports.
///
/// The ranges are apart and in their order, those that are not needed
/// [`PortSet::NO_RANGE`]. All but so many ranges are one more range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PortSet {
    /// First and last port of each range.
    pub ranges: [[u16; 2]; MAX_PORT_RANGES + 1],
}

impl PortSet {
    /// A range that holds no port, and is behind all others.
    pub const NO_RANGE: [u16; 2] = [u16::MAX, 0];

    /// Holds no port.
    pub const NONE: Self = Self {
        ranges: [Self::NO_RANGE; MAX_PORT_RANGES + 1],
    };

    /// Holds every port, and 0, which stands for none.
    pub const ANY: Self = {
        let mut ranges = Self::NONE.ranges;
        ranges[0] = [0, u16::MAX];
        Self { ranges }
    };

    /// Whether a port is in the set.
    #[inline(always)]
    #[must_use]
    pub const fn holds(&self, port: u16) -> bool {
        let mut index = 0;
        while index < self.ranges.len() {
            let [first, last] = self.ranges[index];
            if port < first {
                return false;
            }
            if port <= last {
                return true;
            }
            index += 1;
        }
        false
    }
}

/// A conjunction of conditions on a packet.
///
/// "Local" is the target's end of the packet, "peer" the other one, whichever
/// way the packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PacketFilter {
    /// A bit for each protocol number that [`Facts::number`] may be.
    pub protocols: [u64; 4],
    /// A bit for each code point that [`Facts::dscp`] may be.
    pub dscps: u64,
    /// Address of the peer's network, IPv4 as `::ffff:a.b.c.d`, in the order
    /// of the wire, read as native words.
    pub peer_addr: [u32; 4],
    /// Mask of the peer's network; all zero matches every address.
    pub peer_mask: [u32; 4],
    /// The peer's ports. [`PortSet::ANY`] takes in packets without ports, too.
    pub peer_ports: PortSet,
    /// The target's own ports, likewise.
    pub local_ports: PortSet,
    /// [`PEERS_BY_MASK`], [`PEERS_LISTED`] or [`PEERS_EXCEPTED`].
    pub peers: u32,
    /// What [`Facts::mark`] must be, as far as the mask goes.
    pub mark: u32,
    /// Which bits of the mark are looked at.
    pub mark_mask: u32,
    /// 1 when the mark must differ instead.
    pub mark_differs: u32,
    /// The smallest [`Facts::size`]. Counted from here and around the end of
    /// the numbers, so that all sizes but a range are a range as well.
    pub size_first: u32,
    /// How much larger the largest is.
    pub size_span: u32,
    /// What [`Facts::tcp_flags`] must be, as far as the mask goes.
    pub tcp_flags: u16,
    /// Which TCP flags are looked at.
    pub tcp_flags_mask: u16,
    /// [`EGRESS`], [`INGRESS`] or both.
    pub directions: u16,
    /// [`FAMILY_V4`], [`FAMILY_V6`] or both. Addresses alone do not tell: `::/0` takes
    /// in `::ffff:0:0/96`, under which IPv4 addresses are kept here.
    pub families: u16,
    /// A bit for each state that [`Facts::state`] may be.
    pub states: u16,
    /// Zero.
    pub _pad: [u16; 3],
}

impl PacketFilter {
    /// Matches every packet in both directions.
    pub const ANY: Self = Self {
        protocols: [u64::MAX; 4],
        dscps: u64::MAX,
        peer_addr: [0; 4],
        peer_mask: [0; 4],
        peer_ports: PortSet::ANY,
        local_ports: PortSet::ANY,
        peers: PEERS_BY_MASK,
        mark: 0,
        mark_mask: 0,
        mark_differs: 0,
        size_first: 0,
        size_span: u32::MAX,
        tcp_flags: 0,
        tcp_flags_mask: 0,
        directions: directions(EGRESS | INGRESS),
        families: FAMILY_V4 | FAMILY_V6,
        states: u16::MAX,
        _pad: [0; 3],
    };

    /// Whether a packet that goes in `direction` matches, but for the peer
    /// table: see [`PacketFilter::takes_peer`].
    #[inline(always)]
    #[must_use]
    pub const fn matches(&self, facts: &Facts, direction: u32) -> bool {
        self.matches_but_ports(facts, direction) && self.takes_ports(facts, direction)
    }

    /// Whether both ports of a packet that goes in `direction` match.
    #[inline(always)]
    #[must_use]
    pub const fn takes_ports(&self, facts: &Facts, direction: u32) -> bool {
        let (peer_port, local_port) = if direction == EGRESS {
            (facts.dst_port, facts.src_port)
        } else {
            (facts.src_port, facts.dst_port)
        };
        self.peer_ports.holds(peer_port) && self.local_ports.holds(local_port)
    }

    /// [`PacketFilter::matches`] of a filter that takes every port.
    #[inline(always)]
    #[must_use]
    pub const fn matches_but_ports(&self, facts: &Facts, direction: u32) -> bool {
        let peer = if direction == EGRESS {
            &facts.dst
        } else {
            &facts.src
        };
        // Differences are gathered instead of branched on: each branch would
        // double the paths that the verifier walks for every rule.
        let addresses = ((peer[0] ^ self.peer_addr[0]) & self.peer_mask[0])
            | ((peer[1] ^ self.peer_addr[1]) & self.peer_mask[1])
            | ((peer[2] ^ self.peer_addr[2]) & self.peer_mask[2])
            | ((peer[3] ^ self.peer_addr[3]) & self.peer_mask[3]);
        let mark = ((facts.mark ^ self.mark) & self.mark_mask != 0) as u32 ^ self.mark_differs;
        let flags = (facts.tcp_flags ^ self.tcp_flags) & self.tcp_flags_mask;
        let protocols = self.protocols[(facts.number >> 6) as usize];
        let outside = !(protocols >> (facts.number & 63))
            | !(self.dscps >> (facts.dscp & 63))
            | !(self.states as u64 >> (facts.state & 3))
            | !(self.families as u64 >> (facts.family >> 1 & 1));
        let strange = (addresses | mark | flags as u32) as u64 | (outside & 1);
        strange == 0
            && self.directions as u32 & direction != 0
            && facts.size.wrapping_sub(self.size_first) <= self.size_span
    }

    /// Whether the peer table must be asked, too.
    #[inline(always)]
    #[must_use]
    pub const fn asks_table(&self) -> bool {
        self.peers != PEERS_BY_MASK
    }

    /// Whether a peer matches of which the peer table says this.
    #[inline(always)]
    #[must_use]
    pub const fn takes_peer(&self, found: Option<u32>) -> bool {
        match found {
            Some(value) => value == PEER_IN,
            None => self.peers == PEERS_EXCEPTED,
        }
    }
}

/// What the peer table knows an address by. The longest network that takes the
/// name in decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct PeerName {
    /// The key of the rule's version, doubled, and 1 more for IPv6.
    pub owner: u32,
    /// The address, as [`Facts::src`] has it.
    pub addr: [u32; 4],
}

impl PeerName {
    /// Length of a prefix that takes in one address of one rule.
    pub const BITS: u32 = 5 * u32::BITS;

    /// The name of an address for the rule with this key; `family` is 4 or 6.
    #[inline(always)]
    #[must_use]
    pub const fn new(rule: u32, family: u8, addr: [u32; 4]) -> Self {
        Self {
            owner: rule << 1 | (family >> 1 & 1) as u32,
            addr,
        }
    }

    /// The name of the peer of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn of(rule: u32, facts: &Facts, direction: u32) -> Self {
        let addr = if direction == EGRESS {
            facts.dst
        } else {
            facts.src
        };
        Self::new(rule, facts.family, addr)
    }

    /// Length of the prefix of names that stand for a network: so many bits of
    /// an address, of which IPv4 addresses have 32.
    #[must_use]
    pub const fn prefix(family: u8, bits: u8) -> u32 {
        u32::BITS + if family == 4 { 96 } else { 0 } + bits as u32
    }
}
