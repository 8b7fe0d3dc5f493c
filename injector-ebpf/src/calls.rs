//! Which calls a rule means, and what becomes of them.

use aya_ebpf::{
    bindings::pt_regs,
    cty::c_void,
    helpers::{bpf_get_current_comm, bpf_probe_read_kernel},
};
use injector_common::{
    Control, FaultKind, RuleEntry, RuleIndex, RuleSlot,
    call_filter::{COMMAND_BYTES, CallFilter, FileRules, MAX_ARGUMENT_TESTS, condition},
    faults::{sys_delay::MAX_SLEEP_US, sys_errno::clamp},
    names::MAX_RULES,
    uses::Uses,
};

use crate::{
    decide::{ENOUGH, GO_ON, Live, ask_rules, live},
    faults::{sys_delay, sys_errno, sys_signal},
    files::{self, Subject},
    maps::{CALL_FILTERS, field, in_use, is},
    objects::{Object, current_task, read},
};

/// A call on its way through the rules.
struct Call {
    facts: Facts,
    /// Rules aimed at the caller that name the call.
    mask: u64,
    now: u64,
    /// How many slots of the rule table are in use, and above that the longest time in µs that
    /// the call can wait here; 0 if it cannot. In one word, since the stack is short on Linux 6.1.
    limits: u32,
    /// What the call returns, or how long it waits and by which rule
    /// ([`sys_delay::packed`](crate::faults::sys_delay::packed)); 0 as long as no rule has it do
    /// either.
    value: i32,
}

/// Bits of [`Call::limits`] that hold a number of rules.
const RULE_COUNT: u32 = 0xff;
/// Where the time begins in it.
const LONGEST_SHIFT: u32 = 8;
const _: () = assert!(MAX_RULES <= RULE_COUNT && MAX_SLEEP_US < 1 << (32 - LONGEST_SHIFT));

/// What the call returns if one of the rules in `mask` has it fail: the rules are
/// asked in their order, and of those that let calls fail the first that injects ends the search.
#[inline(always)]
pub(crate) fn apply(control: &Control, mask: u64, now: u64, facts: Facts) -> Option<i32> {
    let value = judge(control, mask, now, facts, 0);
    // The state went through memory, so the verifier forgot its bounds.
    (value != 0).then(|| clamp(value))
}

/// How long the call waits in µs, at most `longest`, and by which rule. The first of those that
/// let it wait ends the search.
#[inline(always)]
pub(crate) fn wait(
    control: &Control,
    mask: u64,
    now: u64,
    facts: Facts,
    longest: u32,
) -> Option<(u32, u32)> {
    let wait = judge(control, mask, now, facts, longest);
    (wait > 0).then(|| sys_delay::unpacked(wait))
}

#[inline(always)]
fn judge(control: &Control, mask: u64, now: u64, facts: Facts, longest: u32) -> i32 {
    let mut call = Call {
        facts,
        mask,
        now,
        limits: control.rule_count & RULE_COUNT | longest << LONGEST_SHIFT,
        value: 0,
    };
    ask_rules(ask, &mut call);
    call.value
}

/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`judge`].
unsafe extern "C" fn ask(
    _map: *mut c_void,
    index: *const u32,
    slot: *const RuleSlot,
    call: *mut Call,
) -> u64 {
    // SAFETY: see above.
    let (index, rule, call) = unsafe { (*index, (*slot).rule(), &mut *call) };
    if index >= call.limits & RULE_COUNT {
        return ENOUGH;
    }
    let signals = is(rule.kind, FaultKind::SysSignal);
    // A call fails once; signals come to it beside that, as they do where it is only seen.
    if call.mask & RuleIndex(index).mask() == 0
        || call.value != 0 && !signals
        || !call.facts.meet(rule)
    {
        return GO_ON;
    }
    let Some(rule) = live(rule, index, call.now) else {
        return GO_ON;
    };
    let Some(selected) = rule.selects_call(Live::in_caller) else {
        return GO_ON;
    };
    if signals {
        sys_signal::send(&rule, index, selected.0);
        return GO_ON;
    }
    let delays = is(rule.rule.kind, FaultKind::SysDelay);
    let longest = call.limits >> LONGEST_SHIFT;
    if delays && longest == 0 {
        // There is no place where it could wait.
        rule.done(false);
        return GO_ON;
    }
    let (n, draw) = selected;
    call.value = if delays {
        sys_delay::wait(rule.rule, index, draw, longest, call.now)
    } else {
        sys_errno::value(&rule, draw, call.facts.registers)
    };
    // A wait is more than 0, and brings no error.
    rule.hit_call(index, n, call.value.min(0).unsigned_abs());
    if in_use(Uses::kind(FaultKind::SysSignal)) {
        GO_ON
    } else {
        ENOUGH
    }
}

/// A call, as the conditions of rules look at it.
pub(crate) struct Facts {
    /// The rules that name each of the entries that it is about, or a directory above.
    places: [FileRules; 2],
    subject: Subject,
    /// What the caller's registers were, to be read through a helper only.
    registers: *const pt_regs,
}

