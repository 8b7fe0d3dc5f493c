//! `--queue-memory`: how much memory packets that wait may take.

use std::{fs, thread, time::Duration};

use injector_tests::{
    actor::dns::NO_ANSWER,
    agent::{Finished, Injection, Undelivered},
    cgroup::Cgroup,
    command::Place,
    ledger::Ledger,
    netns::{Ip, Netns, Pair},
    require,
    resolver::{Asker, NameServer},
    traffic::{Bed, Case, Direction, Load, UdpFlow},
    wait,
};

/// Packets that are all sent before the first one of them is due.
const LOAD: Load = Load::of(150).sized(1000).windowed(150);

/// What one counts: its payload, the headers of UDP, IPv4 and Ethernet, and 1 KiB.
const COST: u64 = 1000 + 8 + 20 + 14 + 1024;

/// How many of them wait with 64 KiB: as long as less is taken, another one may.
const HELD: u64 = (64 << 10) / COST + 1;

/// Sends a round of which only [`HELD`] packets may wait.
#[track_caller]
fn round(flow: &UdpFlow) {
    flow.begin(LOAD);
    wait::until("those that waited", || {
        (flow.arrived_so_far() >= HELD).then_some(())
    });
    let arrived = flow.finish();
    assert_eq!((arrived.sent, arrived.intact), (LOAD.count, HELD));
    assert_eq!(arrived.send_errors.0, 0, "{arrived:?}");
    // The first ones wait, those that come too late for room are lost.
    let late: Vec<u64> = (HELD + 1..=LOAD.count).collect();
    assert_eq!(arrived.lost, late);
}

/// Nothing was lost where it waited.
const DELIVERED: Undelivered = Undelivered {
    overrun: 0,
    cut_off: 0,
};

/// Checks that all of two rounds were counted, and those that found no room.
#[track_caller]
fn check(finished: &Finished) {
    assert_eq!(finished.report().undelivered, Some(DELIVERED));
    let rule = finished.rule();
    let dropped = 2 * (LOAD.count - HELD);
    assert_eq!(
        (rule.matched, rule.dropped),
        (2 * LOAD.count, Some(dropped)),
        "{rule:?}"
    );
    // Under a reordering those wait that do not go ahead.
    let waited = if rule.kind == "net-reorder" {
        rule.passed
    } else {
        rule.injected
    };
    assert_eq!(waited, rule.matched, "{rule:?}");
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    require!(NetDelay);
    for (direction, fault) in [
        (Direction::Egress, "net-delay --delay 2s"),
        (Direction::Ingress, "net-delay --delay 2s"),
        // None goes ahead.
        (Direction::Egress, "net-reorder --delay 2s --when 1000"),
        // A packet takes 0.1 s of the link.
        (Direction::Egress, "net-rate --rate 80kbit --queue 5s"),
    ] {
        let mut bed = Bed::new(Case::plain(direction));
        let directory = tempfile::tempdir().expect("make a directory");
        let ledger = directory.path().join("hits.jsonl");
        let words = format!("{fault} --queue-memory 64KiB --ledger {}", ledger.display());
        let injection = bed.inject(&words.split(' ').collect::<Vec<_>>());
        bed.bystander.begin(LOAD);
        round(&bed.victim);
        bed.bystander.finish().assert_untouched(LOAD);
        // The memory of those that have left is free again.
        round(&bed.victim);
        let finished = bed.stop(injection);
        check(&finished);
        check_ledger(&finished, &Ledger::read(&ledger));
    }
}

/// Checks that those of two rounds that found no room are told like those that waited.
#[track_caller]
fn check_ledger(finished: &Finished, ledger: &Ledger) {
    let rule = finished.rule();
    let numbers: Vec<_> = ledger.hits.iter().map(|hit| hit["n"].as_u64()).collect();
    if rule.kind == "net-reorder" {
        // None was hit: those wait that are not, and only they find no room.
        assert_eq!((rule.injected, numbers), (0, vec![]));
        return;
    }
    let all: Vec<_> = (1..=2 * LOAD.count).map(Some).collect();
    assert_eq!(numbers, all, "{rule:?}");
    let waited = ledger.hits.iter().map(|hit| hit["wait_ns"].is_u64());
    let expected = (0..2 * LOAD.count).map(|n| n % LOAD.count < HELD);
    assert!(waited.eq(expected), "{:?}", ledger.hits);
}

#[test]
fn the_loopback_has_no_more_room() {
    require!(LoopbackDelay);
    let (netns, cgroup) = (Netns::new(), Cgroup::new("victim"));
    let here = Place::netns(&netns);
    let [from, to] = [8001, 7001].map(|port| ([127, 0, 0, 1], port).into());
    let flow = UdpFlow::start(here.and_cgroup(&cgroup), here, from, to);
    for direction in ["egress", "ingress"] {
        // Either way, it waits where it arrives.
        let target = cgroup.target();
        let receiver = format!("pid:{}", flow.receiver().pid());
        let target = if direction == "egress" {
            &target
        } else {
            &receiver
        };
        let words = ["net-delay", "--delay", "2s", "--queue-memory", "64kb"];
        let whose = ["--target", target, "--direction", direction, "--for", "60s"];
        let injection = Injection::start_in(here, &[&words[..], &whose].concat(), &[]);
        round(&flow);
        round(&flow);
        check(&injection.stop());
    }
    // What does not come out in time is counted there too.
    let target = cgroup.target();
    let words = ["net-delay", "--delay", "30s", "--queue-memory", "64kb"];
    let whose = ["--target", &target, "--for", "60s"];
    let injection = Injection::start_in(here, &[&words[..], &whose].concat(), &[]);
    assert_eq!(flow.round(LOAD).intact, 0);
    let lost = injection.stop().report().undelivered;
    let cut_off = HELD;
    assert_eq!(
        lost,
        Some(Undelivered {
            cut_off,
            ..DELIVERED
        })
    );
}

