//! Faults beside the same faults of the kernel's own emulator, netem.

use std::time::Duration;

use serde_json::Value;

use super::{await_listener, forget_connections, inject, sheet::Sheet};
use crate::{
    cgroup::Cgroup,
    command::{Place, Process},
    netns::{Ip, Pair},
    stats::median,
    traffic::{Delays, Direction, Load, UdpFlow, ping},
};

/// How often a fault is had from each side, in turns.
const ROUNDS: usize = 5;

/// Seconds that one bulk flow lasts.
const SECONDS: &str = "3";

/// Pings per round.
const ECHOES: usize = 40;

/// Least share of netem's throughput.
const THROUGHPUT_BAR: f64 = 0.80;
/// Most that a ping may differ, in ms.
const PING_BAR_MS: f64 = 0.5;
/// Most that the share of retransmissions may differ from netem's.
const LOSS_BAR: f64 = 0.20;

/// Who makes a fault.
#[derive(Clone, Copy, Debug)]
enum Maker {
    Netem,
    Injector,
}

/// A near namespace that is the victim's alone, so that echo replies are the
/// victim's too.
struct Bench {
    pair: Pair,
    cgroup: Cgroup,
    _resident: Process,
    _server: Process,
}

impl Bench {
    fn new() -> Self {
        let pair = Pair::new();
        forget_connections(&pair);
        let cgroup = Cgroup::new("victim");
        let near = Place::netns(&pair.near).and_cgroup(&cgroup);
        let resident = near.spawn("sleep", &["100000"]);
        let server = Place::netns(&pair.far).spawn("iperf3", &["-s", "--logfile", "/dev/null"]);
        await_listener(&pair.far, "5201");
        Self {
            pair,
            cgroup,
            _resident: resident,
            _server: server,
        }
    }

    fn near(&self) -> Place<'_> {
        Place::netns(&self.pair.near).and_cgroup(&self.cgroup)
    }

    /// Does something under a fault.
    fn under<T>(
        &self,
        maker: Maker,
        direction: Direction,
        fault: (&str, &str),
        work: impl FnOnce() -> T,
    ) -> T {
        // netem only works on what an interface sends.
        let (netns, link) = match direction {
            Direction::Egress => (&self.pair.near, Pair::NEAR_LINK),
            Direction::Ingress => (&self.pair.far, Pair::FAR_LINK),
        };
        match maker {
            Maker::Netem => {
                let line = format!("qdisc add dev {link} root netem limit 100000 {}", fault.0);
                netns.tc(&line.split(' ').collect::<Vec<_>>());
                let result = work();
                netns.tc(&["qdisc", "del", "dev", link, "root"]);
                result
            }
            Maker::Injector => {
                let (target, direction) = (self.cgroup.target(), direction.word());
                let injection = inject(&format!(
                    "{} --target {target} --direction {direction} --for 10m",
                    fault.1
                ));
                let result = work();
                assert!(
                    injection.stop().rule().injected > 0,
                    "the fault hit nothing"
                );
                result
            }
        }
    }

    /// The same from both makers in turns: netem's and the injector's results.
    fn both<T>(
        &self,
        direction: Direction,
        fault: (&str, &str),
        work: impl Fn() -> T,
    ) -> [Vec<T>; 2] {
        let mut results = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (maker, results) in [Maker::Netem, Maker::Injector].iter().zip(&mut results) {
                results.push(self.under(*maker, direction, fault, &work));
            }
        }
        results
    }

    /// Sends one bulk flow in this direction; its throughput in Mbit/s.
    fn bulk(&self, direction: Direction) -> f64 {
        let far = Pair::far_address(Ip::V4).to_string();
        let mut args = vec!["-J", "-t", SECONDS, "-c", &far];
        if matches!(direction, Direction::Ingress) {
            args.push("-R");
        }
        let text = self.near().run("iperf3", &args);
        let result: Value = serde_json::from_str(&text).expect("iperf3 speaks JSON");
        let rate = result.pointer("/end/sum_received/bits_per_second");
        rate.and_then(Value::as_f64).expect("a throughput") / 1e6
    }

    /// Sends one bulk flow; segments sent and sent again.
    fn lossy_bulk(&self) -> (f64, f64) {
        let read = || ["OutSegs", "RetransSegs"].map(|name| self.pair.near.counter("Tcp", name));
        let before = read();
        self.bulk(Direction::Egress);
        let after = read();
        let [sent, again] = [0, 1].map(|at| float(after[at] - before[at]));
        (sent, again)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of packets stay far below 2^52"
)]
const fn float(count: u64) -> f64 {
    count as f64
}

/// Runs the group; whether every bar is met.
pub(super) fn run() -> bool {
    let bench = Bench::new();
    let met = [
        loss(&bench),
        throughput(&bench),
        pings(&bench),
        jitter(&bench),
    ];
    met.iter().all(|&met| met)
}

