//! What a bystander's packets cost more on an interface where a rule is in
//! force.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{inject, sheet::Sheet};
use crate::{
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Pair},
    stats::median,
    traffic::await_listener,
};

/// How often every condition is measured, in turns.
const ROUNDS: usize = 11;

/// Payload of a packet.
const SIZE: usize = 64;

/// Share of its rate that a bystander may lose.
const BAR: f64 = 0.10;

/// How packets are sent.
#[derive(Debug, clap::Args)]
pub(super) struct SendOptions {
    /// Where to
    #[arg(long)]
    to: SocketAddr,
    /// For how long
    #[arg(long)]
    millis: u64,
}

/// What sending cost.
#[derive(Debug, Serialize, Deserialize)]
struct Sent {
    packets: f64,
    cpu_ns: f64,
}

/// Sends as fast as possible, and prints what that cost.
///
/// # Errors
///
/// When packets cannot be sent.
pub(super) fn send(options: &SendOptions) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(options.to)?;
    let end = Instant::now() + Duration::from_millis(options.millis);
    let start = cpu_ns()?;
    let mut packets = 0.0;
    while Instant::now() < end {
        for _ in 0..256 {
            socket.send(&[0; SIZE]).context("cannot send")?;
            packets += 1.0;
        }
    }
    let cpu_ns = cpu_ns()? - start;
    println!("{}", serde_json::to_string(&Sent { packets, cpu_ns })?);
    Ok(())
}

/// Processor time of the calling thread. On a veth it includes the way to the
/// receiving socket.
fn cpu_ns() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Duration::from(time).as_secs_f64() * 1e9)
}

/// One measurement of a bystander.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Processor time per packet of a plain sender, in ns.
    cpu_ns: f64,
    /// iperf3's packets per second.
    iperf: f64,
    /// iperf3's packets per second of processor time.
    iperf_cpu: f64,
}

/// Where the bystander sends.
struct Bench {
    pair: Pair,
    victim: Cgroup,
    bystander: Cgroup,
}

impl Bench {
    fn near(&self) -> Place<'_> {
        Place::netns(&self.pair.near).and_cgroup(&self.bystander)
    }

    fn measure(&self) -> Rate {
        let far = Pair::far_address(Ip::V4);
        let program = std::env::current_exe().expect("the path of the running program");
        let program = program.to_str().expect("a path in UTF-8");
        let to = SocketAddr::new(far, 9).to_string();
        let text = self
            .near()
            .run(program, &["send", "--millis", "500", "--to", &to]);
        let sent: Sent = serde_json::from_str(&text).expect("the sender's answer");
        let (size, far) = (SIZE.to_string(), far.to_string());
        let args = ["-J", "-u", "-b", "0", "-l", &size, "-t", "1", "-c", &far];
        let text = self.near().run("iperf3", &args);
        let result: Value = serde_json::from_str(&text).expect("iperf3 speaks JSON");
        let number = |path: &str| result.pointer(path).and_then(Value::as_f64).expect(path);
        let packets = number("/end/streams/0/udp/packets");
        let seconds = number("/end/sum/seconds");
        let busy = number("/end/cpu_utilization_percent/host_total") / 100.0;
        Rate {
            cpu_ns: sent.cpu_ns / sent.packets,
            iperf: packets / seconds,
            iperf_cpu: packets / (seconds * busy),
        }
    }
}

/// Runs the group; whether every bar is met.
pub(super) fn run() -> bool {
    let bench = Bench {
        pair: Pair::new(),
        victim: Cgroup::new("victim"),
        bystander: Cgroup::new("bystander"),
    };
    // A sink that is never read: what it cannot hold is dropped cheaply.
    let _sink = bench
        .pair
        .far
        .enter(|| UdpSocket::bind("0.0.0.0:9").expect("bind a sink"));
    let _server = Place::netns(&bench.pair.far).spawn("iperf3", &["-s", "--logfile", "/dev/null"]);
    await_listener(&bench.pair.far, "5201");
    let near = Place::netns(&bench.pair.near);
    // Both groups live in the namespace, so the rule cannot have all of it.
    let _residents = [&bench.victim, &bench.bystander]
        .map(|group| near.and_cgroup(group).spawn("sleep", &["100000"]));
    let target = bench.victim.target();
    let conditions = [
        ("no rule", None),
        ("net-loss on the victim's egress", Some("egress")),
        ("net-loss on the victim's ingress and egress", Some("both")),
    ];
    let mut rates: [Vec<Rate>; 3] = Default::default();
    bench.measure();
    for _ in 0..ROUNDS {
        for ((_, direction), rates) in conditions.iter().zip(&mut rates) {
            let injection = direction.map(|direction| {
                inject(&format!(
                    "net-loss --direction {direction} --target {target} --for 10m"
                ))
            });
            rates.push(bench.measure());
            if let Some(injection) = injection {
                assert_eq!(injection.stop().rule().injected, 0, "the bystander was hit");
            }
        }
    }
    print(&conditions.map(|(name, _)| name), &rates)
}

fn print(names: &[&str], rates: &[Vec<Rate>]) -> bool {
    let mut sheet = Sheet::new(&[
        "a bystander's 64-byte UDP packets",
        "CPU per packet",
        "iperf3",
        "cost",
        "iperf3 per CPU second",
        "cost",
    ]);
    let of = |rates: &[Rate], what: fn(&Rate) -> f64| {
        median(&rates.iter().map(what).collect::<Vec<_>>())
    };
    // Neighbours in time are compared, and the middle one of those ratios is
    // taken: the machine's mood changes more slowly than the conditions.
    let cost = |index: usize, what: fn(&Rate) -> f64| {
        let ratios = rates[index].iter().zip(&rates[0]);
        1.0 - median(
            &ratios
                .map(|(with, without)| what(with) / what(without))
                .collect::<Vec<_>>(),
        )
    };
    for (index, (name, rates)) in names.iter().zip(rates).enumerate() {
        let percent = |cost: f64| match index {
            0 => "-".to_owned(),
            _ => format!("{:.1} %", cost * 100.0),
        };
        sheet.row(vec![
            (*name).to_owned(),
            format!("{:.0} ns", of(rates, |rate| rate.cpu_ns)),
            format!("{:.0}/s", of(rates, |rate| rate.iperf)),
            percent(cost(index, |rate| rate.iperf)),
            format!("{:.0}/s", of(rates, |rate| rate.iperf_cpu)),
            percent(cost(index, |rate| rate.iperf_cpu)),
        ]);
    }
    for (index, name) in names.iter().enumerate().skip(1) {
        // By processor time: while others want the processor too, the rate by
        // the clock says more about them.
        let cost = cost(index, |rate| rate.iperf_cpu);
        sheet.bar(
            format!(
                "{name}: {:.1} % of iperf3's rate per CPU second (bar: {:.0} %)",
                cost * 100.0,
                BAR * 100.0
            ),
            cost <= BAR,
        );
    }
    sheet.print()
}
