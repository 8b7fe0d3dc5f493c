//! `net-rate`: packets share a link of a given bandwidth.

use std::time::{Duration, Instant};

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    netns::{Ip, Pair},
    packet_matrix, require,
    traffic::{
        Bed, Case, Direction, Load,
        ends::{OTHER_PORTS, PLAIN},
    },
};

/// 100 packets of 1,000 bytes of payload, all under way at once.
const LOAD: Load = Load::of(100).sized(1000).windowed(100);

/// What a packet of the load has beside its payload: Ethernet, IP and UDP.
const fn headers(ip: Ip) -> u64 {
    match ip {
        Ip::V4 => 14 + 20 + 8,
        Ip::V6 => 14 + 40 + 8,
    }
}

fn time(bytes: u64, bits_per_second: u64) -> Duration {
    Duration::from_nanos(bytes * 8 * 1_000_000_000 / bits_per_second)
}

packet_matrix!(check);

/// Sends a burst over a link of 4 Mbit/s, on which it takes over 200 ms.
#[track_caller]
fn check(case: Case) {
    require!(NetDelay);
    let mut bed = Bed::new(case);
    bed.assert_untouched_before(LOAD);
    let injection = bed.inject(&["net-rate", "--rate", "4mbit", "--queue", "5s"]);
    let start = Instant::now();
    let arrived = bed.round(LOAD, LOAD);
    let taken = start.elapsed();
    let rule = bed.stop(injection).rule();
    arrived.assert_untouched(LOAD);
    assert_eq!((rule.matched, rule.injected), (LOAD.count, LOAD.count));
    assert_eq!(rule.dropped, Some(0), "{rule:?}");
    // The first packet has a link to itself, the last one waits for all.
    let packet = u64::from(LOAD.size) + headers(case.ip);
    let first = time(packet, 4_000_000);
    let all = time(packet * LOAD.count, 4_000_000);
    let delays = arrived.delays;
    assert!(delays.shortest >= first, "{delays:?}");
    assert!(taken >= all, "{taken:?}: {delays:?}");
    assert!(
        delays.longest <= all + Duration::from_millis(40),
        "{delays:?}"
    );
    bed.assert_untouched_after(LOAD);
}

fn bed(direction: Direction) -> Bed {
    Bed::new(Case::plain(direction))
}

#[test]
fn a_full_queue_drops_and_says_so() {
    require!(NetDelay);
    let mut bed = bed(Direction::Egress);
    let injection = bed.inject(&["net-rate", "--rate", "1mbit", "--queue", "100ms"]);
    let arrived = bed.round(LOAD, LOAD);
    let rule = bed.stop(injection).rule();
    assert_eq!(rule.injected, LOAD.count, "{rule:?}");
    assert_eq!(
        rule.dropped,
        Some(arrived.missing()),
        "{rule:?} {arrived:?}"
    );
    // 100 ms of 1 Mbit/s are 12 packets of 1,042 bytes; the sender is faster.
    assert!(
        arrived.intact >= 12 && arrived.missing() > 50,
        "{arrived:?}"
    );
    let longest = Duration::from_millis(100 + 5);
    assert!(arrived.delays.longest <= longest, "{arrived:?}");
}

#[test]
fn a_burst_passes_at_once_after_a_pause() {
    require!(NetDelay);
    let mut bed = bed(Direction::Egress);
    let injection = bed.inject(&["net-rate", "--rate", "1mbit", "--burst", "64kb"]);
    let load = Load::of(50).sized(1000);
    let arrived = bed.round(load, load);
    arrived.assert_untouched(load);
    let rule = bed.stop(injection).rule();
    assert_eq!(rule.dropped, Some(0), "{rule:?}");
    // Without the burst the last one would have waited 417 ms, and been dropped.
    let longest = Duration::from_millis(50);
    assert!(arrived.delays.longest <= longest, "{arrived:?}");
}

#[test]
fn overhead_counts_for_each_packet() {
    require!(NetDelay);
    let mut bed = bed(Direction::Egress);
    let load = Load::of(100).sized(8).windowed(100);
    // So slow that it does not matter how long a busy sender takes.
    let args = ["net-rate", "--rate", "100kbit", "--queue", "5s"];
    let longest = |bed: &mut Bed, more: &[&str]| {
        let injection = bed.inject(&[&args[..], more].concat());
        let arrived = bed.round(load, load);
        bed.stop(injection);
        arrived.assert_untouched(load);
        arrived.delays.longest
    };
    let bare = longest(&mut bed, &[]);
    let loaded = longest(&mut bed, &["--overhead", "200"]);
    // 200 bytes more for each of 100 packets are 1.6 s more.
    let more = loaded.saturating_sub(bare);
    assert!(more >= Duration::from_millis(1300), "{bare:?} {loaded:?}");
    assert!(more <= Duration::from_millis(1900), "{bare:?} {loaded:?}");
    // As without the headers of Ethernet, 14 bytes of each 50.
    let light = longest(&mut bed, &["--overhead", "-14"]);
    let less = bare.saturating_sub(light);
    assert!(less >= time(14 * 80, 100_000), "{bare:?} {light:?}");
    assert!(less <= time(14 * 120, 100_000), "{bare:?} {light:?}");
}

/// Two flows of one target share a link, or have one each.
#[test]
fn flows_share_a_link_or_have_one_each() {
    require!(NetDelay);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let flows = [PLAIN, OTHER_PORTS].map(|flow| flow.start(&pair, &cgroup, Direction::Egress));
    let target = cgroup.target();
    let own = time(
        (u64::from(LOAD.size) + headers(Ip::V4)) * LOAD.count,
        4_000_000,
    );
    for (per, together) in [("rule", 2 * own), ("flow", own)] {
        let link = ["net-rate", "--rate", "4mbit", "--queue", "5s", "--per", per];
        let whom = ["--target", &target, "--proto", "udp", "--for", "60s"];
        let injection = Injection::start(&[&link[..], &whom].concat());
        flows.iter().for_each(|flow| flow.begin(LOAD));
        let longest = flows.each_ref().map(|flow| {
            let arrived = flow.finish();
            arrived.assert_untouched(LOAD);
            arrived.delays.longest
        });
        let rule = injection.stop().rule();
        assert_eq!((rule.injected, rule.dropped), (2 * LOAD.count, Some(0)));
        // The last packet may have been sent somewhat later than the first one.
        let last = longest[0].max(longest[1]);
        let slack = Duration::from_millis(40);
        assert!(last >= together - slack, "{per}: {longest:?}");
        assert!(last <= together + slack, "{per}: {longest:?}");
        assert!(
            longest.iter().all(|&one| one >= own - slack),
            "{per}: {longest:?}"
        );
    }
}
