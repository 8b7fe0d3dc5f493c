//! Whether any packet can meet a filter, and be what a kind acts on.
//!
//! What is refused here is certain: no packet could be hit, whatever the network
//! brings. A rule that merely will not meet its packet is the user's to know.

use std::ops::RangeInclusive;

use injector_common::packet::{PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP};

use crate::{
    error::SpecError,
    model::{Choice, Direction, PacketFilter, sets::Ranges},
    spec::packet::SIZES,
};

/// What a kind needs of a packet to act on it, beside what the filter asks.
pub(in crate::faults) struct Needs {
    /// What is said of a protocol whose packets it never acts on, as in "have no…".
    pub(in crate::faults) lacks: &'static str,
    /// Which protocols it acts on, in words.
    pub(in crate::faults) protocols: &'static str,
    /// Whether it acts on packets of a transport.
    pub(in crate::faults) takes: fn(Transport) -> bool,
    /// How many bytes it needs behind the transport header.
    pub(in crate::faults) payload: u32,
    /// Whether it acts on TCP packets with these flags.
    pub(in crate::faults) flags: fn(u8) -> bool,
    /// Which flags of TCP it acts on, in words.
    pub(in crate::faults) flags_in_words: &'static str,
    /// Whether it answers packets, and so leaves alone what goes to many.
    pub(in crate::faults) answers: bool,
}

impl Needs {
    /// Every packet will do.
    pub(in crate::faults) const NOTHING: Self = Self {
        lacks: "",
        protocols: "any",
        takes: |_| true,
        payload: 0,
        flags: |_| true,
        flags_in_words: "any",
        answers: false,
    };
}

/// A protocol with a header that programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::faults) enum Transport {
    Tcp,
    Udp,
    /// That of the packet's own family.
    Icmp,
    /// Any other.
    Other,
}

impl Transport {
    /// The one with this number, in IPv4 (`v4`) or in IPv6.
    fn of(number: u8, v4: bool) -> Self {
        match u32::from(number) {
            PROTO_TCP => Self::Tcp,
            PROTO_UDP => Self::Udp,
            PROTO_ICMP if v4 => Self::Icmp,
            _ if number == PROTO_ICMPV6 && !v4 => Self::Icmp,
            _ => Self::Other,
        }
    }

    /// Length of its shortest header in bytes.
    const fn header_len(self) -> u32 {
        match self {
            Self::Tcp => 20,
            Self::Udp | Self::Icmp => 8,
            Self::Other => 0,
        }
    }
}

/// Packets of one family and protocol, as far as a filter takes them.
struct Candidate {
    number: u8,
    transport: Transport,
    /// The lengths that such a packet can have, in bytes.
    lengths: RangeInclusive<u32>,
    /// Whether the filter takes an address that such a packet can have.
    addressed: bool,
    /// Whether the ports are those of DHCP alone, which no rule touches.
    protected: bool,
}

/// All candidates of a filter that a kind may act on.
fn candidates(filter: &PacketFilter, needs: &Needs, headers: bool) -> Vec<Candidate> {
    let numbers = filter.protocol_numbers();
    let families = filter.peers.addresses();
    let own = filter.locals.addresses();
    let named = !filter.named_peers.is_any();
    let dhcp = has_ports_of_dhcp(filter);
    let mut all = Vec::new();
    for (v4, (peers, own)) in [true, false].into_iter().zip(families.iter().zip(&own)) {
        if (peers.is_empty() && !named) || own.is_empty() {
            continue;
        }
        // A name may come to stand for any address.
        let peers = (!named).then_some(peers);
        let addressed = !needs.answers || has_answerable(peers, own, v4, filter.direction);
        // An IPv4 packet states its length with its header, an IPv6 packet without.
        let (ip_len, longest) = if v4 { (20, 65_535) } else { (40, *SIZES.end()) };
        for number in (0..=u8::MAX).filter(|number| numbers.has(*number)) {
            let transport = Transport::of(number, v4);
            if (needs.takes)(transport) {
                let header_len = if headers { transport.header_len() } else { 0 };
                all.push(Candidate {
                    number,
                    transport,
                    lengths: ip_len + header_len + needs.payload..=longest,
                    addressed,
                    protected: dhcp && transport == Transport::Udp,
                });
            }
        }
    }
    all
}

/// Whether a packet between one of these peers, or any, and one of these addresses of the
/// target's can be answered: one from nobody is not, nor one to many.
fn has_answerable(peers: Option<&Ranges>, own: &Ranges, v4: bool, direction: Direction) -> bool {
    let (many, nobody) = if v4 {
        ((0xe000_0000, u32::MAX.into()), (0, 0))
    } else {
        ((0xff << 120, u128::MAX), (0, 0))
    };
    let left = |ends: Option<&Ranges>, out: (u128, u128)| {
        ends.is_none_or(|ends| !ends.without(&Ranges::from_iter([out])).is_empty())
    };
    let leaves = left(peers, many) && left(Some(own), nobody);
    let arrives = left(peers, nobody) && left(Some(own), many);
    match direction {
        Direction::Egress => leaves,
        Direction::Ingress => arrives,
        Direction::Both => leaves || arrives,
    }
}

