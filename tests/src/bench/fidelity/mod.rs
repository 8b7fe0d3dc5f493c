//! Faults beside the same faults of the kernel's own emulator, netem.

use std::time::Duration;

use super::sheet::Sheet;
use crate::{
    command::Place,
    netns::{Ip, Pair},
    stats::median,
    traffic::{Comparison, Delays, Direction, Fault, Load, Maker, UdpFlow, ping},
};

/// How often a fault is had from each side, in turns.
const ROUNDS: usize = 5;

/// Pings per round.
const ECHOES: usize = 40;

/// Least share of netem's throughput.
const THROUGHPUT_BAR: f64 = 0.80;
/// Most that a ping may differ, in ms.
const PING_BAR_MS: f64 = 0.5;
/// Most that the share of retransmissions may differ from netem's.
const LOSS_BAR: f64 = 0.20;

/// Seconds that one bulk flow lasts.
const SECONDS: u32 = 3;

/// Sends one bulk flow; segments sent and sent again.
fn lossy_bulk(bench: &Comparison) -> (f64, f64) {
    let read = || ["OutSegs", "RetransSegs"].map(|name| bench.pair.near.counter("Tcp", name));
    let before = read();
    let _ = bench.bulk(Direction::Egress, SECONDS);
    let after = read();
    let [sent, again] = [0, 1].map(|at| float(after[at] - before[at]));
    (sent, again)
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
    let bench = Comparison::new();
    let met = [
        loss(&bench),
        throughput(&bench),
        pings(&bench),
        jitter(&bench),
    ];
    met.iter().all(|&met| met)
}

fn loss(bench: &Comparison) -> bool {
    let fault = Fault {
        netem: "loss 5%",
        injector: "net-loss --percent 5",
    };
    let results = bench.both(ROUNDS, Direction::Egress, fault, || lossy_bulk(bench));
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

fn throughput(bench: &Comparison) -> bool {
    let mut sheet = Sheet::new(&["one bulk TCP flow, Mbit/s", "netem", "injector", "ratio"]);
    for direction in DIRECTIONS {
        let rates: Vec<f64> = (0..ROUNDS)
            .map(|_| bench.bulk(direction, SECONDS))
            .collect();
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
            let fault = Fault {
                netem: &netem,
                injector: &ours,
            };
            let rates = bench.both(ROUNDS, direction, fault, || bench.bulk(direction, SECONDS));
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

fn pings(bench: &Comparison) -> bool {
    let mut sheet = Sheet::new(&["median ping, ms", "netem", "injector", "difference"]);
    for direction in DIRECTIONS {
        for delay in DELAYS {
            let (netem, ours) = (
                format!("delay {delay}ms"),
                format!("net-delay --delay {delay}ms"),
            );
            let fault = Fault {
                netem: &netem,
                injector: &ours,
            };
            let times = bench.both(ROUNDS, direction, fault, || {
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

fn jitter(bench: &Comparison) -> bool {
    let far = Place::netns(&bench.pair.far);
    let [from, to] = [
        (Pair::near_address(Ip::V4), 8001),
        (Pair::far_address(Ip::V4), 7001),
    ];
    let flow = UdpFlow::start(bench.near(), far, from.into(), to.into());
    let load = Load::of(400).spaced(Duration::from_millis(5));
    let fault = Fault {
        netem: "delay 40ms 30ms",
        injector: "net-delay --delay 40ms --jitter 30ms",
    };
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
