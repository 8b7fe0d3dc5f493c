//! `net-link`: a recipe for the rules of a link of a known kind.

use std::time::Duration;

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    netns::Pair,
    require,
    stats::binomial_999,
    traffic::{
        Direction, Load, UdpFlow,
        ends::{Flow, OTHER_PORTS, PLAIN, both_ways},
    },
};

/// A packet of 1028 bytes takes 5.3 ms on 1600 kbit/s and 11 ms on 768 kbit/s, so
/// that none waits for another one.
const LOAD: Load = Load::of(50).sized(1000).spaced(Duration::from_millis(30));

#[test]
fn both_ways_of_a_phone() {
    require!(NetDelay);
    let pair = Pair::new();
    let (victims, bystanders) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let up = PLAIN.start(&pair, &victims, Direction::Egress);
    let down = OTHER_PORTS.start(&pair, &victims, Direction::Ingress);
    let beside = Flow {
        near_port: PLAIN.near_port + 7,
        far_port: PLAIN.far_port + 7,
        ..PLAIN
    };
    let beside = beside.start(&pair, &bystanders, Direction::Egress);
    let target = victims.target();
    let injection = Injection::start(&[
        "net-link",
        "--profile",
        "3g",
        "--name",
        "phone",
        "--target",
        &target,
        "--proto",
        "udp",
        "--for",
        "60s",
    ]);
    beside.begin(LOAD);
    // Half of the round trip, and the packet's own length on the link.
    for (flow, own) in [(&up, 10), (&down, 5)] {
        let arrived = flow.round(LOAD);
        assert_eq!(arrived.missing(), 0, "{arrived:?}");
        let least = Duration::from_millis(150 + own);
        assert!(arrived.delays.shortest >= least, "{:?}", arrived.delays);
    }
    let beside = beside.finish();
    beside.assert_untouched(LOAD);
    assert!(beside.delays.shortest < Duration::from_millis(100));
    let report = injection.stop().report();
    let rules: Vec<_> = report
        .rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.kind.as_str(), rule.injected))
        .collect();
    assert_eq!(
        rules,
        [
            ("phone.up-rate", "net-rate", LOAD.count),
            ("phone.up-delay", "net-delay", LOAD.count),
            ("phone.down-rate", "net-rate", LOAD.count),
            ("phone.down-delay", "net-delay", LOAD.count),
        ]
    );
    up.round(LOAD).assert_untouched(LOAD);
}

#[test]
fn every_profile_is_told_with_its_source() {
    let manual = agent::run(&["faults", "net-link"]).stdout;
    for words in [
        "3g\n      round trip 300ms, 1600kbit down, 768kbit up; WebPageTest",
        "satellite\n      round trip 558ms; RFC 2488",
    ] {
        assert!(manual.contains(words), "{manual}");
    }
}

/// A profile, as the manual tells of it.
#[derive(Debug)]
struct Profile {
    name: String,
    round_trip: Duration,
    /// Bits per second of what the target sends.
    up: Option<u64>,
    /// As in the manual, such as `5 % lost each way`.
    loss: Option<String>,
}

/// All that there are.
fn profiles() -> Vec<Profile> {
    let manual = agent::run(&["faults", "net-link"]).stdout;
    let lines: Vec<&str> = manual.lines().collect();
    let told = lines.windows(2).filter_map(|pair| {
        let figures = pair[1].trim().strip_prefix("round trip ")?;
        let (figures, _source) = figures.split_once(';')?;
        let mut profile = Profile {
            name: pair[0].trim().to_owned(),
            round_trip: Duration::ZERO,
            up: None,
            loss: None,
        };
        for figure in figures.split(", ") {
            if let Some(rate) = figure.strip_suffix("kbit up") {
                profile.up = Some(rate.parse::<u64>().expect("a rate") * 1000);
            } else if let Some(rate) = figure.strip_suffix("mbit up") {
                profile.up = Some(rate.parse::<u64>().expect("a rate") * 1_000_000);
            } else if figure.ends_with("lost each way") {
                profile.loss = Some(figure.to_owned());
            } else if let Some(ms) = figure.strip_suffix("ms") {
                profile.round_trip = Duration::from_secs_f64(ms.parse::<f64>().expect("ms") / 1e3);
            } else {
                assert!(figure.ends_with("bit down"), "{figure}");
            }
        }
        Some(profile)
    });
    told.collect()
}