impl Facts {
    /// What is to be known of a call for the rules in `mask`.
    #[inline(always)]
    pub(crate) fn of(
        control: &Control,
        mask: u64,
        subject: impl FnOnce() -> Option<Subject>,
        registers: *const pt_regs,
    ) -> Self {
        let mut facts = Self {
            places: [NOWHERE; 2],
            subject: Subject::NONE,
            registers,
        };
        if in_use(Uses::CALL_FILTERS) {
            if control.by_call & mask != 0 {
                facts.subject = subject().unwrap_or(Subject::NONE);
            }
            if control.by_place & mask != 0 {
                let [one, other] = facts.subject.dentries;
                files::rules_at(one, &mut facts.places[0]);
                files::rules_at(other, &mut facts.places[1]);
            }
        }
        facts
    }

    /// Whether the conditions of a rule hold, those of the version that counts now.
    #[inline(always)]
    pub(crate) fn meet(&self, rule: &RuleEntry) -> bool {
        !in_use(Uses::CALL_FILTERS) || meet(self, rule.key)
    }

    /// Whether one of the entries is as the rule with this key wants it, in every respect. A call
    /// that is about none meets no condition on it.
    #[inline(always)]
    fn subject_fits(&self, filter: &CallFilter, key: u32) -> bool {
        let [one, other] = self.subject.dentries;
        files::is_open(&self.subject, filter)
            && (!one.is_null()
                && lies_there(&self.places[0], filter, key)
                && files::entry_fits(one, filter)
                || !other.is_null()
                    && lies_there(&self.places[1], filter, key)
                    && files::entry_fits(other, filter))
    }

    /// Whether every test of an argument is passed.
    #[inline(always)]
    fn arguments_pass(&self, filter: &CallFilter) -> bool {
        let mut place = 0;
        while place < MAX_ARGUMENT_TESTS {
            let test = &filter.arguments[place];
            if test.test != 0 {
                match argument(self.registers, test.index) {
                    Some(argument) if test.holds(argument) => {}
                    _ => return false,
                }
            }
            place += 1;
        }
        true
    }
}

/// No rule names it.
const NOWHERE: FileRules = FileRules {
    below: [0; 2],
    not: [0; 2],
};

/// Whether an entry lies where the rule with this key wants it.
#[inline(always)]
fn lies_there(places: &FileRules, filter: &CallFilter, key: u32) -> bool {
    let (index, version) = (key >> 1 & 63, (key & 1) as usize);
    let below = places.below[version] >> index & 1 != 0;
    let not = places.not[version] >> index & 1 != 0;
    !(filter.asks(condition::BELOW) && !below || filter.asks(condition::NOT_BELOW) && not)
}

/// A function of its own: what comes after it would be verified once for each way through it.
#[inline(never)]
fn meet(facts: &Facts, key: u32) -> bool {
    let Some(filter) = CALL_FILTERS.get(key % (2 * MAX_RULES)) else {
        return false;
    };
    if filter.asks(condition::USER | condition::NOT_USER)
        && !effective_user().is_some_and(|user| filter.user(user))
    {
        return false;
    }
    if filter.asks(condition::COMMAND | condition::NOT_COMMAND) && !commanded(filter) {
        return false;
    }
    if filter.asks(condition::FILE) && !facts.subject_fits(filter, key) {
        return false;
    }
    !filter.asks(condition::ARGUMENTS) || facts.arguments_pass(filter)
}

/// The caller's effective user, as the host knows it. The helper for that tells the real one.
#[inline(always)]
fn effective_user() -> Option<u32> {
    let credentials: Object = read(current_task(), field!(task_cred))?;
    read(credentials, field!(cred_euid))
}

#[inline(always)]
fn commanded(filter: &CallFilter) -> bool {
    let Ok(name) = bpf_get_current_comm() else {
        return false;
    };
    // SAFETY: as many bytes, of which all are valid words.
    let words: [u64; COMMAND_BYTES / 8] = unsafe { core::mem::transmute(name) };
    filter.command(words)
}

/// An argument of the call, 0 to 5 (syscall(2), the conventions of x86-64).
#[inline(always)]
fn argument(registers: *const pt_regs, index: u32) -> Option<u64> {
    // SAFETY: only addresses are formed; the helper checks them.
    unsafe {
        let register = match index {
            0 => &raw const (*registers).rdi,
            1 => &raw const (*registers).rsi,
            2 => &raw const (*registers).rdx,
            3 => &raw const (*registers).r10,
            4 => &raw const (*registers).r8,
            5 => &raw const (*registers).r9,
            _ => return None,
        };
        bpf_probe_read_kernel(register).ok()
    }
}

/// The number of the call.
#[inline(always)]
pub(crate) fn number(registers: *const pt_regs) -> Option<u32> {
    // SAFETY: only an address is formed; the helper checks it.
    let number = unsafe { bpf_probe_read_kernel(&raw const (*registers).orig_rax) }.ok()?;
    Some(number as u32)
}

/// The first argument, which is the descriptor of calls that take one.
#[inline(always)]
pub(crate) fn first_argument(registers: *const pt_regs) -> Option<u64> {
    argument(registers, 0)
}
