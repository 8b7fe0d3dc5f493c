//! Filters that cannot stand, and such as can.

use super::*;

fn parse<T: std::str::FromStr<Err = crate::spec::text::ValueError>>(words: &str) -> Vec<Text<T>> {
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
        direction: &parse(&words("direction")),
        way: Direction::Egress,
        proto: &parse(&words("proto")),
        peer: &parse(&words("peer")),
        peer_target: &parse(&words("peer-target")),
        local: &parse(&words("local")),
        peer_port: &parse(&words("peer-port")),
        local_port: &parse(&words("local-port")),
        interface: &parse(&words("interface")),
        dscp: &parse(&words("dscp")),
        mark: &parse(&words("mark")),
        size: &parse(&words("size")),
        tcp_flags: &parse(&words("tcp-flags")),
        state: &parse(&words("state")),
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
        ("local ::1 !::1", "local", "with and without"),
        ("local !0.0.0.0/0 !::/0", "local", "leaves nothing"),
        ("local ::1\npeer 10.0.0.0/8", "local", "the peers' family"),
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
        (
            "tcp-flags ack !syn\nstate new",
            "state",
            "contradicts tcp-flags",
        ),
        ("state new !new", "state", "with and without"),
        ("state !new !established", "state", "leaves nothing"),
        ("direction egress !egress", "direction", "with and without"),
        ("direction !egress !ingress", "direction", "leaves nothing"),
        ("direction ingress !both", "direction", "leaves nothing"),
        ("direction egress !both", "direction", "leaves nothing"),
        ("mark 1 !1", "mark", "with and without"),
        ("mark 1/3 !1/1", "mark", "leaves nothing"),
        ("mark !0/1 !1/1", "mark", "leaves nothing"),
        ("mark 1 2 3 !4 5", "mark", "at most 4"),
        ("size 60 !60", "size", "with and without"),
        ("size 60-70 !50-80", "size", "leaves nothing"),
        ("size !20-1000 !900-65575", "size", "leaves nothing"),
        ("size 20 30 40 50 !60", "size", "at most 4"),
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
fn both_ways_or_the_other_one() {
    for (words, way) in [
        ("", Direction::Egress),
        ("egress ingress", Direction::Both),
        ("both", Direction::Both),
        ("both egress", Direction::Both),
        ("!egress", Direction::Ingress),
        ("!ingress", Direction::Egress),
        ("both !egress", Direction::Ingress),
        ("egress ingress !ingress", Direction::Egress),
    ] {
        let filter = from_lines(&format!("direction {words}"));
        match filter {
            Ok(filter) => assert_eq!(filter.direction, way, "{words}"),
            Err(error) => assert_eq!(words, "egress ingress !ingress", "{error}"),
        }
    }
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
        "local 10.0.0.0/8 !10.0.0.1\npeer 192.0.2.0/24",
        "local ::1\npeer db.example.net",
        "size 40-100 !50 !60 200\nmark 1/1 2/2 !3/3",
        "tcp-flags syn,!ack rst\nstate established",
        "state new established",
    ] {
        assert!(from_lines(text).is_ok(), "{text}: {:?}", from_lines(text));
    }
}
