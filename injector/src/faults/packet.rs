//! The packet filter that every kind of the packet family has.

mod check;
mod describe;
mod possible;

pub(super) use check::chosen as chosen_values;
pub(crate) use check::{Options, check_ported, filter};
pub(super) use describe::{chosen as described, describe, describe_peers, list as listed};
pub(super) use possible::{Needs, Transport, check_possible};

/// Defines the `Raw` of a kind that acts on packets: its own options and the
/// filter's.
///
/// A macro and not a flattened struct, because serde buffers what it flattens:
/// unknown keys would pass, and errors would lose their line.
macro_rules! packet_kind {
    ($(#[$meta:meta])* pub struct Raw { $($own:tt)* }) => {
        // As netem and other injectors have it: what the target sends.
        $crate::faults::packet::packet_kind! {
            $(#[$meta])* pub struct Raw (Egress, "egress") { $($own)* }
        }
    };
    ($(#[$meta:meta])* pub struct Raw ($way:ident, $word:literal) { $($own:tt)* }) => {
        $(#[$meta])*
        #[derive(clap::Args, serde::Deserialize, Debug)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Raw {
            $($own)*

            /// Which way.
            #[arg(
                long,
                value_name = "WAY",
                value_delimiter = ',',
                help_heading = "Packet filter",
                help = concat!("Which packets, seen from the target: egress, ingress or both [default: ", $word, "]"),
            )]
            #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
            pub direction: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::model::Direction>>>,

            /// Only these transports: tcp, udp (QUIC included), icmp (both families), the number of a
            /// protocol, or any [default: any]. Here and below: may repeat; a leading ! leaves out
            #[arg(long, value_name = "PROTO", value_delimiter = ',', allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
            pub proto: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::packet::Proto>>>,

            /// Only packets to or from peers in these networks, such as 10.0.0.0/8 or 2001:db8::/32, or
            /// of these names. Of several that take a peer in, the longest decides
            #[arg(long, value_name = "PEER", value_delimiter = ',', allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
            pub peer: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::net::Peer>>>,

            /// Only packets to or from this target: cgroup:PATH or pid:N, in a network namespace of its
            /// own. Joins --peer
            #[arg(long, value_name = "TARGET", allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::list")]
            pub peer_target: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::model::Target>>>,

            /// Only packets from or to these networks at the target's own end, such as 192.0.2.7. Of
            /// several that take its address in, the longest decides
            #[arg(long, value_name = "CIDR", value_delimiter = ',', allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
            pub local: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::model::Cidr>>>,

            /// Only packets to or from these ports of the peer: A or A-B
            #[arg(long, value_name = "PORTS", value_delimiter = ',', allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
            pub peer_port: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::net::Ports>>>,

            /// Only packets from or to these ports of the target: A or A-B
            #[arg(long, value_name = "PORTS", value_delimiter = ',', allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
            pub local_port: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::net::Ports>>>,

            /// Only packets on these interfaces [default: every interface that the target uses]
            #[arg(long, value_name = "NAME", allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::list")]
            pub interface: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::net::InterfaceName>>>,

            /// Only packets with these code points of differentiated services: 0 to 63, ef, cs0 to cs7 or
            /// af11 to af43
            #[arg(long, value_name = "DSCP", value_delimiter = ',', allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
            pub dscp: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::model::Dscp>>>,

            /// Only packets with one of these marks, up to four, each as far as its mask goes
            #[arg(long, value_name = "VALUE[/MASK]", value_delimiter = ',', allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
            pub mark: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::model::Mark>>>,

            /// Only IP packets of A, or A to B, bytes, up to four ranges. Of a super-packet, the size of
            /// one segment counts
            #[arg(long, value_name = "A[-B]", value_delimiter = ',', allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
            pub size: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::packet::Sizes>>>,

            /// Only TCP packets with all these flags set, and those with a leading ! not, such as syn,!ack;
            /// where it is repeated, one of the sets is enough
            #[arg(long, value_name = "FLAGS", allow_hyphen_values = true, help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::list")]
            pub tcp_flags: Vec<$crate::spec::text::Text<$crate::model::TcpFlags>>,

            /// Only packets of TCP and UDP that begin a conversation (new), or only others (established)
            #[arg(long, value_name = "STATE", value_delimiter = ',', help_heading = "Packet filter")]
            #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
            pub state: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::model::State>>>,

            /// What counts as one packet: packet, as the kernel handles it, or segment, as it is on the
            /// wire, for which super-packets of segmentation offload are split [default: packet]
            #[arg(long, value_name = "UNIT", help_heading = "Packet filter")]
            #[serde(default)]
            pub unit: Option<$crate::spec::text::Text<$crate::model::Unit>>,
        }

        impl Raw {
            fn filter(&self) -> Result<$crate::model::PacketFilter, $crate::error::SpecError> {
                $crate::faults::packet::filter(&$crate::faults::packet::Options {
                    direction: &self.direction,
                    way: $crate::model::Direction::$way,
                    proto: &self.proto,
                    peer: &self.peer,
                    peer_target: &self.peer_target,
                    local: &self.local,
                    peer_port: &self.peer_port,
                    local_port: &self.local_port,
                    interface: &self.interface,
                    dscp: &self.dscp,
                    mark: &self.mark,
                    size: &self.size,
                    tcp_flags: &self.tcp_flags,
                    state: &self.state,
                    unit: self.unit.as_ref().map_or_else(Default::default, |text| text.0),
                })
            }
        }
    };
}
pub(crate) use packet_kind;
