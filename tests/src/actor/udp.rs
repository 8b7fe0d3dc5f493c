//! UDP victims: one sends numbered packets, the other looks at what arrives.

use std::{
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::socket::{
        setsockopt,
        sockopt::{RcvBufForce, UdpGsoSegment},
    },
    unistd::Pid,
};

use super::{
    Worker, now_ns,
    packet::{Packet, bad_filling},
};
use crate::board::{Board, DELAY_BUCKET_NS, DELAY_BUCKETS, Flow, QUIT};

/// How long a full window is waited on. After that its packets count as lost.
const WINDOW_TIMEOUT: Duration = Duration::from_millis(400);

/// Receive buffer. The kernel doubles it; the largest burst of the tests takes
/// some 20 MiB.
const BUFFER: usize = 32 << 20;

/// Options of a sender.
#[derive(Debug, clap::Args)]
pub struct SendOptions {
    /// Address and port to send to
    #[arg(long)]
    pub to: SocketAddr,
    /// Address and port to send from
    #[arg(long)]
    pub from: SocketAddr,
    /// Who opens the socket and sends
    #[arg(long, value_enum, default_value = "main")]
    pub worker: Worker,
    /// Send without checksums
    #[arg(long)]
    pub no_checksum: bool,
    /// Have the kernel send so many packets as one super-packet
    #[arg(long, default_value = "1")]
    pub together: u64,
    /// Open the socket, and make the worker, before the first round
    #[arg(long)]
    pub early: bool,
}

/// Options of a receiver.
#[derive(Debug, clap::Args)]
pub struct ReceiveOptions {
    /// Address and port to receive on
    #[arg(long)]
    pub on: SocketAddr,
    /// Who opens the socket and receives
    #[arg(long, value_enum, default_value = "main")]
    pub worker: Worker,
}

/// Sends one round of packets after the other.
///
/// # Errors
///
/// When the socket cannot be made.
pub fn send(board: &Board, rounds: u32, options: &SendOptions) -> anyhow::Result<()> {
    let open = || {
        let socket = UdpSocket::bind(options.from)
            .with_context(|| format!("cannot bind to {}", options.from))?;
        if options.no_checksum {
            leave_out_checksums(&socket)?;
        }
        anyhow::Ok(socket)
    };
    if options.early {
        return options.worker.run(|| {
            let socket = open()?;
            each_round(board, rounds, |round| {
                send_round(board, round, options, &socket)
            })
        });
    }
    each_round(board, rounds, |round| {
        options
            .worker
            .run(|| send_round(board, round, options, &open()?))
    })
}

/// Has the kernel send a socket's packets without checksums (`SO_NO_CHECK`).
fn leave_out_checksums(socket: &UdpSocket) -> anyhow::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on))?;
    // SAFETY: the value and its size are those of an int.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size,
        )
    };
    anyhow::ensure!(status == 0, "{}", std::io::Error::last_os_error());
    Ok(())
}

fn each_round(
    board: &Board,
    rounds: u32,
    send: impl Fn(u32) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut last = 0;
    for _ in 0..rounds {
        let Some(round) = board.next_round(last) else {
            break;
        };
        // A packet that came before the receiver knows of the round would be
        // taken for one of the round before.
        while board.flow.receiver_round.load(Acquire) != round {
            thread::sleep(Duration::from_millis(1));
        }
        send(round)?;
        board.flow.sender_round.store(round, Release);
        last = round;
    }
    Ok(())
}

