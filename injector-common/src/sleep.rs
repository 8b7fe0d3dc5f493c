//! Calls that wait asleep: where each lies, and until when.
//!
//! A program cannot sleep for a time. But some may read the memory of a process, and whoever
//! reads a page that is not there waits until it is. So a process of ours, the holder, has
//! memory whose pages come from a file system that another one of ours serves, the waker. A
//! call that is to wait reads a page there. The waker looks up in the table of sleepers who
//! is due, and lets that read fail, which wakes it.
//!
//! As long as nobody is due the waker does not take up what is asked of it. Only so a thread
//! that waits can be killed at once, and no other signal wakes it: the kernel ends a request that
//! nobody has seen, and for the answer to one that somebody has it waits whatever comes
//! (`request_wait_answer` in fs/fuse/dev.c, Linux 6.12).

/// How many calls can wait at once.
pub const MAX_SLEEPERS: u32 = 4_096;

/// Bytes of a page of memory.
pub const PAGE: u64 = 1 << PAGE_SHIFT;
const PAGE_SHIFT: u32 = 12;

/// Bytes that a table of pages spans on x86-64. One page in each of these ranges is always
/// there, so that the kernel has a table for it and need not make one in the name of who waits.
pub const RANGE: u64 = 1 << RANGE_SHIFT;
const RANGE_SHIFT: u32 = 21;

/// How many sleepers lie in a range.
pub const PER_RANGE: u32 = 1 << PER_RANGE_SHIFT;
const PER_RANGE_SHIFT: u32 = 8;

/// How many ranges there are.
pub const RANGES: u32 = MAX_SLEEPERS / PER_RANGE;

/// In how many slots a call looks for a free one.
pub const TRIES: u32 = 8;

/// How often a call lies down again at most because it was woken with others that were due.
pub const MAX_TURNS: u32 = 1 << 16;

/// A place to sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sleeper {
    /// Boot time in ns at which it is woken; 0 where nobody sleeps.
    pub due_ns: u64,
    /// How often the waker has woken somebody here.
    pub woken: u64,
    /// How many threads want the place. Who came first has it.
    pub wanted: u64,
}

/// Words of a [`Sleeper`], and the places of its fields among them.
pub const SLEEPER_WORDS: usize = size_of::<Sleeper>() / size_of::<u64>();
/// Place of [`Sleeper::due_ns`].
pub const DUE: usize = 0;
/// Place of [`Sleeper::woken`].
pub const WOKEN: usize = 1;

/// What the programs have to know to let a call sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Dormitory {
    /// Address of the first page, in the holder.
    pub base: u64,
    /// Boot time in ns until which the waker is known to serve.
    pub served_until_ns: u64,
    /// Process id of the holder; 0 where there is none.
    pub holder: u32,
    /// Zero.
    pub _pad: u32,
}

/// Address of a slot's page in the holder.
#[inline(always)]
#[must_use]
pub const fn address(base: u64, slot: u32) -> u64 {
    let (range, place) = (slot >> PER_RANGE_SHIFT, slot & (PER_RANGE - 1));
    base + ((range as u64) << RANGE_SHIFT) + ((place as u64) << PAGE_SHIFT)
}

/// Where a slot's page lies in the file.
#[must_use]
pub const fn offset(slot: u32) -> u64 {
    (slot as u64) << PAGE_SHIFT
}

/// The slot whose page lies there.
#[must_use]
pub const fn slot_at(offset: u64) -> u64 {
    offset >> PAGE_SHIFT
}

/// The slot that a thread tries in its turn, from 0.
#[inline(always)]
#[must_use]
pub const fn slot(thread: u32, turn: u32) -> u32 {
    thread.wrapping_add(turn) % MAX_SLEEPERS
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_slot_has_a_page_of_its_own() {
        let base = 7 * RANGE;
        let mut addresses = BTreeSet::new();
        for slot in 0..MAX_SLEEPERS {
            let address = address(base, slot);
            assert!(addresses.insert(address));
            assert!((base..base + u64::from(RANGES) * RANGE).contains(&address));
            assert_eq!(slot_at(offset(slot)), u64::from(slot));
            // The last page of a range is not a sleeper's.
            assert!(address % RANGE < RANGE - PAGE);
        }
    }

    #[test]
    fn a_thread_tries_different_slots() {
        for thread in [0, 4_095, 123_456, u32::MAX] {
            let slots: BTreeSet<u32> = (0..TRIES).map(|turn| slot(thread, turn)).collect();
            assert_eq!(slots.len(), TRIES as usize);
            assert!(slots.iter().all(|&slot| slot < MAX_SLEEPERS));
        }
    }
}
