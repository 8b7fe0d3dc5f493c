//! A million packets each way: what the report says is what was seen outside.

use injector_common::{
    random::{draw, roll, rule_seed},
    trigger::{THRESHOLD_ALWAYS, Trigger},
};
use injector_tests::{
    agent::Injection,
    board::OUTCOMES,
    cgroup::Cgroup,
    command::Place,
    kernel::Where,
    netns::{Ip, Netns, Pair},
    require,
    traffic::{Load, UdpFlow},
};

/// How many packets go each way. An emulated processor, on which this test runs only
/// by request (`--everywhere`), would need minutes for as many as the host sends.
fn count() -> u64 {
    match Where::current() {
        Where::Host => 1_000_000,
        Where::Override | Where::Debian612 | Where::Debian61 => 50_000,
    }
}

/// An eighth: a share that the kernel's threshold stands for exactly.
const PERCENT: &str = "12.5";
const EIGHTH: Trigger = Trigger {
    threshold: THRESHOLD_ALWAYS / 8,
    ..Trigger::ALWAYS
};

const SEED: u64 = 7;

/// Whether the only rule selects its `n`th packet.
fn selected(n: u64) -> bool {
    EIGHTH.selects(n, roll(draw(rule_seed(SEED, 0), n)))
}

/// What the kernel's UDP counted: packets taken from the sender, handed to the
/// receiver, and dropped for want of room in its socket.
fn counted(sender: &Netns, receiver: &Netns) -> [u64; 3] {
    [
        sender.counter("Udp", "OutDatagrams"),
        receiver.counter("Udp", "InDatagrams"),
        receiver.counter("Udp", "RcvbufErrors"),
    ]
}

/// Sends all packets of one way, after the rule has seen `before` others, and holds
/// what the ends and the kernel saw against what the rule must have decided. Returns
/// how many were lost.
#[track_caller]
fn send(flow: &UdpFlow, before: u64, sender: &Netns, receiver: &Netns) -> u64 {
    let count = count();
    let start = counted(sender, receiver);
    let arrived = flow.round(Load::of(count));
    let end = counted(sender, receiver);
    let lost = (1..=count).filter(|n| selected(before + n)).count();
    let lost = u64::try_from(lost).expect("64 bits");
    assert_eq!((arrived.sent, arrived.send_errors.0), (count, 0));
    assert_eq!(
        (arrived.intact, arrived.damaged, arrived.duplicates),
        (count - lost, 0, 0),
    );
    let first: Vec<u64> = (1..=OUTCOMES).filter(|n| selected(before + n)).collect();
    assert_eq!(arrived.lost, first, "other packets than those selected");
    let [sent, received, refused] = [0, 1, 2].map(|n| end[n] - start[n]);
    assert_eq!((sent, received, refused), (count, count - lost, 0));
    lost
}

/// Each packet is numbered, and the receiver looks at every one. Which are lost
/// is known in advance, from the seed.
#[test]
fn a_million_packets_each_way_are_counted_right() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let (near, far) = (
        Place::netns(&pair.near).and_cgroup(&cgroup),
        Place::netns(&pair.far),
    );
    let [here, there] = [Pair::near_address(Ip::V4), Pair::far_address(Ip::V4)];
    let out = UdpFlow::start(near, far, (here, 8001).into(), (there, 7001).into());
    let back = UdpFlow::start(far, near, (there, 8002).into(), (here, 7002).into());
    let target = cgroup.target();
    let line = format!(
        "net-loss --percent {PERCENT} --seed {SEED} --target {target} --direction both \
         --proto udp --for 10m"
    );
    let injection = Injection::start(&line.split_whitespace().collect::<Vec<_>>());
    let lost_out = send(&out, 0, &pair.near, &pair.far);
    let lost_back = send(&back, count(), &pair.far, &pair.near);
    let rule = injection.stop().rule();
    assert_eq!(rule.matched, 2 * count(), "{rule:?}");
    assert_eq!(rule.injected, lost_out + lost_back, "{rule:?}");
    assert_eq!(rule.passed, 2 * count() - rule.injected, "{rule:?}");
    assert_eq!((rule.exhausted, rule.errors), (0, 0), "{rule:?}");
}
