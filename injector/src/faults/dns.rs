//! `dns`: queries get another answer, or none.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use injector_common::{
    FaultKind,
    faults::dns::{DRAWN_V4, DRAWN_V6, MAX_TTL, MAX_TYPES},
};
use serde::Deserialize;

use super::{
    FaultKindDef,
    net_delay::{holding, in_range},
    packet::{self, Options},
};
use crate::{
    error::SpecError,
    model::{
        Choice, Direction, Dns as Queries, Fault, NamePattern, PacketFault, PacketFilter, Protocol,
        QueueMemory, RecordType, Reply, Target,
    },
    spec::{
        dns::Answer,
        duration::{self, Span},
        net::{InterfaceName, Peer, Ports},
        number::Count,
        packet::{Proto, Signed},
        text::{self, Text},
    },
};

/// The kind.
#[derive(Debug)]
pub struct Dns;

/// Its options, as written. What is asked always goes from the target to a peer.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// Only queries for these names, such as db.example.net, or *.example.net for all below it; may
    /// repeat; a leading ! leaves out. Of several that take a name in, the longest decides [default: any]
    #[arg(
        long,
        value_name = "PATTERN",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    #[serde(default, deserialize_with = "text::comma_list")]
    pub query: Vec<Text<Signed<NamePattern>>>,

    /// Only queries of these types, up to four, such as A, AAAA, HTTPS or a number [default: any; for
    /// addresses, A and AAAA]
    #[arg(
        long = "type",
        value_name = "TYPE",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    #[serde(default, rename = "type", deserialize_with = "text::comma_list")]
    pub types: Vec<Text<RecordType>>,

    /// What the target gets: nxdomain, servfail, refused, timeout (no answer), truncated (over UDP),
    /// delay, an address of each family, or random, for one that is drawn for each query
    #[arg(
        long,
        value_name = "ANSWER",
        value_delimiter = ',',
        required = true,
        allow_hyphen_values = true
    )]
    #[serde(deserialize_with = "text::comma_list")]
    pub answer: Vec<Text<Answer>>,

    /// How late a query is under `--answer delay`; at most 60s
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    #[serde(default)]
    pub delay: Option<Text<Span>>,

    /// How much memory may be taken by queries that wait under `--answer delay`, such as 64mb; others
    /// are dropped [default: 256mb]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    #[serde(default)]
    pub queue_memory: Option<Text<QueueMemory>>,

    /// For how many seconds an address may be kept; at most a week [default: 0]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    #[serde(default)]
    pub ttl: Option<Text<Count>>,

    /// Only queries over this transport: tcp, udp or any [default: any]. Here and below: may repeat; a
    /// leading ! leaves out
    #[arg(
        long,
        value_name = "PROTO",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = "Query filter"
    )]
    #[serde(default, deserialize_with = "text::comma_list")]
    pub proto: Vec<Text<Signed<Proto>>>,

    /// Only queries to name servers in these networks, such as 10.0.0.0/8 or 2001:db8::/32, or of
    /// these names. Of several that take one in, the longest decides
    #[arg(
        long,
        value_name = "PEER",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = "Query filter"
    )]
    #[serde(default, deserialize_with = "text::comma_list")]
    pub peer: Vec<Text<Signed<Peer>>>,

    /// Only queries to name servers of this target: cgroup:PATH or pid:N, in a network namespace of
    /// its own. Joins --peer
    #[arg(
        long,
        value_name = "TARGET",
        allow_hyphen_values = true,
        help_heading = "Query filter"
    )]
    #[serde(default, deserialize_with = "text::list")]
    pub peer_target: Vec<Text<Signed<Target>>>,

    /// The ports of name servers: A or A-B [default: 53]
    #[arg(
        long,
        value_name = "PORTS",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = "Query filter"
    )]
    #[serde(default, deserialize_with = "text::comma_list")]
    pub peer_port: Vec<Text<Signed<Ports>>>,

    /// Only queries through these interfaces [default: every interface that the target uses]
    #[arg(
        long,
        value_name = "NAME",
        allow_hyphen_values = true,
        help_heading = "Query filter"
    )]
    #[serde(default, deserialize_with = "text::list")]
    pub interface: Vec<Text<Signed<InterfaceName>>>,
}

