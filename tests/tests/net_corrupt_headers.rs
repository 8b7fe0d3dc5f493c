//! `net-corrupt` in headers, and of packets that are special: where damage goes,
//! and who notices.

use std::fs;

use injector_tests::{
    agent::Injection,
    capture::Capture,
    cgroup::Cgroup,
    command::Place,
    dialer::DialBed,
    netns::{Ip, Pair},
    require,
    traffic::{Alone, Bed, Case, Direction, Load, UdpFlow},
};

const LOAD: Load = Load::of(300).sized(512);

/// Damages the headers of a victim's UDP packets, which go astray where the
/// checksum fits, and are dropped for it where it does not.
#[track_caller]
fn check_headers(ip: Ip, direction: Direction) {
    require!(NetCorrupt);
    let case = Case {
        ip,
        ..Case::plain(direction)
    };
    let mut bed = Bed::new(case);
    // So that a checksum can be seen on the wire.
    bed.pair.near.fill_in_checksums(Pair::NEAR_LINK);
    let capture = Capture::start(&bed.pair.far, Pair::FAR_LINK, ip);
    let family = if ip == Ip::V4 { "Udp" } else { "Udp6" };
    for (checksum, extent, bits, counter) in [
        ("valid", "--bytes 4", 4..=32, "NoPorts"),
        ("broken", "--bits 3", 3..=3, "InCsumErrors"),
    ] {
        let receiver = bed.receiver();
        let counters = || ["NoPorts", "InCsumErrors"].map(|name| receiver.counter(family, name));
        let before = counters();
        let mut args = vec!["net-corrupt", "--region", "headers", "--checksum", checksum];
        args.extend(extent.split(' ').chain(["--percent", "30", "--seed", "3"]));
        let injection = bed.inject(&args);
        let _ = capture.take();
        let arrived = bed.victim.round(LOAD);
        let seen = capture.take();
        let rule = bed.stop(injection).rule();
        assert_eq!(rule.injected, arrived.missing(), "{rule:?} {arrived:?}");
        assert_eq!((rule.matched, arrived.damaged), (LOAD.count, 0), "{rule:?}");
        assert!(rule.injected > 0, "{rule:?}");
        let receiver = bed.receiver();
        for (name, before) in ["NoPorts", "InCsumErrors"].into_iter().zip(before) {
            let expected = if name == counter { rule.injected } else { 0 };
            assert_eq!(receiver.counter(family, name) - before, expected, "{name}");
        }
        if direction == Direction::Egress {
            let headers: Vec<_> = seen
                .iter()
                .filter_map(|packet| Header::of(packet))
                .collect();
            let damaged: Vec<_> = headers
                .iter()
                .filter(|header| header.bad_bits != 0)
                .collect();
            assert_eq!(damaged.len() as u64, rule.injected);
            let as_asked = |header: &&&Header| bits.contains(&header.bad_bits);
            assert_eq!(damaged.iter().filter(as_asked).count(), damaged.len());
            let misfits = headers.iter().filter(|header| !header.fits).count() as u64;
            let expected = if checksum == "valid" {
                0
            } else {
                rule.injected
            };
            assert_eq!(misfits, expected, "{checksum}");
        }
    }
    bed.assert_untouched_after(LOAD);
}

#[test]
fn headers_v4_egress() {
    check_headers(Ip::V4, Direction::Egress);
}

#[test]
fn headers_v6_egress() {
    check_headers(Ip::V6, Direction::Egress);
}

#[test]
fn headers_v6_ingress() {
    check_headers(Ip::V6, Direction::Ingress);
}

/// A packet as it arrived.
#[derive(Debug)]
struct Seen<'a> {
    /// The protocol's number.
    proto: u8,
    addresses: &'a [u8],
    /// All behind the network header.
    rest: &'a [u8],
}

impl<'a> Seen<'a> {
    fn new(packet: &'a [u8]) -> Self {
        let (proto, addresses, rest) = match packet[0] >> 4 {
            4 => (packet[9], &packet[12..20], &packet[20..]),
            _ => (packet[6], &packet[8..40], &packet[40..]),
        };
        Self {
            proto,
            addresses,
            rest,
        }
    }

