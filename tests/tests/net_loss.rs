//! `net-loss`: packets vanish, and nobody is told.

use std::time::Duration;

use injector_tests::{
    agent::{Injection, RuleReport},
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Netns, Pair},
    packet_matrix, require,
    stats::binomial_999,
    traffic::{Arrived, Bed, Case, Direction, Form, Load, TcpFlow, UdpFlow, ends::both_ways},
};

/// Enough that a rule which is not there, or hits everything, lies far outside
/// the interval; few enough for a slow machine.
const FEW: Load = Load::of(3000);

packet_matrix!(check);

/// Loses 30 % of a victim's packets beside a bystander's in the same namespace.
#[track_caller]
fn check(case: Case) {
    require!(NetLoss);
    lossy(&mut Bed::new(case), 0.3, FEW, &[]);
}

/// Lets a bed's victim lose packets: exactly those that the rule counts, in the
/// number that chance allows, and none before or after.
///
/// The seed is fixed, so the decisions are the same in every run, and with them
/// whether their number lies in the interval.
#[track_caller]
fn lossy(bed: &mut Bed, share: f64, load: Load, filter: &[&str]) {
    bed.assert_untouched_before(FEW);
    let percent = (share * 100.0).to_string();
    let mut fault = vec!["net-loss", "--percent", &percent, "--seed", "7"];
    fault.extend(filter);
    let injection = bed.inject(&fault);
    let arrived = bed.round(load, FEW);
    let rule = bed.stop(injection).rule();
    assert_lost_silently(&arrived, &rule, load);
    let expected = binomial_999(load.count, share);
    assert!(
        expected.contains(&rule.injected),
        "{rule:?}, allowed: {expected:?}"
    );
    bed.assert_untouched_after(FEW);
}

/// Checks that every packet was taken from the sender, and that those which did
/// not arrive are those that the rule counted.
#[track_caller]
fn assert_lost_silently(arrived: &Arrived, rule: &RuleReport, load: Load) {
    assert_eq!(arrived.sent, load.count, "sending failed: {arrived:?}");
    assert_eq!(rule.matched, load.count, "{rule:?}");
    assert_eq!(rule.injected, arrived.missing(), "{rule:?} {arrived:?}");
    assert_eq!((arrived.damaged, arrived.inversions), (0, 0), "{arrived:?}");
}

fn v4(form: Form, direction: Direction) -> Case {
    Case {
        form,
        ip: Ip::V4,
        direction,
    }
}

#[test]
fn five_percent_of_a_hundred_thousand_sent() {
    require!(NetLoss);
    lossy(
        &mut Bed::new(v4(Form::Cgroup, Direction::Egress)),
        0.05,
        Load::of(100_000),
        &[],
    );
}

#[test]
fn five_percent_of_a_hundred_thousand_received() {
    require!(NetLoss);
    lossy(
        &mut Bed::new(v4(Form::Cgroup, Direction::Ingress)),
        0.05,
        Load::of(100_000),
        &[],
    );
}

/// Where the victim has a namespace to itself, packets are its own by that and
/// not by their socket. The kernel's own packets (multicast reports) are too,
/// so the rule says UDP.
#[track_caller]
fn check_alone(form: Form, ip: Ip, direction: Direction) {
    require!(NetLoss);
    let case = Case {
        form,
        ip,
        direction,
    };
    lossy(&mut Bed::alone(case), 0.3, FEW, &["--proto", "udp"]);
}

#[test]
fn a_namespace_of_one_group_v4_egress() {
    check_alone(Form::Cgroup, Ip::V4, Direction::Egress);
}

#[test]
fn a_namespace_of_one_group_v6_ingress() {
    check_alone(Form::Cgroup, Ip::V6, Direction::Ingress);
}

#[test]
fn a_namespace_of_one_process_v4_ingress() {
    check_alone(Form::Process, Ip::V4, Direction::Ingress);
}

#[test]
fn a_namespace_of_one_process_v6_egress() {
    check_alone(Form::Process, Ip::V6, Direction::Egress);
}

#[test]
fn large_packets_are_lost_alike() {
    require!(NetLoss);
    let mut bed = Bed::new(v4(Form::Cgroup, Direction::Egress));
    lossy(&mut bed, 0.3, Load::of(2000).sized(1400), &[]);
}

#[test]
fn times_is_exact_and_ends_the_run() {
    require!(NetLoss);
    let mut bed = Bed::new(v4(Form::Cgroup, Direction::Egress));
    let injection = bed.inject(&["net-loss", "--times", "10"]);
    let (arrived, _) = bed.spend(FEW, injection, 10);
    let first_ten: Vec<_> = (1..=10).collect();
    assert_eq!(arrived.lost[..10], first_ten, "{arrived:?}");
}

#[test]
fn when_names_the_very_packets() {
    require!(NetLoss);
    let mut bed = Bed::new(v4(Form::Cgroup, Direction::Ingress));
    let injection = bed.inject(&["net-loss", "--when", "3..9+2"]);
    let arrived = bed.round(FEW, FEW);
    assert_eq!(bed.stop(injection).rule().injected, 4);
    assert_eq!(arrived.lost, [3, 5, 7, 9]);
    assert_eq!(arrived.missing(), 4);
}

#[test]
fn one_seed_loses_the_same_packets_again() {
    require!(NetLoss);
    let mut bed = Bed::new(v4(Form::Cgroup, Direction::Egress));
    let mut lost = |seed: &str| {
        let injection = bed.inject(&["net-loss", "--percent", "20", "--seed", seed]);
        let arrived = bed.round(Load::of(500), Load::of(500));
        assert_eq!(bed.stop(injection).report().seed.to_string(), seed);
        arrived.lost
    };
    let first = lost("11");
    assert!(!first.is_empty());
    assert_eq!(first, lost("11"));
    assert_ne!(first, lost("12"));
}

