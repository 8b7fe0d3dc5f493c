//! `net-corrupt` in headers, and of packets that are special: where damage goes,
//! and who notices.

use injector_tests::{
    agent::Injection,
    capture::Capture,
    cgroup::Cgroup,
    command::Place,
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
        let (proto, addresses, udp) = match packet[0] >> 4 {
            4 => (packet[9], &packet[12..20], &packet[20..]),
            _ => (packet[6], &packet[8..40], &packet[40..]),
        };
        let length = u16::from_be_bytes([udp[4], udp[5]]);
        if proto != 17 || u32::from(length) != LOAD.size + 8 {
            return None;
        }
        let words = addresses.chunks(2).chain(udp.chunks(2));
        let sum = words
            .map(|word| u64::from(word[0]) << 8 | u64::from(word[1]))
            .sum::<u64>();
        let ports = u32::from_be_bytes([udp[0], udp[1], udp[2], udp[3]]);
        Some(Self {
            bad_bits: (ports ^ (8001 << 16 | 7001)).count_ones(),
            fits: (sum + 17 + u64::from(length)) % 0xffff == 0,
        })
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
