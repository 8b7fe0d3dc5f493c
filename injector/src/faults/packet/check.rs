//! From the options of a packet filter to the filter, or why it cannot stand.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use injector_common::filter::{MAX_MARKS, MAX_PORT_RANGES, MAX_SIZE_RANGES};

use super::possible::check_filter;
use crate::{
    error::SpecError,
    model::{
        Choice, Cidr, Direction, Dscp, Mark, NamedPeer, PacketFilter, Protocol, State, Target,
        TcpFlags, Unit, sets::Ranges,
    },
    spec::{
        net::{InterfaceName, Peer, Ports},
        packet::{Proto, SIZES, Signed, Sizes, choice},
        text::Text,
    },
};

/// The options of a filter, as written.
pub(crate) struct Options<'a> {
    pub(crate) direction: &'a [Text<Signed<Direction>>],
    /// Which way where `direction` does not say.
    pub(crate) way: Direction,
    pub(crate) proto: &'a [Text<Signed<Proto>>],
    pub(crate) peer: &'a [Text<Signed<Peer>>],
    pub(crate) peer_target: &'a [Text<Signed<Target>>],
    pub(crate) local: &'a [Text<Signed<Cidr>>],
    pub(crate) peer_port: &'a [Text<Signed<Ports>>],
    pub(crate) local_port: &'a [Text<Signed<Ports>>],
    pub(crate) interface: &'a [Text<Signed<InterfaceName>>],
    pub(crate) dscp: &'a [Text<Signed<Dscp>>],
    pub(crate) mark: &'a [Text<Signed<Mark>>],
    pub(crate) size: &'a [Text<Signed<Sizes>>],
    pub(crate) tcp_flags: &'a [Text<TcpFlags>],
    pub(crate) state: &'a [Text<Signed<State>>],
    pub(crate) unit: Unit,
}

impl Options<'_> {
    /// Nothing is written; what a target sends is meant.
    pub(crate) const NONE: Self = Self {
        direction: &[],
        way: Direction::Egress,
        proto: &[],
        peer: &[],
        peer_target: &[],
        local: &[],
        peer_port: &[],
        local_port: &[],
        interface: &[],
        dscp: &[],
        mark: &[],
        size: &[],
        tcp_flags: &[],
        state: &[],
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
        direction: direction(options.direction, options.way)?,
        protocols: protocols(options.proto)?,
        peers,
        named_peers,
        locals: chosen("local", options.local, |network| network)?,
        peer_ports: ports("peer-port", options.peer_port)?,
        local_ports: ports("local-port", options.local_port)?,
        interfaces: chosen("interface", options.interface, |name| name.0)?,
        dscps: chosen("dscp", options.dscp, |point| point)?,
        marks: marks(options.mark)?,
        sizes: sizes(options.size)?,
        tcp_flags: options.tcp_flags.iter().map(|text| text.0).collect(),
        states: chosen("state", options.state, |state| state)?,
        unit: options.unit,
    };
    if filter.named_peers.is_any()
        && !filter.peers.is_any()
        && filter.peers.addresses().iter().all(|set| set.is_empty())
    {
        return Err(nothing_left("peer", "networks that leave some address"));
    }
    if filter.locals.addresses().iter().all(Ranges::is_empty) {
        return Err(nothing_left("local", "networks that leave some address"));
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
    if !State::ALL.iter().any(|state| filter.states.takes(state)) {
        return Err(nothing_left("state", "new, established or both"));
    }
    check_protocols(&filter)?;
    let mut flags = 0..=u8::MAX;
    if !filter.tcp_flags.is_empty() && !flags.any(|flags| filter.takes_flags(flags)) {
        return Err(SpecError::new(
            "state",
            "contradicts tcp-flags: a packet with syn and without ack is new, any other is established",
            "flags that a packet of this state can have",
        ));
    }
    check_filter(&filter)?;
    Ok(filter)
}

/// Which ways are meant, if any is said.
fn direction(
    options: &[Text<Signed<Direction>>],
    otherwise: Direction,
) -> Result<Direction, SpecError> {
    if options.is_empty() {
        return Ok(otherwise);
    }
    let ways = chosen("direction", options, |way| way)?;
    let takes = |way| {
        let means = |word: &Direction| *word == way || *word == Direction::Both;
        (ways.these.is_empty() || ways.these.iter().any(means)) && !ways.not.iter().any(means)
    };
    match (takes(Direction::Egress), takes(Direction::Ingress)) {
        (true, true) => Ok(Direction::Both),
        (true, false) => Ok(Direction::Egress),
        (false, true) => Ok(Direction::Ingress),
        (false, false) => Err(nothing_left("direction", "egress, ingress or both")),
    }
}

fn marks(options: &[Text<Signed<Mark>>]) -> Result<Choice<Mark>, SpecError> {
    let marks = chosen("mark", options, |mark| mark)?;
    check_count("mark", "marks", &marks, MAX_MARKS)?;
    if !marks.takes_some() {
        return Err(nothing_left("mark", "marks that leave one"));
    }
    Ok(marks)
}

fn sizes(options: &[Text<Signed<Sizes>>]) -> Result<Choice<RangeInclusive<u32>>, SpecError> {
    let sizes = chosen("size", options, RangeInclusive::from)?;
    check_count("size", "ranges of sizes", &sizes, MAX_SIZE_RANGES)?;
    let all = Ranges::from_iter([((*SIZES.start()).into(), (*SIZES.end()).into())]);
    if !sizes.lengths().overlaps(&all) {
        return Err(nothing_left(
            "size",
            "sizes that leave one of 20 to 65575 bytes",
        ));
    }
    Ok(sizes)
}

/// Refuses more values of an option than programs have room for.
fn check_count<T>(
    field: &'static str,
    what: &str,
    values: &Choice<T>,
    most: usize,
) -> Result<(), SpecError> {
    let count = values.these.len() + values.not.len();
    if count > most {
        let problem = format!("names {count} {what}");
        let allowed = format!("at most {most}, those with ! included");
        return Err(SpecError::new(field, problem, allowed));
    }
    Ok(())
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
    check_count(field, "ranges of ports", &ports, MAX_PORT_RANGES)?;
    if ports.ports().is_empty() {
        return Err(nothing_left(field, "ranges that leave a port"));
    }
    Ok(ports)
}

/// Only some protocols have ports, flags and conversations. Others must not be
/// asked for beside them.
fn check_protocols(filter: &PacketFilter) -> Result<(), SpecError> {
    let possible = filter.possible_protocols();
    let (field, what, allowed) = if !filter.tcp_flags.is_empty() {
        ("tcp-flags", "flags", "tcp or any as proto")
    } else if !filter.states.is_any() {
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
pub(super) mod tests;
