//! Which packets of a target a rule means.

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use injector_common::{
    answer::{ACK, SYN},
    packet::{PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP},
};

use super::{
    Target,
    sets::{Numbers, Ranges},
};

/// A conjunction of conditions on a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketFilter {
    /// Which way.
    pub direction: Direction,
    /// Which transports.
    pub protocols: Choice<Protocol>,
    /// The peer's network. Unlike elsewhere, of several that take a peer in the
    /// longest decides.
    pub peers: Choice<Cidr>,
    /// Peers whose addresses are looked up. What they stand for now is in `peers`
    /// too, once that is done.
    pub named_peers: Choice<NamedPeer>,
    /// The target's own network. Of several that take its address in, the longest decides.
    pub locals: Choice<Cidr>,
    /// The peer's ports, within 1..=65535. A packet without ports meets no
    /// condition on them.
    pub peer_ports: Choice<RangeInclusive<u16>>,
    /// The target's own ports, likewise.
    pub local_ports: Choice<RangeInclusive<u16>>,
    /// The interfaces, of those that the target uses.
    pub interfaces: Choice<String>,
    /// The code points of differentiated services.
    pub dscps: Choice<Dscp>,
    /// The marks.
    pub marks: Choice<Mark>,
    /// The lengths of the IP packet, in bytes.
    pub sizes: Choice<RangeInclusive<u32>>,
    /// The flags of a TCP packet: one of these is enough; none for any packet.
    pub tcp_flags: Vec<TcpFlags>,
    /// Whether it begins a conversation. A packet of none meets no condition on that.
    pub states: Choice<State>,
    /// What counts as one packet.
    pub unit: Unit,
}

/// What counts as one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// What the kernel handles as one: a super-packet of segmentation offload counts once.
    #[default]
    Packet,
    /// What is one on the wire: super-packets are split.
    Segment,
}

/// What one option says: any of `these`, or anything if there are none, but
/// none of `not`. Nothing stands in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<T> {
    /// What was asked for.
    pub these: Vec<T>,
    /// What was left out, with `!`.
    pub not: Vec<T>,
}

/// Which way packets go, seen from the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// What the target sends.
    Egress,
    /// What the target receives.
    Ingress,
    /// Both.
    Both,
}

/// Transport protocol of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP, QUIC included.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
    /// The one with this number; never that of TCP or UDP. 1 is ICMP of IPv4
    /// alone.
    Number(u8),
}

/// The name of a host, as a resolver takes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName(pub String);

/// A peer that stands for addresses which may change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedPeer {
    /// A host.
    Host(HostName),
    /// The processes of a target, in network namespaces that nobody else uses.
    Target(Target),
}

/// A network in CIDR notation. Bits past the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    /// First address of the network.
    pub address: IpAddr,
    /// Length of the prefix: at most 32 for IPv4, 128 for IPv6.
    pub prefix: u8,
}

/// A code point of differentiated services, within `0..64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dscp(pub u8);

/// A mark of a packet, or some bits of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// What the masked bits are. None lies outside the mask.
    pub value: u32,
    /// Which bits are looked at, at least one.
    pub mask: u32,
}

/// A condition on the flags of TCP, as the bits that they have in its header.
/// None is in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags {
    /// Those that must be set.
    pub set: u8,
    /// Those that must not.
    pub clear: u8,
}

/// Whether a packet begins a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It does: a SYN without ACK, or the first of UDP.
    New,
    /// Any other packet of TCP or UDP.
    Established,
}

impl State {
    /// Both.
    pub const ALL: [Self; 2] = [Self::New, Self::Established];
}

impl<T> Choice<T> {
    /// No condition.
    pub const ANY: Self = Self {
        these: Vec::new(),
        not: Vec::new(),
    };

    /// Each value, and whether it is left out.
    pub fn each(&self) -> impl Iterator<Item = (&T, bool)> {
        let these = self.these.iter().map(|value| (value, false));
        these.chain(self.not.iter().map(|value| (value, true)))
    }

    /// Whether there is no condition.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.these.is_empty() && self.not.is_empty()
    }
}

