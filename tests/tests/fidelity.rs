//! `net-delay` on connections: what one achieves beside the kernel's own emulator with
//! the same delay, and that none sees a loss. With one processor, where packets have one
//! order. (`tests/tests/net_delay.rs` compares round trips, and
//! `tests/tests/net_loss.rs` retransmissions; `cargo xtask bench fidelity` prints
//! a longer measurement of all three.)

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Pair},
    require,
    stats::median,
    traffic::{Comparison, Direction, Fault, TcpFlow},
};

/// Pairs of measurements, one after the other.
const ROUNDS: usize = 3;

/// Seconds that a flow lasts, some forty round trips of the longer delay.
const SECONDS: u32 = 2;

/// What the sender's window lets through, in bytes per ms: 200 Mbit/s, a fraction
/// of what an emulated processor can do. Where the processor is the limit, it is
/// the processor that is compared.
const RATE: u32 = 25_000;

/// Least share of netem's throughput.
const SHARE: f64 = 0.8;

/// One bulk TCP flow keeps its throughput. Flows that followed each other are
/// compared, and the middle one of those ratios is taken: what else a machine
/// does changes more slowly.
#[track_caller]
fn check_throughput(delay_ms: u32, direction: Direction) {
    require!(NetDelay);
    require!(Netem);
    let bed = Comparison::new();
    bed.limit_window(RATE * delay_ms);
    let (netem, injector) = (
        format!("delay {delay_ms}ms"),
        format!("net-delay --delay {delay_ms}ms"),
    );
    let fault = Fault {
        netem: &netem,
        injector: &injector,
    };
    let [netem, ours] = bed.both(ROUNDS, direction, fault, || bed.bulk(direction, SECONDS));
    let ratios: Vec<f64> = ours.iter().zip(&netem).map(|(a, b)| a / b).collect();
    println!("Mbit/s under netem {netem:.0?}, under the injector {ours:.0?}: {ratios:.2?}");
    let ratio = median(&ratios);
    assert!(
        ratio >= SHARE,
        "{ratio:.2} of netem's throughput: Mbit/s under netem {netem:?}, under ours {ours:?}"
    );
}

#[test]
fn throughput_under_10_ms_egress() {
    check_throughput(10, Direction::Egress);
}

#[test]
fn throughput_under_50_ms_egress() {
    check_throughput(50, Direction::Egress);
}

#[test]
fn throughput_under_10_ms_ingress() {
    check_throughput(10, Direction::Ingress);
}

#[test]
fn throughput_under_50_ms_ingress() {
    check_throughput(50, Direction::Ingress);
}

#[test]
fn tcp_arrives_whole_and_nothing_seems_lost() {
    require!(NetDelay);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let to = (Pair::far_address(Ip::V6), 7000).into();
    let flow = TcpFlow::start(near, Place::netns(&pair.far), to, 2, None);
    let target = cgroup.target();
    let options = ["--delay", "10ms", "--for", "60s"];
    let injection = Injection::start(&[&["net-delay", "--target", &target], &options[..]].concat());
    // A busy machine may make the sender doubt and probe; only a gap in what
    // arrived makes it retransmit fast.
    let read = || pair.near.counter("TcpExt", "TCPFastRetrans");
    let before = read();
    let stream = flow.round(1_000_000);
    assert_eq!((stream.bytes, stream.bad_bytes), (2_000_000, 0));
    assert_eq!(read(), before);
    assert!(injection.stop().rule().injected > 50);
}