    /// Whether the checksum of its transport fits.
    fn fits(&self) -> bool {
        // That of ICMP takes in nothing else.
        let (addresses, pseudo) = match self.proto {
            1 => (&[][..], 0),
            proto => (self.addresses, u64::from(proto) + self.rest.len() as u64),
        };
        let words = addresses.chunks(2).chain(self.rest.chunks(2));
        let word = |word: &[u8]| u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0));
        (words.map(word).sum::<u64>() + pseudo).is_multiple_of(0xffff)
    }
}

/// The header of one of the victim's UDP packets, as it arrived.
struct Header {
    /// Bits of the ports that differ from what was sent.
    bad_bits: u32,
    /// Whether the checksum fits.
    fits: bool,
}

impl Header {
    /// `None` for what is none of [`LOAD`].
    fn of(packet: &[u8]) -> Option<Self> {
        let seen = Seen::new(packet);
        let udp = seen.rest;
        let length = u16::from_be_bytes([udp[4], udp[5]]);
        if seen.proto != 17 || u32::from(length) != LOAD.size + 8 {
            return None;
        }
        let ports = u32::from_be_bytes([udp[0], udp[1], udp[2], udp[3]]);
        Some(Self {
            bad_bits: (ports ^ (8001 << 16 | 7001)).count_ones(),
            fits: seen.fits(),
        })
    }
}

/// A connection whose first segment has another header with a checksum that fits: nobody
/// finds damage, and it is no segment of that connection. The second try, a second later,
/// is what the first one was.
#[test]
fn tcp_headers_whose_checksum_fits() {
    require!(NetCorrupt);
    // Of what leaves, a device fills the checksum in behind the rule.
    for (ip, direction, extent, changed) in [
        (Ip::V4, Direction::Egress, "--bytes", 4),
        (Ip::V6, Direction::Ingress, "--bits", 8),
        (Ip::V4, Direction::Ingress, "--bytes", 4),
    ] {
        let pair = Pair::new();
        let ends = [(&pair.near, Pair::NEAR_LINK), (&pair.far, Pair::FAR_LINK)];
        let [sender, receiver] = match direction {
            Direction::Egress => ends,
            Direction::Ingress => [ends[1], ends[0]],
        };
        sender.0.fill_in_checksums(sender.1);
        sender.0.enter(|| {
            // A time stamp would differ from one try to the next.
            fs::write("/proc/sys/net/ipv4/tcp_timestamps", "0").expect("set a parameter");
        });
        let capture = Capture::start(receiver.0, receiver.1, ip);
        let bed = DialBed::on_this_cable(pair, ip, direction, &["--exchanges", "1"]);
        let errors = || bed.counter("Tcp", "InCsumErrors");
        let before = errors();
        let number = changed.to_string();
        let fault = ["--region", "headers", "--seed", "3", extent, &number];
        let way = direction.word();
        let opening = ["--tcp-flags", "syn,!ack", "--when", "1", "--direction", way];
        let injection = bed.inject("net-corrupt", &[fault.as_slice(), &opening].concat());
        let _ = capture.take();
        bed.victim.assert_unharmed(1);
        let rule = injection.stop().rule();
        assert_eq!((rule.matched, rule.injected), (2, 1), "{rule:?}");
        assert_eq!(errors(), before, "{ip:?}");
        let packets = capture.take();
        let segments = packets.iter().map(|packet| Seen::new(packet));
        let mut segments = segments.filter(|seen| seen.proto == 6);
        let damaged = segments.next().expect("a first try");
        let mut others = segments.filter(|seen| seen.rest.len() == damaged.rest.len());
        let whole = others
            .find(|seen| seen.rest[13] == 2)
            .expect("a second try");
        assert!(
            damaged.fits() && whole.fits(),
            "{damaged:02x?} {whole:02x?}"
        );
        let pairs = damaged.rest.iter().zip(whole.rest);
        let differences = (0..).zip(pairs.map(|(a, b)| a ^ b));
        // Neither the length of the header nor the checksum is what was to change.
        let differences: Vec<(usize, u8)> = differences
            .filter(|&(place, bits)| bits != 0 && !(16..18).contains(&place))
            .collect();
        assert!(differences.iter().all(|&(place, _)| place != 12));
        let found = match extent {
            "--bytes" => differences.len() as u64,
            _ => differences
                .iter()
                .map(|(_, bits)| u64::from(bits.count_ones()))
                .sum(),
        };
        assert_eq!(found, changed, "{differences:?}");
    }
}