/// The port of name servers (RFC 1035 §4.2).
const PORT: u16 = 53;

impl FaultKindDef for Dns {
    const KIND: FaultKind = FaultKind::Dns;
    const SUMMARY: &'static str = "Queries of DNS get another answer, or none";
    const MANUAL: &'static str = "\
A query that the target sends by UDP or TCP does not reach the name server, and the target gets the
chosen answer as if from it: an error, an address, or over UDP a truncated answer, after which
clients ask again by TCP. With timeout it gets none, with delay the name server's own, later.
Nothing is changed in /etc/resolv.conf, and no proxy is involved. A pattern *.example.net takes in
every name below example.net and not that name itself. A chosen address answers A or AAAA; a query
for the other family is told that the name has no such address. With random each query gets an
address of networks that nobody has (192.0.2.0/24, 2001:db8::/64). Over TCP the answer ends the
connection. Seen are queries in the open: not those by TLS or HTTPS, and not what a program asks of
another one by a Unix socket. Hit is whoever sends: a local resolver that asks in the target's stead
is not the target.";
    const EXAMPLES: &'static str = "\
Examples:
  A cgroup finds no host below a domain:
    injector inject dns --target cgroup:/web --query '*.example.net' --answer nxdomain --for 1m

  The name server is gone, for every third query of a command:
    injector inject dns --answer timeout --when 3+3 --for 1m -- ./app

  A service seems to have moved:
    injector inject dns --target cgroup:/web --query db.example.net \\
      --answer 192.0.2.7,2001:db8::7 --ttl 30 --for 5m

  Queries take two seconds longer:
    injector inject dns --target pid:4242 --answer delay --delay 2s --for 30s";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let mut filter = packet::filter(&Options {
            way: Direction::Egress,
            proto: &raw.proto,
            peer: &raw.peer,
            peer_target: &raw.peer_target,
            peer_port: &raw.peer_port,
            interface: &raw.interface,
            ..Options::NONE
        })?;
        packet::check_ported(&filter, "carries no queries of DNS")?;
        if filter.peer_ports.is_any() {
            filter.peer_ports = Choice::from(vec![PORT..=PORT]);
        }
        let reply = reply(&raw)?;
        if reply == Reply::Truncated {
            if !Protocol::Udp.is_in(&filter.protocol_numbers()) {
                let problem = "truncated answers there are over UDP alone";
                return Err(SpecError::new("proto", problem, "udp or any"));
            }
            filter.protocols = Choice::from(vec![Protocol::Udp]);
        }
        let dns = Queries {
            names: packet::chosen_values("query", &raw.query, |pattern| pattern)?,
            types: types(&raw.types, &reply)?,
            reply,
        };
        Ok(Fault::Packet(filter, PacketFault::Dns(dns)))
    }
}

