//! `net-refuse`: `connect` fails.

use aya_ebpf::cty::c_void;
use injector_common::{
    Control, FaultKind, RuleIndex, RuleSlot,
    faults::{net_refuse, sys_errno},
    filter::EGRESS,
    packet::Facts,
};

use crate::{
    decide::{ENOUGH, GO_ON, Live, ask_rules, live},
    filter,
};

/// A `connect` on its way through the rules.
struct Dial {
    /// What is known of the packets that it would lead to.
    facts: Facts,
    /// Rules aimed at the caller, of whatever kind.
    mask: u64,
    now: u64,
    rule_count: u32,
    /// What the call returns; 0 as long as no rule injected.
    value: i32,
}

/// What `connect` returns if one of the rules in `mask` hits it: the rules are
/// asked in their order, and the first that injects ends the search.
#[inline(always)]
pub(crate) fn apply(control: &Control, mask: u64, now: u64, facts: Facts) -> Option<i32> {
    let mut dial = Dial {
        facts,
        mask,
        now,
        rule_count: control.rule_count,
        value: 0,
    };
    ask_rules(ask, &mut dial);
    // The state went through memory, so the verifier forgot its bounds.
    (dial.value != 0).then(|| sys_errno::clamp(dial.value))
}

/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`apply`].
unsafe extern "C" fn ask(
    _map: *mut c_void,
    index: *const u32,
    slot: *const RuleSlot,
    dial: *mut Dial,
) -> u64 {
    // SAFETY: see above.
    let (index, rule, dial) = unsafe { (*index, (*slot).rule(), &mut *dial) };
    if index >= dial.rule_count {
        return ENOUGH;
    }
    // The mask holds rules of other kinds too.
    if rule.kind != FaultKind::NetRefuse as u32
        || dial.mask & RuleIndex(index).mask() == 0
        || !filter::matches(rule, &dial.facts, EGRESS)
    {
        return GO_ON;
    }
    let Some(rule) = live(rule, index, dial.now) else {
        return GO_ON;
    };
    let Some((n, _)) = rule.selects_call(Live::in_rule) else {
        return GO_ON;
    };
    let value = net_refuse::return_value(rule.rule.params);
    rule.hit_call(index, n, value.unsigned_abs());
    dial.value = value;
    ENOUGH
}
