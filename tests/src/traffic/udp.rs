//! Flows of numbered UDP packets.

use std::{
    net::SocketAddr,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    time::Duration,
};

use crate::{
    actor::udp::READY,
    board::{DELAY_BUCKET_NS, Flow, OUTCOMES, QUIT},
    command::{Place, Process},
    victim::BoardFile,
    wait,
};

/// How long no packet must have come before the missing ones count as lost.
/// Longer than any delay that a test asks for, with room for a slow machine.
const QUIET: Duration = Duration::from_millis(500);

/// How long a receiver that was stopped is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until no packet has come for a while and the receiver has said since
/// the last one that there are none. On a busy machine it may be late by more
/// than the packets are.
fn await_last(flow: &Flow) {
    let idle = || flow.idle.load(Relaxed);
    let mut last = (flow.arrived(), idle());
    wait::settled("the last packets", QUIET, || {
        let arrived = flow.arrived();
        if arrived != last.0 {
            last = (arrived, idle());
        }
        arrived
    });
    // It may have looked just before the last packet came. One that has ended
    // never says anything.
    wait::poll(PATIENCE, || (idle() > last.1 + 1).then_some(()));
}

/// What a flow sends in one round.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Number of packets.
    pub count: u64,
    /// Bytes of payload in each.
    pub size: u32,
    /// Pause between two; zero to send as fast as the receiver keeps up.
    pub gap: Duration,
    /// How many may be under way at once. Without a limit a fast sender overruns
    /// the receiver's buffer, and that loss would be nobody's fault.
    pub window: u64,
}

impl Load {
    /// So many small packets, as fast as possible.
    #[must_use]
    pub const fn of(count: u64) -> Self {
        Self {
            count,
            size: 64,
            gap: Duration::ZERO,
            window: 256,
        }
    }

    /// The same with payloads of so many bytes.
    #[must_use]
    pub const fn sized(self, size: u32) -> Self {
        Self { size, ..self }
    }

    /// The same with a pause after each packet.
    #[must_use]
    pub const fn spaced(self, gap: Duration) -> Self {
        Self { gap, ..self }
    }

    /// The same with so many packets under way at once.
    #[must_use]
    pub const fn windowed(self, window: u64) -> Self {
        Self { window, ..self }
    }
}

/// What became of one round's packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Packets that the kernel took.
    pub sent: u64,
    /// Send calls that failed, and the last error number.
    pub send_errors: (u64, u32),
    /// Packets that arrived as they were sent.
    pub intact: u64,
    /// Packets that arrived with other contents.
    pub damaged: u64,
    /// In damaged packets, wrong bytes behind the header.
    pub bad_bytes: u64,
    /// Packets that arrived again.
    pub duplicates: u64,
    /// Packets that arrived after a later one.
    pub inversions: u64,
    /// Of the first packets, the numbers of those that did not arrive intact,
    /// from 1.
    pub lost: Vec<u64>,
    /// Times under way of intact packets.
    pub delays: Delays,
}

/// How long the packets of one round were under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delays {
    /// The shortest time; meaningless when nothing arrived.
    pub shortest: Duration,
    /// The longest time.
    pub longest: Duration,
    buckets: Vec<(usize, u32)>,
}

impl Delays {
    /// How many packets were under way at least so long.
    #[must_use]
    pub fn at_least(&self, time: Duration) -> u64 {
        let width = u128::from(DELAY_BUCKET_NS);
        let first = usize::try_from(time.as_nanos() / width).unwrap_or(usize::MAX);
        let late = self.buckets.iter().filter(|&&(bucket, _)| bucket >= first);
        late.map(|&(_, packets)| u64::from(packets)).sum()
    }

    /// The time that this share of the packets did not exceed, rounded up to
    /// the width of a bucket.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let total: u32 = self.buckets.iter().map(|&(_, packets)| packets).sum();
        let mut below = 0;
        let bucket = self.buckets.iter().find(|&&(_, packets)| {
            below += packets;
            f64::from(below) >= share * f64::from(total)
        });
        let width = Duration::from_nanos(DELAY_BUCKET_NS);
        bucket.map_or(Duration::ZERO, |&(bucket, _)| {
            width * u32::try_from(bucket + 1).unwrap_or(u32::MAX)
        })
    }
}

