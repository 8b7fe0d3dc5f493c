//! `net-reject`: packets are answered by an error.

use injector_common::{FaultKind, answer::RST};

use super::{
    FaultKindDef,
    packet::{self, Needs, Transport},
};
use crate::{
    error::SpecError,
    model::{Answer, Fault, PacketFault, PacketFilter, Unreachable},
    spec::text::Text,
};

/// The kind.
#[derive(Debug)]
pub struct NetReject;

packet::packet_kind! {
    /// Its options, as written.
    pub struct Raw {
        /// How to answer: rst, which only TCP has, or icmp [default: TCP by rst, all else by icmp]
        #[arg(long, value_name = "ANSWER")]
        #[serde(default)]
        pub with: Option<Text<Answer>>,

        /// What an ICMP error says is out of reach: net, host, proto, port or admin, or a word of iptables such
        /// as host-prohibited, no-route or policy-fail [default: port]
        #[arg(long, value_name = "CODE")]
        #[serde(default)]
        pub code: Option<Text<Unreachable>>,
    }
}

impl FaultKindDef for NetReject {
    const KIND: FaultKind = FaultKind::NetReject;
    const SUMMARY: &'static str = "Packets are answered by an error, as by a firewall";
    const MANUAL: &'static str = "\
A rejected packet does not arrive. Its sender gets an answer as if from its receiver: a TCP reset,
or ICMP \"destination unreachable\" for other packets and with --with icmp. A packet that the target
sends is answered to the target, one that it would receive to its peer. A connection that opens then
fails with ECONNREFUSED, one that is open breaks. By ICMP the code decides: port gives ECONNREFUSED,
net ENETUNREACH, host EHOSTUNREACH, admin EHOSTUNREACH or, in IPv6, EACCES. The other codes are those
of iptables: net-prohibited, host-prohibited, proto-unreachable, and policy-fail and reject-route of
IPv6. In the other family a code becomes the one that stands for it there. A TCP connection that is
open, a UDP socket that is not connected and, for net and host, any UDP socket only lose the packet,
unless they ask for errors (IP_RECVERR). Never answered, and not counted, are resets, ICMP errors,
later fragments and what goes to many.";
    const EXAMPLES: &'static str = "\
Examples:
  Connections that a cgroup makes are refused, as by a host without that service:
    injector inject net-reject --target cgroup:/web --proto tcp --peer-port 5432 --for 1m

  A service is closed for those who call it:
    injector inject net-reject --target cgroup:/web --direction ingress --local-port 443 --for 30s

  A network is out of reach, for TCP too:
    injector inject net-reject --target pid:4242 --peer 10.0.0.0/8 --with icmp --code net --for 30s";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let filter = raw.filter()?;
        let by = raw.with.map_or(Answer::Either, |text| text.0);
        if by == Answer::Reset && !filter.takes_tcp() {
            let problem = "a reset answers TCP alone";
            let allowed = "icmp, or none; or tcp or any as proto";
            return Err(SpecError::new("with", problem, allowed));
        }
        let all_by_reset =
            by == Answer::Reset || (by == Answer::Either && filter.takes_tcp_alone());
        if all_by_reset && raw.code.is_some() {
            let problem = "a reset has no code";
            return Err(SpecError::new("code", problem, "none; or icmp as with"));
        }
        packet::check_possible(&filter, &needs(by))?;
        let code = raw.code.map_or(Unreachable::Port, |text| text.0);
        Ok(Fault::Packet(filter, PacketFault::Reject { by, code }))
    }
}

/// What a packet must be to be answered so.
fn needs(by: Answer) -> Needs {
    Needs {
        lacks: "are not answered by resets",
        protocols: "tcp or any; or icmp as with",
        takes: match by {
            Answer::Reset => |transport| transport == Transport::Tcp,
            Answer::Either | Answer::Icmp => |_| true,
        },
        flags: |flags| flags & RST == 0,
        flags_in_words: "flags without rst: a reset is never answered",
        answers: true,
        ..Needs::NOTHING
    }
}

pub(super) fn explain(filter: &PacketFilter, by: Answer, code: Unreachable) -> String {
    let packets = packet::describe(filter);
    let code = match code {
        Unreachable::Net => "net unreachable",
        Unreachable::Host => "host unreachable",
        Unreachable::Proto => "protocol unreachable",
        Unreachable::Port => "port unreachable",
        Unreachable::NetProhibited => "network prohibited",
        Unreachable::HostProhibited => "host prohibited",
        Unreachable::Admin => "administratively prohibited",
        Unreachable::PolicyFail => "source address failed policy",
        Unreachable::RejectRoute => "reject route to destination",
    };
    let by_icmp = format!("by ICMP \"{code}\"");
    let answer = match by {
        Answer::Icmp => by_icmp,
        _ if filter.takes_tcp_alone() => "by TCP resets".to_owned(),
        Answer::Reset => "by TCP resets, and leaves all but TCP alone".to_owned(),
        Answer::Either if filter.takes_tcp() => {
            format!("by TCP resets, and what is not TCP {by_icmp}")
        }
        Answer::Either => by_icmp,
    };
    format!("rejects {packets} {answer}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::raw;

    #[test]
    fn answers_fit_their_packets() {
        for (line, field) in [
            ("--proto any", None),
            ("--proto any --code host", None),
            ("--proto tcp --code host", Some("code")),
            ("--proto any --with rst", None),
            ("--proto any --with rst --code net", Some("code")),
            ("--proto udp --with rst", Some("with")),
            ("--proto icmp --with rst", Some("with")),
            ("--proto tcp --with icmp --code admin", None),
            ("--proto udp --code net", None),
        ] {
            let found = NetReject::validate(raw(line)).err();
            let found = found.as_ref().map(|error| error.field.as_ref());
            assert_eq!(found, field, "{line}");
        }
    }
}
