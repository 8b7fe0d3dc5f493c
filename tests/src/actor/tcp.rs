//! TCP victims: one sends streams of known bytes, the other compares.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{Worker, udp::READY};
use crate::board::{Board, Flow, QUIT};

/// How many bytes the streams repeat after. A prime, so that no segment size
/// keeps step with it and a lost or doubled segment shows as bad bytes too.
const PERIOD: usize = 251;

/// How many bytes are written or read at once.
const CHUNK: usize = PERIOD * 256;

/// Options of a sender.
#[derive(Debug, clap::Args)]
pub struct SendOptions {
    /// Address and port to connect to
    #[arg(long)]
    pub to: SocketAddr,
    /// How many streams to send at once
    #[arg(long, default_value_t = 1)]
    pub streams: usize,
    /// Send for so many milliseconds instead of the board's count of bytes
    #[arg(long)]
    pub millis: Option<u64>,
    /// Who opens the sockets and sends
    #[arg(long, value_enum, default_value = "main")]
    pub worker: Worker,
    /// Send through one connection, made before the first round and kept
    #[arg(long, conflicts_with_all = ["millis", "streams", "worker"])]
    pub keep: bool,
}

/// Options of a receiver.
#[derive(Debug, clap::Args)]
pub struct ReceiveOptions {
    /// Address and port to listen on
    #[arg(long)]
    pub on: SocketAddr,
}

/// What stands at each place of a stream, for one chunk.
fn pattern() -> Vec<u8> {
    (0..CHUNK)
        .map(|place| (place % PERIOD).to_le_bytes()[0])
        .collect()
}

/// Sends one round of streams after the other.
///
/// # Errors
///
/// When a connection cannot be made or breaks.
pub fn send(board: &Board, rounds: u32, options: &SendOptions) -> anyhow::Result<()> {
    if options.keep {
        return send_through_one(board, rounds, options.to);
    }
    let mut last = 0;
    for _ in 0..rounds {
        let Some(round) = board.next_round(last) else {
            break;
        };
        options.worker.run(|| {
            thread::scope(|scope| {
                let streams: Vec<_> = (0..options.streams)
                    .map(|_| scope.spawn(|| send_stream(board, options)))
                    .collect();
                streams.into_iter().try_for_each(|stream| {
                    let sent = stream.join();
                    sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
            })
        })?;
        board.flow.sender_round.store(round, Release);
        last = round;
    }
    Ok(())
}

fn connect(to: SocketAddr) -> anyhow::Result<TcpStream> {
    TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))
}

/// Sends each round's bytes through the same connection. A round is done when
/// the receiver has counted them all.
fn send_through_one(board: &Board, rounds: u32, to: SocketAddr) -> anyhow::Result<()> {
    let mut stream = connect(to)?;
    let chunk = pattern();
    let (mut last, mut place) = (0, 0);
    for _ in 0..rounds {
        let Some(round) = board.next_round(last) else {
            break;
        };
        let count = board.count.load(Relaxed);
        let mut left = count;
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK - place);
            stream
                .write_all(&chunk[place..place + len])
                .context("cannot send")?;
            board.flow.sent.fetch_add(len as u64, Relaxed);
            left -= len as u64;
            place = (place + len) % CHUNK;
        }
        while board.flow.bytes.load(Relaxed) < count && board.round.load(Relaxed) == round {
            thread::sleep(Duration::from_millis(1));
        }
        board.flow.sender_round.store(round, Release);
        last = round;
    }
    Ok(())
}

fn send_stream(board: &Board, options: &SendOptions) -> anyhow::Result<()> {
    let mut stream = connect(options.to)?;
    let chunk = pattern();
    let end = options
        .millis
        .map(|millis| Instant::now() + Duration::from_millis(millis));
    let mut left = match end {
        Some(_) => u64::MAX,
        None => board.count.load(Relaxed),
    };
    while left > 0 && end.is_none_or(|end| Instant::now() < end) {
        let len = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        stream.write_all(&chunk[..len]).context("cannot send")?;
        board.flow.sent.fetch_add(len as u64, Relaxed);
        left -= len as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // The receiver closes its side after it has read the last byte.
    stream
        .read_to_end(&mut Vec::new())
        .context("cannot await the end")?;
    Ok(())
}

/// Receives streams and counts bytes that are not what was sent.
///
/// # Errors
///
/// When the port cannot be listened on.
pub fn receive(board: &Board, _rounds: u32, options: &ReceiveOptions) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.on)
        .with_context(|| format!("cannot listen on {}", options.on))?;
    listener.set_nonblocking(true)?;
    board.flow.receiver_round.store(READY, Release);
    thread::scope(|scope| {
        while board.round.load(Acquire) != QUIT {
            match listener.accept() {
                Ok((stream, _)) => {
                    scope.spawn(move || receive_stream(&board.flow, stream));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(error).context("cannot accept"),
            }
        }
        Ok(())
    })
}

fn receive_stream(flow: &Flow, mut stream: TcpStream) {
    let known = pattern();
    let mut chunk = vec![0; CHUNK];
    let mut place = 0;
    // Accepted sockets do not inherit the listener's non-blocking mode. A
    // connection that breaks shows as missing bytes.
    while let Ok(len @ 1..) = stream.read(&mut chunk[..CHUNK - place]) {
        let expected = &known[place..place + len];
        if chunk[..len] != *expected {
            let bits = chunk
                .iter()
                .zip(expected)
                .map(|(a, b)| (a ^ b).count_ones());
            for bits in bits.filter(|&bits| bits != 0) {
                flow.bad_bytes.fetch_add(1, Relaxed);
                flow.bad_bits.fetch_add(bits.into(), Relaxed);
            }
        }
        flow.bytes.fetch_add(len as u64, Relaxed);
        place = (place + len) % CHUNK;
    }
}
