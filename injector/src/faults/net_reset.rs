//! `net-reset`: TCP connections are torn down.

use injector_common::{FaultKind, faults::net_reset::is_open};

use super::{
    FaultKindDef,
    packet::{self, Needs, Transport},
};
use crate::{
    error::SpecError,
    model::{After, Choice, End, Fault, PacketFault, PacketFilter, Protocol},
    spec::{
        duration::{self, Span},
        number::Bytes,
        text::Text,
    },
};

/// The kind.
#[derive(Debug)]
pub struct NetReset;

packet::packet_kind! {
    /// Its options, as written.
    pub struct Raw {
        /// Who is told that the connection is over: local (the target), peer or both [default: both]
        #[arg(long, value_name = "END")]
        #[serde(default)]
        pub end: Option<Text<End>>,

        /// Only once so many bytes of a connection's payload have gone by
        #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
        #[serde(default)]
        pub after_bytes: Option<Text<Bytes>>,

        /// Only once so much time has gone by since the first packet of a connection, such as 30s
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        #[serde(default)]
        pub after: Option<Text<Span>>,
    }
}

impl FaultKindDef for NetReset {
    const KIND: FaultKind = FaultKind::NetReset;
    const SUMMARY: &'static str = "TCP connections that are open are torn down by resets";
    const MANUAL: &'static str = "\
A packet of an open TCP connection that the rule hits is replaced by resets that fit the
connection: its sender gets one as an answer, its receiver one in its place. Both ends then report
ECONNRESET. With --end only one of them is told, and the other learns of it when it sends. A
connection that is idle breaks with its next packet. Bytes and time are counted from the first
packet that was seen since the start, and only packets that fit the filter are seen: with
--direction both, bytes of both ways count. Connections that open are left alone; see net-reject.";
    const EXAMPLES: &'static str = "\
Examples:
  All connections of a cgroup to its database break:
    injector inject net-reset --target cgroup:/web --peer-port 5432 --for 10s

  Downloads of a process break after a megabyte:
    injector inject net-reset --target pid:4242 --direction ingress --after-bytes 1000000 --for 5m

  A balancer forgets connections after a minute, and only the target is told:
    injector inject net-reset --target cgroup:/web --end local --after 1m --for 1h";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let mut filter = raw.filter()?;
        let mut asked = filter.protocols.these.iter();
        if !filter.takes_tcp() || asked.any(|protocol| *protocol != Protocol::Tcp) {
            let problem = "TCP alone has connections to reset";
            return Err(SpecError::new("proto", problem, "tcp or any"));
        }
        filter.protocols = Choice::from(vec![Protocol::Tcp]);
        let after = match (raw.after_bytes, raw.after) {
            (Some(_), Some(_)) => {
                let problem = "is given together with after-bytes";
                let allowed = "one of the two: after or after-bytes";
                return Err(SpecError::new("after", problem, allowed));
            }
            (Some(Text(Bytes(bytes))), None) => After::Bytes(bytes.get()),
            (None, Some(Text(Span(time)))) if time.is_zero() => {
                return Err(SpecError::new("after", "is 0", "a duration above 0, or none"));
            }
            (None, Some(Text(Span(time)))) => After::Time(time),
            (None, None) => After::Nothing,
        };
        packet::check_possible(&filter, &needs(after))?;
        let end = raw.end.map_or(End::Both, |text| text.0);
        Ok(Fault::Packet(filter, PacketFault::Reset { end, after }))
    }
}

/// What a packet must be to belong to an open connection.
fn needs(after: After) -> Needs {
    Needs {
        lacks: "have no connection to reset",
        protocols: "tcp or any",
        takes: |transport| transport == Transport::Tcp,
        // Some packet must carry what is counted.
        payload: u32::from(matches!(after, After::Bytes(_))),
        flags: is_open,
        flags_in_words: "packets of connections that are open, which have ack, and neither syn nor rst; for \
                         those that shall not open there is net-reject",
        ..Needs::NOTHING
    }
}

pub(super) fn explain(filter: &PacketFilter, end: End, after: After) -> String {
    let packets = packet::describe(filter);
    let end = match end {
        End::Local => "for the target alone",
        End::Peer => "for the peer alone",
        End::Both => "for both ends",
    };
    let after = match after {
        After::Nothing => String::new(),
        After::Bytes(bytes) => format!(", once they have carried {bytes} bytes"),
        After::Time(time) => format!(", once they have lasted {}", duration::format(time)),
    };
    format!("resets connections by {packets}, {end}{after}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::faults::raw;

    #[test]
    fn a_connection_is_reset_at_one_time() {
        for (line, expected) in [
            ("", Ok(After::Nothing)),
            ("--after-bytes 7 --proto any", Ok(After::Bytes(7))),
            ("--after 2s --proto tcp", Ok(After::Time(Duration::from_secs(2)))),
            ("--after 0s", Err("after")),
            ("--after-bytes 7 --after 2s", Err("after")),
            ("--proto udp", Err("proto")),
            ("--proto icmp", Err("proto")),
            ("--proto !tcp", Err("proto")),
        ] {
            match (NetReset::validate(raw(line)), expected) {
                (Ok(Fault::Packet(filter, PacketFault::Reset { end, after })), Ok(expected)) => {
                    assert_eq!((end, after), (End::Both, expected));
                    assert!(filter.takes_tcp_alone());
                }
                (Err(error), Err(field)) => assert_eq!(error.field, field),
                (found, expected) => panic!("{found:?}, expected {expected:?}"),
            }
        }
    }
}
