//! From the options of a packet filter to the filter, or why it cannot stand.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use injector_common::filter::MAX_PORT_RANGES;

use super::possible::check_filter;
use crate::{
    error::SpecError,
    model::{
        Choice, Cidr, Direction, Dscp, Mark, NamedPeer, PacketFilter, Protocol, Sizes, State,
        Target, TcpFlags, Unit,
    },
    spec::{
        net::{InterfaceName, Peer, Ports},
        packet::{Proto, Signed, choice},
        text::Text,
    },
};

/// The options of a filter, as written.
pub(crate) struct Options<'a> {
    pub(crate) direction: Direction,
    pub(crate) proto: &'a [Text<Signed<Proto>>],
    pub(crate) peer: &'a [Text<Signed<Peer>>],
    pub(crate) peer_target: &'a [Text<Signed<Target>>],
    pub(crate) peer_port: &'a [Text<Signed<Ports>>],
    pub(crate) local_port: &'a [Text<Signed<Ports>>],
    pub(crate) interface: &'a [Text<Signed<InterfaceName>>],
    pub(crate) dscp: &'a [Text<Signed<Dscp>>],
    pub(crate) mark: Option<&'a Text<Mark>>,
    pub(crate) size: Option<&'a Text<Sizes>>,
    pub(crate) tcp_flags: Option<&'a Text<TcpFlags>>,
    pub(crate) state: Option<&'a Text<State>>,
    pub(crate) unit: Unit,
}

impl Options<'_> {
    /// Nothing is written; what a target sends is meant.
    pub(crate) const NONE: Self = Self {
        direction: Direction::Egress,
        proto: &[],
        peer: &[],
        peer_target: &[],
        peer_port: &[],
        local_port: &[],
        interface: &[],
        dscp: &[],
        mark: None,
        size: None,
        tcp_flags: None,
        state: None,
        unit: Unit::Packet,
    };
}

/// Refuses protocols other than TCP and UDP for a kind that has to do with these
/// alone; `lacks` says why.
pub(crate) fn check_ported(filter: &PacketFilter, lacks: &str) -> Result<(), SpecError> {
    let mut protocols = filter.protocols.these.iter();
    match protocols.find(|one| !matches!(one, Protocol::Tcp | Protocol::Udp)) {
        Some(other) => {
            let problem = format!("{other} {lacks}");
            Err(SpecError::new("proto", problem, "tcp, udp or any"))
        }
        None => Ok(()),
    }
}

/// The filter that these options describe. One that no packet can match is
/// refused: whoever wrote it believes in a fault that never happens.
pub(crate) fn filter(options: &Options<'_>) -> Result<PacketFilter, SpecError> {
    let (peers, mut named_peers) = split(chosen("peer", options.peer, |peer| peer)?);
    let targets = peer_targets(options.peer_target)?;
    named_peers.these.extend(targets.these);
    named_peers.not.extend(targets.not);
    let filter = PacketFilter {
        direction: options.direction,
        protocols: protocols(options.proto)?,
        peers,
        named_peers,
        peer_ports: ports("peer-port", options.peer_port)?,
        local_ports: ports("local-port", options.local_port)?,
        interfaces: chosen("interface", options.interface, |name| name.0)?,
        dscps: chosen("dscp", options.dscp, |point| point)?,
        mark: options.mark.map(|text| text.0),
        size: options.size.map(|text| text.0.clone()),
        tcp_flags: options.tcp_flags.map(|text| text.0),
        state: options.state.map(|text| text.0),
        unit: options.unit,
    };
    if filter.named_peers.is_any()
        && !filter.peers.is_any()
        && filter.peers.addresses().iter().all(|set| set.is_empty())
    {
        return Err(nothing_left("peer", "networks that leave some address"));
    }
    if filter.dscps.bits() == 0 {
        return Err(nothing_left(
            "dscp",
            "code points that leave one of 0 to 63",
        ));
    }
    let names = &filter.interfaces;
    if !names.these.is_empty() && !names.these.iter().any(|name| names.takes(name)) {
        return Err(nothing_left("interface", "names that leave an interface"));
    }
    check_protocols(&filter)?;
    let mut flags = 0..=u8::MAX;
    if filter.tcp_flags.is_some() && !flags.any(|flags| filter.takes_flags(flags)) {
        return Err(SpecError::new(
            "state",
            "contradicts tcp-flags: a packet with syn and without ack is new, any other is established",
            "flags that a packet of this state can have",
        ));
    }
    check_filter(&filter)?;
    Ok(filter)
}

/// What a peer's target can be.
const PEER_TARGETS: &str = "cgroup:PATH or pid:N, of something that runs already";

