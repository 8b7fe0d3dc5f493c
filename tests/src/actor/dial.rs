//! Victims that make connections and exchange bytes through them: one calls, the
//! other answers.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, Release},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
        },
        time::TimeVal,
    },
};

use super::{
    Worker,
    calls::{MAIN, THREADS},
    serving,
};
use crate::board::{Actor, Board};

/// Place of the answering end on the board.
pub const ANSWERER: usize = THREADS;

/// How long one call waits for the other end. Nothing here takes as long, unless
/// something was lost.
const PATIENCE: Duration = Duration::from_secs(4);

/// How many bytes the answering end reads at once.
const SIZE: usize = 1 << 16;

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// TCP, opened by the first bytes (`MSG_FASTOPEN`).
    TcpFast,
    /// UDP, connected.
    Udp,
}

/// Options of a caller.
#[derive(Debug, clap::Args)]
pub struct CallOptions {
    /// Address and port to connect to
    #[arg(long)]
    pub to: SocketAddr,
    /// What carries the bytes
    #[arg(long, value_enum, default_value = "tcp")]
    pub transport: Transport,
    /// How often to send bytes and await them back, per connection
    #[arg(long, default_value_t = 0)]
    pub exchanges: u64,
    /// Ask to be told of every ICMP error: otherwise a UDP socket is not told of those
    /// that may pass
    #[arg(long)]
    pub told: bool,
    /// How many bytes to send at once; few enough for the other end to send back
    /// while more arrive
    #[arg(long, default_value_t = 1000)]
    pub size: usize,
    /// Who makes the connections
    #[arg(long, value_enum, default_value = "main")]
    pub worker: Worker,
}

/// Options of an answering end.
#[derive(Debug, clap::Args)]
pub struct AnswerOptions {
    /// Address and port to listen on, by TCP and UDP
    #[arg(long)]
    pub on: SocketAddr,
}

/// Makes the round's number of connections, one after the other, and records
/// what became of each.
///
/// # Errors
///
/// When no socket can be made.
pub fn call(board: &Board, rounds: u32, options: &CallOptions) -> anyhow::Result<()> {
    let actor = &board.actors[MAIN];
    actor
        .thread
        .store(nix::unistd::gettid().as_raw().unsigned_abs(), Release);
    let mut last = 0;
    for _ in 0..rounds {
        let Some(round) = board.next_round(last) else {
            break;
        };
        options.worker.run(|| {
            for _ in 0..board.count.load(Relaxed) {
                let outcome = talk(options, &board.flow.bytes);
                actor.record(outcome.map_err(|errno| (errno as i32).unsigned_abs()));
            }
            Ok(())
        })?;
        actor.round.store(round, Release);
        last = round;
    }
    Ok(())
}

/// One connection, from its beginning to its end. Counts the bytes that come back.
fn talk(options: &CallOptions, got_back: &AtomicU64) -> nix::Result<()> {
    let socket = open(options)?;
    let to = SockaddrStorage::from(options.to);
    let bytes = vec![0x5a; options.size];
    let mut answer = vec![0; options.size];
    if options.transport == Transport::TcpFast {
        let flags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
        socket::sendto(socket.as_raw_fd(), &bytes, &to, flags)?;
    } else {
        socket::connect(socket.as_raw_fd(), &to)?;
    }
    for _ in 0..options.exchanges {
        socket::send(socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL)?;
        let mut missing = options.size;
        while missing > 0 {
            match socket::recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())? {
                0 => return Err(Errno::EPIPE),
                len => {
                    missing = missing.saturating_sub(len);
                    got_back.fetch_add(len as u64, Relaxed);
                }
            }
        }
    }
    Ok(())
}

fn open(options: &CallOptions) -> nix::Result<OwnedFd> {
    let family = if options.to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let kind = match options.transport {
        Transport::Tcp | Transport::TcpFast => SockType::Stream,
        Transport::Udp => SockType::Datagram,
    };
    let socket = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let patience = TimeVal::new(i64::try_from(PATIENCE.as_secs()).unwrap_or(1), 0);
    setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    if options.told && options.to.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
    } else if options.told {
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
    }
    Ok(socket)
}

/// Sends everything back, and records how each TCP connection ended.
///
/// # Errors
///
/// When the port cannot be listened on.
pub fn answer(board: &Board, options: &AnswerOptions) -> anyhow::Result<()> {
    serving::serve(board, options.on, <[u8]>::to_vec, |stream| {
        send_back(&board.actors[ANSWERER], stream);
    })
}

fn send_back(actor: &Actor, mut stream: TcpStream) {
    let mut bytes = vec![0; SIZE];
    let outcome = loop {
        let passed = stream.read(&mut bytes).and_then(|len| {
            stream.write_all(&bytes[..len])?;
            Ok(len)
        });
        match passed {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error.raw_os_error().unwrap_or(0).unsigned_abs()),
        }
    };
    actor.record(outcome);
}
