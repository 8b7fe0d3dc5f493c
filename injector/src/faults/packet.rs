//! The packet filter that every kind of the packet family has.

use crate::{
    error::SpecError,
    model::{Direction, PacketFilter, Protocol},
    spec::{
        net::{InterfaceName, Ports},
        text::Text,
    },
};

/// Defines the `Raw` of a kind that acts on packets: its own options and the
/// filter's.
///
/// A macro and not a flattened struct, because serde buffers what it flattens:
/// unknown keys would pass, and errors would lose their line.
macro_rules! packet_kind {
    ($(#[$meta:meta])* pub struct Raw { $($own:tt)* }) => {
        $(#[$meta])*
        #[derive(clap::Args, serde::Deserialize, Debug)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Raw {
            $($own)*

            /// Which packets, seen from the target: egress, ingress or both [default: egress]
            #[arg(long, value_name = "WAY", help_heading = "Packet filter")]
            #[serde(default)]
            pub direction: Option<$crate::spec::text::Text<$crate::model::Direction>>,

            /// Only this transport: tcp, udp (QUIC included), icmp (both families) or any [default: any]
            #[arg(long, value_name = "PROTO", help_heading = "Packet filter")]
            #[serde(default)]
            pub proto: Option<$crate::spec::text::Text<$crate::model::Protocol>>,

            /// Only packets to or from peers in this network, such as 10.0.0.0/8 or 2001:db8::/32
            #[arg(long, value_name = "CIDR", allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default)]
            pub peer: Option<$crate::spec::text::Text<$crate::model::Cidr>>,

            /// Only packets to or from these ports of the peer: A or A-B
            #[arg(long, value_name = "PORTS", allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default)]
            pub peer_port: Option<$crate::spec::text::Text<$crate::spec::net::Ports>>,

            /// Only packets from or to these ports of the target: A or A-B
            #[arg(long, value_name = "PORTS", allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default)]
            pub local_port: Option<$crate::spec::text::Text<$crate::spec::net::Ports>>,

            /// Only packets on this interface [default: every interface that the target uses]
            #[arg(long, value_name = "NAME", allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default)]
            pub interface: Option<$crate::spec::text::Text<$crate::spec::net::InterfaceName>>,
        }

        impl Raw {
            fn filter(&self) -> Result<$crate::model::PacketFilter, $crate::error::SpecError> {
                $crate::faults::packet::filter(
                    self.direction.as_ref(),
                    self.proto.as_ref(),
                    self.peer.as_ref(),
                    self.peer_port.as_ref(),
                    self.local_port.as_ref(),
                    self.interface.as_ref(),
                )
            }
        }
    };
}
pub(super) use packet_kind;

/// The filter that these options describe.
pub(super) fn filter(
    direction: Option<&Text<Direction>>,
    proto: Option<&Text<Protocol>>,
    peer: Option<&Text<crate::model::Cidr>>,
    peer_port: Option<&Text<Ports>>,
    local_port: Option<&Text<Ports>>,
    interface: Option<&Text<InterfaceName>>,
) -> Result<PacketFilter, SpecError> {
    let protocol = proto.map_or(Protocol::Any, |text| text.0);
    let ported = [("peer-port", peer_port), ("local-port", local_port)];
    if protocol == Protocol::Icmp
        && let Some((field, _)) = ported.iter().find(|(_, ports)| ports.is_some())
    {
        return Err(SpecError::new(
            *field,
            "ICMP packets have no ports",
            "tcp, udp or any as proto, or no ports",
        ));
    }
    Ok(PacketFilter {
        // As netem and other injectors have it: what the target sends.
        direction: direction.map_or(Direction::Egress, |text| text.0),
        protocol,
        peer: peer.map(|text| text.0),
        peer_ports: peer_port.map(|text| text.0.0.clone()),
        local_ports: local_port.map(|text| text.0.0.clone()),
        interface: interface.map(|text| text.0.0.clone()),
    })
}

/// The filter in words, as in "TCP packets that the target sends to 10.0.0.0/8".
pub(super) fn describe(filter: &PacketFilter) -> String {
    let mut text = match filter.protocol {
        Protocol::Tcp => "TCP packets",
        Protocol::Udp => "UDP packets",
        Protocol::Icmp => "ICMP packets",
        Protocol::Any => "packets",
    }
    .to_owned();
    let (way, preposition) = match filter.direction {
        Direction::Egress => (" that the target sends", "to"),
        Direction::Ingress => (" that the target receives", "from"),
        Direction::Both => (" that the target sends or receives", "to or from"),
    };
    text.push_str(way);
    let ports = |range: &std::ops::RangeInclusive<u16>| {
        if range.start() == range.end() {
            format!("port {}", range.start())
        } else {
            format!("ports {}-{}", range.start(), range.end())
        }
    };
    match (&filter.peer, &filter.peer_ports) {
        (Some(peer), Some(range)) => text += &format!(" {preposition} {peer} {}", ports(range)),
        (Some(peer), None) => text += &format!(" {preposition} {peer}"),
        (None, Some(range)) => text += &format!(" {preposition} {} of a peer", ports(range)),
        (None, None) => {}
    }
    if let Some(range) = &filter.local_ports {
        text += &format!(" on its {}", ports(range));
    }
    if let Some(interface) = &filter.interface {
        text += &format!(" through {interface}");
    }
    text
}