#[test]
fn both_directions_of_one_rule() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let [out, back] = both_ways(&pair, &cgroup);
    let target = cgroup.target();
    let injection = Injection::start(&[
        "net-loss",
        "--target",
        &target,
        "--direction",
        "both",
        // The namespace is the victim's alone, and so are the kernel's own
        // packets in it.
        "--proto",
        "udp",
        "--when",
        "1+2",
        "--for",
        "60s",
    ]);
    let load = Load::of(1000);
    // One after the other, so that every second occurrence is every second
    // packet of each flow.
    assert_eq!(
        (out.round(load).missing(), back.round(load).missing()),
        (500, 500)
    );
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (2000, 1000));
}

#[test]
fn loopback_of_the_agents_own_namespace() {
    require!(NetLoss);
    let netns = Netns::new();
    let cgroup = Cgroup::new("victim");
    let here = Place::netns(&netns);
    let flow = |place: Place<'_>, port: u16| {
        let to = ([127, 0, 0, 1], port).into();
        UdpFlow::start(place, here, ([127, 0, 0, 1], port + 1000).into(), to)
    };
    let (victim, bystander) = (flow(here.and_cgroup(&cgroup), 7001), flow(here, 7002));
    let target = cgroup.target();
    let args = [
        "net-loss", "--target", &target, "--when", "2+2", "--for", "60s",
    ];
    let injection = Injection::start_in(here, &args, &[]);
    let load = Load::of(1000);
    assert_eq!(victim.round(load).missing(), 500);
    bystander.round(load).assert_untouched(load);
    assert_eq!(injection.stop().rule().matched, 1000);
    victim.round(load).assert_untouched(load);
}

/// A loss that the sender were told of would be repaired at once, below the
/// counters; a silent one costs a retransmission for each packet.
#[test]
fn tcp_repairs_a_silent_loss_by_retransmitting() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let to = (Pair::far_address(Ip::V4), 7000).into();
    // Without segmentation offload a packet is a segment, so the two counts can
    // be compared.
    pair.near.ip(&["link", "set", "near0", "gso_max_segs", "1"]);
    let streams = 4;
    let flow = TcpFlow::start(near, Place::netns(&pair.far), to, streams, None);
    let target = cgroup.target();
    let injection = Injection::start(&[
        "net-loss",
        "--target",
        &target,
        "--percent",
        "5",
        "--seed",
        "3",
        "--for",
        "60s",
    ]);
    let before = pair.near.counter("Tcp", "RetransSegs");
    let stream = flow.round(300_000);
    let retransmitted = pair.near.counter("Tcp", "RetransSegs") - before;
    let rule = injection.stop().rule();
    assert_eq!((stream.bytes, stream.bad_bytes), (1_200_000, 0));
    // What needs no retransmission when lost: each stream's two bare
    // acknowledgements, of the handshake and of the other side's end.
    let bare = 2 * u64::from(streams);
    assert!(
        rule.injected > 2 * bare && retransmitted + bare >= rule.injected,
        "{retransmitted} segments retransmitted for {rule:?}"
    );
}

/// The share of retransmitted segments under 5 % loss, against the kernel's own
/// emulator in the same run.
#[test]
fn tcp_retransmits_as_under_netem() {
    require!(NetLoss);
    require!(Netem);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let to = (Pair::far_address(Ip::V4), 7000).into();
    // Many flows at once: under loss each one mostly waits for its timers.
    let time = Duration::from_secs(4);
    let flow = TcpFlow::start(near, Place::netns(&pair.far), to, 16, Some(time));
    let mut shares = Shares::default();
    let target = cgroup.target();
    // In turns, so that a busier minute of the machine meets both.
    for seed in ["1", "2"] {
        let netem = "qdisc add dev near0 root netem loss 5% limit 10000";
        pair.near.tc(&netem.split(' ').collect::<Vec<_>>());
        shares.netem.measure(&pair.near, &flow);
        pair.near.tc(&["qdisc", "del", "dev", "near0", "root"]);

        let injection = Injection::start(&[
            "net-loss",
            "--target",
            &target,
            "--percent",
            "5",
            "--seed",
            seed,
            "--for",
            "60s",
        ]);
        shares.ours.measure(&pair.near, &flow);
        assert!(injection.stop().rule().injected > 0);
    }
    let ratio = shares.ours.share() / shares.netem.share();
    assert!((0.8..=1.2).contains(&ratio), "{shares:?}: ratio {ratio}");
    // A fifth is only told from chance when there are enough of them: with a
    // thousand, chance is some 3 %.
    assert!(
        shares.ours.retransmitted >= 1000 && shares.netem.retransmitted >= 1000,
        "{shares:?}"
    );
}

#[derive(Debug, Default)]
struct Shares {
    netem: Segments,
    ours: Segments,
}

#[derive(Debug, Default)]
struct Segments {
    sent: u64,
    retransmitted: u64,
}

impl Segments {
    fn measure(&mut self, netns: &Netns, flow: &TcpFlow) {
        let read = || ["OutSegs", "RetransSegs"].map(|name| netns.counter("Tcp", name));
        let [sent, retransmitted] = read();
        flow.round(0);
        let [sent_now, retransmitted_now] = read();
        self.sent += sent_now - sent;
        self.retransmitted += retransmitted_now - retransmitted;
    }

    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 segments")]
    fn share(&self) -> f64 {
        self.retransmitted as f64 / self.sent as f64
    }
}