fn reply(raw: &Raw) -> Result<Reply, SpecError> {
    let (mut v4, mut v6) = (None, None);
    let mut word = None;
    let memory = raw.queue_memory.as_ref().map(|text| text.0);
    let memory = memory.unwrap_or(QueueMemory::DEFAULT);
    let late = |delay| Reply::Delay { delay, memory };
    for Text(answer) in &raw.answer {
        let twice = match answer {
            Answer::V4(address) => v4.replace(*address).is_some(),
            Answer::V6(address) => v6.replace(*address).is_some(),
            Answer::Nxdomain => word.replace(Reply::Nxdomain).is_some(),
            Answer::Servfail => word.replace(Reply::Servfail).is_some(),
            Answer::Refused => word.replace(Reply::Refused).is_some(),
            Answer::Timeout => word.replace(Reply::Timeout).is_some(),
            Answer::Truncated => word.replace(Reply::Truncated).is_some(),
            Answer::Delay => word.replace(late(Duration::ZERO)).is_some(),
            Answer::Random => word.replace(Reply::Random { ttl: 0 }).is_some(),
        };
        if twice || (word.is_some() && (v4.is_some() || v6.is_some())) {
            let problem = "there is more than one answer";
            let allowed = "one; or one IPv4 and one IPv6 address";
            return Err(SpecError::new("answer", problem, allowed));
        }
    }
    let random = matches!(word, Some(Reply::Random { .. }));
    let addresses = random || v4.is_some() || v6.is_some();
    if raw.ttl.is_some() && !addresses {
        let problem = "there is nothing to keep";
        return Err(SpecError::new("ttl", problem, "an address as answer"));
    }
    if !matches!(word, Some(Reply::Delay { .. })) {
        let given = [
            ("delay", raw.delay.is_some()),
            ("queue-memory", raw.queue_memory.is_some()),
        ];
        if let Some((field, _)) = given.iter().find(|(_, given)| *given) {
            let problem = "nothing is delayed";
            return Err(SpecError::new(*field, problem, "delay as answer"));
        }
    }
    if addresses {
        let ttl = raw.ttl.as_ref().map_or(0, |text| text.0.0);
        let small = u32::try_from(ttl).ok().filter(|ttl| *ttl <= MAX_TTL);
        let Some(ttl) = small else {
            let allowed = format!("at most {MAX_TTL} seconds");
            return Err(SpecError::new("ttl", format!("{ttl} is too long"), allowed));
        };
        return Ok(if random {
            Reply::Random { ttl }
        } else {
            Reply::Addresses { v4, v6, ttl }
        });
    }
    match (word, &raw.delay) {
        (Some(Reply::Delay { .. }), Some(delay)) => Ok(late(in_range("delay", delay.0.0)?)),
        (Some(Reply::Delay { .. }), None) => {
            let problem = "is not given";
            Err(SpecError::new("delay", problem, "how late a query is, such as 2s"))
        }
        (Some(reply), _) => Ok(reply),
        (None, _) => {
            let allowed = "one of the answers, or an address of each family";
            Err(SpecError::new("answer", "names no answer", allowed))
        }
    }
}

fn types(written: &[Text<RecordType>], reply: &Reply) -> Result<Vec<RecordType>, SpecError> {
    let mut types: Vec<RecordType> = Vec::new();
    for Text(kind) in written {
        if !types.contains(kind) {
            types.push(*kind);
        }
    }
    if types.len() > MAX_TYPES {
        let problem = format!("{} types", types.len());
        let allowed = format!("at most {MAX_TYPES}; more rules for more");
        return Err(SpecError::new("type", problem, allowed));
    }
    let (v4, v6) = match reply {
        Reply::Addresses { v4, v6, .. } => (v4.is_some(), v6.is_some()),
        Reply::Random { .. } => (true, true),
        Reply::Nxdomain
        | Reply::Servfail
        | Reply::Refused
        | Reply::Timeout
        | Reply::Truncated
        | Reply::Delay { .. } => return Ok(types),
    };
    if types.is_empty() {
        return Ok(vec![RecordType::A, RecordType::AAAA]);
    }
    let answered =
        (v4 && types.contains(&RecordType::A)) || (v6 && types.contains(&RecordType::AAAA));
    if !answered {
        let problem = "no address of the answer has one of these types";
        return Err(SpecError::new("type", problem, "A for IPv4, AAAA for IPv6"));
    }
    Ok(types)
}