impl<T: PartialEq> Choice<T> {
    /// Whether a value meets the condition.
    pub fn takes(&self, value: &T) -> bool {
        (self.these.is_empty() || self.these.contains(value)) && !self.not.contains(value)
    }
}

impl<T> From<Vec<T>> for Choice<T> {
    fn from(these: Vec<T>) -> Self {
        Self {
            these,
            not: Vec::new(),
        }
    }
}

impl Protocol {
    /// The numbers that stand for it in IP headers.
    #[expect(clippy::cast_possible_truncation, reason = "1, 6 and 17")]
    fn numbers(self) -> Vec<u8> {
        match self {
            Self::Tcp => vec![PROTO_TCP as u8],
            Self::Udp => vec![PROTO_UDP as u8],
            Self::Icmp => vec![PROTO_ICMP as u8, PROTO_ICMPV6],
            Self::Number(number) => vec![number],
        }
    }

    /// Whether it is one of the protocols with this set of numbers.
    #[must_use]
    pub fn is_in(self, numbers: &Numbers) -> bool {
        self.numbers().iter().any(|number| numbers.has(*number))
    }
}

impl Choice<Protocol> {
    /// The numbers of the protocols that it takes.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let all = |list: &[Protocol]| {
            Numbers::from_iter(list.iter().flat_map(|protocol| protocol.numbers()))
        };
        let these = if self.these.is_empty() {
            Numbers::ALL
        } else {
            all(&self.these)
        };
        these.without(&all(&self.not))
    }
}

impl Choice<Dscp> {
    /// A bit for each code point that it takes.
    #[must_use]
    pub fn bits(&self) -> u64 {
        (0..64).fold(0, |bits, point| {
            bits | u64::from(self.takes(&Dscp(point))) << point
        })
    }
}

impl Choice<RangeInclusive<u16>> {
    /// The ports that it takes; every one if there is no condition.
    #[must_use]
    pub fn ports(&self) -> Ranges {
        let all = |list: &[RangeInclusive<u16>]| {
            let wide =
                |range: &RangeInclusive<u16>| ((*range.start()).into(), (*range.end()).into());
            Ranges::from_iter(list.iter().map(wide))
        };
        let these = if self.these.is_empty() {
            Ranges::from_iter([(1, u128::from(u16::MAX))])
        } else {
            all(&self.these)
        };
        these.without(&all(&self.not))
    }
}

impl Choice<RangeInclusive<u32>> {
    /// The lengths that it takes.
    #[must_use]
    pub fn lengths(&self) -> Ranges {
        let all = |list: &[RangeInclusive<u32>]| {
            let wide =
                |range: &RangeInclusive<u32>| ((*range.start()).into(), (*range.end()).into());
            Ranges::from_iter(list.iter().map(wide))
        };
        let these = if self.these.is_empty() {
            Ranges::from_iter([(0, u128::from(u32::MAX))])
        } else {
            all(&self.these)
        };
        these.without(&all(&self.not))
    }
}

impl Cidr {
    /// First and last address, as numbers.
    fn ends(&self) -> (u128, u128) {
        let (first, host_bits) = match self.address {
            IpAddr::V4(v4) => (v4.to_bits().into(), 32 - u32::from(self.prefix)),
            IpAddr::V6(v6) => (v6.to_bits(), 128 - u32::from(self.prefix)),
        };
        let host = 1u128
            .checked_shl(host_bits)
            .map_or(u128::MAX, |bit| bit - 1);
        (first, first | host)
    }
}

impl Choice<Cidr> {
    /// Whether one network that was asked for says all.
    #[must_use]
    pub fn single(&self) -> Option<&Cidr> {
        match (&self.these[..], &self.not[..]) {
            ([network], []) => Some(network),
            (_, _) => None,
        }
    }

    /// The IPv4 and the IPv6 addresses that it takes.
    #[must_use]
    pub fn addresses(&self) -> [Ranges; 2] {
        [(true, u32::MAX.into()), (false, u128::MAX)].map(|(v4, last)| {
            let networks = [(&self.these, true), (&self.not, false)];
            let networks = networks.into_iter().flat_map(|(list, taken)| {
                let family = list.iter().filter(|cidr| cidr.address.is_ipv4() == v4);
                family.map(move |cidr| (cidr.ends(), taken))
            });
            Ranges::of_longest(networks.collect(), last, self.these.is_empty())
        })
    }
}

