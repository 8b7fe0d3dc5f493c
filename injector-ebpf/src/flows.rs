//! Counting the packets of each flow by itself.

use aya_ebpf::bindings::BPF_NOEXIST;
use injector_common::{RuleEntry, abi::per, flow::Flow, packet::Facts, random};

use crate::{atomic::fetch_add, maps::TURNS};

/// The number of a packet that matches `rule`, and in `draw` what it draws: those of
/// its flow, or, where the rule does not count per flow, the `n` of the rule. 0 when
/// there is no room for another flow.
///
/// A function of its own, for the sake of the stack; and for both, so that the verifier
/// walks what follows once.
#[inline(never)]
pub(crate) fn turn(rule: &RuleEntry, facts: &Facts, direction: u32, n: u64, draw: &mut u64) -> u64 {
    if rule.per != per::FLOW {
        *draw = random::draw(rule.seed, n);
        return n;
    }
    let seed = Flow::of(facts, direction).seed(rule.seed);
    if TURNS.get_ptr_mut(seed).is_none() {
        // Another CPU may have been first; then there is one.
        let _ = TURNS.insert(seed, 0, u64::from(BPF_NOEXIST));
    }
    let Some(count) = TURNS.get_ptr_mut(seed) else {
        return 0;
    };
    // SAFETY: an aligned u64 of a map value.
    let n = unsafe { fetch_add(count, 1) } + 1;
    *draw = random::draw(seed, n);
    n
}
