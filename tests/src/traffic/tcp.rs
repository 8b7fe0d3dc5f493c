//! Flows of known bytes over TCP.

use std::{
    net::SocketAddr,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    time::Duration,
};

use crate::{
    command::{Place, Process},
    victim::BoardFile,
    wait,
};

/// What became of one round's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Bytes handed to the kernel.
    pub sent: u64,
    /// Bytes that the other end read.
    pub bytes: u64,
    /// Of those, bytes that differ from what was sent.
    pub bad_bytes: u64,
    /// Bits of those that differ.
    pub bad_bits: u64,
}

/// A sender and a receiver of known bytes.
#[derive(Debug)]
pub struct TcpFlow {
    file: BoardFile,
    sender: Process,
    receiver: Process,
}

impl TcpFlow {
    /// Starts both ends. In each round the sender opens so many connections at
    /// once, and sends through each for `time` or, without it, the round's
    /// number of bytes.
    ///
    /// # Panics
    ///
    /// When they do not become ready.
    #[must_use]
    #[track_caller]
    pub fn start(
        sender: Place<'_>,
        receiver: Place<'_>,
        to: SocketAddr,
        streams: u32,
        time: Option<Duration>,
    ) -> Self {
        let streams = streams.to_string();
        let mut options = vec!["--streams", &streams];
        let millis = time.map(|time| time.as_millis().to_string());
        if let Some(millis) = &millis {
            options.extend(["--millis", millis]);
        }
        Self::start_with(sender, receiver, to, &options)
    }

    /// Starts both ends, and sends every round through one connection, which is
    /// made at once and kept.
    ///
    /// # Panics
    ///
    /// When they do not become ready.
    #[must_use]
    #[track_caller]
    pub fn start_kept(sender: Place<'_>, receiver: Place<'_>, to: SocketAddr) -> Self {
        Self::start_with(sender, receiver, to, &["--keep"])
    }

    #[track_caller]
    fn start_with(
        sender: Place<'_>,
        receiver: Place<'_>,
        to: SocketAddr,
        options: &[&str],
    ) -> Self {
        let file = BoardFile::new();
        let to = to.to_string();
        let receiver = file.spawn(receiver, &["tcp-receive", "--on", &to]);
        file.await_ready();
        let sender = file.spawn(sender, &[&["tcp-send", "--to", &to], options].concat());
        Self {
            file,
            sender,
            receiver,
        }
    }

    /// The sending process.
    #[must_use]
    pub const fn sender(&self) -> &Process {
        &self.sender
    }

    /// The receiving process.
    #[must_use]
    pub const fn receiver(&self) -> &Process {
        &self.receiver
    }

    /// Bytes of the present round that have arrived so far.
    #[must_use]
    pub fn arrived_so_far(&self) -> u64 {
        self.file.board().flow.bytes.load(Relaxed)
    }

    /// Tells the sender to send so many bytes through each connection.
    pub fn begin(&self, bytes: u64) {
        let board = self.file.board();
        board.flow.reset();
        board.count.store(bytes, Relaxed);
        board.round.fetch_add(1, Release);
    }

    /// Waits until all bytes have arrived.
    ///
    /// # Panics
    ///
    /// When they do not.
    #[must_use]
    #[track_caller]
    pub fn finish(&self) -> Stream {
        let board = self.file.board();
        let round = board.round.load(Relaxed);
        let done = &board.flow.sender_round;
        wait::until("the streams' end", || {
            (done.load(Acquire) == round).then_some(())
        });
        Stream {
            sent: board.flow.sent.load(Relaxed),
            bytes: board.flow.bytes.load(Relaxed),
            bad_bytes: board.flow.bad_bytes.load(Relaxed),
            bad_bits: board.flow.bad_bits.load(Relaxed),
        }
    }

    /// Sends a round and waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not come.
    #[track_caller]
    pub fn round(&self, bytes: u64) -> Stream {
        self.begin(bytes);
        self.finish()
    }
}