impl TcpFlags {
    /// Whether flags meet the condition.
    #[must_use]
    pub const fn takes(self, flags: u8) -> bool {
        flags & self.set == self.set && flags & self.clear == 0
    }
}

impl PacketFilter {
    /// Every packet that goes this way.
    #[must_use]
    pub const fn new(direction: Direction) -> Self {
        Self {
            direction,
            protocols: Choice::ANY,
            peers: Choice::ANY,
            named_peers: Choice::ANY,
            locals: Choice::ANY,
            peer_ports: Choice::ANY,
            local_ports: Choice::ANY,
            interfaces: Choice::ANY,
            dscps: Choice::ANY,
            marks: Choice::ANY,
            sizes: Choice::ANY,
            tcp_flags: Vec::new(),
            states: Choice::ANY,
            unit: Unit::Packet,
        }
    }

    /// Whether super-packets are split before they are judged.
    #[must_use]
    pub const fn splits(&self) -> bool {
        matches!(self.unit, Unit::Segment)
    }

    /// The protocols that the conditions beside the one on protocols can be
    /// met by.
    #[must_use]
    pub fn possible_protocols(&self) -> Numbers {
        let of = |list: &[Protocol]| Choice::from(list.to_vec()).numbers();
        let ported = !self.peer_ports.is_any() || !self.local_ports.is_any();
        if !self.tcp_flags.is_empty() {
            of(&[Protocol::Tcp])
        } else if ported || !self.states.is_any() {
            of(&[Protocol::Tcp, Protocol::Udp])
        } else {
            Numbers::ALL
        }
    }

    /// The protocols of packets that can match.
    #[must_use]
    pub fn protocol_numbers(&self) -> Numbers {
        self.protocols.numbers().and(&self.possible_protocols())
    }

    /// The one network that says all of the peers. A name can come to stand for
    /// more addresses, so it never says all.
    #[must_use]
    pub fn single_peer(&self) -> Option<&Cidr> {
        self.peers.single().filter(|_| self.named_peers.is_any())
    }

    /// Whether a TCP packet can match.
    #[must_use]
    pub fn takes_tcp(&self) -> bool {
        Protocol::Tcp.is_in(&self.protocol_numbers())
    }

    /// Whether nothing but TCP can match.
    #[must_use]
    pub fn takes_tcp_alone(&self) -> bool {
        let tcp = Choice::from(vec![Protocol::Tcp]).numbers();
        self.protocol_numbers().without(&tcp).is_empty()
    }

    /// Whether an echo can match.
    #[must_use]
    pub fn takes_icmp(&self) -> bool {
        Protocol::Icmp.is_in(&self.protocol_numbers())
    }

    /// Whether it has to be remembered which packets of UDP were seen, whichever
    /// way they went.
    #[must_use]
    pub fn follows_conversations(&self) -> bool {
        !self.states.is_any() && Protocol::Udp.is_in(&self.protocol_numbers())
    }

    /// Whether a TCP packet with these flags meets the conditions on them.
    #[must_use]
    pub fn takes_flags(&self, flags: u8) -> bool {
        let begins = flags & (SYN | ACK) == SYN;
        let state = if begins {
            State::New
        } else {
            State::Established
        };
        self.takes_these_flags(flags) && self.states.takes(&state)
    }

    /// Whether a TCP packet with these flags meets the condition on flags alone.
    #[must_use]
    pub fn takes_these_flags(&self, flags: u8) -> bool {
        let mut wanted = self.tcp_flags.iter();
        self.tcp_flags.is_empty() || wanted.any(|wanted| wanted.takes(flags))
    }

    /// Whether a packet can match whose header of TCP or UDP is not known, such as a
    /// later fragment, as far as flags and conversations go.
    #[must_use]
    pub const fn takes_headless(&self) -> bool {
        self.tcp_flags.is_empty() && self.states.is_any()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NamedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => name.fmt(f),
            Self::Target(target) => target.fmt(f),
        }
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
