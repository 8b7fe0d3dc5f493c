//! What a packet costs on its whole way: the call that sends it, both ends of a
//! cable, and the call that receives it.
//!
//! Run in a guest whose clock advances one nanosecond per instruction and that has
//! one processor, the figures are instructions.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd as _, OwnedFd},
    process::Stdio,
    time::Instant,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Cgroup,
    command::{Place, Process},
    netns::{Ip, Pair},
    stats::{float, median},
};

/// Payload of a packet.
const SIZE: usize = 64;

/// Packets between two looks at the clock. They take less time than lies between two
/// ticks of the kernel's timer, so that in most rounds none comes between.
const ROUND: u32 = 100;

/// Rounds of a measurement. The one in the middle counts.
const ROUNDS: usize = 151;

/// Port of the far end for the victim's packets.
pub(super) const VICTIM_PORT: u16 = 7001;

/// The same for a bystander's.
pub(super) const BYSTANDER_PORT: u16 = 7002;

/// Port of the near end.
const NEAR_PORT: u16 = 8001;

/// Which way the packets of a process of the near side go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Way {
    /// It sends them.
    Out,
    /// It receives them.
    In,
}

/// How packets are sent.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Address of the near end
    #[arg(long)]
    near: SocketAddr,
    /// Address of the far end, whose socket is the standard input
    #[arg(long)]
    far: SocketAddr,
    /// Who sends
    #[arg(long, value_enum)]
    way: Way,
}

/// What packets cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Cost {
    /// Time of one packet, in ns: of the round in the middle.
    pub(super) each: f64,
    sent: u64,
    arrived: u64,
}

impl Cost {
    /// Share of the packets that did not arrive, in percent.
    pub(super) fn lost_percent(&self) -> f64 {
        float(self.sent - self.arrived) / float(self.sent) * 100.0
    }

    /// How many packets were sent.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// How many times as much as `other` a packet costs.
    pub(super) fn ratio(&self, other: &Self) -> f64 {
        self.each / other.each
    }
}

/// Sends packets and receives each before the next, with the socket of the far end as
/// standard input, and prints what they cost.
///
/// # Errors
///
/// When they cannot be sent or received.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let near = UdpSocket::bind(options.near)
        .with_context(|| format!("cannot bind to {}", options.near))?;
    near.connect(options.far)?;
    let far = UdpSocket::from(io::stdin().as_fd().try_clone_to_owned()?);
    far.connect(options.near)?;
    let (from, to) = match options.way {
        Way::Out => (near, far),
        Way::In => (far, near),
    };
    // On one processor a packet has arrived when the call that sends it returns.
    to.set_nonblocking(true)?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    let mut arrived = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..ROUND {
            send(&from)?;
            arrived += u64::from(receive(&to)?);
        }
        rounds.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUND));
    }
    let cost = Cost {
        each: median(&rounds),
        sent: ROUNDS as u64 * u64::from(ROUND),
        arrived,
    };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

/// A packet filter tells the sender of a loss, which is no failure here.
fn send(from: &UdpSocket) -> anyhow::Result<()> {
    match from.send(&[0; SIZE]) {
        Err(error) if error.kind() != ErrorKind::PermissionDenied => {
            Err(error).context("cannot send")
        }
        _ => Ok(()),
    }
}

/// Whether a packet was there.
fn receive(to: &UdpSocket) -> anyhow::Result<bool> {
    match to.recv(&mut [0; SIZE]) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error).context("cannot receive"),
    }
}

/// A namespace that a victim and a bystander live in, joined to another one by a
/// cable.
pub(super) struct Road {
    pub(super) pair: Pair,
    pub(super) victim: Cgroup,
    pub(super) bystander: Cgroup,
    _residents: [Process; 2],
}

impl Road {
    /// Makes it ready.
    #[track_caller]
    pub(super) fn new() -> Self {
        Self::with_victim(Cgroup::new("victim"))
    }

    /// The same, with a victim's group that is there.
    #[track_caller]
    pub(super) fn with_victim(victim: Cgroup) -> Self {
        let pair = Pair::new();
        let bystander = Cgroup::new("bystander");
        // Both live there, so that no rule can have all of the namespace.
        let near = Place::netns(&pair.near);
        let residents =
            [&victim, &bystander].map(|group| near.and_cgroup(group).spawn("sleep", &["100000"]));
        Self {
            pair,
            victim,
            bystander,
            _residents: residents,
        }
    }

    /// What the victim's packets cost that go to, or come from, this port.
    #[track_caller]
    pub(super) fn victims(&self, way: Way, port: u16) -> Cost {
        self.measure(&self.victim, way, port)
    }

    /// The same of the bystander's.
    #[track_caller]
    pub(super) fn bystanders(&self, way: Way) -> Cost {
        self.measure(&self.bystander, way, BYSTANDER_PORT)
    }

    #[track_caller]
    fn measure(&self, group: &Cgroup, way: Way, port: u16) -> Cost {
        let near = SocketAddr::new(Pair::near_address(Ip::V4), NEAR_PORT);
        let far = SocketAddr::new(Pair::far_address(Ip::V4), port);
        let socket = self
            .pair
            .far
            .enter(|| UdpSocket::bind(far).expect("bind the far end"));
        let way = match way {
            Way::Out => "out",
            Way::In => "in",
        };
        let program = std::env::current_exe().expect("the path of the running program");
        let output = Place::netns(&self.pair.near)
            .and_cgroup(group)
            .command(program)
            .args(["path", "--near", &near.to_string()])
            .args(["--far", &far.to_string(), "--way", way])
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stderr(Stdio::inherit())
            .output()
            .expect("start a process that sends");
        serde_json::from_slice(&output.stdout).expect("what packets cost")
    }
}
