//! `net-refuse`: `connect` fails.

use injector_common::FaultKind;
use serde::Deserialize;

use super::{
    FaultKindDef,
    packet::{self, Options},
};
use crate::{
    error::SpecError,
    model::{Direction, Errno, Fault, PacketFilter, Protocol, Target},
    spec::{
        net::{Peer, Ports},
        packet::{Proto, Signed},
        text::{self, Text},
    },
};

/// The kind.
#[derive(Debug)]
pub struct NetRefuse;

/// Its options, as written. A call has no direction, no interface and, most
/// often, no local port yet.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// The error that connect fails with, such as ETIMEDOUT, EHOSTUNREACH or ENETUNREACH, by name as in errno(3) or by number, 1 to 133 [default: ECONNREFUSED]
    #[arg(long, value_name = "ERRNO", allow_hyphen_values = true)]
    #[serde(default)]
    pub errno: Option<Text<Errno>>,

    /// Only sockets of this transport: tcp, udp or any [default: any]. Here and below: may repeat; a
    /// leading ! leaves out
    #[arg(
        long,
        value_name = "PROTO",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = "Connect filter"
    )]
    #[serde(default, deserialize_with = "text::comma_list")]
    pub proto: Vec<Text<Signed<Proto>>>,

    /// Only connects to peers in these networks, such as 10.0.0.0/8 or 2001:db8::/32, or of these
    /// names. Of several that take a peer in, the longest decides
    #[arg(
        long,
        value_name = "PEER",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = "Connect filter"
    )]
    #[serde(default, deserialize_with = "text::comma_list")]
    pub peer: Vec<Text<Signed<Peer>>>,

    /// Only connects to this target: cgroup:PATH or pid:N, in a network namespace of its own. Joins
    /// --peer
    #[arg(
        long,
        value_name = "TARGET",
        allow_hyphen_values = true,
        help_heading = "Connect filter"
    )]
    #[serde(default, deserialize_with = "text::list")]
    pub peer_target: Vec<Text<Signed<Target>>>,

    /// Only connects to these ports of the peer: A or A-B
    #[arg(
        long,
        value_name = "PORTS",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = "Connect filter"
    )]
    #[serde(default, deserialize_with = "text::comma_list")]
    pub peer_port: Vec<Text<Signed<Ports>>>,
}

impl FaultKindDef for NetRefuse {
    const KIND: FaultKind = FaultKind::NetRefuse;
    const SUMMARY: &'static str = "`connect` fails with a chosen error, and nothing is sent";
    const MANUAL: &'static str = "\
A `connect` of a TCP or UDP socket returns the error at once, also where it would have waited or
returned EINPROGRESS. No packet leaves. The socket can be used again. Hit is who calls `connect`,
whoever made the socket; so is a TCP connection that `sendto` opens with MSG_FASTOPEN. Connections
that exist are left alone, and so are datagrams of a UDP socket that is not connected. The peer is
the one that the caller named; IPv4 peers of IPv6 sockets (::ffff:a.b.c.d) count as IPv4. Before
Linux 6.1 only EPERM is possible.";
    const EXAMPLES: &'static str = "\
Examples:
  Nobody listens at a cgroup's database any more:
    injector inject net-refuse --target cgroup:/web --proto tcp --peer-port 5432 --for 1m

  A third of a process's connections time out:
    injector inject net-refuse --target pid:4242 --errno ETIMEDOUT --percent 33 --for 30s

  A command without a route to a network:
    injector inject net-refuse --errno ENETUNREACH --peer 10.0.0.0/8 --for 1m -- ./app";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let filter = packet::filter(&Options {
            way: Direction::Egress,
            proto: &raw.proto,
            peer: &raw.peer,
            peer_target: &raw.peer_target,
            peer_port: &raw.peer_port,
            ..Options::NONE
        })?;
        packet::check_ported(&filter, "has no connections to refuse")?;
        let errno = raw.errno.map_or(REFUSED, |text| text.0);
        Ok(Fault::Refuse { filter, errno })
    }
}

/// What a peer says at whose port nobody listens.
const REFUSED: Errno = Errno {
    name: "ECONNREFUSED",
    value: 111,
};

pub(super) fn explain(filter: &PacketFilter, errno: Errno) -> String {
    let takes = |protocol| filter.protocols.takes(&protocol);
    let socket = match (takes(Protocol::Tcp), takes(Protocol::Udp)) {
        (true, false) => " of TCP sockets",
        (false, true) => " of UDP sockets",
        _ => "",
    };
    let peer = packet::describe_peers(filter, "to");
    format!("fails connect{socket}{peer} with {}", errno.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::raw;

    #[test]
    fn the_error_is_that_of_a_closed_port_unless_told() {
        for (line, expected) in [("", REFUSED.value), ("--errno EHOSTUNREACH", 113)] {
            let fault = NetRefuse::validate(raw(line)).expect("a fault");
            let Fault::Refuse { errno, .. } = fault else {
                panic!("{fault:?}");
            };
            assert_eq!(errno.value, expected);
        }
        assert_eq!(REFUSED, "ECONNREFUSED".parse().expect("an error"));
    }

    #[test]
    fn only_tcp_and_udp_have_connections() {
        for line in ["--proto icmp", "--proto tcp,icmp", "--proto 132"] {
            let error = NetRefuse::validate(raw(line)).expect_err("no connections");
            assert_eq!(error.field, "proto");
        }
        for line in ["--proto udp", "--proto tcp,udp", "--proto !icmp", "--proto any", ""] {
            assert!(NetRefuse::validate(raw(line)).is_ok(), "{line}");
        }
    }
}
