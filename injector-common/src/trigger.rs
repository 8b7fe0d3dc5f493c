//! The trigger of a rule: which of the matching operations suffer the fault.
//!
//! Operations that match a rule's scope and filter are counted from 1. The
//! count is kept per rule across all its targets, threads and CPUs.

/// One more than the largest threshold: every roll lies below it, so that a
/// probability of 1 always fires and one of 0 never does.
pub const THRESHOLD_ALWAYS: u64 = 1 << 32;

/// Which occurrences are selected. All conditions must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Trigger {
    /// Probability as a threshold in `0..=2^32`: an occurrence is selected when
    /// its 32-bit roll lies below.
    pub threshold: u64,
    /// First occurrence that may be selected, from 1.
    pub first: u64,
    /// Last occurrence that may be selected; `u64::MAX` for no end.
    pub last: u64,
    /// Distance between selected occurrences, at least 1.
    pub step: u64,
    /// How many injections the rule may make in all; 0 for no limit.
    pub times: u64,
    /// Correlation of neighbouring draws, out of 2^32; 0 where each is drawn by itself.
    pub correlation: u64,
}

/// Some occurrence was drawn for.
const DRAWN: u64 = 1;
/// The last occurrence that was drawn for was selected.
const SELECTED: u64 = 2;

/// What becomes of one matching operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Verdict {
    /// It goes through untouched.
    Pass = 0,
    /// It suffers the fault.
    Inject = 1,
    /// It was selected, but the rule's budget is spent, or it is in shadow: it goes through.
    Exhausted = 2,
}

impl Trigger {
    /// Selects every occurrence, without a budget.
    pub const ALWAYS: Self = Self {
        threshold: THRESHOLD_ALWAYS,
        first: 1,
        last: u64::MAX,
        step: 1,
        times: 0,
        correlation: 0,
    };

    /// Whether occurrence `n` (from 1) is one of those that may be selected.
    #[inline(always)]
    #[must_use]
    pub const fn draws_for(&self, n: u64) -> bool {
        if n < self.first || n > self.last {
            return false;
        }
        // A step of 0 means the same as 1.
        self.step <= 1 || (n - self.first).is_multiple_of(self.step)
    }

    /// Whether occurrence `n` (from 1), with this roll, is selected by itself.
    #[inline(always)]
    #[must_use]
    pub const fn selects(&self, n: u64, roll: u32) -> bool {
        (roll as u64) < self.threshold && self.draws_for(n)
    }

    /// The threshold for an occurrence, by what became of the last one that was drawn
    /// for: what [`Trigger::after`] returned for it, or 0 for the first.
    ///
    /// After one that was selected it is t + c·(1 − t), after one that was not
    /// t − c·t, so that neighbours have the correlation c, and the share stays t. netem
    /// mixes each roll with the last one instead, which changes the share.
    #[inline(always)]
    #[must_use]
    pub const fn threshold_after(&self, last: u64) -> u64 {
        // All ones or none, not branches, which would be paths to the verifier.
        let was_drawn = (last & DRAWN).wrapping_neg();
        let was_selected = ((last / SELECTED) & 1).wrapping_neg();
        // No overflow, unless both are certainty.
        let less = self.threshold.wrapping_mul(self.correlation) >> 32;
        self.threshold
            .wrapping_sub(less & was_drawn)
            .wrapping_add(self.correlation & was_selected)
    }

    /// What becomes of an occurrence that is drawn for, for the next one's
    /// [`Trigger::threshold_after`].
    #[inline(always)]
    #[must_use]
    pub const fn after(selected: bool) -> u64 {
        DRAWN | (selected as u64 * SELECTED)
    }

    /// The verdict on a selected occurrence, when `spent` injections were
    /// already taken from the budget before it.
    #[inline(always)]
    #[must_use]
    pub const fn within_budget(&self, spent: u64) -> Verdict {
        if self.times == 0 || spent < self.times {
            Verdict::Inject
        } else {
            Verdict::Exhausted
        }
    }
}