fn send_round(
    board: &Board,
    round: u32,
    options: &SendOptions,
    socket: &UdpSocket,
) -> anyhow::Result<()> {
    stay_on_one_cpu()?;
    let flow = &board.flow;
    let size = usize::try_from(board.size.load(Relaxed))?;
    let gap = Duration::from_nanos(board.gap_ns.load(Relaxed));
    let window = board.window.load(Relaxed);
    if options.together > 1 {
        let size = i32::try_from(size)?;
        setsockopt(socket, UdpGsoSegment, &size).context("cannot send super-packets")?;
    }
    let (mut packet, mut packets) = (Vec::new(), Vec::new());
    let mut forgiven = 0;
    let start = Instant::now();
    for number in 0..board.count.load(Relaxed) {
        if !gap.is_zero() {
            let due = gap * u32::try_from(number).unwrap_or(u32::MAX);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
        forgiven = await_window(flow, number, window, forgiven);
        let header = Packet {
            round,
            number,
            sent_ns: now_ns(),
        };
        header.encode(&mut packet, size);
        packets.extend_from_slice(&packet);
        if (number + 1) % options.together != 0 {
            continue;
        }
        let sent = socket.send_to(&packets, options.to);
        packets.clear();
        match sent {
            Ok(_) => drop(flow.sent.fetch_add(options.together, Relaxed)),
            Err(error) => {
                flow.send_errors.fetch_add(1, Relaxed);
                let errno = error.raw_os_error().unwrap_or(0).unsigned_abs();
                flow.send_errno.store(errno, Relaxed);
            }
        }
    }
    Ok(())
}

/// Keeps the calling thread on the first processor that it may use.
///
/// A virtual cable (veth) has a backlog for each processor, and what two of them
/// pass on at once arrives in any order. A sender that the scheduler moves is
/// reordered without any fault, and more so under netem's delay or ours, where
/// a timer on one processor and the sender on another take packets from the
/// queue (docs/faults.md). That is not what the tests are about.
fn stay_on_one_cpu() -> anyhow::Result<()> {
    let own = Pid::from_raw(0);
    let allowed = sched_getaffinity(own).context("cannot ask for the processors")?;
    let mut allowed = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let mut first = CpuSet::new();
    first.set(allowed.next().context("no processor is allowed")?)?;
    sched_setaffinity(own, &first).context("cannot stay on one processor")
}

/// Waits until fewer than a window's packets are under way, and returns up to
/// which number packets are given up for lost.
fn await_window(flow: &Flow, number: u64, window: u64, forgiven: u64) -> u64 {
    // An intact packet proves that the earlier ones are no longer under way; a
    // damaged one does not say which it is.
    let seen = || {
        let highest = flow.highest.load(Relaxed);
        highest.max(flow.arrived()).max(forgiven)
    };
    if number < seen() + window {
        return forgiven;
    }
    let start = Instant::now();
    while number >= seen() + window {
        if start.elapsed() > WINDOW_TIMEOUT {
            return number;
        }
        thread::yield_now();
    }
    forgiven
}

/// Receives packets, counting them by what became of them.
///
/// # Errors
///
/// When the socket cannot be made or read.
pub fn receive(board: &Board, rounds: u32, options: &ReceiveOptions) -> anyhow::Result<()> {
    options.worker.run(|| {
        let socket = UdpSocket::bind(options.on)
            .with_context(|| format!("cannot bind to {}", options.on))?;
        setsockopt(&socket, RcvBufForce, &BUFFER).context("cannot enlarge the receive buffer")?;
        // Looking up now and then is what ends this process when told to.
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut receiver = Receiver::default();
        let mut bytes = vec![0; 1 << 16];
        let mut done = 0;
        loop {
            let round = board.round.load(Relaxed);
            if round == QUIT {
                return Ok(());
            }
            if round != receiver.round {
                // The counters were reset by the test before it set the round.
                receiver.restart(round, board.count.load(Relaxed));
                board.flow.receiver_round.store(round, Release);
                done += 1;
                anyhow::ensure!(done <= rounds, "more rounds than asked for");
            } else if board.flow.receiver_round.load(Relaxed) == 0 {
                board.flow.receiver_round.store(READY, Relaxed);
            }
            match socket.recv(&mut bytes) {
                Ok(len) => receiver.take(&board.flow, &bytes[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    board.flow.idle.fetch_add(1, Relaxed);
                }
                Err(error) => return Err(error).context("cannot receive"),
            }
        }
    })
}

/// Value of [`Flow::receiver_round`] once the socket is bound, before the first
/// round.
pub const READY: u32 = QUIT;

/// What a receiver remembers of its round.
#[derive(Default)]
struct Receiver {
    round: u32,
    seen: Vec<bool>,
}

impl Receiver {
    fn restart(&mut self, round: u32, count: u64) {
        self.round = round;
        self.seen.clear();
        self.seen.resize(usize::try_from(count).unwrap_or(0), false);
    }

    fn take(&mut self, flow: &Flow, bytes: &[u8]) {
        let now = now_ns();
        let Some(packet) = Packet::decode(bytes) else {
            let bad = u64::try_from(bad_filling(bytes)).unwrap_or(u64::MAX);
            flow.bad_bytes.fetch_add(bad, Relaxed);
            flow.damaged.fetch_add(1, Relaxed);
            return;
        };
        if packet.round != self.round {
            flow.stale.fetch_add(1, Relaxed);
            return;
        }
        let delay = now.saturating_sub(packet.sent_ns);
        flow.notes.push(packet.number, delay);
        let seen = usize::try_from(packet.number)
            .ok()
            .and_then(|number| self.seen.get_mut(number));
        match seen {
            Some(seen) if !*seen => *seen = true,
            _ => {
                flow.duplicates.fetch_add(1, Relaxed);
                return;
            }
        }
        flow.min_delay_ns.fetch_min(delay, Relaxed);
        flow.max_delay_ns.fetch_max(delay, Relaxed);
        let bucket = usize::try_from(delay / DELAY_BUCKET_NS).unwrap_or(usize::MAX);
        flow.delays[bucket.min(DELAY_BUCKETS - 1)].fetch_add(1, Relaxed);
        let highest = flow.highest.fetch_max(packet.number + 1, Relaxed);
        if packet.number < highest {
            flow.inversions.fetch_add(1, Relaxed);
        }
        flow.arrivals.set(packet.number);
        flow.intact.fetch_add(1, Relaxed);
    }
}