/// Targets as peers.
fn peer_targets(options: &[Text<Signed<Target>>]) -> Result<Choice<NamedPeer>, SpecError> {
    let targets = chosen("peer-target", options, |target| target)?;
    if targets.each().any(|(target, _)| *target == Target::Command) {
        let problem = "`command` has no address before it starts";
        return Err(SpecError::new("peer-target", problem, PEER_TARGETS));
    }
    let named = |list: Vec<Target>| list.into_iter().map(NamedPeer::Target).collect();
    Ok(Choice {
        these: named(targets.these),
        not: named(targets.not),
    })
}

/// Networks and names apart.
fn split(peers: Choice<Peer>) -> (Choice<Cidr>, Choice<NamedPeer>) {
    let (mut networks, mut hosts) = (Choice::ANY, Choice::ANY);
    let sort = |list: Vec<Peer>, networks: &mut Vec<Cidr>, hosts: &mut Vec<NamedPeer>| {
        for peer in list {
            match peer {
                Peer::Network(network) => networks.push(network),
                Peer::Host(name) => hosts.push(NamedPeer::Host(name)),
            }
        }
    };
    sort(peers.these, &mut networks.these, &mut hosts.these);
    sort(peers.not, &mut networks.not, &mut hosts.not);
    (networks, hosts)
}

/// What a repeated option says.
pub(in crate::faults) fn chosen<T: Clone + Ord + fmt::Display, U>(
    field: &'static str,
    values: &[Text<Signed<T>>],
    convert: impl Fn(T) -> U,
) -> Result<Choice<U>, SpecError> {
    choice(values, convert).map_err(|both| {
        let problem = format!("`{both}` is given with and without `!`");
        SpecError::new(field, problem, "one of the two")
    })
}

fn nothing_left(field: &'static str, allowed: impl Into<Cow<'static, str>>) -> SpecError {
    SpecError::new(field, "leaves nothing that could match", allowed)
}

fn protocols(values: &[Text<Signed<Proto>>]) -> Result<Choice<Protocol>, SpecError> {
    if let [
        Text(Signed {
            value: Proto::Any,
            negated: false,
        }),
    ] = values
    {
        return Ok(Choice::ANY);
    }
    if values.iter().any(|value| value.0.value == Proto::Any) {
        let allowed = "any by itself, without `!`";
        return Err(SpecError::new(
            "proto",
            "joins any with something else",
            allowed,
        ));
    }
    let convert = |proto| match proto {
        Proto::One(protocol) => protocol,
        // Refused above.
        Proto::Any => Protocol::Number(0),
    };
    let protocols = chosen("proto", values, convert)?;
    if protocols.numbers().is_empty() {
        return Err(nothing_left("proto", "protocols that leave one"));
    }
    Ok(protocols)
}

fn ports(
    field: &'static str,
    values: &[Text<Signed<Ports>>],
) -> Result<Choice<RangeInclusive<u16>>, SpecError> {
    let ports = chosen(field, values, RangeInclusive::from)?;
    let count = ports.these.len() + ports.not.len();
    if count > MAX_PORT_RANGES {
        let problem = format!("names {count} ranges of ports");
        let allowed = format!("at most {MAX_PORT_RANGES}, those with ! included");
        return Err(SpecError::new(field, problem, allowed));
    }
    if ports.ports().is_empty() {
        return Err(nothing_left(field, "ranges that leave a port"));
    }
    Ok(ports)
}

