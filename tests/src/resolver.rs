//! The test's ends of a name server and of one who asks it.

use std::{
    net::SocketAddr,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    time::Duration,
};

use crate::{
    command::{Place, Process},
    victim::{BoardFile, Prepared, Seen},
    wait,
};

/// A name server, which answers every query for an address.
#[derive(Debug)]
pub struct NameServer {
    file: BoardFile,
    _process: Process,
}

impl NameServer {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn start(place: Place<'_>, on: SocketAddr) -> Self {
        let file = BoardFile::new();
        let process = file.spawn(place, &["serve-names", "--on", &on.to_string()]);
        file.await_ready();
        Self {
            file,
            _process: process,
        }
    }

    /// How many queries have come since it was asked last.
    #[must_use]
    pub fn take_queries(&self) -> u64 {
        self.file.board().flow.sent.swap(0, Relaxed)
    }

    /// Waits until no connection is open.
    ///
    /// # Panics
    ///
    /// When one stays open.
    #[track_caller]
    pub fn await_no_connection(&self) {
        let open = &self.file.board().flow.bytes;
        wait::until("the connections' ends", || {
            (open.load(Relaxed) == 0).then_some(())
        });
    }
}

/// A process that asks for names.
#[derive(Debug)]
pub struct Asker {
    client: Prepared,
    questions: usize,
}

impl Asker {
    /// Prepares one that an injector will start.
    #[must_use]
    pub fn prepare(to: SocketAddr, options: &[&str], questions: &[&str]) -> Self {
        let (to, list) = (to.to_string(), questions.join(","));
        let work = [&["ask", "--to", &to, "--questions", &list], options].concat();
        Self {
            client: Prepared::new(BoardFile::new(), &work),
            questions: questions.len(),
        }
    }

    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn start(place: Place<'_>, to: SocketAddr, options: &[&str], questions: &[&str]) -> Self {
        let mut asker = Self::prepare(to, options, questions);
        asker.client.start(place);
        asker.client.file.await_ready();
        asker
    }

    /// The command line with which an injector starts it.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.client.command()
    }

    /// The option that names the process.
    ///
    /// # Panics
    ///
    /// When the test did not start it.
    #[must_use]
    pub fn target(&self) -> String {
        self.client.target()
    }

    /// Has every question asked so many times, and returns what came of each: 0
    /// for the server's own answer.
    ///
    /// # Panics
    ///
    /// When that does not end, or the answers to a question differ.
    #[track_caller]
    pub fn round(&self, count: u64) -> Vec<u32> {
        self.seen(count).iter().map(|seen| seen.errno).collect()
    }

    /// The same, with which of them were not the server's own.
    ///
    /// # Panics
    ///
    /// As [`Self::round`], but for single answers that are the server's own.
    #[track_caller]
    pub fn seen(&self, count: u64) -> Vec<Seen> {
        let board = self.client.file.board();
        for actor in &board.actors {
            actor.reset();
        }
        board.flow.min_delay_ns.store(u64::MAX, Relaxed);
        board.count.store(count, Relaxed);
        let round = board.round.fetch_add(1, Release) + 1;
        wait::until("the answers", || {
            (board.flow.sender_round.load(Acquire) == round).then_some(())
        });
        (0..self.questions)
            .map(|index| Seen::read(board, index))
            .collect()
    }

    /// The shortest time that an answer of the round took.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        Duration::from_nanos(self.client.file.board().flow.min_delay_ns.load(Relaxed))
    }
}
