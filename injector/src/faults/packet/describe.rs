//! A packet filter in words.

use std::{fmt::Display, ops::RangeInclusive};

use crate::{
    model::{Choice, Direction, PacketFilter, State, Unit},
    spec::net::ports,
};

/// The filter in words, as in "TCP packets that the target sends to 10.0.0.0/8".
pub(in crate::faults) fn describe(filter: &PacketFilter) -> String {
    let protocols = &filter.protocols;
    let states = !filter.states.is_any();
    let mut text = match (&protocols.these[..], &filter.tcp_flags[..], states) {
        ([], [], false) => "packets".to_owned(),
        // Only they have what is asked for.
        ([], [], true) => "TCP or UDP packets".to_owned(),
        ([], _, _) => "TCP packets".to_owned(),
        (these, ..) => format!("{} packets", list(these)),
    };
    if !protocols.not.is_empty() {
        text += &format!(" other than {}", list(&protocols.not));
    }
    text += match filter.unit {
        Unit::Packet => "",
        Unit::Segment => " (super-packets split)",
    };
    if !filter.sizes.is_any() {
        text += &format!(" of {} bytes", sizes(&filter.sizes));
    }
    if !filter.tcp_flags.is_empty() {
        text += &format!(" with TCP flags {}", list(&filter.tcp_flags));
    }
    if states {
        text += match State::ALL.map(|state| filter.states.takes(&state)) {
            [true, false] => " that begin a conversation",
            [false, true] => " that do not begin a conversation",
            [_, _] => " that belong to a conversation",
        };
    }
    if !filter.dscps.is_any() {
        text += &format!(" with DSCP {}", chosen(&filter.dscps));
    }
    text += &match (&filter.marks.these[..], &filter.marks.not[..]) {
        ([], []) => String::new(),
        ([], not) => format!(" without mark {}", list(not)),
        (_, _) => format!(" with mark {}", chosen(&filter.marks)),
    };
    let (way, preposition) = match filter.direction {
        Direction::Egress => (" that the target sends", "to"),
        Direction::Ingress => (" that the target receives", "from"),
        Direction::Both => (" that the target sends or receives", "to or from"),
    };
    text.push_str(way);
    text += &describe_peers(filter, preposition);
    if !filter.locals.is_any() {
        let preposition = match filter.direction {
            Direction::Egress => "from",
            Direction::Ingress => "at",
            Direction::Both => "from or at",
        };
        text += &format!(" {preposition} its own {}", chosen(&filter.locals));
    }
    if !filter.local_ports.is_any() {
        text += &match named(&filter.local_ports) {
            Named::These(ports) => format!(" on its {ports}"),
            Named::AnyBut(ports) => format!(" on any of its ports but {ports}"),
        };
    }
    if !filter.interfaces.is_any() {
        text += &format!(" through {}", chosen(&filter.interfaces));
    }
    text
}

/// The peer in words, as in " to 10.0.0.0/8 port 80"; nothing for any.
pub(in crate::faults) fn describe_peers(filter: &PacketFilter, preposition: &str) -> String {
    let mut text = String::new();
    let mut peers = texts(&filter.named_peers);
    let networks = texts(&filter.peers);
    peers.these.extend(networks.these);
    peers.not.extend(networks.not);
    if !peers.is_any() {
        text += &format!(" {preposition} {}", chosen(&peers));
    }
    if filter.peer_ports.is_any() {
        return text;
    }
    let ports = named(&filter.peer_ports);
    text + &match (peers.is_any(), ports) {
        (true, Named::These(ports)) => format!(" {preposition} {ports} of a peer"),
        (true, Named::AnyBut(ports)) => format!(" {preposition} any port but {ports} of a peer"),
        (false, Named::These(ports)) => format!(" {ports}"),
        (false, Named::AnyBut(ports)) => format!(", any port but {ports}"),
    }
}

/// The same as texts.
fn texts(choice: &Choice<impl Display>) -> Choice<String> {
    let texts = |list: &[_]| list.iter().map(ToString::to_string).collect();
    Choice {
        these: texts(&choice.these),
        not: texts(&choice.not),
    }
}

/// Ports in words.
enum Named {
    /// As in "ports 80 or 443".
    These(String),
    /// All but such as "22".
    AnyBut(String),
}

fn named(choice: &Choice<RangeInclusive<u16>>) -> Named {
    let texts = Choice {
        these: choice.these.iter().map(ports).collect(),
        not: choice.not.iter().map(ports).collect(),
    };
    let one = matches!(&choice.these[..], [range] if range.start() == range.end());
    let word = if one { "port" } else { "ports" };
    match texts.these.is_empty() {
        true => Named::AnyBut(list(&texts.not)),
        false => Named::These(format!("{word} {}", chosen(&texts))),
    }
}

