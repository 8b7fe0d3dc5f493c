//! `sys-errno`: the call fails.

use aya_ebpf::cty::c_void;
use injector_common::{Control, RuleIndex, RuleSlot, faults::sys_errno};

use crate::{
    calls::Facts,
    decide::{ENOUGH, GO_ON, ask_rules, live},
};

/// A call on its way through the rules.
struct Call {
    facts: Facts,
    /// Rules aimed at the caller that name the call.
    mask: u64,
    now: u64,
    rule_count: u32,
    /// What the call returns; 0 as long as no rule injected.
    value: i32,
}

/// What the call returns if one of the rules in `mask` hits it: the rules are
/// asked in their order, and the first that injects ends the search.
#[inline(always)]
pub(crate) fn apply(control: &Control, mask: u64, now: u64, facts: Facts) -> Option<i32> {
    let mut call = Call {
        facts,
        mask,
        now,
        rule_count: control.rule_count,
        value: 0,
    };
    ask_rules(ask, &mut call);
    // The state went through memory, so the verifier forgot its bounds.
    (call.value != 0).then(|| sys_errno::clamp(call.value))
}

/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`apply`].
unsafe extern "C" fn ask(
    _map: *mut c_void,
    index: *const u32,
    slot: *const RuleSlot,
    call: *mut Call,
) -> u64 {
    // SAFETY: see above.
    let (index, rule, call) = unsafe { (*index, (*slot).rule(), &mut *call) };
    if index >= call.rule_count {
        return ENOUGH;
    }
    if call.mask & RuleIndex(index).mask() == 0 || !call.facts.meet(rule, index) {
        return GO_ON;
    }
    let Some(rule) = live(rule, index, call.now) else {
        return GO_ON;
    };
    let Some(draw) = rule.hits_call(index) else {
        return GO_ON;
    };
    call.value = sys_errno::return_value(rule.rule.params, draw);
    ENOUGH
}
