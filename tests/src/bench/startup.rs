//! How soon a fault acts, and how much memory its agent takes.

mod calls;
mod packets;

use std::{fs, thread, time::Duration};

use nix::time::{ClockId, clock_gettime};

use super::{inject, sheet::Sheet};
use crate::{
    agent::{Agent, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::{Feature, Where},
    stats::median,
};

pub(super) use calls::{OpenTicks, tick as open_ticks};
pub(super) use packets::{TickOptions, tick};

/// How often the start is measured.
const ROUNDS: usize = 15;

/// Longest that the first hit may take on a real processor.
const BAR_MS: f64 = 300.0;

/// Most memory that an agent may keep, in MiB.
const BAR_MIB: f64 = 30.0;

/// Networks of the agent that has much to keep.
const NETWORKS: u16 = 10_000;

/// Pause between two operations of a victim.
const GAP: Duration = Duration::from_micros(200);

/// Longest that is waited for a hit, in ns.
const LIMIT: u64 = 90_000_000_000;

/// How soon a fault acted.
struct FirstHit {
    /// From the agent's start to the first hit, in ms.
    delay_ms: f64,
    /// Processor time that the agent took for it, in ms.
    cpu_ms: f64,
}

impl FirstHit {
    fn new(start: u64, hit: u64, cpu_ms: f64) -> Self {
        Self {
            delay_ms: Duration::from_nanos(hit - start).as_secs_f64() * 1e3,
            cpu_ms,
        }
    }
}

/// Runs the group; whether every bar is met.
pub(super) fn run() -> bool {
    let packets = packets::Packets::start();
    let mut met = measure("net-loss", &packets.rule(), || packets.first_hit());
    drop(packets);
    if Feature::SysErrno.expected(Where::current()).is_ok() {
        let calls = calls::Calls::start();
        met &= measure("sys-errno", &calls.rule(), || calls.first_hit());
    }
    met & measure_large()
}

/// Memory of an agent that has much to keep: networks, a ledger, and a file that it watches and
/// that has changed.
fn measure_large() -> bool {
    let cgroup = Cgroup::new("victim");
    let folder = tempfile::tempdir().expect("make a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, ledger) = (path("rules.yaml"), path("ledger"));
    let networks = |peers: u16| {
        let peers = (0..peers).map(|n| format!("10.{}.{}.0/24", n >> 8, n & 255));
        let peers = peers.collect::<Vec<_>>().join(", ");
        let target = cgroup.target();
        format!(
            "version: 1\nfor: 10m\nrules:\n- {{kind: net-loss, target: '{target}', peer: [{peers}]}}\n"
        )
    };
    fs::write(&file, networks(NETWORKS - 1)).expect("write a file");
    let args = ["run", "--watch", "--ledger", &ledger, &file];
    let injection = Injection::from_agent(Agent::start(Place::HERE, &args, &[]));
    fs::write(&file, networks(NETWORKS)).expect("write a file");
    let (resident, peak) = memory_mib(&injection);

    let mut sheet = Sheet::new(&["a watched file", "median", "best", "worst"]);
    sheet.row(memory_row(
        &format!("resident memory of the agent with {NETWORKS} networks and a ledger"),
        (resident, peak),
    ));
    bar_memory(&mut sheet, resident);
    sheet.print()
}

fn measure(kind: &str, rule: &str, first_hit: impl Fn() -> FirstHit) -> bool {
    let hits: Vec<_> = (0..ROUNDS).map(|_| first_hit()).collect();
    let (resident, peak) = memory_mib(&inject(&format!("{rule} --percent 1 --for 10m")));

    let mut sheet = Sheet::new(&[kind, "median", "best", "worst"]);
    let ms = |time: f64| format!("{time:.0} ms");
    let mut times = |name: String, times: &[f64]| {
        let [best, worst] =
            [f64::min, f64::max].map(|pick| times.iter().copied().reduce(pick).unwrap_or(0.0));
        sheet.row(vec![name, ms(median(times)), ms(best), ms(worst)]);
    };
    let delays: Vec<_> = hits.iter().map(|hit| hit.delay_ms).collect();
    let cpu: Vec<_> = hits.iter().map(|hit| hit.cpu_ms).collect();
    times(
        format!("from exec to the first hit ({ROUNDS} starts)"),
        &delays,
    );
    times("of that, processor time of the agent".into(), &cpu);
    sheet.row(memory_row("resident memory of the agent", (resident, peak)));
    // An emulated processor's time can only be compared with its own.
    if !Where::current().is_virtual() {
        let middle = median(&delays);
        sheet.bar(
            format!("first hit after {middle:.0} ms (bar: {BAR_MS:.0} ms)"),
            middle <= BAR_MS,
        );
    }
    bar_memory(&mut sheet, resident);
    sheet.print()
}

fn memory_row(name: &str, (resident, peak): (f64, f64)) -> Vec<String> {
    let mib = |mib: f64| format!("{mib:.1} MiB");
    vec![name.to_owned(), mib(resident), "-".to_owned(), mib(peak)]
}

fn bar_memory(sheet: &mut Sheet, resident: f64) {
    sheet.bar(
        format!("resident memory {resident:.1} MiB (bar: {BAR_MIB:.0} MiB)"),
        resident <= BAR_MIB,
    );
}

/// Starts an agent with this rule; and when.
fn start_agent(rule: &str) -> (Agent, u64) {
    let words = format!("inject {rule} --for 10m --output json");
    let args: Vec<&str> = words.split_whitespace().collect();
    let start = now_ns().expect("the time");
    (Agent::start(Place::HERE, &args, &[]), start)
}

fn now_ns() -> anyhow::Result<u64> {
    let time = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    Ok(u64::try_from(time.as_nanos())?)
}

/// Processor time of a process with all its threads so far, in ms.
fn processor_ms(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read a process's state");
    // pid (name) state …; the name may hold anything. Counted from the state,
    // the 12th and 13th fields are ticks of 10 ms in user space and kernel.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks = fields.split(' ').skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        * 10.0
}

/// Memory of an agent that has been running for a while: now, and at its most.
fn memory_mib(injection: &Injection) -> (f64, f64) {
    thread::sleep(Duration::from_secs(3));
    let status = fs::read_to_string(format!("/proc/{}/status", injection.agent().pid()));
    let status = status.expect("read a process's status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kib.expect(name) / 1024.0
    };
    (field("VmRSS:"), field("VmHWM:"))
}