/// Whether the filter takes TCP packets with some of the flags that a kind acts on.
fn has_flags(filter: &PacketFilter, needs: &Needs) -> bool {
    (0..=u8::MAX).any(|flags| filter.takes_flags(flags) && (needs.flags)(flags))
}

/// Refuses a filter that takes no packet of which rules speak, as far as that is not
/// a matter of one condition alone.
pub(super) fn check_filter(filter: &PacketFilter) -> Result<(), SpecError> {
    let headers =
        !filter.peer_ports.is_any() || !filter.local_ports.is_any() || !filter.takes_headless();
    let mut possible = candidates(filter, &Needs::NOTHING, headers);
    if possible.is_empty() && !filter.locals.is_any() {
        let problem = "leaves nothing that could match: it has no address of the peers' family";
        return Err(SpecError::new(
            "local",
            problem,
            "networks of a family that peers have",
        ));
    }
    check_protected(&mut possible)?;
    check_lengths(filter, &possible)
}

/// Takes out what no rule touches, and refuses a filter that leaves nothing else.
fn check_protected(possible: &mut Vec<Candidate>) -> Result<(), SpecError> {
    let before = possible.len();
    possible.retain(|one| !one.protected);
    if possible.is_empty() && before > 0 {
        return Err(SpecError::new(
            "peer-port",
            "leaves nothing but DHCP, which no rule ever touches: the host would lose its address",
            "ports of which not both are those of DHCP",
        ));
    }
    Ok(())
}

/// Refuses a filter that takes no packet on which a kind acts.
///
/// # Errors
///
/// Where a protocol that was asked for, all flags, all sizes or all peers are such that
/// the kind never acts on them; the field is that condition's.
pub(in crate::faults) fn check_possible(
    filter: &PacketFilter,
    needs: &Needs,
) -> Result<(), SpecError> {
    let mut possible = candidates(filter, needs, true);
    let mut asked = filter.protocols.these.iter();
    let numbers: Vec<u8> = possible.iter().map(|one| one.number).collect();
    let lacking = asked.find(|protocol| !protocol.is_in(&numbers.iter().copied().collect()));
    if possible.is_empty() || lacking.is_some() {
        let problem = match lacking {
            Some(protocol) => format!("{protocol} packets {}", needs.lacks),
            None => format!("what it leaves: such packets {}", needs.lacks),
        };
        return Err(SpecError::new("proto", problem, needs.protocols));
    }
    check_protected(&mut possible)?;
    if !has_flags(filter, needs) {
        possible.retain(|one| one.transport != Transport::Tcp);
        if possible.is_empty() {
            return Err(no_flags(filter, needs));
        }
    }
    possible.retain(|one| one.addressed);
    if possible.is_empty() {
        let problem = "leaves only packets to many or from nobody, which are never answered";
        let allowed = "peers that are single hosts";
        return Err(SpecError::new("peer", problem, allowed));
    }
    check_lengths(filter, &possible)
}

/// Which condition leaves no flags that the kind acts on.
fn no_flags(filter: &PacketFilter, needs: &Needs) -> SpecError {
    let alone = PacketFilter {
        states: Choice::ANY,
        ..filter.clone()
    };
    let field = if has_flags(&alone, needs) {
        "state"
    } else {
        "tcp-flags"
    };
    let problem = "leaves only TCP packets that this kind never acts on";
    SpecError::new(field, problem, needs.flags_in_words)
}

/// Refuses sizes that no candidate has.
fn check_lengths(filter: &PacketFilter, possible: &[Candidate]) -> Result<(), SpecError> {
    let sizes = filter.sizes.lengths();
    let ends = |lengths: &RangeInclusive<u32>| {
        Ranges::from_iter([((*lengths.start()).into(), (*lengths.end()).into())])
    };
    if possible
        .iter()
        .any(|one| sizes.overlaps(&ends(&one.lengths)))
    {
        return Ok(());
    }
    let shortest = possible.iter().map(|one| *one.lengths.start()).min();
    let longest = possible.iter().map(|one| *one.lengths.end()).max();
    let (Some(shortest), Some(longest)) = (shortest, longest) else {
        // Other conditions leave nothing, whatever the size.
        return Ok(());
    };
    let problem = "leaves no packet that could be hit: none of those that are meant is so long, \
                   or so short";
    let allowed = format!("lengths of which one lies within {shortest} to {longest} bytes");
    Err(SpecError::new("size", problem, allowed))
}

/// Whether both ports are always of one pair that DHCP has.
fn has_ports_of_dhcp(filter: &PacketFilter) -> bool {
    [(67, 68), (546, 547)].into_iter().any(|pair| {
        let pair = Ranges::from_iter([pair]);
        pair.covers(&filter.peer_ports.ports()) && pair.covers(&filter.local_ports.ports())
    })
}

#[cfg(test)]
mod tests;