/// All rules' packets wait in one memory, and each rule has a limit of its own.
#[test]
fn rules_share_the_memory_and_not_the_limit() {
    require!(NetDelay);
    let bed = Bed::new(Case::plain(Direction::Egress));
    let [near, far] = [Pair::near_address(Ip::V4), Pair::far_address(Ip::V4)];
    let tight = UdpFlow::start(
        Place::netns(&bed.pair.near).and_cgroup(&bed.cgroup),
        Place::netns(&bed.pair.far),
        (near, 8003).into(),
        (far, 7003).into(),
    );
    let rule = |port: u16, memory: &str| {
        let target = bed.cgroup.target();
        format!(
            "{{kind: net-delay, target: '{target}', delay: 4s, peer-port: {port}, \
             queue-memory: {memory}}}"
        )
    };
    let rules = [rule(7001, "1mb"), rule(7003, "64kb")].join(", ");
    let spec = format!("{{version: 1, for: 60s, rules: [{rules}]}}");
    let injection = Injection::of_spec(&spec);
    // All of these wait, and take more than the other rule allows.
    assert_eq!(bed.victim.round(LOAD).intact, 0);
    assert_eq!(tight.round(LOAD).intact, 0);
    wait::until("those with room", || {
        (bed.victim.arrived_so_far() == LOAD.count).then_some(())
    });
    // They count for up to a slot of time longer than they wait: 67 ms here.
    thread::sleep(Duration::from_millis(200));
    round(&tight);
    let report = injection.stop().report();
    let dropped: Vec<_> = report.rules.iter().map(|rule| rule.dropped).collect();
    assert_eq!(
        dropped,
        [Some(0), Some(2 * LOAD.count - HELD)],
        "{report:?}"
    );
}

/// A query that waits takes all of the memory, another one finds no room.
#[test]
fn queries_find_no_room_either() {
    require!(NetDelay);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let server = (Pair::far_address(Ip::V4), 53).into();
    let names = NameServer::start(Place::netns(&pair.far), server);
    let near = Place::netns(&pair.near);
    let victim = Asker::start(near.and_cgroup(&cgroup), server, &[], &["example.net/A"]);
    let target = cgroup.target();
    let words = [
        "dns",
        "--answer",
        "delay",
        "--delay",
        "30s",
        "--queue-memory",
        "1",
    ];
    let whose = ["--target", &target, "--for", "60s"];
    let injection = Injection::start(&[&words[..], &whose].concat());
    assert_eq!(victim.round(2), [NO_ANSWER]);
    let finished = injection.stop();
    assert_eq!(names.take_queries(), 0);
    let rule = finished.rule();
    assert_eq!((rule.injected, rule.dropped), (2, Some(1)), "{rule:?}");
    let lost = finished.report().undelivered;
    let cut_off = 1;
    assert_eq!(
        lost,
        Some(Undelivered {
            cut_off,
            ..DELIVERED
        })
    );
}

/// How many packets a cable holds on its way, as the whole host has it.
struct Backlog(String);

impl Backlog {
    const FILE: &str = "/proc/sys/net/core/netdev_max_backlog";

    /// Lets it hold no more than so many for a while.
    #[track_caller]
    fn limit(packets: u32) -> Self {
        let before = fs::read_to_string(Self::FILE).expect("read a setting");
        fs::write(Self::FILE, packets.to_string()).expect("change a setting");
        Self(before)
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Self::FILE, &self.0) {
            eprintln!("{} stays changed: {error}", Self::FILE);
        }
    }
}

/// How many packets an interface lost on their way out.
#[track_caller]
fn lost_by(netns: &Netns, link: &str) -> u64 {
    let text = netns.ip(&["-json", "-stats", "link", "show", "dev", link]);
    let links: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let lost = links[0]["stats64"]["tx"]["dropped"].as_u64();
    lost.expect("a counter of lost packets")
}

/// Packets that come due together are too many for the cable behind the queue.
#[test]
fn what_overruns_the_cable_is_counted() {
    require!(NetDelay);
    let mut bed = Bed::new(Case::plain(Direction::Egress));
    // A packet leaves with the one before it, where it was drawn a shorter wait.
    let words = "net-delay --delay 200ms --jitter 200ms";
    let injection = bed.inject(&words.split(' ').collect::<Vec<_>>());
    let elsewhere = lost_by(&bed.pair.near, Pair::NEAR_LINK);
    let backlog = Backlog::limit(1);
    let arrived = bed.victim.round(LOAD);
    drop(backlog);
    let elsewhere = lost_by(&bed.pair.near, Pair::NEAR_LINK) - elsewhere;
    let finished = bed.stop(injection);
    let lost = finished.report().undelivered.expect("there are devices");
    assert_eq!(lost.cut_off, 0, "{lost:?}");
    assert!(lost.overrun > 0, "{arrived:?}");
    let rule = finished.rule();
    assert_eq!((rule.injected, rule.dropped), (LOAD.count, Some(0)));
    assert_eq!(lost.overrun + elsewhere, arrived.missing(), "{arrived:?}");
}