impl Arrived {
    /// Packets that did not arrive.
    ///
    /// # Panics
    ///
    /// When more arrived than were sent.
    #[must_use]
    #[track_caller]
    pub fn missing(&self) -> u64 {
        let missing = self.sent.checked_sub(self.intact + self.damaged);
        missing.unwrap_or_else(|| panic!("more arrived than was sent: {self:?}"))
    }

    /// Checks that all packets of a round arrived, once, whole and in order.
    ///
    /// # Panics
    ///
    /// When they did not.
    #[track_caller]
    pub fn assert_untouched(&self, load: Load) {
        let clean = self.intact == load.count
            && self.send_errors.0 == 0
            && (self.damaged, self.duplicates, self.inversions) == (0, 0, 0);
        assert!(clean, "of {} packets: {self:?}", load.count);
    }
}

/// A sender and a receiver of numbered packets. Either may also be started by
/// an injector instead of the test.
#[derive(Debug)]
pub struct UdpFlow {
    file: BoardFile,
    from: SocketAddr,
    to: SocketAddr,
    sender: Option<Process>,
    receiver: Option<Process>,
}

impl UdpFlow {
    /// Prepares a flow without starting its ends.
    #[must_use]
    pub fn new(from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            file: BoardFile::new(),
            from,
            to,
            sender: None,
            receiver: None,
        }
    }

    /// Starts both ends.
    ///
    /// # Panics
    ///
    /// When they do not become ready.
    #[must_use]
    #[track_caller]
    pub fn start(sender: Place<'_>, receiver: Place<'_>, from: SocketAddr, to: SocketAddr) -> Self {
        let mut flow = Self::new(from, to);
        flow.start_receiver(receiver);
        flow.start_sender(sender, "main");
        flow
    }

    /// Starts the receiving end and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn start_receiver(&mut self, place: Place<'_>) {
        self.receiver = Some(
            self.file
                .spawn(place, &["udp-receive", "--on", &self.to.to_string()]),
        );
        self.await_receiver();
    }

    /// Starts the receiving end in a thread or descendant of its process, and
    /// waits until it listens.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn start_receiver_as(&mut self, place: Place<'_>, worker: &str) {
        let to = self.to.to_string();
        let work = ["udp-receive", "--on", &to, "--worker", worker];
        self.receiver = Some(self.file.spawn(place, &work));
        self.await_receiver();
    }

    /// Waits until the receiving end listens, whoever started it.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn await_receiver(&mut self) {
        let round = &self.file.board().flow.receiver_round;
        let receiver = &mut self.receiver;
        wait::until("the receiver", || {
            let ended = receiver.as_mut().and_then(Process::ended);
            assert!(ended.is_none(), "the receiver has ended: {ended:?}");
            (round.load(Acquire) == READY).then_some(())
        });
    }

    /// Starts the sending end, whose socket belongs to this worker of it:
    /// `main`, `thread`, `child` or `grandchild`, made anew in each round.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn start_sender(&mut self, place: Place<'_>, worker: &str) {
        let command = self.sender_work(worker);
        let work: Vec<&str> = command.iter().map(String::as_str).collect();
        self.sender = Some(self.file.spawn(place, &work));
    }

    /// The same, but worker and socket are there before the first round, and so
    /// before any fault that is put in force after a round.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn start_early_sender(&mut self, place: Place<'_>, worker: &str) {
        let mut command = self.sender_work(worker);
        command.push("--early".into());
        let work: Vec<&str> = command.iter().map(String::as_str).collect();
        self.sender = Some(self.file.spawn(place, &work));
    }

    /// Starts the sending end, whose packets have no checksum.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn start_sender_without_checksums(&mut self, place: Place<'_>) {
        let mut command = self.sender_work("main");
        command.push("--no-checksum".into());
        let work: Vec<&str> = command.iter().map(String::as_str).collect();
        self.sender = Some(self.file.spawn(place, &work));
    }

    /// Starts the sending end, which has the kernel send so many packets as one
    /// super-packet. Rounds must be of a multiple of that.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn start_sender_of_super_packets(&mut self, place: Place<'_>, together: u64) {
        let mut command = self.sender_work("main");
        command.extend(["--together".into(), together.to_string()]);
        let work: Vec<&str> = command.iter().map(String::as_str).collect();
        self.sender = Some(self.file.spawn(place, &work));
    }

    fn sender_work(&self, worker: &str) -> Vec<String> {
        let (to, from) = (self.to.to_string(), self.from.to_string());
        ["udp-send", "--to", &to, "--from", &from, "--worker", worker]
            .map(String::from)
            .into()
    }

    /// The command line with which an injector starts the sending end.
    #[must_use]
    pub fn sender_command(&self) -> Vec<String> {
        let work = self.sender_work("main");
        let work: Vec<&str> = work.iter().map(String::as_str).collect();
        self.file.command(&work)
    }

    /// The command line with which an injector starts the receiving end.
    #[must_use]
    pub fn receiver_command(&self) -> Vec<String> {
        self.file
            .command(&["udp-receive", "--on", &self.to.to_string()])
    }

    /// The sending process.
    ///
    /// # Panics
    ///
    /// When the test did not start it.
    #[must_use]
    pub fn sender(&self) -> &Process {
        self.sender.as_ref().expect("a sender")
    }

    /// The receiving process.
    ///
    /// # Panics
    ///
    /// When the test did not start it.
    #[must_use]
    pub fn receiver(&self) -> &Process {
        self.receiver.as_ref().expect("a receiver")
    }

    /// Tells both ends to send and receive a round.
    pub fn begin(&self, load: Load) {
        let board = self.file.board();
        board.flow.reset();
        board.count.store(load.count, Relaxed);
        board.size.store(load.size, Relaxed);
        let gap = u64::try_from(load.gap.as_nanos()).unwrap_or(u64::MAX);
        board.gap_ns.store(gap, Relaxed);
        board.window.store(load.window, Relaxed);
        board.round.fetch_add(1, Release);
    }

    /// Packets of the present round that have arrived so far.
    #[must_use]
    pub fn arrived_so_far(&self) -> u64 {
        self.file.board().flow.arrived()
    }

    /// What arrived intact in the last round, duplicates included, in the order of
    /// arrival: the packets' numbers, from 0, and their times under way, which are
    /// told up to 4 s.
    ///
    /// # Panics
    ///
    /// When more arrived than there is room for (`board::NOTED`).
    #[must_use]
    #[track_caller]
    pub fn notes(&self) -> Vec<(u64, Duration)> {
        let notes = self.file.board().flow.notes.read();
        let notes = notes.expect("a round whose packets can all be noted");
        let in_time = |(number, ns)| (number, Duration::from_nanos(ns));
        notes.into_iter().map(in_time).collect()
    }

    /// Waits until everything is sent and what can arrive has arrived.
    ///
    /// # Panics
    ///
    /// When the sender does not come to its end.
    #[must_use]
    #[track_caller]
    pub fn finish(&self) -> Arrived {
        let board = self.file.board();
        let flow = &board.flow;
        let round = board.round.load(Relaxed);
        wait::until("the sender", || {
            (flow.sender_round.load(Acquire) == round).then_some(())
        });
        let sent = flow.sent.load(Relaxed);
        if flow.intact.load(Relaxed) < sent {
            await_last(flow);
        }
        let [shortest, longest] = [&flow.min_delay_ns, &flow.max_delay_ns]
            .map(|delay| Duration::from_nanos(delay.load(Relaxed)));
        let buckets = flow.delays.iter().map(|packets| packets.load(Relaxed));
        let buckets = buckets.enumerate().filter(|&(_, packets)| packets > 0);
        let first = 0..board.count.load(Relaxed).min(OUTCOMES);
        Arrived {
            sent,
            send_errors: (
                flow.send_errors.load(Relaxed),
                flow.send_errno.load(Relaxed),
            ),
            intact: flow.intact.load(Relaxed),
            damaged: flow.damaged.load(Relaxed),
            bad_bytes: flow.bad_bytes.load(Relaxed),
            duplicates: flow.duplicates.load(Relaxed),
            inversions: flow.inversions.load(Relaxed),
            lost: first
                .filter(|&number| !flow.arrivals.get(number))
                .map(|number| number + 1)
                .collect(),
            delays: Delays {
                shortest,
                longest,
                buckets: buckets.collect(),
            },
        }
    }

    /// Sends a round and waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not come.
    #[track_caller]
    pub fn round(&self, load: Load) -> Arrived {
        self.begin(load);
        self.finish()
    }

    /// Tells both ends to end.
    pub fn quit(&self) {
        self.file.board().round.store(QUIT, Release);
    }
}