/// Sizes in words, as in "60 or 1000 to 1500".
fn sizes(choice: &Choice<RangeInclusive<u32>>) -> String {
    let texts = |ranges: &[RangeInclusive<u32>]| -> Vec<String> {
        let text = |range: &RangeInclusive<u32>| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first} to {last}"),
        };
        ranges.iter().map(text).collect()
    };
    match (texts(&choice.these), texts(&choice.not)) {
        (these, not) if these.is_empty() => format!("other than {}", list(&not)),
        (these, not) => chosen(&Choice { these, not }),
    }
}

/// How many of a list are told.
const TOLD: usize = 8;

/// As in "a, b or c".
pub(in crate::faults) fn list(items: &[impl Display]) -> String {
    let mut text = String::new();
    let told = if items.len() > TOLD {
        TOLD - 1
    } else {
        items.len()
    };
    for (number, item) in items.iter().take(told).enumerate() {
        text += match number {
            0 => "",
            _ if number + 1 == items.len() => " or ",
            _ => ", ",
        };
        text += &item.to_string();
    }
    if told < items.len() {
        text += &format!(" or {} more", items.len() - told);
    }
    text
}

/// As in "a or b but not c", "any but c".
pub(in crate::faults) fn chosen<T: Display>(choice: &Choice<T>) -> String {
    match (&choice.these[..], &choice.not[..]) {
        (these, []) => list(these),
        ([], not) => format!("any but {}", list(not)),
        (these, not) => format!("{} but not {}", list(these), list(not)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::tests::from_lines, *};

    #[test]
    fn filters_in_words() {
        for (lines, words) in [
            ("", "packets that the target sends"),
            (
                "proto tcp\ndirection ingress",
                "TCP packets that the target receives",
            ),
            (
                "proto tcp udp 132\ndirection both",
                "TCP, UDP or protocol 132 packets that the target sends or receives",
            ),
            (
                "proto !icmp",
                "packets other than ICMP that the target sends",
            ),
            (
                "peer 10.0.0.0/8\npeer-port 443\nlocal-port 1024-65535\ninterface eth0",
                "packets that the target sends to 10.0.0.0/8 port 443 on its ports 1024-65535 through eth0",
            ),
            (
                "peer 10.0.0.0/8 fd00::/8 !10.1.0.0/16\npeer-port 80 8000-8999 !8080",
                "packets that the target sends to 10.0.0.0/8 or fd00::/8 but not 10.1.0.0/16 ports 80 or 8000-8999 but not 8080",
            ),
            (
                "peer !10.0.0.0/8\ninterface !lo !eth1\npeer-port !22",
                "packets that the target sends to any but 10.0.0.0/8, any port but 22 through any but lo or eth1",
            ),
            (
                "peer-port !22",
                "packets that the target sends to any port but 22 of a peer",
            ),
            (
                "size 1000-1500\ntcp-flags syn,!ack\nstate new\ndscp ef 5\nmark !1/0x1",
                "TCP packets of 1000 to 1500 bytes with TCP flags syn,!ack that begin a conversation with DSCP ef or 5 without mark 0x1/0x1 that the target sends",
            ),
            (
                "size 40-60 !50 1500\ntcp-flags syn,!ack rst\nmark 1/1 2 !3",
                "TCP packets of 40 to 60 or 1500 but not 50 bytes with TCP flags syn,!ack or rst with mark 0x1/0x1 or 0x2 but not 0x3 that the target sends",
            ),
            (
                "size !60 !1000-1500\nstate new established\nmark !1 !2\ndirection egress ingress",
                "TCP or UDP packets of other than 60 or 1000 to 1500 bytes that belong to a conversation without mark 0x1 or 0x2 that the target sends or receives",
            ),
            (
                "state !new",
                "TCP or UDP packets that do not begin a conversation that the target sends",
            ),
            (
                "local 192.0.2.0/24 !192.0.2.7\nlocal-port 80\ndirection both",
                "packets that the target sends or receives from or at its own 192.0.2.0/24 but not 192.0.2.7/32 on its port 80",
            ),
            (
                "proto tcp\nunit segment",
                "TCP packets (super-packets split) that the target sends",
            ),
            (
                "unit segment\nproto !icmp\nlocal-port !22\nsize 60",
                "packets other than ICMP (super-packets split) of 60 bytes that the target sends on any of its ports but 22",
            ),
            (
                "size !60\nstate established\nmark 7\ndscp !cs1",
                "TCP or UDP packets of other than 60 bytes that do not begin a conversation with DSCP any but cs1 with mark 0x7 that the target sends",
            ),
        ] {
            let filter = from_lines(lines).expect(lines);
            assert_eq!(describe(&filter), words);
        }
        let many: Vec<String> = (0..20).map(|third| format!("10.0.{third}.0/24")).collect();
        let filter = from_lines(&format!("peer {}", many.join(" "))).expect("networks");
        assert!(describe(&filter).ends_with("10.0.6.0/24 or 13 more"));
        let eight = from_lines(&format!("peer {}", many[..8].join(" "))).expect("networks");
        assert!(describe(&eight).ends_with("10.0.6.0/24 or 10.0.7.0/24"));
    }
}
