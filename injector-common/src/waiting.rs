//! How much memory the packets take that wait.
//!
//! What a packet takes is known when it begins to wait, and so is when it is due.
//! It is put into a slot of time, and taken out of the sum when that time is over. So
//! a packet that gets lost on its way to the queue, or with it, counts no longer than
//! one that does not.
//!
//! The slots are those of timing wheels, each of which turns slower than the one
//! before it (Varghese and Lauck 1987). A packet has its place on the fastest wheel
//! that reaches as far as it waits, and stays there. So the waits need not be known
//! beforehand, and rules may change while packets wait.

/// What a packet counts beside its bytes: what the kernel keeps with it
/// (docs/kernels.md has figures).
pub const PACKET_BYTES: u64 = 1_024;

/// How many wheels there are.
pub const WHEELS: u32 = 9;
/// How many slots a wheel has, a power of 2.
pub const SLOTS: u32 = 64;

/// Where the sum of bytes lies, behind the slots of all wheels.
pub const AT_BYTES: u32 = WHEELS * SLOTS;
/// Where the number of the first tick lies that is not over.
pub const AT_FIRST: u32 = AT_BYTES + 1;
/// How many words that is.
pub const WORDS: u32 = AT_FIRST + 1;

/// Most memory, in bytes, that the packets of a rule can be allowed: 64 GiB.
pub const MAX_MEMORY: u64 = 64 << 30;

/// The limit of a rule that lets no packet wait.
pub const UNLIMITED: u64 = u64::MAX;

/// A tick, as a shift of nanoseconds: a millisecond. The wheels are walked once per
/// tick.
const TICK_SHIFT: u32 = 20;
/// How much wider the slots of a wheel are than those of the one before it, as a shift.
const WIDER_SHIFT: u32 = 2;

/// The number of the tick that a time lies in.
#[inline(always)]
#[must_use]
pub const fn tick(time_ns: u64) -> u64 {
    time_ns >> TICK_SHIFT
}

/// The number of the slot of a wheel that a tick lies in.
#[inline(always)]
const fn slot(tick: u64, wheel: u32) -> u64 {
    tick >> ((wheel * WIDER_SHIFT) % u64::BITS)
}

/// Where a packet is counted that waits until the end of the tick `due`, when `first`
/// is the first tick that is not over.
///
/// One that is due before counts until the end of that one. One beyond the reach of the
/// last wheel, 73 minutes, counts as long as it can.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "it is below SLOTS")]
pub const fn place(due: u64, first: u64) -> u32 {
    let due = if due < first { first } else { due };
    let mut wheel = 0;
    while wheel < WHEELS - 1 && slot(due, wheel) - slot(first, wheel) >= SLOTS as u64 {
        wheel += 1;
    }
    // It would be taken for one that is over.
    let last = slot(first, wheel).saturating_add(SLOTS as u64 - 1);
    let slot = slot(due, wheel);
    let slot = if slot > last { last } else { slot };
    wheel * SLOTS + (slot % SLOTS as u64) as u32
}

/// Where the slot of a wheel lies that is the `step`-th, from 0, to be over once the first tick,
/// `before`, has become `first`. `None` if no more are, or where a clock is behind that of
/// another CPU, or where there is no such wheel.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "it is below SLOTS")]
pub const fn over(wheel: u32, step: u32, before: u64, first: u64) -> Option<u32> {
    let slot_over = slot(before, wheel) + step as u64;
    if wheel < WHEELS && step < SLOTS && slot_over < slot(first, wheel) {
        Some(wheel * SLOTS + (slot_over % SLOTS as u64) as u32)
    } else {
        None
    }
}

