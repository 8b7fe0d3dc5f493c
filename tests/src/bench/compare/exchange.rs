//! What an exchange over TCP costs: a small message, and its echo from the far side.
//!
//! Run in a guest whose clock advances one nanosecond per instruction and that has
//! one processor, the time of an exchange is the number of instructions that
//! everybody took part with: both ends, the kernel, and whoever is in between.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    command::Place,
    stats::{float, median},
};

/// Length of a message and of its echo.
const SIZE: usize = 64;

/// Exchanges between two looks at the clock. Few, as an exchange through a proxy takes long
/// beside the time between two ticks of the kernel's timer.
const ROUND: u32 = 10;

/// Rounds of a measurement. The one in the middle counts.
const ROUNDS: u32 = 301;

/// How messages are exchanged.
#[derive(Debug, clap::Args)]
pub(in crate::bench) struct Options {
    /// Who sends them back, or a proxy on the way there
    #[arg(long)]
    with: SocketAddr,
}

/// Where messages are sent back.
#[derive(Debug, clap::Args)]
pub(in crate::bench) struct EchoOptions {
    /// Addresses to listen on
    #[arg(long, required = true)]
    on: Vec<SocketAddr>,
}

/// What exchanges cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Cost {
    /// Time of one exchange, in ns: of the round in the middle.
    pub(super) each: f64,
    /// How often the machine's processors changed between threads for one exchange, on average.
    pub(super) switches: f64,
    /// For how much of the time the machine's processors had nothing to do, together.
    pub(super) idle: f64,
}

impl Cost {
    /// How many exchanges there were.
    pub(super) const EXCHANGES: u64 = ROUNDS as u64 * ROUND as u64;

    /// Exchanges per second, one after the other.
    pub(super) fn rate(&self) -> f64 {
        1e9 / self.each
    }

    /// Has a process in this place exchange messages with this address; what that cost.
    #[track_caller]
    pub(super) fn measure(place: &Place<'_>, with: SocketAddr) -> Self {
        let program = std::env::current_exe().expect("the path of the running program");
        let program = program.to_str().expect("a path in UTF-8");
        let text = place.run(program, &["exchange", "--with", &with.to_string()]);
        serde_json::from_str(&text).expect("what exchanges cost")
    }
}

/// Exchanges messages over one connection, and prints what they cost.
///
/// # Errors
///
/// When there is no connection, or something else comes back than was sent.
pub(in crate::bench) fn run(options: &Options) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(options.with)
        .with_context(|| format!("cannot connect to {}", options.with))?;
    stream.set_nodelay(true)?;
    // The first one waits until a proxy has a connection too.
    exchange(&mut stream, 0)?;
    let mut rounds = Vec::new();
    let (before, begin) = (Work::so_far()?, Instant::now());
    for number in 1..=ROUNDS {
        let start = Instant::now();
        for _ in 0..ROUND {
            exchange(&mut stream, number)?;
        }
        rounds.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUND));
    }
    let (took, after) = (begin.elapsed(), Work::so_far()?);
    let cost = Cost {
        each: median(&rounds),
        switches: float(after.switches - before.switches) / float(Cost::EXCHANGES),
        idle: (after.idle - before.idle) / took.as_secs_f64(),
    };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

fn exchange(stream: &mut TcpStream, number: u32) -> anyhow::Result<()> {
    let mut message = [0; SIZE];
    message[..size_of::<u32>()].copy_from_slice(&number.to_ne_bytes());
    let mut answer = [0; SIZE];
    stream.write_all(&message).context("cannot send")?;
    stream
        .read_exact(&mut answer)
        .context("nothing came back")?;
    ensure!(answer == message, "something else came back");
    Ok(())
}

/// What the machine's processors have done since it started.
struct Work {
    switches: u64,
    /// Seconds without anything to do, of all processors together.
    idle: f64,
}

impl Work {
    fn so_far() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let switches = stat.lines().find_map(|line| line.strip_prefix("ctxt "));
        let uptime = fs::read_to_string("/proc/uptime")?;
        let idle = uptime.split_whitespace().nth(1);
        Ok(Self {
            switches: switches.context("no count of switches")?.parse()?,
            idle: idle.context("no time without work")?.parse()?,
        })
    }
}

/// Sends back what arrives on any connection to these addresses, until killed.
///
/// # Errors
///
/// When an address cannot be listened on.
pub(in crate::bench) fn echo(options: &EchoOptions) -> anyhow::Result<()> {
    let listeners = options.on.iter().map(|&address| {
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
    });
    let listeners = listeners.collect::<anyhow::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(move || {
                // A proxy may close a connection later than it makes the next one.
                for stream in listener.incoming().flatten() {
                    scope.spawn(move || send_back(stream));
                }
            });
        }
    });
    Ok(())
}

/// Until the connection ends; whoever it fails notices.
fn send_back(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; SIZE];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}