fn loss(bench: &Bench) -> bool {
    let fault = ("loss 5%", "net-loss --percent 5");
    let results = bench.both(Direction::Egress, fault, || bench.lossy_bulk());
    let mut sheet = Sheet::new(&["5 % loss, one bulk TCP flow", "sent", "sent again", "share"]);
    let mut shares = Vec::new();
    for (name, results) in ["netem", "injector"].iter().zip(results) {
        let sent: f64 = results.iter().map(|&(sent, _)| sent).sum();
        let again: f64 = results.iter().map(|&(_, again)| again).sum();
        shares.push(again / sent);
        sheet.row(vec![
            (*name).to_owned(),
            format!("{sent:.0}"),
            format!("{again:.0}"),
            format!("{:.2} %", again / sent * 100.0),
        ]);
    }
    let ratio = shares[1] / shares[0];
    sheet.bar(
        format!("share of retransmissions ÷ netem's: {ratio:.2} (bar: 0.80 to 1.20)"),
        (ratio - 1.0).abs() <= LOSS_BAR,
    );
    sheet.print()
}

const DELAYS: [u32; 2] = [10, 50];
const DIRECTIONS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

fn throughput(bench: &Bench) -> bool {
    let mut sheet = Sheet::new(&["one bulk TCP flow, Mbit/s", "netem", "injector", "ratio"]);
    for direction in DIRECTIONS {
        let rates: Vec<f64> = (0..ROUNDS).map(|_| bench.bulk(direction)).collect();
        let name = format!("no delay, {}", direction.word());
        sheet.row(vec![
            name,
            format!("{:.0}", median(&rates)),
            "-".into(),
            "-".into(),
        ]);
        for delay in DELAYS {
            let (netem, ours) = (
                format!("delay {delay}ms"),
                format!("net-delay --delay {delay}ms"),
            );
            let rates = bench.both(direction, (&netem, &ours), || bench.bulk(direction));
            // Runs that followed each other are compared, and the middle one of
            // those ratios is taken: the machine's mood changes more slowly.
            let ratios: Vec<f64> = rates[1].iter().zip(&rates[0]).map(|(a, b)| a / b).collect();
            let ratio = median(&ratios);
            let [netem, ours] = rates.map(|rates| median(&rates));
            let name = format!("{delay} ms, {}", direction.word());
            sheet.row(vec![
                name.clone(),
                format!("{netem:.0}"),
                format!("{ours:.0}"),
                format!("{ratio:.2}"),
            ]);
            sheet.bar(
                format!("throughput, {name}: {ratio:.2} (bar: {THROUGHPUT_BAR:.2})"),
                ratio >= THROUGHPUT_BAR,
            );
        }
    }
    sheet.print()
}

fn pings(bench: &Bench) -> bool {
    let mut sheet = Sheet::new(&["median ping, ms", "netem", "injector", "difference"]);
    for direction in DIRECTIONS {
        for delay in DELAYS {
            let (netem, ours) = (
                format!("delay {delay}ms"),
                format!("net-delay --delay {delay}ms"),
            );
            let times = bench.both(direction, (&netem, &ours), || {
                ping(bench.near(), Pair::far_address(Ip::V4), ECHOES)
            });
            let [netem, ours] = times.map(|times| median(&times.concat()));
            let name = format!("{delay} ms, {}", direction.word());
            let difference = ours - netem;
            sheet.row(vec![
                name.clone(),
                format!("{netem:.2}"),
                format!("{ours:.2}"),
                format!("{difference:+.2}"),
            ]);
            sheet.bar(
                format!("ping, {name}: {difference:+.2} ms (bar: ± {PING_BAR_MS} ms)"),
                difference.abs() <= PING_BAR_MS,
            );
        }
    }
    sheet.print()
}

fn jitter(bench: &Bench) -> bool {
    let far = Place::netns(&bench.pair.far);
    let [from, to] = [
        (Pair::near_address(Ip::V4), 8001),
        (Pair::far_address(Ip::V4), 7001),
    ];
    let flow = UdpFlow::start(bench.near(), far, from.into(), to.into());
    let load = Load::of(400).spaced(Duration::from_millis(5));
    let fault = ("delay 40ms 30ms", "net-delay --delay 40ms --jitter 30ms");
    let mut sheet = Sheet::new(&[
        "40 ms ± 30 ms, one UDP flow, ms",
        "shortest",
        "5 %",
        "median",
        "95 %",
        "longest",
        "out of order",
    ]);
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let mut row = |name: &str, delays: &Delays, inversions: u64| {
        let mut cells = vec![name.to_owned(), ms(delays.shortest)];
        cells.extend([0.05, 0.5, 0.95].map(|share| ms(delays.quantile(share))));
        cells.extend([ms(delays.longest), inversions.to_string()]);
        sheet.row(cells);
    };
    let netem = bench.under(Maker::Netem, Direction::Egress, fault, || flow.round(load));
    row("netem", &netem.delays, netem.inversions);
    let ours = bench.under(Maker::Injector, Direction::Egress, fault, || {
        flow.round(load)
    });
    row("injector", &ours.delays, ours.inversions);
    let [low, high] = [10, 72].map(Duration::from_millis);
    sheet.bar(
        "95 % of the packets within 10 to 70 ms (2 ms for the machine), none earlier, all in order"
            .into(),
        ours.delays.shortest >= low && ours.delays.quantile(0.95) <= high && ours.inversions == 0,
    );
    sheet.print()
}
