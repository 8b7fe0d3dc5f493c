//! The test's end of victims that make connections.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};

use crate::{
    actor::{calls::MAIN, dial::ANSWERER},
    agent::Injection,
    cgroup::Cgroup,
    command::{Place, Process},
    netns::{Ip, Netns, Pair, loopback},
    traffic::Direction,
    victim::{BoardFile, Prepared, Seen},
    wait,
};

/// A process that makes connections, and one that answers them.
#[derive(Debug)]
pub struct Dialer {
    caller: Prepared,
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
        file.await_ready();
        let caller = Prepared::new(file, &[&["dial", "--to", &to], options].concat());
        Self { caller, answerer }
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
        dialer.caller.start(caller);
        let actor = &dialer.caller.file.board().actors[MAIN];
        wait::until("the caller", || {
            (actor.thread.load(Acquire) != 0).then_some(())
        });
        dialer
    }

    /// The command line with which an injector starts the caller.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.caller.command()
    }

    /// The option that names the calling process.
    ///
    /// # Panics
    ///
    /// When the test did not start it.
    #[must_use]
    pub fn target(&self) -> String {
        self.caller.target()
    }

    /// The answering process's id.
    #[must_use]
    pub fn answerer_pid(&self) -> u32 {
        self.answerer.pid()
    }

    /// Orders a round of so many connections.
    pub fn begin(&self, count: u64) {
        let board = self.caller.file.board();
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
        let board = self.caller.file.board();
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
        let board = self.caller.file.board();
        wait::until("the connections' ends", || {
            (board.actors[ANSWERER].calls.load(Acquire) >= count).then_some(())
        });
        Seen::read(board, ANSWERER)
    }

    /// Bytes that have come back in this round so far.
    #[must_use]
    pub fn got_back(&self) -> u64 {
        self.caller.file.board().flow.bytes.load(Relaxed)
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

/// A victim in a group of its own and a bystander, which make connections from one
/// side of a cable to the other, or on one loopback; or answer those that are made.
#[derive(Debug)]
pub struct DialBed {
    /// The dialer whose end in the near namespace the fault must hit.
    pub victim: Dialer,
    /// The one that it must not.
    pub bystander: Dialer,
    /// The victim's group.
    pub cgroup: Cgroup,
    /// The namespaces, the near one first.
    pub netns: Vec<Netns>,
}

impl DialBed {
    /// Port of the victim's connections; the bystander's have the next one.
    pub const PORT: u16 = 7100;

    /// On a cable. Going out, the near side calls; coming in, it is called.
    ///
    /// # Panics
    ///
    /// When something does not start.
    #[must_use]
    #[track_caller]
    pub fn on_cable(ip: Ip, direction: Direction, options: &[&str]) -> Self {
        Self::on_this_cable(Pair::new(), ip, direction, options)
    }

    /// The same on a cable that is there.
    ///
    /// # Panics
    ///
    /// When something does not start.
    #[must_use]
    #[track_caller]
    pub fn on_this_cable(pair: Pair, ip: Ip, direction: Direction, options: &[&str]) -> Self {
        let to = match direction {
            Direction::Egress => Pair::far_address(ip),
            Direction::Ingress => Pair::near_address(ip),
        };
        Self::new(vec![pair.near, pair.far], direction, to, options)
    }

    /// On the loopback of one namespace.
    ///
    /// # Panics
    ///
    /// When something does not start.
    #[must_use]
    #[track_caller]
    pub fn on_loopback(ip: Ip, direction: Direction, options: &[&str]) -> Self {
        Self::new(vec![Netns::new()], direction, loopback(ip), options)
    }

    #[track_caller]
    fn new(netns: Vec<Netns>, direction: Direction, to: IpAddr, options: &[&str]) -> Self {
        let cgroup = Cgroup::new("victim");
        let near = Place::netns(&netns[0]);
        let far = Place::netns(netns.last().expect("a side"));
        let start = |port, near| {
            let to = SocketAddr::new(to, port);
            match direction {
                Direction::Egress => Dialer::start(near, far, to, options),
                Direction::Ingress => Dialer::start(far, near, to, options),
            }
        };
        let victim = start(Self::PORT, near.and_cgroup(&cgroup));
        let bystander = start(Self::PORT + 1, near);
        Self {
            victim,
            bystander,
            cgroup,
            netns,
        }
    }

    /// Puts a fault in force on the victim's group.
    ///
    /// # Panics
    ///
    /// When it does not come in force.
    #[must_use]
    #[track_caller]
    pub fn inject(&self, kind: &str, options: &[&str]) -> Injection {
        let target = self.cgroup.target();
        let words = [kind, "--target", &target, "--for", "60s"];
        Injection::start(&[&words[..], options].concat())
    }

    /// What the namespaces have counted together, as [`Netns::counter`] has it.
    ///
    /// # Panics
    ///
    /// When the kernel has no such counter.
    #[must_use]
    #[track_caller]
    pub fn counter(&self, protocol: &str, name: &str) -> u64 {
        let counters = self.netns.iter().map(|netns| netns.counter(protocol, name));
        counters.sum()
    }

    /// Does a round of both at once, in which no connection may suffer.
    ///
    /// # Panics
    ///
    /// When one does.
    #[track_caller]
    pub fn assert_unharmed(&self, count: u64) {
        self.bystander.begin(count);
        self.victim.assert_unharmed(count);
        self.assert_bystander_unharmed(count);
    }

    /// Does a round of both at once, in which every connection of the victim's has
    /// to fail with this error, and none of the bystander's.
    ///
    /// # Panics
    ///
    /// When it is otherwise.
    #[track_caller]
    pub fn assert_all_fail(&self, count: u64, errno: i32) {
        self.bystander.begin(count);
        self.victim.assert_all_fail(count, errno);
        self.assert_bystander_unharmed(count);
    }

    /// Waits for the end of the bystander's round, in which no connection may
    /// suffer.
    ///
    /// # Panics
    ///
    /// When one does.
    #[track_caller]
    pub fn assert_bystander_unharmed(&self, count: u64) {
        let beside = self.bystander.finish();
        assert_eq!((beside.calls, beside.failures), (count, 0), "{beside:?}");
    }
}
