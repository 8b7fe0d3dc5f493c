//! `net-delay`: packets arrive later, all of them and in their order.

use std::{net::SocketAddr, time::Duration};

use injector_tests::{
    agent::{Agent, Injection},
    cgroup::Cgroup,
    command::{Place, Process},
    kernel::{Feature, report_skip},
    netns::{Ip, Netns, Pair},
    packet_matrix, require,
    stats::median,
    traffic::{Arrived, Bed, Case, Delays, Direction, Load, UdpFlow, ping},
    wait,
};

/// Paced, so that each packet's time is its own and not that of a queue.
const LOAD: Load = Load::of(150).spaced(Duration::from_millis(1));

const DELAY: Duration = Duration::from_millis(40);

packet_matrix!(check);

/// Delays a victim's packets beside a bystander's in the same namespace.
#[track_caller]
fn check(case: Case) {
    require!(NetDelay);
    let mut bed = Bed::new(case);
    bed.assert_untouched_before(LOAD);
    let injection = bed.inject(&["net-delay", "--delay", "40ms"]);
    bed.bystander.begin(LOAD);
    let arrived = bed.victim.round(LOAD);
    let beside = bed.bystander.finish();
    let rule = bed.stop(injection).rule();
    assert_eq!(
        (rule.matched, rule.injected),
        (LOAD.count, LOAD.count),
        "{rule:?}"
    );
    arrived.assert_untouched(LOAD);
    assert_delayed(&arrived.delays, DELAY);
    beside.assert_untouched(LOAD);
    assert_undelayed(&beside.delays);
    bed.assert_untouched_after(LOAD);
}

/// Checks that no packet came early and that some came on time: a busy machine
/// may hold up many, a delay that is too long holds up all.
#[track_caller]
fn assert_delayed(delays: &Delays, delay: Duration) {
    assert!(delays.shortest >= delay, "too early: {delays:?}");
    let prompt = delays.quantile(0.1);
    let limit = delay + Duration::from_millis(2);
    assert!(prompt <= limit, "too late, {prompt:?}: {delays:?}");
}

/// Checks that some packets came at once, so that the time of the others is the
/// fault's and not the machine's.
#[track_caller]
fn assert_undelayed(delays: &Delays) {
    let prompt = delays.quantile(0.1);
    assert!(
        prompt <= Duration::from_millis(2),
        "too late, {prompt:?}: {delays:?}"
    );
}

/// Sends a round through a delay of 40 ms with 30 ms of jitter.
#[track_caller]
fn jittered(direction: Direction, load: Load) -> Arrived {
    let mut bed = Bed::new(Case::plain(direction));
    let injection = bed.inject(&[
        "net-delay",
        "--delay",
        "40ms",
        "--jitter",
        "30ms",
        "--seed",
        "4",
    ]);
    let arrived = bed.victim.round(load);
    let rule = bed.stop(injection).rule();
    assert_eq!(rule.injected, load.count);
    arrived.assert_untouched(load);
    arrived
}

/// Packets that follow each other closely queue behind a late one, because
/// their order is kept: `assert_untouched` counts inversions.
#[track_caller]
fn check_jitter(direction: Direction) {
    require!(NetDelay);
    let load = Load::of(300).spaced(Duration::from_millis(8));
    let delays = jittered(direction, load).delays;
    let [low, high] = [10, 70].map(Duration::from_millis);
    assert!(delays.shortest >= low, "{delays:?}");
    // Spread over the whole width, which a constant delay is not.
    assert!(
        delays.quantile(0.05) <= Duration::from_millis(45),
        "{delays:?}"
    );
    assert!(
        delays.quantile(0.75) >= Duration::from_millis(50),
        "{delays:?}"
    );
    assert!(
        delays.longest <= high + Duration::from_millis(2),
        "{delays:?}"
    );
}

#[test]
fn jitter_stays_within_its_bounds_egress() {
    check_jitter(Direction::Egress);
}

#[test]
fn jitter_stays_within_its_bounds_ingress() {
    check_jitter(Direction::Ingress);
}

#[test]
fn jitter_keeps_a_burst_in_order() {
    require!(NetDelay);
    jittered(Direction::Egress, Load::of(3000));
}

