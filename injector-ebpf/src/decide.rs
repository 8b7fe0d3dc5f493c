//! From rule to verdict, with its bookkeeping.

use core::{hint::black_box, mem::offset_of};

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{bpf_for_each_map_elem, bpf_ktime_get_boot_ns, bpf_loop},
};
use injector_common::{
    Control, RuleEntry, RuleSlot, RuleStats, Trigger, Verdict, caller, dns::MAX_NAME,
    filter::EGRESS, names::CLEAR_SLOTS, packet::Facts, random, uses::Uses,
};

use crate::{
    atomic::fetch_add,
    callers, flows, ledger,
    maps::{CLEAR, CONTROL, RULES, STATS, in_use, way},
};

/// The control block and the time, or `None` when nothing may be injected:
/// after the last deadline, or once the agent has not renewed its lease.
///
/// This comes before everything else in every hook.
#[inline(always)]
pub(crate) fn armed() -> Option<(&'static Control, u64)> {
    let control = CONTROL.get(0)?;
    // SAFETY: reads a clock.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    (now < control.lease_until_ns && now < control.deadline_ns).then_some((control, now))
}

/// What [`ask_rules`] calls for each rule in the table: the map, the rule's
/// position, the rule, and whatever the caller handed over. Returns [`GO_ON`]
/// or [`ENOUGH`].
pub(crate) type Ask<T> =
    unsafe extern "C" fn(*mut c_void, *const u32, *const RuleSlot, *mut T) -> u64;

/// Ask the next rule.
pub(crate) const GO_ON: u64 = 0;
/// Ask no more.
pub(crate) const ENOUGH: u64 = 1;

/// Asks the rules in their order (`bpf_for_each_map_elem`, Linux 5.13).
///
/// The kernel walks the table, and the verifier walks the callback once. A
/// loop in here would be walked once per rule and path, past its limit of a
/// million instructions.
#[inline(always)]
pub(crate) fn ask_rules<T>(ask: Ask<T>, state: &mut T) {
    let map = &raw const RULES;
    // SAFETY: the map is an array of RuleSlot, as the callback's type says,
    // and the state outlives the call.
    unsafe {
        bpf_for_each_map_elem(
            map.cast_mut().cast(),
            ask as *mut c_void,
            (&raw mut *state).cast(),
            0,
        )
    };
}

/// What [`repeat`] calls: the map, how often it was called before, a value of no
/// meaning, and whatever the caller handed over. Returns [`GO_ON`] or [`ENOUGH`].
pub(crate) type Step<T> = unsafe extern "C" fn(*mut c_void, *const u32, *const u64, *mut T) -> u64;

/// Calls a function until it says [`ENOUGH`], at most twice [`CLEAR_SLOTS`] times.
///
/// The kernel counts, by a table that has as many entries, since the verifier
/// would walk a loop step by step (`bpf_loop` is from Linux 5.17).
#[inline(always)]
pub(crate) fn repeat<T>(step: Step<T>, state: &mut T) {
    let map = &raw const CLEAR;
    // SAFETY: the map is an array of u64, as the callback's type says, and the
    // state outlives the call.
    unsafe {
        bpf_for_each_map_elem(
            map.cast_mut().cast(),
            step as *mut c_void,
            (&raw mut *state).cast(),
            0,
        )
    };
}

/// What [`repeat_many`] calls: how often it was called before, and whatever the caller handed over.
/// Returns [`GO_ON`] or [`ENOUGH`].
pub(crate) type Turn<T> = unsafe extern "C" fn(u64, *mut T) -> u64;

/// Calls a function until it says [`ENOUGH`], at most so many times. For programs that are loaded only
/// where the kernel has `bpf_loop` (Linux 5.17).
#[inline(always)]
pub(crate) fn repeat_many<T>(turn: Turn<T>, most: u32, state: &mut T) {
    // SAFETY: the callback has the type that the helper wants, and the state outlives the call.
    unsafe {
        bpf_loop(
            most,
            turn as *mut c_void,
            (&raw mut *state).cast::<c_void>(),
            0,
        )
    };
}

// Enough for the bytes of the longest name.
const _: () = assert!(CLEAR_SLOTS > MAX_NAME);

/// A rule in force, with its counters.
pub(crate) struct Live<'a> {
    pub(crate) rule: &'a RuleEntry,
    stats: *mut RuleStats,
    pub(crate) now: u64,
}

/// The rule at `index`, if it is in force.
#[inline(always)]
pub(crate) fn live(rule: &RuleEntry, index: u32, now: u64) -> Option<Live<'_>> {
    if !rule.in_force(now) {
        return None;
    }
    let stats = STATS.get_ptr_mut(index)?;
    Some(Live { rule, stats, now })
}

