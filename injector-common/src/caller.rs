//! Callers, and what a rule that counts per process or per thread makes of their calls.
//!
//! What becomes of call `n` of a caller is a pure function of the seed, the rule, how many callers
//! the rule had met when it met this one, and `n`: whatever others do meanwhile.

use crate::random::{self, mix};

/// A process, one of the programs that it executes, or a thread. Its id can be another's later, but
/// not with the same start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its thread-group id, or its thread id.
    pub id: u32,
    /// Boot time in ns at which it started.
    pub started_ns: u64,
    /// Which of the process's programs it is, from 1; 0 for all of them together.
    pub program: u64,
}

impl Caller {
    /// Nobody: no thread that makes calls has this id. A rule counts its callers by it.
    pub const NOBODY: Self = Self {
        id: 0,
        started_ns: 0,
        program: 0,
    };

    /// What a rule with this seed keeps the caller's turn by.
    ///
    /// A hash with the rule's seed as its key, like [`crate::flow::Flow::seed`].
    #[inline(always)]
    #[must_use]
    pub const fn key(&self, rule_seed: u64) -> u64 {
        let hash = mix(rule_seed ^ self.id as u64);
        // Multiplied, so that a word of 0 and one that is missing differ.
        let key = mix(hash.wrapping_mul(5) ^ self.started_ns);
        // Odd, so that no two programs of a process have one key.
        key.wrapping_add(self.program.wrapping_mul(PROGRAM_STEP))
    }
}

/// How far the keys of a process's programs lie apart: the golden ratio's fraction of 2⁶⁴.
const PROGRAM_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A call of a caller: the caller's own number under the rule above, and the call's below.
///
/// One word, which one instruction raises. A rule that counts its calls together has turns of
/// caller 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Turn(pub u64);

/// Bits of the call's number.
const NUMBER_BITS: u32 = 40;

impl Turn {
    /// What comes before the first turn of the caller that the rule meets as this one, from 1.
    #[inline(always)]
    #[must_use]
    pub const fn before_first(caller: u64) -> Self {
        Self(caller << NUMBER_BITS)
    }

    /// The call's number, from 1; 0 for a call that could not be counted.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }

    /// The draw for the call, under a rule with this seed.
    #[inline(always)]
    #[must_use]
    pub const fn draw(self, rule_seed: u64) -> u64 {
        let caller = self.0 >> NUMBER_BITS;
        let seed = if caller == 0 {
            rule_seed
        } else {
            mix(rule_seed ^ mix(caller))
        };
        random::draw(seed, self.number())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn turns_of_caller_0_are_those_of_the_rule(seed: u64, n in 1_u64..1 << NUMBER_BITS) {
            prop_assert_eq!(Turn(n).number(), n);
            prop_assert_eq!(Turn(n).draw(seed), random::draw(seed, n));
        }

        #[test]
        fn callers_draw_for_themselves(
            seed: u64, one in 1_u64..1 << 24, other in 1_u64..1 << 24, n in 1_u64..1 << 32,
        ) {
            prop_assume!(one != other);
            let turn = |caller| Turn(Turn::before_first(caller).0 + n);
            prop_assert_eq!(turn(one).number(), n);
            prop_assert_ne!(turn(one).draw(seed), turn(other).draw(seed));
            prop_assert_ne!(turn(one).draw(seed), Turn(n).draw(seed));
        }

        #[test]
        fn callers_are_told_apart(
            seed: u64, id in 1_u32.., other_id in 1_u32.., started_ns: u64, later in 1_u64..,
            programs in 0_u64.., next in 1_u64..,
        ) {
            let one = Caller { id, started_ns, program: 0 };
            // The same id, taken by one that started later; and two that started together.
            let again = Caller { started_ns: started_ns.wrapping_add(later), ..one };
            let beside = Caller { id: other_id, ..one };
            let program = |program| Caller { program, ..one };
            let (now, then) = (program(programs), program(programs.wrapping_add(next)));
            prop_assert_ne!(now.key(seed), then.key(seed));
            prop_assert_ne!(one.key(seed), again.key(seed));
            prop_assert!(id == other_id || one.key(seed) != beside.key(seed));
            prop_assert_ne!(one.key(seed), Caller::NOBODY.key(seed));
        }
    }
}