/// What a packet takes, in bytes.
#[inline(always)]
#[must_use]
pub const fn cost(frame_len: u32) -> u64 {
    frame_len as u64 + PACKET_BYTES
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const PLACES: u32 = WHEELS * SLOTS;
    /// As long as a packet may wait, in ns, and longer.
    const HOUR: u64 = 3_600_000_000_000;

    /// Whether the slot at `place` is over once the first tick, `before`, has become
    /// `first`: as [`over`], told from the slot and not from the step.
    fn is_over(place: u32, before: u64, first: u64) -> bool {
        let wheel = place / SLOTS;
        let before = slot(before, wheel);
        let over = slot(first, wheel).saturating_sub(before);
        let ahead = u64::from(place).wrapping_sub(before) % u64::from(SLOTS);
        ahead < over
    }

    fn all_over(before: u64, first: u64) -> impl Iterator<Item = u32> {
        (0..PLACES).filter(move |&place| is_over(place, before, first))
    }

    #[test]
    fn the_wheels_reach_as_far_as_a_packet_may_wait() {
        let ticks = tick(HOUR) + 1;
        for first in [0, 1, 12_345_678] {
            // It is on the last wheel, and not behind its last slot.
            let here = place(first + ticks, first);
            assert_eq!(here / SLOTS, WHEELS - 1);
            assert!(!is_over(here, first, first + ticks));
        }
    }

    #[test]
    fn a_turn_empties_the_slots_that_are_over_and_no_others() {
        assert_eq!(all_over(7, 7).count(), 0);
        // A clock that is behind that of another CPU.
        assert_eq!(all_over(8, 7).count(), 0);
        // The first wheel's 63, 0 and 1, and the second's that ends before 64.
        assert!(all_over(63, 66).eq([0, 1, 63, SLOTS + 15, 2 * SLOTS + 3, 3 * SLOTS]));
        assert_eq!(all_over(0, u64::MAX).count(), PLACES as usize);
    }

    #[test]
    fn what_is_over_is_found_wheel_by_wheel() {
        let turns = [
            0,
            1,
            2,
            3,
            4,
            63,
            64,
            65,
            255,
            256,
            1_000,
            1 << 14,
            1 << 22,
            1 << 40,
        ];
        for before in (0..5_000).chain([1 << 40, (1 << 16) - 1, (1 << 18) - 3]) {
            for first in turns.map(|turn| before + turn) {
                let steps = |wheel| (0..).map_while(move |step| over(wheel, step, before, first));
                // As the programs do: no wheel turns behind the first that does not.
                let turned = (0..).map(steps).map(Iterator::collect::<Vec<_>>);
                let mut found = turned
                    .take_while(|slots| !slots.is_empty())
                    .collect::<Vec<_>>()
                    .concat();
                found.sort_unstable();
                assert!(
                    found.iter().copied().eq(all_over(before, first)),
                    "{before} {first}"
                );
            }
        }
    }

    #[test]
    fn a_packet_counts_until_it_is_due_and_at_most_a_fifteenth_longer() {
        let tick_ns = 1 << TICK_SHIFT;
        for start in [0, 1, tick_ns - 1, 12_345_678_901, 1 << 50] {
            for wait in [
                0,
                1,
                tick_ns,
                70_000_000,
                2_000_000_000,
                59_999_999_999,
                HOUR,
            ] {
                let (first, due) = (tick(start), start + wait);
                let held = place(tick(due), first);
                // The wheels turn with each packet that comes by.
                let step = 1 + wait / 1_000;
                let (mut before, mut now) = (first, start);
                while !is_over(held, before, tick(now)) {
                    before = tick(now);
                    now += step;
                }
                let longest = due + wait / 15 + tick_ns;
                assert!(now > due, "{start} {wait}: {now}");
                assert!(now <= longest + step, "{start} {wait}: {now}");
                // Or only once, later.
                assert!(!is_over(held, first, tick(due)), "{start} {wait}");
                assert!(is_over(held, first, tick(longest + tick_ns)));
            }
        }
    }

    #[test]
    fn no_wait_is_cut_short_or_made_longer_than_that() {
        for first in [0, 1, 63, 64, 1_000_003] {
            for wait in 0..20_000 {
                let due = first + wait;
                let held = place(due, first);
                assert!(!is_over(held, first, due), "{first} {wait}");
                assert!(is_over(held, first, due + 1 + wait / 15), "{first} {wait}");
            }
        }
    }

    #[test]
    fn what_lies_outside_the_wheels_counts_as_long_as_it_can() {
        let last = (WHEELS - 1) * SLOTS;
        assert_eq!(place(99, 100), place(100, 100));
        assert_eq!(place(u64::MAX, 0), last + SLOTS - 1);
        assert_eq!(place(u64::MAX, u64::MAX), SLOTS - 1);
    }
}