impl Live<'_> {
    /// Counts a matching operation and decides on it. The second value is the
    /// operation's draw.
    ///
    /// `turn` makes of the number that the operation has for the rule the one that
    /// counts, and its draw; 0 for one that cannot be numbered, which is an error.
    ///
    /// An operation that the trigger selects suffers only if `also` selects it
    /// too, by its draw.
    ///
    /// `Pass` and `Exhausted` are final and counted here, and a rule in shadow gets nothing else. Whoever gets `Inject`
    /// reports what came of it with [`Live::done`].
    #[inline(always)]
    pub(crate) fn decide(
        &self,
        direction: u32,
        turn: impl FnOnce(u64) -> (u64, u64),
        also: impl FnOnce(u64) -> bool,
    ) -> (Verdict, u64) {
        let stats = self.stats;
        // SAFETY: the fields are aligned u64s of a map value.
        let n = unsafe { fetch_add(&raw mut (*stats).matched, 1) } + 1;
        let (n, draw) = turn(n);
        if n == 0 {
            self.done(false);
            return (Verdict::Pass, draw);
        }
        if !self.selects(direction, n, random::roll(draw)) || !also(draw) {
            // SAFETY: as above.
            unsafe { fetch_add(&raw mut (*stats).passed, 1) };
            return (Verdict::Pass, draw);
        }
        let spent = if self.rule.trigger.times == 0 {
            0
        } else {
            // SAFETY: as above.
            unsafe { fetch_add(&raw mut (*stats).spent, 1) }
        };
        let exhausted = u32::from(self.rule.trigger.within_budget(spent) == Verdict::Exhausted);
        let shadow = if in_use(Uses::SHADOW) {
            self.rule.shadow
        } else {
            0
        };
        if black_box(exhausted | shadow) == 0 {
            return (Verdict::Inject, draw);
        }
        // One way on for both, of which the first counts.
        const { assert!(offset_of!(RuleStats, shadowed) == offset_of!(RuleStats, exhausted) + 8) }
        let which = black_box(exhausted) ^ 1;
        // SAFETY: as above, of either field.
        unsafe { fetch_add((&raw mut (*stats).exhausted).add((which & 1) as usize), 1) };
        (Verdict::Exhausted, draw)
    }

    /// Whether the trigger selects operation `n` by its roll, and by what became of the
    /// last one in this direction where draws are correlated.
    ///
    /// Two CPUs may draw at the same time; both go by the same draw then, and the next
    /// one by either.
    #[inline(always)]
    fn selects(&self, direction: u32, n: u64, roll: u32) -> bool {
        let trigger = &self.rule.trigger;
        if !in_use(Uses::CORRELATION) {
            return trigger.selects(n, roll);
        }
        if !trigger.draws_for(n) {
            return false;
        }
        let stats = self.stats;
        // SAFETY: an aligned u64 of a map value.
        unsafe {
            let last = &raw mut (*stats).last_draw[way(direction)];
            let selected = u64::from(roll) < trigger.threshold_after(last.read_volatile());
            last.write_volatile(Trigger::after(selected));
            selected
        }
    }

    /// The number of an operation for the rule, and its draw: a turn to decide by.
    #[inline(always)]
    pub(crate) fn in_rule(&self, n: u64) -> (u64, u64) {
        (n, random::draw(self.rule.seed, n))
    }

    /// The same by the packet's flow, if the rule counts per flow. The draw lies in
    /// `place` meanwhile.
    #[inline(always)]
    pub(crate) fn in_flow(
        &self,
        n: u64,
        facts: &Facts,
        direction: u32,
        place: &mut u64,
    ) -> (u64, u64) {
        if !in_use(Uses::FLOWS) {
            return self.in_rule(n);
        }
        let n = flows::turn(self.rule, facts, direction, n, place);
        (n, *place)
    }

    /// Counts an operation that was selected and went without this fault after
    /// all, because another rule's left nothing to injure.
    #[inline(always)]
    pub(crate) fn let_pass(&self) {
        let stats = self.stats;
        // SAFETY: an aligned u64 of a map value.
        unsafe { fetch_add(&raw mut (*stats).passed, 1) };
    }

    /// Counts a packet that a queue was too short for.
    #[inline(always)]
    pub(crate) fn dropped(&self) {
        let stats = self.stats;
        // SAFETY: an aligned u64 of a map value.
        unsafe { fetch_add(&raw mut (*stats).dropped, 1) };
    }

    /// The same by the caller, if the rule counts per process or per thread.
    #[inline(always)]
    pub(crate) fn in_caller(&self, n: u64) -> (u64, u64) {
        if !in_use(Uses::CALLERS) {
            return self.in_rule(n);
        }
        let turn = caller::Turn(callers::turn(self.rule, n));
        (turn.number(), turn.draw(self.rule.seed))
    }

    /// Decides on a call, by the number and draw that `turn` makes of its number for the rule:
    /// those of the call, if it is to be hit.
    #[inline(always)]
    pub(crate) fn selects_call(&self, turn: fn(&Self, u64) -> (u64, u64)) -> Option<(u64, u64)> {
        let mut number = 0;
        let turn = |n| {
            let turn = turn(self, n);
            number = turn.0;
            turn
        };
        let (verdict, draw) = self.decide(EGRESS, turn, |_| true);
        (verdict == Verdict::Inject).then_some((number, draw))
    }

    /// Counts a call that was hit, and tells the ledger of it and of the error that it fails
    /// with; 0 for none.
    #[inline(always)]
    pub(crate) fn hit_call(&self, index: u32, n: u64, errno: u32) {
        self.done(true);
        if in_use(Uses::LEDGER) {
            ledger::call(index, n, self.now, errno);
        }
    }

    /// Counts an operation of which it cannot be told whether the rule means it.
    #[inline(always)]
    pub(crate) fn not_told(&self) {
        let stats = self.stats;
        // SAFETY: the fields are aligned u64s of a map value.
        unsafe { fetch_add(&raw mut (*stats).matched, 1) };
        self.done(false);
    }

    /// Counts what came of an injection.
    #[inline(always)]
    pub(crate) fn done(&self, success: bool) {
        let stats = self.stats;
        if success {
            // SAFETY: the fields are aligned u64s of a map value.
            unsafe {
                fetch_add(&raw mut (*stats).injected, 1);
                if (*stats).first_hit_ns == 0 {
                    (*stats).first_hit_ns = self.now;
                }
            }
        } else {
            // SAFETY: as above.
            unsafe { fetch_add(&raw mut (*stats).errors, 1) };
        }
    }
}
