//! Which packets a rule means.

use crate::packet::{Facts, TCP_FLAGS_KNOWN};

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
/// How many marks a rule can name.
pub const MAX_MARKS: usize = 4;
/// How many ranges of sizes a rule can name.
pub const MAX_SIZE_RANGES: usize = 4;

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
    /// A bit for each byte that the flags in [`Facts::tcp_flags`] may be, where they
    /// are known.
    pub tcp_flags: [u64; 4],
    /// Address of the peer's network, IPv4 as `::ffff:a.b.c.d`, in the order
    /// of the wire, read as native words.
    pub peer_addr: [u32; 4],
    /// Mask of the peer's network; all zero matches every address.
    pub peer_mask: [u32; 4],
    /// Marks, each with the bits of it that are looked at.
    pub marks: [[u32; 2]; MAX_MARKS],
    /// Ranges of sizes, of which [`Facts::size`] must be in one: the first size, and by how
    /// much the last one is larger. Counted around the end of the numbers, so that all
    /// sizes but a range are a range as well.
    pub sizes: [[u32; 2]; MAX_SIZE_RANGES],
    /// The peer's ports. [`PortSet::ANY`] takes in packets without ports, too.
    pub peer_ports: PortSet,
    /// The target's own ports, likewise.
    pub local_ports: PortSet,
    /// [`PEERS_BY_MASK`], [`PEERS_LISTED`] or [`PEERS_EXCEPTED`].
    pub peers: u32,
    /// The same of the target's own address, of which [`PEERS_BY_MASK`] takes any.
    pub locals: u32,
    /// [`EGRESS`], [`INGRESS`] or both.
    pub directions: u16,
    /// [`FAMILY_V4`], [`FAMILY_V6`] or both. Addresses alone do not tell: `::/0` takes
    /// in `::ffff:0:0/96`, under which IPv4 addresses are kept here.
    pub families: u16,
    /// A bit for each state that [`Facts::state`] may be.
    pub states: u16,
    /// 1 when a packet may match whose TCP flags are not known.
    pub flagless: u16,
    /// A bit for each set of `marks` from which [`Facts::mark`] may differ: it is the one
    /// whose number has bit i set if the packet's mark is not mark i.
    pub marks_taken: u16,
    /// Zero.
    pub _pad: [u16; 3],
}

impl PacketFilter {
    /// Matches every packet in both directions.
    pub const ANY: Self = Self {
        protocols: [u64::MAX; 4],
        dscps: u64::MAX,
        tcp_flags: [u64::MAX; 4],
        peer_addr: [0; 4],
        peer_mask: [0; 4],
        marks: [[0; 2]; MAX_MARKS],
        sizes: [[0, u32::MAX]; MAX_SIZE_RANGES],
        peer_ports: PortSet::ANY,
        local_ports: PortSet::ANY,
        peers: PEERS_BY_MASK,
        locals: PEERS_BY_MASK,
        directions: directions(EGRESS | INGRESS),
        families: FAMILY_V4 | FAMILY_V6,
        states: u16::MAX,
        flagless: 1,
        marks_taken: u16::MAX,
        _pad: [0; 3],
    };

