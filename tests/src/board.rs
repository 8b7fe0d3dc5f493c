//! Memory that a test shares with its victims.
//!
//! A victim whose `write` fails cannot report through a pipe, so orders and
//! results travel through a mapped file instead: the test starts a *round*, the
//! victim does its work once, counts into the board and marks the round done.
//! One victim can thus be observed before, during and after a fault.

use std::{
    fs::OpenOptions,
    io,
    ops::Deref,
    path::Path,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use memmap2::MmapRaw;

/// Round number that tells every process on the board to end.
pub const QUIT: u32 = u32::MAX;

/// How many actors of one victim can report.
pub const ACTORS: usize = 72;

/// How many of the first calls or packets have their outcome kept one by one.
pub const OUTCOMES: u64 = 8192;

/// Width of one bucket of [`Flow::delays`], in ns.
pub const DELAY_BUCKET_NS: u64 = 50_000;

/// Number of buckets; the last one also counts everything above.
pub const DELAY_BUCKETS: usize = 16_384;

/// How many arrivals a receiver notes one by one.
pub const NOTED: usize = 1 << 16;

/// Orders from the test, results from its victims.
///
/// Every field is atomic, so any process may write at any time, and a file of
/// zeros is a valid board.
#[repr(C)]
pub struct Board {
    /// Size of the work: calls to make, packets or bytes to send.
    pub count: AtomicU64,
    /// Pause between two packets, in ns.
    pub gap_ns: AtomicU64,
    /// How many packets may be under way at once.
    pub window: AtomicU64,
    /// Size of a packet's payload in bytes.
    pub size: AtomicU32,
    /// Number of the round to do; [`QUIT`] to end.
    pub round: AtomicU32,
    /// What the ends of a flow saw.
    pub flow: Flow,
    /// What each thread or process of a calling victim saw.
    pub actors: [Actor; ACTORS],
}

/// Counters of one flow of packets or bytes.
#[repr(C)]
pub struct Flow {
    /// Last round that the receiving end is ready for.
    pub receiver_round: AtomicU32,
    /// Last round that the sending end has finished.
    pub sender_round: AtomicU32,
    /// Packets or bytes handed to the kernel.
    pub sent: AtomicU64,
    /// Send calls that failed.
    pub send_errors: AtomicU64,
    /// Error number of the last one.
    pub send_errno: AtomicU32,
    /// Of arrived packets, those that hold what was sent and came first.
    pub intact: AtomicU64,
    /// Of arrived packets, those that hold something else.
    pub damaged: AtomicU64,
    /// Of arrived packets, those that had already come.
    pub duplicates: AtomicU64,
    /// Of intact packets, those that came after a later one.
    pub inversions: AtomicU64,
    /// Packets of an earlier round.
    pub stale: AtomicU64,
    /// How often the receiver has found nothing to receive.
    pub idle: AtomicU64,
    /// One more than the highest packet number that arrived intact.
    pub highest: AtomicU64,
    /// Arrived bytes of a stream.
    pub bytes: AtomicU64,
    /// Arrived bytes that differ from what was sent in their place.
    pub bad_bytes: AtomicU64,
    /// Bits of a stream that do.
    pub bad_bits: AtomicU64,
    /// Shortest time a packet was under way, in ns.
    pub min_delay_ns: AtomicU64,
    /// Longest time a packet was under way, in ns.
    pub max_delay_ns: AtomicU64,
    /// Bit `n`: packet `n` arrived intact.
    pub arrivals: Outcomes,
    /// How many packets were under way how long.
    pub delays: [AtomicU32; DELAY_BUCKETS],
    /// The first intact packets and duplicates, in the order of their arrival.
    pub notes: Notes,
}

/// Counters of one thread or process that makes system calls.
#[repr(C)]
pub struct Actor {
    /// 0 until the actor is ready, then its thread id.
    pub thread: AtomicU32,
    /// Last round that the actor has finished.
    pub round: AtomicU32,
    /// Calls made.
    pub calls: AtomicU64,
    /// Calls that failed.
    pub failures: AtomicU64,
    /// Error number of the last failure.
    pub errno: AtomicU32,
    /// How many failures had another error number than the one before them.
    pub errno_changes: AtomicU32,
    /// Bit `n - 1`: call `n` failed.
    pub outcomes: Outcomes,
}

/// One bit for each of the first [`OUTCOMES`] operations.
#[repr(C)]
pub struct Outcomes([AtomicU64; (OUTCOMES / 64) as usize]);

impl Outcomes {
    fn reset(&self) {
        for word in &self.0 {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Sets the bit of operation `n`, from 0. Later operations have none.
    pub fn set(&self, n: u64) {
        let word = usize::try_from(n / 64).ok().and_then(|n| self.0.get(n));
        if let Some(word) = word {
            word.fetch_or(1 << (n % 64), Ordering::Relaxed);
        }
    }

    /// Whether the bit of operation `n` is set.
    #[must_use]
    pub fn get(&self, n: u64) -> bool {
        let word = usize::try_from(n / 64).ok().and_then(|n| self.0.get(n));
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (n % 64) & 1 == 1)
    }
}

/// Intact packets and duplicates in the order of their arrival, as far as there is
/// room. Pages of the board's file that nothing is noted on take no memory.
#[repr(C)]
pub struct Notes {
    len: AtomicU64,
    /// The packet's number in the upper half, its ns under way in the lower one.
    entries: [AtomicU64; NOTED],
}

impl Notes {
    fn reset(&self) {
        self.len.store(0, Ordering::Relaxed);
    }

    /// Notes that a packet has arrived. Only the receiver may do this.
    pub fn push(&self, number: u64, delay_ns: u64) {
        let place = self.len.fetch_add(1, Ordering::Relaxed);
        let entry = usize::try_from(place)
            .ok()
            .and_then(|n| self.entries.get(n));
        if let Some(entry) = entry {
            let delay = delay_ns.min(u32::MAX.into());
            entry.store(number << 32 | delay, Ordering::Relaxed);
        }
    }

    /// Number and ns under way of each noted packet; `None` when there was no room
    /// for all of them.
    #[must_use]
    pub fn read(&self) -> Option<Vec<(u64, u64)>> {
        let len = usize::try_from(self.len.load(Ordering::Relaxed)).ok()?;
        let entries = self.entries.get(..len)?.iter();
        let values = entries.map(|entry| entry.load(Ordering::Relaxed));
        Some(
            values
                .map(|value| (value >> 32, value & u64::from(u32::MAX)))
                .collect(),
        )
    }
}

impl Board {
    /// Waits as a victim for a round other than `last`; `None` to end.
    #[must_use]
    pub fn next_round(&self, last: u32) -> Option<u32> {
        loop {
            let round = self.round.load(Ordering::Acquire);
            if round == QUIT {
                return None;
            }
            if round != last {
                return Some(round);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Flow {
    /// Sets every result to zero; the rounds stay.
    pub fn reset(&self) {
        let counters = [
            &self.sent,
            &self.send_errors,
            &self.intact,
            &self.damaged,
            &self.duplicates,
            &self.inversions,
            &self.stale,
            &self.highest,
            &self.bytes,
            &self.bad_bytes,
            &self.bad_bits,
            &self.max_delay_ns,
        ];
        for counter in counters {
            counter.store(0, Ordering::Relaxed);
        }
        self.min_delay_ns.store(u64::MAX, Ordering::Relaxed);
        self.send_errno.store(0, Ordering::Relaxed);
        self.arrivals.reset();
        self.notes.reset();
        for bucket in &self.delays {
            bucket.store(0, Ordering::Relaxed);
        }
    }

    /// Arrived packets of this round, in whatever state.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.intact.load(Ordering::Relaxed)
            + self.damaged.load(Ordering::Relaxed)
            + self.duplicates.load(Ordering::Relaxed)
    }
}

impl Actor {
    /// Sets every result to zero.
    pub fn reset(&self) {
        self.calls.store(0, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.errno.store(0, Ordering::Relaxed);
        self.errno_changes.store(0, Ordering::Relaxed);
        self.outcomes.reset();
    }

    /// Counts one call. Only the actor itself may do this.
    pub fn record(&self, outcome: Result<(), u32>) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let Err(errno) = outcome else { return };
        self.failures.fetch_add(1, Ordering::Relaxed);
        let before = self.errno.swap(errno, Ordering::Relaxed);
        if before != 0 && before != errno {
            self.errno_changes.fetch_add(1, Ordering::Relaxed);
        }
        self.outcomes.set(call);
    }

    /// Which of the first [`OUTCOMES`] calls failed, counted from 1.
    #[must_use]
    pub fn failed_calls(&self) -> Vec<u64> {
        let calls = 0..OUTCOMES;
        calls
            .filter(|&call| self.outcomes.get(call))
            .map(|call| call + 1)
            .collect()
    }
}

/// A mapped board.
#[derive(Debug)]
pub struct Shared(MmapRaw);

impl Shared {
    /// Maps the board in a file, which is extended to the size of one.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or mapped.
    pub fn map(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        file.set_len(size_of::<Board>() as u64)?;
        Ok(Self(MmapRaw::map_raw(&file)?))
    }
}

impl Deref for Shared {
    type Target = Board;

    fn deref(&self) -> &Board {
        // SAFETY: the mapping is at least as long as a board, page-aligned and
        // lives as long as `self`; a board consists of atomics only, so every
        // bit pattern is valid and concurrent writers are allowed.
        unsafe { &*self.0.as_ptr().cast::<Board>() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_are_one_board() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (one, other) = (
            Shared::map(file.path()).unwrap(),
            Shared::map(file.path()).unwrap(),
        );
        for outcome in [Ok(()), Err(5), Err(5), Ok(()), Err(4)] {
            one.actors[3].record(outcome);
        }
        let seen = &other.actors[3];
        assert_eq!(seen.calls.load(Ordering::Relaxed), 5);
        assert_eq!(seen.failures.load(Ordering::Relaxed), 3);
        assert_eq!(seen.errno_changes.load(Ordering::Relaxed), 1);
        assert_eq!(seen.failed_calls(), [2, 3, 5]);
    }

    #[test]
    fn notes_keep_order_or_say_that_they_are_full() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let board = Shared::map(file.path()).unwrap();
        let notes = &board.flow.notes;
        notes.push(7, 50);
        notes.push(3, u64::MAX);
        assert_eq!(notes.read().unwrap(), [(7, 50), (3, u32::MAX.into())]);
        for number in 2..=NOTED {
            notes.push(number as u64, 0);
        }
        assert_eq!(notes.read(), None);
    }
}