/// Each profile is in force, for a flow of its own beside those of the others: packets
/// take as long as half the round trip and their own length on the link.
#[test]
fn every_profile_comes_in_force() {
    require!(NetDelay);
    let profiles = profiles();
    assert!(profiles.len() >= 14, "{profiles:?}");
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    // A packet of 142 bytes takes 38 ms on the slowest.
    let load = Load::of(4).sized(100).spaced(Duration::from_millis(60));
    // A run has room for 64 rules.
    for few in profiles.chunks(10) {
        let port = |number: usize| PLAIN.far_port + u16::try_from(number).expect("few");
        let flows: Vec<_> = (0..few.len())
            .map(|number| {
                let ends = Flow {
                    near_port: port(number) + 1000,
                    far_port: port(number),
                    ..PLAIN
                };
                ends.start(&pair, &cgroup, Direction::Egress)
            })
            .collect();
        let rules = few.iter().enumerate().map(|(number, profile)| {
            format!(
                "- {{kind: net-link, name: {name}, profile: {name}, target: '{}', proto: udp, \
                 peer-port: {}}}\n",
                cgroup.target(),
                port(number),
                name = profile.name
            )
        });
        let rules: String = rules.collect();
        let spec = format!("version: 1\nseed: 5\nfor: 60s\nrules:\n{rules}");
        let injection = Injection::of_spec(&spec);
        flows.iter().for_each(|flow| flow.begin(load));
        let arrived: Vec<_> = flows.iter().map(UdpFlow::finish).collect();
        let report = injection.stop().report();
        for (profile, arrived) in few.iter().zip(&arrived) {
            let name = |part: &str| format!("{}.{part}", profile.name);
            let injected = |part: &str| {
                let rule = report.rules.iter().find(|rule| rule.name == name(part));
                rule.map(|rule| rule.injected)
            };
            for way in ["up", "down"] {
                let has = |part: &str| injected(&format!("{way}-{part}")).is_some();
                let parts = (has("loss"), has("rate"), has("delay"));
                let expected = (profile.loss.is_some(), profile.up.is_some(), true);
                assert_eq!(parts, expected, "{profile:?}");
            }
            let lost = injected("up-loss").unwrap_or(0);
            assert_eq!(arrived.missing(), lost, "{profile:?}");
            assert_eq!(injected("up-delay"), Some(load.count - lost), "{profile:?}");
            let own = profile.up.map_or(Duration::ZERO, |rate| {
                Duration::from_nanos(142 * 8 * 1_000_000_000 / rate)
            });
            let least = profile.round_trip / 2 + own;
            let delays = &arrived.delays;
            assert!(delays.shortest >= least, "{profile:?} {delays:?}");
            let most = least + Duration::from_millis(5);
            assert!(delays.longest <= most, "{profile:?} {delays:?}");
        }
        for flow in &flows {
            flow.round(load).assert_untouched(load);
        }
    }
}

/// A packet of 1000 bytes of payload, with the headers of Ethernet, IP and UDP.
const PACKET: u64 = 1042;

/// How long a link of 10 Mbit/s takes for so many of them.
fn on_the_link(packets: u64) -> Duration {
    Duration::from_nanos(packets * PACKET * 8 * 100)
}

/// Three rules on one target are one bad link: 1 % is lost, the rest waits for 50 ms, give
/// or take 5, and for 10 Mbit/s.
#[test]
fn loss_delay_and_rate_are_one_link() {
    require!(NetDelay);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let flows = both_ways(&pair, &cgroup);
    let common = format!("target: '{}', direction: both, proto: udp", cgroup.target());
    let injection = Injection::of_spec(&format!(
        "version: 1\nseed: 4\nfor: 80s\nrules:\n\
         - {{name: loss, kind: net-loss, percent: 1, {common}}}\n\
         - {{name: delay, kind: net-delay, delay: 50ms, jitter: 5ms, {common}}}\n\
         - {{name: rate, kind: net-rate, rate: 10mbit, queue: 2s, {common}}}\n"
    ));
    let [low, high] = [45, 55].map(Duration::from_millis);
    // One at a time, each way: a packet waits for no other one.
    let paced = Load::of(1500)
        .sized(1000)
        .spaced(Duration::from_millis(2))
        .windowed(1 << 40);
    flows.iter().for_each(|flow| flow.begin(paced));
    let mut lost = 0;
    for flow in &flows {
        let arrived = flow.finish();
        lost += arrived.missing();
        let strange = (arrived.damaged, arrived.duplicates, arrived.inversions);
        assert_eq!(strange, (0, 0, 0), "{arrived:?}");
        let delays = &arrived.delays;
        assert!(delays.shortest >= low + on_the_link(1), "{delays:?}");
        let most = high + on_the_link(1) + Duration::from_millis(2);
        assert!(delays.quantile(0.99) <= most, "{delays:?}");
    }
    let sent = 2 * paced.count;
    let expected = binomial_999(sent, 0.01);
    assert!(expected.contains(&lost), "{lost} of {sent}: {expected:?}");
    // All at once: those that are not lost wait for each other.
    let burst = Load::of(500).sized(1000).windowed(500);
    let arrived = flows[0].round(burst);
    lost += arrived.missing();
    let all = on_the_link(arrived.intact);
    let delays = &arrived.delays;
    assert!(delays.shortest >= low + on_the_link(1), "{delays:?}");
    assert!(delays.longest >= all, "{all:?} {delays:?}");
    let most = all + high + Duration::from_millis(40);
    assert!(delays.longest <= most, "{all:?} {delays:?}");
    let report = injection.stop().report();
    let sent = sent + burst.count;
    let late = sent - lost;
    let hits = [
        ("loss", sent, lost),
        ("delay", late, late),
        ("rate", late, late),
    ];
    assert_eq!(report.hits(), hits);
    assert_eq!(report.rules[2].dropped, Some(0));
    for flow in &flows {
        flow.round(burst).assert_untouched(burst);
    }
}