    /// Whether a packet that goes in `direction` matches, but for the peer
    /// table: see [`PacketFilter::takes_peer`] and [`PacketFilter::takes_local`].
    #[inline(always)]
    #[must_use]
    pub const fn matches(&self, facts: &Facts, direction: u32) -> bool {
        self.matches_headers(facts, direction)
            && self.takes_ports(facts, direction)
            && self.takes_frame(facts)
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

    /// Whether a packet's mark and size match.
    #[inline(always)]
    #[must_use]
    pub const fn takes_frame(&self, facts: &Facts) -> bool {
        let [m0, m1, m2, m3] = self.marks;
        let differing = differs(facts.mark, m0)
            | differs(facts.mark, m1) << 1
            | differs(facts.mark, m2) << 2
            | differs(facts.mark, m3) << 3;
        let [s0, s1, s2, s3] = self.sizes;
        let outside = is_outside(facts.size, s0)
            & is_outside(facts.size, s1)
            & is_outside(facts.size, s2)
            & is_outside(facts.size, s3);
        (self.marks_taken >> differing) as u32 & !outside & 1 != 0
    }

    /// [`PacketFilter::matches`] of a filter that takes every port, mark and size.
    #[inline(always)]
    #[must_use]
    pub const fn matches_headers(&self, facts: &Facts, direction: u32) -> bool {
        let peer = if direction == EGRESS {
            &facts.dst
        } else {
            &facts.src
        };
        // Differences are gathered instead of branched on: each branch would
        // double the paths that the verifier walks for every rule.
        let addresses = self.differs_from(peer);
        let flags = (facts.tcp_flags & 0xff) as usize;
        let of_flags = self.tcp_flags[flags >> 6] >> (flags & 63);
        let known = (facts.tcp_flags / TCP_FLAGS_KNOWN) as u64;
        let protocols = self.protocols[(facts.number >> 6) as usize];
        let outside = !(protocols >> (facts.number & 63))
            | !(self.dscps >> (facts.dscp & 63))
            | !(self.states as u64 >> (facts.state & 3))
            | !(self.families as u64 >> (facts.family >> 1 & 1))
            | !(known & of_flags | !known & self.flagless as u64);
        let strange = addresses as u64 | (outside & 1);
        strange == 0 && self.directions as u32 & direction != 0
    }

    /// Whether what is at the other end of a socket, or is to be, matches, but for the peer table;
    /// the address as [`Facts::dst`], of `family` 4 or 6.
    #[inline(always)]
    #[must_use]
    pub const fn takes_end(&self, family: u8, address: &[u32; 4], port: u16) -> bool {
        let taken = self.families >> (family >> 1 & 1) & 1 != 0;
        taken && self.differs_from(address) == 0 && self.peer_ports.holds(port)
    }

    /// Bits in which an address is not of the peer's network.
    #[inline(always)]
    const fn differs_from(&self, peer: &[u32; 4]) -> u32 {
        ((peer[0] ^ self.peer_addr[0]) & self.peer_mask[0])
            | ((peer[1] ^ self.peer_addr[1]) & self.peer_mask[1])
            | ((peer[2] ^ self.peer_addr[2]) & self.peer_mask[2])
            | ((peer[3] ^ self.peer_addr[3]) & self.peer_mask[3])
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
        takes(self.peers, found)
    }

    /// Whether the peer table must be asked for the target's own address.
    #[inline(always)]
    #[must_use]
    pub const fn asks_for_local(&self) -> bool {
        self.locals != PEERS_BY_MASK
    }

    /// Whether an address of the target's matches of which the peer table says this.
    #[inline(always)]
    #[must_use]
    pub const fn takes_local(&self, found: Option<u32>) -> bool {
        takes(self.locals, found)
    }
}

/// 1 where a packet's mark is not this one, as far as the mask goes.
///
/// Here and below a carry is what is asked for: of a comparison the compiler makes a
/// branch, and the verifier two paths.
#[inline(always)]
const fn differs(mark: u32, [value, mask]: [u32; 2]) -> u32 {
    let bits = (mark ^ value) & mask;
    ((bits as u64 + u32::MAX as u64) >> 32) as u32
}

/// 1 where a size is not in this range.
#[inline(always)]
const fn is_outside(size: u32, [first, span]: [u32; 2]) -> u32 {
    ((size.wrapping_sub(first) as u64 + !span as u64) >> 32) as u32
}

/// Whether an address is meant of which the table says this.
#[inline(always)]
const fn takes(how: u32, found: Option<u32>) -> bool {
    match found {
        Some(value) => value == PEER_IN,
        None => how == PEERS_EXCEPTED,
    }
}

/// What the peer table knows an address by. The longest network that takes the
/// name in decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct PeerName {
    /// The key of the rule's version, doubled, and 1 more for IPv6; with the highest bit set
    /// for addresses of the target's own end.
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

    /// The name of the same address at the target's own end.
    #[inline(always)]
    #[must_use]
    pub const fn at_local_end(self) -> Self {
        Self {
            owner: self.owner | 1 << 31,
            ..self
        }
    }

    /// The name of the target's own end of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn of_local(rule: u32, facts: &Facts, direction: u32) -> Self {
        let addr = if direction == EGRESS {
            facts.src
        } else {
            facts.dst
        };
        Self::new(rule, facts.family, addr).at_local_end()
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