pub(super) fn explain(filter: &PacketFilter, dns: &Queries) -> String {
    let mut queries = "DNS queries".to_owned();
    if !dns.names.is_any() {
        queries += &format!(" for {}", packet::described(&dns.names));
    }
    if !dns.types.is_empty() {
        queries += &format!(" of type {}", packet::listed(&dns.types));
    }
    queries += &format!(" in {}", packet::describe(filter));
    match &dns.reply {
        Reply::Nxdomain => format!("answers {queries} with NXDOMAIN"),
        Reply::Servfail => format!("answers {queries} with SERVFAIL"),
        Reply::Refused => format!("answers {queries} with REFUSED"),
        Reply::Timeout => format!("loses {queries}"),
        Reply::Truncated => format!("answers {queries} as too long for UDP"),
        Reply::Delay { delay, memory } => format!(
            "delays {queries} by {}{}",
            duration::format(*delay),
            holding(*memory)
        ),
        Reply::Random { ttl } => format!(
            "answers {queries} with an address drawn for each of {}/24 or {}/64, to be kept for \
             {ttl} s",
            Ipv4Addr::from(DRAWN_V4),
            Ipv6Addr::from(DRAWN_V6)
        ),
        Reply::Addresses { v4, v6, ttl } => {
            let texts = [v4.map(|v4| v4.to_string()), v6.map(|v6| v6.to_string())];
            let texts: Vec<String> = texts.into_iter().flatten().collect();
            format!(
                "answers {queries} with {}, to be kept for {ttl} s",
                texts.join(" and ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::raw;

    fn described(line: &str) -> Result<String, String> {
        match Dns::validate(raw(line)) {
            Ok(Fault::Packet(filter, PacketFault::Dns(dns))) => Ok(explain(&filter, &dns)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.field.to_string()),
        }
    }

    #[test]
    fn answers_in_words() {
        for (line, words) in [
            (
                "--answer nxdomain",
                "answers DNS queries in packets that the target sends to port 53 of a peer with NXDOMAIN",
            ),
            (
                "--answer timeout --query *.a.b --query !c.a.b --type aaaa,65 --peer-port 5353",
                "loses DNS queries for *.a.b but not c.a.b of type AAAA or HTTPS in packets that the target sends to port 5353 of a peer",
            ),
            (
                "--answer 192.0.2.1,2001:db8::1 --ttl 60 --proto tcp",
                "answers DNS queries of type A or AAAA in TCP packets that the target sends to port 53 of a peer with 192.0.2.1 and 2001:db8::1, to be kept for 60 s",
            ),
            (
                "--answer random --type A --ttl 5",
                "answers DNS queries of type A in packets that the target sends to port 53 of a peer with an address drawn for each of 192.0.2.0/24 or 2001:db8::/64, to be kept for 5 s",
            ),
            (
                "--answer truncated",
                "answers DNS queries in UDP packets that the target sends to port 53 of a peer as too long for UDP",
            ),
            (
                "--answer delay --delay 2s",
                "delays DNS queries in packets that the target sends to port 53 of a peer by 2s, holding up to 256mb",
            ),
            (
                "--answer delay --delay 2s --queue-memory 64KiB",
                "delays DNS queries in packets that the target sends to port 53 of a peer by 2s, holding up to 64kb",
            ),
        ] {
            assert_eq!(described(line), Ok(words.to_owned()), "{line}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (line, field) in [
            ("--answer nxdomain,servfail", "answer"),
            ("--answer nxdomain,192.0.2.1", "answer"),
            ("--answer 192.0.2.1,192.0.2.2", "answer"),
            ("--answer random,192.0.2.1", "answer"),
            ("--answer random --type MX", "type"),
            ("--answer random --delay 1s", "delay"),
            ("--answer nxdomain --ttl 5", "ttl"),
            ("--answer 192.0.2.1 --ttl 604801", "ttl"),
            ("--answer timeout --delay 1s", "delay"),
            ("--answer timeout --queue-memory 1mb", "queue-memory"),
            ("--answer delay", "delay"),
            ("--answer delay --delay 61s", "delay"),
            ("--answer 192.0.2.1 --type AAAA", "type"),
            ("--answer refused --type 1,2,3,4,5", "type"),
            ("--answer refused --proto icmp", "proto"),
            ("--answer truncated --proto tcp", "proto"),
            ("--answer refused --query a.b,!a.b", "query"),
        ] {
            assert_eq!(described(line), Err(field.to_owned()), "{line}");
        }
    }
}