/// Only some protocols have ports, flags and conversations. Others must not be
/// asked for beside them.
fn check_protocols(filter: &PacketFilter) -> Result<(), SpecError> {
    let possible = filter.possible_protocols();
    let (field, what, allowed) = if filter.tcp_flags.is_some() {
        ("tcp-flags", "flags", "tcp or any as proto")
    } else if filter.state.is_some() {
        ("state", "conversations", "tcp, udp or any as proto")
    } else if !filter.peer_ports.is_any() {
        (
            "peer-port",
            "ports",
            "tcp, udp or any as proto, or no ports",
        )
    } else if !filter.local_ports.is_any() {
        (
            "local-port",
            "ports",
            "tcp, udp or any as proto, or no ports",
        )
    } else {
        return Ok(());
    };
    let mut asked = filter.protocols.these.iter();
    if let Some(other) = asked.find(|protocol| !protocol.is_in(&possible)) {
        let verb = if what == "flags" {
            "have none of TCP's"
        } else {
            "have no"
        };
        let problem = format!("{other} packets {verb} {what}");
        return Err(SpecError::new(field, problem, allowed));
    }
    if filter.protocol_numbers().is_empty() {
        return Err(nothing_left("proto", allowed));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn parse<T: std::str::FromStr<Err = crate::spec::text::ValueError>>(
        words: &str,
    ) -> Vec<Text<T>> {
        words
            .split_whitespace()
            .map(|word| word.parse().expect(word))
            .collect()
    }

    /// A filter from `option value…` lines.
    pub(in crate::faults::packet) fn from_lines(text: &str) -> Result<PacketFilter, SpecError> {
        let words = |option: &str| -> String {
            let lines = text.lines().map(str::trim);
            let values = lines.filter_map(|line| line.strip_prefix(option)?.strip_prefix(' '));
            values.collect::<Vec<_>>().join(" ")
        };
        filter(&Options {
            direction: parse(&words("direction"))
                .first()
                .map_or(Direction::Egress, |text: &Text<Direction>| text.0),
            proto: &parse(&words("proto")),
            peer: &parse(&words("peer")),
            peer_target: &parse(&words("peer-target")),
            peer_port: &parse(&words("peer-port")),
            local_port: &parse(&words("local-port")),
            interface: &parse(&words("interface")),
            dscp: &parse(&words("dscp")),
            mark: parse(&words("mark")).first(),
            size: parse(&words("size")).first(),
            tcp_flags: parse(&words("tcp-flags")).first(),
            state: parse(&words("state")).first(),
            unit: parse(&words("unit"))
                .first()
                .map_or(Unit::Packet, |text: &Text<Unit>| text.0),
        })
    }

    #[test]
    fn what_can_never_match_is_refused() {
        for (text, field, part) in [
            ("proto tcp !tcp", "proto", "with and without"),
            ("proto any tcp", "proto", "any by itself"),
            ("proto !any", "proto", "any by itself"),
            ("proto 58 !icmp", "proto", "leaves nothing"),
            ("peer 10.0.0.0/8 !10.0.0.0/8", "peer", "`10.0.0.0/8`"),
            ("peer !0.0.0.0/0 !::/0", "peer", "leaves nothing"),
            (
                "peer-target pid:7 !pid:7",
                "peer-target",
                "with and without",
            ),
            ("peer-target command", "peer-target", "before it starts"),
            (
                "peer 10.0.0.0/8 !10.0.0.0/9 !10.128.0.0/9",
                "peer",
                "leaves nothing",
            ),
            ("peer-port 80 !80", "peer-port", "with and without"),
            ("peer-port 80 !1-100", "peer-port", "leaves nothing"),
            ("local-port !1-65535", "local-port", "leaves nothing"),
            ("peer-port 1 2 3 4 5 6 7 8 9", "peer-port", "at most 8"),
            ("peer-port !1 !2 !3 !4 !5 6 7 8 9", "peer-port", "at most 8"),
            ("interface lo !lo", "interface", "with and without"),
            ("dscp ef !46", "dscp", "`ef`"),
            (
                "proto icmp\npeer-port 80",
                "peer-port",
                "ICMP packets have no ports",
            ),
            (
                "proto icmp\nlocal-port 80",
                "local-port",
                "ICMP packets have no ports",
            ),
            (
                "proto tcp icmp\npeer-port 80",
                "peer-port",
                "ICMP packets have no ports",
            ),
            (
                "proto 132\npeer-port 80",
                "peer-port",
                "protocol 132 packets",
            ),
            ("proto !tcp !udp\npeer-port 80", "proto", "tcp, udp"),
            ("proto icmp\nstate new", "state", "no conversations"),
            ("proto tcp 47\nstate new", "state", "no conversations"),
            (
                "proto udp\ntcp-flags syn",
                "tcp-flags",
                "none of TCP's flags",
            ),
            ("proto !tcp\ntcp-flags syn", "proto", "tcp or any"),
            (
                "tcp-flags syn,!ack\nstate established",
                "state",
                "contradicts tcp-flags",
            ),
            ("tcp-flags ack\nstate new", "state", "contradicts tcp-flags"),
        ] {
            let error = from_lines(text).expect_err(text);
            assert_eq!(error.field, field, "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        let all: Vec<String> = (0..64).map(|point| format!("!{point}")).collect();
        let error = from_lines(&format!("dscp {}", all.join(" "))).expect_err("no code point");
        assert_eq!(error.field, "dscp");
    }

    #[test]
    fn what_can_match_is_not() {
        for text in [
            "",
            "proto any",
            "proto tcp udp\npeer-port 80",
            "proto !icmp\npeer-port 80",
            "proto icmp !1",
            "proto !tcp\nstate established",
            "peer !0.0.0.0/0",
            "peer 10.0.0.0/8 !10.0.0.0/9 10.1.0.0/16",
            "peer-port !1 !3 !5 !7 !9 !11 !13 !15",
            "peer-port 1-100 !80",
            "interface !lo",
            "tcp-flags syn\nstate new",
            "tcp-flags syn,ack\nstate established",
            "tcp-flags rst\nproto tcp",
            "size !1000-1500\nmark !0/1",
        ] {
            assert!(from_lines(text).is_ok(), "{text}: {:?}", from_lines(text));
        }
    }
}
