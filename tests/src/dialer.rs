//! The test's end of a victim that makes connections.

use std::{
    net::SocketAddr,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};

use crate::{
    actor::{calls::MAIN, dial::ANSWERER, udp::READY},
    command::{Place, Process},
    victim::{BoardFile, Seen},
    wait,
};

/// A process that makes connections, and one that answers them.
#[derive(Debug)]
pub struct Dialer {
    file: BoardFile,
    work: Vec<String>,
    caller: Option<Process>,
    answerer: Process,
}

impl Dialer {
    /// Starts the answering end, on the address that the other is to call.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn prepare(answerer: Place<'_>, to: SocketAddr, options: &[&str]) -> Self {
        let file = BoardFile::new();
        let to = to.to_string();
        let answerer = file.spawn(answerer, &["answer", "--on", &to]);
        let ready = &file.board().flow.receiver_round;
        wait::until("the answering end", || {
            (ready.load(Acquire) == READY).then_some(())
        });
        let work = [&["dial", "--to", &to], options].concat();
        Self {
            file,
            work: work.into_iter().map(String::from).collect(),
            caller: None,
            answerer,
        }
    }

    /// Starts both ends.
    ///
    /// # Panics
    ///
    /// When one does not become ready.
    #[must_use]
    #[track_caller]
    pub fn start(caller: Place<'_>, answerer: Place<'_>, to: SocketAddr, options: &[&str]) -> Self {
        let mut dialer = Self::prepare(answerer, to, options);
        let work: Vec<&str> = dialer.work.iter().map(String::as_str).collect();
        dialer.caller = Some(dialer.file.spawn(caller, &work));
        let actor = &dialer.file.board().actors[MAIN];
        wait::until("the caller", || {
            (actor.thread.load(Acquire) != 0).then_some(())
        });
        dialer
    }

    /// The command line with which an injector starts the caller.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        let work: Vec<&str> = self.work.iter().map(String::as_str).collect();
        self.file.command(&work)
    }

    /// The option that names the calling process.
    ///
    /// # Panics
    ///
    /// When the test did not start it.
    #[must_use]
    pub fn target(&self) -> String {
        let caller = self.caller.as_ref().expect("a started caller");
        format!("pid:{}", caller.pid())
    }

    /// The option that names the answering process.
    #[must_use]
    pub fn answerer(&self) -> String {
        format!("pid:{}", self.answerer.pid())
    }

    /// Orders a round of so many connections.
    pub fn begin(&self, count: u64) {
        let board = self.file.board();
        for actor in &board.actors {
            actor.reset();
        }
        board.flow.bytes.store(0, Relaxed);
        board.count.store(count, Relaxed);
        board.round.fetch_add(1, Release);
    }

    /// Waits for the end of the round, and returns what the caller saw.
    ///
    /// # Panics
    ///
    /// When it does not end, or the caller saw more than one error number.
    #[track_caller]
    pub fn finish(&self) -> Seen {
        let board = self.file.board();
        let round = board.round.load(Relaxed);
        wait::until("the caller's connections", || {
            (board.actors[MAIN].round.load(Acquire) == round).then_some(())
        });
        Seen::read(board, MAIN)
    }

    /// Orders a round and waits for its end.
    ///
    /// # Panics
    ///
    /// As [`Self::finish`].
    #[track_caller]
    pub fn round(&self, count: u64) -> Seen {
        self.begin(count);
        self.finish()
    }

    /// What the answering end saw of the round's connections, once it saw so
    /// many of them end.
    ///
    /// # Panics
    ///
    /// When it does not see so many.
    #[track_caller]
    pub fn answered(&self, count: u64) -> Seen {
        let board = self.file.board();
        wait::until("the connections' ends", || {
            (board.actors[ANSWERER].calls.load(Acquire) >= count).then_some(())
        });
        Seen::read(board, ANSWERER)
    }

    /// Bytes that have come back in this round so far.
    #[must_use]
    pub fn got_back(&self) -> u64 {
        self.file.board().flow.bytes.load(Relaxed)
    }

    /// Does a round in which no connection may suffer.
    ///
    /// # Panics
    ///
    /// When one does.
    #[track_caller]
    pub fn assert_unharmed(&self, count: u64) {
        let seen = self.round(count);
        assert_eq!((seen.calls, seen.failures), (count, 0), "{seen:?}");
    }

    /// Does a round in which every connection has to fail with this error.
    ///
    /// # Panics
    ///
    /// When one does not.
    #[track_caller]
    pub fn assert_all_fail(&self, count: u64, errno: i32) {
        let seen = self.round(count);
        let all = (count, count, errno.unsigned_abs());
        assert_eq!((seen.calls, seen.failures, seen.errno), all, "{seen:?}");
    }
}
