//! Flows of known bytes over TCP.

use std::{
    net::SocketAddr,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    time::Duration,
};

use crate::{
    actor::udp::READY,
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
}

/// A sender and a receiver of known bytes.
#[derive(Debug)]
pub struct TcpFlow {
    file: BoardFile,
    sender: Process,
    _receiver: Process,
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
        let file = BoardFile::new();
        let to = to.to_string();
        let receiver = file.spawn(receiver, &["tcp-receive", "--on", &to]);
        let round = &file.board().flow.receiver_round;
        wait::until("the receiver", || {
            (round.load(Acquire) == READY).then_some(())
        });
        let streams = streams.to_string();
        let mut work = vec!["tcp-send", "--to", &to, "--streams", &streams];
        let millis = time.map(|time| time.as_millis().to_string());
        if let Some(millis) = &millis {
            work.extend(["--millis", millis]);
        }
        let sender = file.spawn(sender, &work);
        Self {
            file,
            sender,
            _receiver: receiver,
        }
    }

    /// The sending process.
    #[must_use]
    pub const fn sender(&self) -> &Process {
        &self.sender
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