/// More packets at once than the defaults of the queueing discipline hold, of
/// one flow (100) and in all (10 000).
#[test]
fn a_burst_is_held_whole() {
    require!(NetDelay);
    let mut bed = Bed::new(Case::plain(Direction::Egress));
    // Long enough for all to wait at once: the sender is done before the first
    // one leaves. At a pace that a slow machine keeps: what it lets pile up, a
    // cable's backlog of 1000 packets drops with and without us.
    let injection = bed.inject(&["net-delay", "--delay", "3s"]);
    let load = Load::of(12_000)
        .spaced(Duration::from_micros(150))
        .windowed(12_000);
    bed.victim.begin(load);
    wait::until("all packets", || {
        (bed.victim.arrived_so_far() == load.count).then_some(())
    });
    let arrived = bed.victim.finish();
    assert_eq!(bed.stop(injection).rule().injected, load.count);
    arrived.assert_untouched(load);
    assert!(arrived.delays.shortest >= Duration::from_secs(3));
}

/// The longest delay there is, of requests in one family and of answers in the other.
/// Where the machine counts instructions, nobody has to wait as long.
#[test]
fn a_minute() {
    require!(NetDelay);
    let bed = Alone::new();
    let target = bed.cgroup.target();
    let rule = |name: &str, peer: &str, way: &str| {
        format!(
            "- {{name: {name}, kind: net-delay, delay: 60s, target: '{target}', proto: icmp, \
             peer: '{peer}', direction: {way}}}\n"
        )
    };
    let rules = rule("sent", "0.0.0.0/0", "egress") + &rule("answered", "::/0", "ingress");
    let injection = Injection::of_spec(&format!("version: 1\nfor: 80s\nrules:\n{rules}"));
    let [v4, v6] = [Ip::V4, Ip::V6].map(|ip| Pair::far_address(ip).to_string());
    let both = "ping -n -c 3 -i 0.2 -W 70 $0 & ping -n -c 3 -i 0.2 -W 70 $1 & wait";
    let place = Place::netns(&bed.pair.near).and_cgroup(&bed.cgroup);
    let text = place.run("sh", &["-c", both, &v4, &v6]);
    let times = text.lines().filter_map(|line| line.split_once("time="));
    let times: Vec<f64> = times
        .filter_map(|(_, time)| time.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(times.len(), 6, "{text}");
    assert!(
        times.iter().all(|ms| (60_000.0..61_000.0).contains(ms)),
        "{text}"
    );
    let report = injection.stop().report();
    assert_eq!(report.hits(), [("sent", 3, 3), ("answered", 3, 3)]);
}

/// Both interfaces have the same index, each in a namespace of its own, and
/// programs see no more than that.
#[test]
fn two_namespaces_of_one_run() {
    require!(NetDelay);
    let mut beds = [
        Bed::new(Case::plain(Direction::Egress)),
        Bed::new(Case::plain(Direction::Egress)),
    ];
    let targets = [beds[0].cgroup.target(), beds[1].cgroup.target()];
    let injection = Injection::start(&[
        "net-delay",
        "--target",
        &targets[0],
        "--target",
        &targets[1],
        "--delay",
        "40ms",
        "--for",
        "60s",
    ]);
    for bed in &mut beds {
        let arrived = bed.round(LOAD, LOAD);
        arrived.assert_untouched(LOAD);
        assert_delayed(&arrived.delays, DELAY);
    }
    assert_eq!(injection.stop().rule().injected, 2 * LOAD.count);
    for bed in &beds {
        assert_undelayed(&bed.round(LOAD, LOAD).delays);
    }
}

/// A pair whose near namespace is the victim's alone, so that echo replies are
/// the victim's too.
struct Alone {
    pair: Pair,
    cgroup: Cgroup,
    _resident: Process,
}

/// Echoes per measurement.
const ECHOES: usize = 40;

impl Alone {
    fn new() -> Self {
        let pair = Pair::new();
        let cgroup = Cgroup::new("victim");
        // A group's namespaces are those of its processes.
        let resident = Place::netns(&pair.near)
            .and_cgroup(&cgroup)
            .spawn("sleep", &["1000"]);
        Self {
            pair,
            cgroup,
            _resident: resident,
        }
    }

    fn ping(&self, ip: Ip) -> Vec<f64> {
        let place = Place::netns(&self.pair.near).and_cgroup(&self.cgroup);
        ping(place, Pair::far_address(ip), ECHOES)
    }

    fn under_netem(&self, netns: &Netns, link: &str, delay: &str, ip: Ip) -> Vec<f64> {
        netns.tc(&["qdisc", "add", "dev", link, "root", "netem", "delay", delay]);
        let times = self.ping(ip);
        netns.tc(&["qdisc", "del", "dev", link, "root"]);
        times
    }

    fn under_injector(&self, delay: &str, direction: Direction, ip: Ip) -> Vec<f64> {
        let target = self.cgroup.target();
        let injection = Injection::start(&[
            "net-delay",
            "--target",
            &target,
            "--delay",
            delay,
            "--direction",
            direction.word(),
            "--for",
            "60s",
        ]);
        let times = self.ping(ip);
        assert!(injection.stop().rule().injected >= ECHOES as u64);
        times
    }
}

/// The median round trip under our delay, against the kernel's own emulator in
/// the same run.
#[track_caller]
fn check_ping(delay: &str, ms: f64, direction: Direction, ip: Ip) {
    require!(NetDelay);
    require!(Netem);
    let bed = Alone::new();
    let (netns, link) = match direction {
        Direction::Egress => (&bed.pair.near, Pair::NEAR_LINK),
        // netem only works on what an interface sends.
        Direction::Ingress => (&bed.pair.far, Pair::FAR_LINK),
    };
    let before = median(&bed.ping(ip));
    let mut netem = Vec::new();
    let mut ours = Vec::new();
    // In turns, so that a busier moment of the machine meets both.
    for _ in 0..2 {
        netem.extend(bed.under_netem(netns, link, delay, ip));
        ours.extend(bed.under_injector(delay, direction, ip));
    }
    let [netem, ours] = [median(&netem), median(&ours)];
    assert!(ours >= ms, "{before} ms before, {ours} ms under {ms} ms");
    assert!(
        (ours - netem).abs() <= 0.5,
        "ours {ours} ms, netem {netem} ms"
    );
}

#[test]
fn ping_10_ms_egress() {
    check_ping("10ms", 10.0, Direction::Egress, Ip::V4);
}

#[test]
fn ping_10_ms_ingress() {
    check_ping("10ms", 10.0, Direction::Ingress, Ip::V6);
}

#[test]
fn ping_50_ms_egress() {
    check_ping("50ms", 50.0, Direction::Egress, Ip::V6);
}

#[test]
fn ping_50_ms_ingress() {
    check_ping("50ms", 50.0, Direction::Ingress, Ip::V4);
}

#[test]
fn loopback_of_the_agents_own_namespace() {
    require!(LoopbackDelay);
    let netns = Netns::new();
    let cgroup = Cgroup::new("victim");
    let here = Place::netns(&netns);
    let flow = |place: Place<'_>, port: u16| {
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        UdpFlow::start(place, here, ([127, 0, 0, 1], port + 1000).into(), to)
    };
    let (victim, bystander) = (flow(here.and_cgroup(&cgroup), 7001), flow(here, 7002));
    let target = cgroup.target();
    let args = [
        "net-delay",
        "--target",
        &target,
        "--delay",
        "40ms",
        "--for",
        "60s",
    ];
    let injection = Injection::start_in(here, &args, &[]);
    bystander.begin(LOAD);
    let arrived = victim.round(LOAD);
    let beside = bystander.finish();
    arrived.assert_untouched(LOAD);
    assert_delayed(&arrived.delays, DELAY);
    assert_undelayed(&beside.delays);
    assert_eq!(injection.stop().rule().injected, LOAD.count);
    assert_undelayed(&victim.round(LOAD).delays);
}

/// Where loopback packets cannot wait, a rule that has nothing else to act on is
/// refused with the reason.
#[test]
fn loopback_that_cannot_wait_is_refused() {
    require!(NetDelay);
    if Feature::LoopbackDelay.available().is_ok() {
        report_skip(Feature::LoopbackDelay, "there is nothing to refuse here");
        return;
    }
    let netns = Netns::new();
    let cgroup = Cgroup::new("victim");
    let here = Place::netns(&netns);
    let target = cgroup.target();
    let args = ["inject", "net-delay", "--target", &target];
    let args = [&args[..], &["--delay", "40ms", "--for", "60s"]].concat();
    let finished = Agent::start(here, &args, &[]).wait();
    assert_eq!(finished.code(), 3, "{finished:?}");
    assert!(finished.stderr.contains("(Linux 6.3)"), "{finished:?}");
}
