//! How soon a fault acts, and how much memory its agent takes.

use std::{
    fs::{self, OpenOptions},
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use memmap2::MmapRaw;
use nix::time::{ClockId, clock_gettime};
use tempfile::NamedTempFile;

use super::{inject, sheet::Sheet};
use crate::{
    agent::{Agent, Injection},
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Pair},
    stats::median,
};

/// How often the start is measured.
const ROUNDS: usize = 15;

/// Longest that the first hit may take.
const BAR_MS: f64 = 300.0;

/// Most memory that an agent may keep, in MiB.
const BAR_MIB: f64 = 30.0;

/// Pause between two packets of the victim.
const GAP: Duration = Duration::from_micros(200);

/// How many packets can be noted.
const NOTES: usize = 1 << 20;

/// Port that the victim sends to.
const PORT: u16 = 7001;

/// How packets are sent.
#[derive(Debug, clap::Args)]
pub(super) struct TickOptions {
    /// Where to
    #[arg(long)]
    to: SocketAddr,
    /// Where to note the time at which each packet was sent
    #[arg(long)]
    notes: PathBuf,
}

/// Times at which packets were sent, in ns, shared by sender and bench.
struct Notes(MmapRaw);

impl Notes {
    fn map(path: &PathBuf) -> anyhow::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        file.set_len((NOTES * size_of::<AtomicU64>()) as u64)?;
        Ok(Self(MmapRaw::map_raw(&file)?))
    }

    fn times(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long, page-aligned, and lives as long as
        // `self`; it holds atomics only, so that others may write to it.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), NOTES) }
    }
}

/// Sends a numbered packet at every tick until killed.
///
/// # Errors
///
/// When packets cannot be sent.
pub(super) fn tick(options: &TickOptions) -> anyhow::Result<()> {
    let notes = Notes::map(&options.notes)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for (number, time) in notes.times().iter().enumerate() {
        time.store(now_ns()?, Relaxed);
        let number = u64::try_from(number)?.to_be_bytes();
        socket.send_to(&number, options.to).context("cannot send")?;
        thread::sleep(GAP);
    }
    anyhow::bail!("there is no room for more notes")
}

fn now_ns() -> anyhow::Result<u64> {
    let time = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    Ok(u64::try_from(time.as_nanos())?)
}

/// Runs the group; whether every bar is met.
pub(super) fn run() -> bool {
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let socket = pair
        .far
        .enter(|| UdpSocket::bind(("0.0.0.0", PORT)).expect("bind a socket"));
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("set a timeout");
    let notes_file = NamedTempFile::new().expect("make a file");
    let path = notes_file.path().to_path_buf();
    let notes = Notes::map(&path).expect("map a file");
    let program = std::env::current_exe().expect("the path of the running program");
    let to = SocketAddr::new(Pair::far_address(Ip::V4), PORT).to_string();
    let path = path.to_str().expect("a path in UTF-8");
    let _sender = near.spawn(program, &["tick", "--to", &to, "--notes", path]);

    let target = cgroup.target();
    let (mut delays, mut processor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        next_number(&socket).expect("the victim's packets");
        let (delay, cpu) = first_hit_ms(&socket, &notes, &target);
        delays.push(delay);
        processor.push(cpu);
    }
    let (resident, peak) = memory_mib(&inject(&format!(
        "net-loss --percent 1 --target {target} --for 10m"
    )));

    let mut sheet = Sheet::new(&["", "median", "best", "worst"]);
    let ms = |time: f64| format!("{time:.0} ms");
    let mut times = |name: String, times: &[f64]| {
        let [best, worst] =
            [f64::min, f64::max].map(|pick| times.iter().copied().reduce(pick).unwrap_or(0.0));
        sheet.row(vec![name, ms(median(times)), ms(best), ms(worst)]);
    };
    times(
        format!("from exec to the first lost packet ({ROUNDS} starts)"),
        &delays,
    );
    times("of that, processor time of the agent".into(), &processor);
    let middle = median(&delays);
    let mib = |mib: f64| format!("{mib:.1} MiB");
    sheet.row(vec![
        "resident memory of the agent".into(),
        mib(resident),
        "-".into(),
        mib(peak),
    ]);
    sheet.bar(
        format!("first hit after {middle:.0} ms (bar: {BAR_MS:.0} ms)"),
        middle <= BAR_MS,
    );
    sheet.bar(
        format!("resident memory {resident:.1} MiB (bar: {BAR_MIB:.0} MiB)"),
        resident <= BAR_MIB,
    );
    sheet.print()
}

/// The number of the next packet, or `None` when none comes for a while.
fn next_number(socket: &UdpSocket) -> Option<u64> {
    let mut number = [0; 8];
    let count = socket.recv(&mut number).ok()?;
    (count == number.len()).then(|| u64::from_be_bytes(number))
}

/// Time from the agent's start until the victim's first packet is lost, and
/// processor time that the agent took for it, in ms.
fn first_hit_ms(socket: &UdpSocket, notes: &Notes, target: &str) -> (f64, f64) {
    let args = [
        "inject", "net-loss", "--target", target, "--for", "10m", "--output", "json",
    ];
    let start = now_ns().expect("the time");
    let agent = Agent::start(Place::HERE, &args, &[]);
    let mut last = None;
    loop {
        match next_number(socket) {
            Some(number) => last = Some(number),
            // A pause may also be the machine's.
            None if agent.stderr().contains("in force") => break,
            None => {}
        }
        let passed = now_ns().expect("the time") - start;
        assert!(
            passed < 30_000_000_000,
            "nothing is lost: {}",
            agent.stderr()
        );
    }
    let cpu = processor_ms(agent.pid());
    let last = usize::try_from(last.expect("packets before the fault")).expect("a number");
    let hit = notes.times()[last + 1].load(Relaxed);
    let injection = Injection::from_agent(agent);
    let rule = injection.stop().rule();
    assert!(
        rule.injected > 0 && hit > start,
        "the packets did not come for another reason"
    );
    (Duration::from_nanos(hit - start).as_secs_f64() * 1e3, cpu)
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