/// Another echo request than the one that was sent, with a checksum that fits.
#[test]
fn echo_requests_whose_checksum_fits() {
    require!(NetCorrupt);
    let alone = Alone::new();
    alone.pair.near.fill_in_checksums(Pair::NEAR_LINK);
    let target = alone.cgroup.target();
    for (ip, family, proto, request) in [(Ip::V4, "Icmp", 1, 8), (Ip::V6, "Icmp6", 58, 128)] {
        let capture = Capture::start(&alone.pair.far, Pair::FAR_LINK, ip);
        let errors = || alone.pair.far.counter(family, "InCsumErrors");
        let before = errors();
        let whom = ["--target", &target, "--proto", "icmp", "--for", "60s"];
        let fault = ["net-corrupt", "--region", "headers", "--bytes", "4"];
        let injection = Injection::start(&[&fault[..], &whom, &["--seed", "3"]].concat());
        let echo = ["-s", "24", "-p", "5a"];
        assert!(!alone.ping_with(ip, &echo), "{ip:?}");
        assert_eq!(injection.stop().rule().injected, 1, "{ip:?}");
        assert_eq!(errors(), before, "{ip:?}");
        let packets = capture.take();
        let mut seen = packets.iter().map(|packet| Seen::new(packet));
        let seen = seen.find(|seen| seen.proto == proto && seen.rest.len() == 32);
        let seen = seen.expect("a request");
        assert!(seen.fits(), "{seen:02x?}");
        // Behind the time at which it was sent.
        assert_eq!(seen.rest[24..], [0x5a; 8], "{seen:02x?}");
        // Type, code and number are known; of the other two of six bytes, two may have
        // changed at most.
        let places = [(0, request), (1, 0), (6, 0), (7, 1)];
        let changed = places
            .iter()
            .filter(|&&(place, byte)| seen.rest[place] != byte);
        assert!(changed.count() >= 2, "{seen:02x?}");
        assert!(alone.ping_with(ip, &echo), "{ip:?}");
    }
}

/// The receiver's stack finds damage of an echo request, in either region.
#[test]
fn echo_requests() {
    require!(NetCorrupt);
    let alone = Alone::new();
    let target = alone.cgroup.target();
    for (ip, family) in [(Ip::V4, "Icmp"), (Ip::V6, "Icmp6")] {
        for region in ["payload", "headers"] {
            let errors = || alone.pair.far.counter(family, "InCsumErrors");
            let before = errors();
            let injection = Injection::start(&[
                "net-corrupt",
                "--target",
                &target,
                "--for",
                "60s",
                "--proto",
                "icmp",
                "--checksum",
                "broken",
                "--region",
                region,
            ]);
            assert!(!alone.ping(ip), "{ip:?} {region}");
            let rule = injection.stop().rule();
            assert_eq!(
                (rule.injected, errors() - before),
                (1, 1),
                "{ip:?} {region}"
            );
            assert!(alone.ping(ip), "{ip:?} {region}");
        }
    }
}

/// A UDP packet without a checksum has none that could be broken.
#[test]
fn no_checksum() {
    require!(NetCorrupt);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let mut flow = UdpFlow::new(
        (Pair::near_address(Ip::V4), 8001).into(),
        (Pair::far_address(Ip::V4), 7001).into(),
    );
    flow.start_receiver(Place::netns(&pair.far));
    flow.start_sender_without_checksums(Place::netns(&pair.near).and_cgroup(&cgroup));
    let target = cgroup.target();
    for (checksum, damaged) in [("broken", 0), ("valid", LOAD.count)] {
        let rule = ["net-corrupt", "--target", &target, "--checksum", checksum];
        let injection =
            Injection::start(&[&rule[..], &["--proto", "udp", "--for", "60s"]].concat());
        let arrived = flow.round(LOAD);
        assert_eq!(
            (arrived.damaged, arrived.missing()),
            (damaged, 0),
            "{checksum}"
        );
        let rule = injection.stop().rule();
        assert_eq!(
            (rule.matched, rule.injected),
            (damaged, damaged),
            "{checksum}"
        );
    }
}
