//! Which calls a rule means, and what becomes of them.

use core::hint::black_box;

use aya_ebpf::{
    bindings::pt_regs,
    cty::c_void,
    helpers::{bpf_get_current_comm, generated::bpf_probe_read},
};
use injector_common::{
    Control, FaultKind, RuleEntry, RuleIndex, RuleSlot,
    call_filter::{COMMAND_BYTES, CallFilter, FileRules, MAX_ARGUMENT_TESTS, condition, met},
    calls32,
    faults::{sys_errno::clamp, sys_return as returned, user_return},
    names::MAX_RULES,
    uses::Uses,
};

use crate::{
    chain,
    decide::{ENOUGH, GO_ON, Live, ask_rules, live, repeat_many},
    faults::{sys_delay, sys_errno, sys_return, sys_signal},
    files::{self, Subject},
    maps::{CALL_FILTERS, RULES, field, in_use, is},
    objects::{Object, read, read_current},
    sockets,
};

/// A call of a target that rules name.
#[derive(Clone, Copy)]
pub(crate) struct Named {
    pub(crate) control: &'static Control,
    /// These rules.
    pub(crate) mask: u64,
    pub(crate) now: u64,
    pub(crate) invocation: Invocation,
}

/// A call as its caller made it.
#[derive(Clone, Copy)]
pub(crate) struct Invocation {
    /// What the caller's registers were, to be read through a helper only.
    pub(crate) registers: *const pt_regs,
    /// Where the arguments are if they are in the caller's memory.
    pub(crate) memory: u32,
    /// What the call is known by: its number, or that of a 32-bit one ([`calls32`]).
    pub(crate) call: u32,
}

/// Which words of the registers (`struct pt_regs`, arch/x86/include/asm/ptrace.h) the arguments of a
/// call are, 4 bits for each: rdi, rsi, rdx, r10, r8 and r9 (syscall(2)).
const ARGUMENTS: u32 = 0x89_7cde;
/// Those of a 32-bit caller: ebx, ecx, edx, esi, edi and ebp.
const ARGUMENTS_32: u32 = 0x4e_dcb5;

impl Invocation {
    /// An argument of the call, 0 to 5.
    ///
    /// Where it lies is a choice of two, of which nothing is left when one helper has read it, so that
    /// the verifier need not walk on twice: it is made by a number that the verifier takes for none
    /// of the call's.
    #[inline(always)]
    pub(crate) fn argument(self, index: u32) -> Option<u64> {
        if index > 5 {
            return None;
        }
        let upper = calls32::upper_half(self.call);
        let words = ARGUMENTS ^ (upper >> 32) as u32 & (ARGUMENTS ^ ARGUMENTS_32);
        let size = 8 - (upper >> 63 << 2) as u32;
        let place: *const c_void =
            if black_box(self.call >> calls32::MEMORY_SHIFT) == calls32::IN_MEMORY {
                (self.memory.wrapping_add(4 * index)) as usize as *const c_void
            } else {
                let word = words >> (4 * index) & 15;
                (self.registers.cast::<u64>().wrapping_add(word as usize)).cast()
            };
        let mut value = black_box(0_u64);
        // SAFETY: at most as many bytes as there are; the helper checks the address. On x86-64 it
        // reads from both halves of the address space.
        let error = unsafe { bpf_probe_read((&raw mut value).cast(), size, place) };
        (error == 0).then_some(value)
    }

    /// The file behind the first argument, which is the descriptor of calls that take one; `subject`
    /// stays as it is where there is none.
    #[inline(always)]
    pub(crate) fn find_file(self, subject: &mut Subject) {
        find_descriptor(self, subject);
    }
}

/// A function of its own: what it leaves on the stack goes with it.
#[inline(never)]
fn find_descriptor(invocation: Invocation, subject: &mut Subject) {
    if let Some(found) = invocation.argument(0).and_then(Subject::descriptor) {
        *subject = found;
    }
}

/// A call on its way through the rules. Without a byte that nobody writes: the verifier wants all of
/// them written where a function gets it.
#[repr(C)]
struct Call {
    facts: Facts,
    /// Rules aimed at the caller that name the call.
    mask: u64,
    now: u64,
    /// The longest time in µs that the call can wait here; 0 if it cannot.
    longest: u32,
    /// The error that the call returns, or the value ([`returned::packed`]), or how long it waits and
    /// by which rule ([`sys_delay::packed`](crate::faults::sys_delay::packed)), or by which rule a
    /// function returns ([`user_return::packed`]); 0 as long as no rule has it do any of these.
    value: i32,
}

/// What the call returns if one of the rules that name it has it fail: they are asked in their
/// order, and of those that let calls fail the first that injects ends the search. `find` says
/// what the call is about.
#[inline(always)]
pub(crate) fn apply(named: Named, find: impl FnOnce(&mut Subject)) -> Option<i32> {
    let value = judge::<false>(named, find, 0);
    // The state went through memory, so the verifier forgot its bounds.
    (value != 0).then(|| clamp(value))
}

/// The same where a call can also be had return a value.
#[inline(always)]
pub(crate) fn apply_at_entry(named: Named, find: impl FnOnce(&mut Subject)) -> Option<i32> {
    let value = judge::<false>(named, find, 0);
    (value != 0).then(|| {
        if in_use(Uses::kind(FaultKind::SysReturn)) {
            returned::result(value)
        } else {
            clamp(value)
        }
    })
}

/// How long the call waits in µs, at most `longest`, and by which rule. The first of those that
/// let it wait ends the search. A program that `SLEEPS` may not look into tries, so it asks no
/// rule for the addresses of peers; the agent gives it none that has such.
#[inline(always)]
pub(crate) fn wait<const SLEEPS: bool>(
    named: Named,
    find: impl FnOnce(&mut Subject),
    longest: u32,
) -> Option<(u32, u32)> {
    let wait = judge::<SLEEPS>(named, find, longest);
    (wait > 0).then(|| sys_delay::unpacked(wait))
}

/// By which rule a function returns ([`user_return::packed`]); 0 if by none. The first that hits
/// decides.
#[inline(always)]
pub(crate) fn judge_function(named: Named) -> i32 {
    judge::<false>(named, |_| (), 0)
}

/// The state is put together where it stays. Linux 7.3 takes the whole stack for something that
/// the rules' callback may read, so that whatever lay there on the way here, a copy of the state
/// say, would make one more case to walk.
#[inline(always)]
fn judge<const SLEEPS: bool>(named: Named, find: impl FnOnce(&mut Subject), longest: u32) -> i32 {
    let Named {
        control, mask, now, ..
    } = named;
    let mut call = Call {
        facts: Facts::none(named.invocation),
        mask,
        now,
        longest,
        // Not known to be 0, so that the verifier need not walk the rules for that and again.
        value: black_box(0),
    };
    call.facts.gather(control, mask, now, find);
    if in_use(Uses::LOOP) {
        repeat_many(ask_next::<SLEEPS>, MAX_RULES, &mut call);
    } else {
        ask_rules(ask::<SLEEPS>, &mut call);
    }
    call.value
}

/// Asks the next of the rules that name the call; there may be many others, which are passed over.
///
/// # Safety
///
/// Called by the kernel, with the state of [`judge`].
unsafe extern "C" fn ask_next<const SLEEPS: bool>(_turn: u64, call: *mut Call) -> u64 {
    // SAFETY: see above.
    let mask = unsafe { (*call).mask };
    if mask == 0 {
        return ENOUGH;
    }
    let RuleIndex(index) = RuleIndex::first(mask);
    // SAFETY: see above.
    unsafe { (*call).mask = mask & (mask - 1) };
    ask_by_itself::<SLEEPS>(call, index);
    // Saves a turn.
    // SAFETY: see above.
    u64::from(unsafe { (*call).mask } == 0)
}

/// Asks one rule of the table, if it names the call.
///
/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`judge`].
unsafe extern "C" fn ask<const SLEEPS: bool>(
    _map: *mut c_void,
    index: *const u32,
    _slot: *const RuleSlot,
    call: *mut Call,
) -> u64 {
    // SAFETY: see above.
    let (index, mask) = unsafe { (*index, (*call).mask) };
    // The rules that name the call, from here on.
    let rest = mask >> (index & (MAX_RULES - 1));
    if rest & 1 == 0 {
        return u64::from(rest == 0);
    }
    ask_by_itself::<SLEEPS>(call, index);
    GO_ON
}

/// Asks a rule in a function that the verifier walks by itself.
#[inline(always)]
fn ask_by_itself<const SLEEPS: bool>(call: *mut Call, index: u32) {
    if SLEEPS {
        inj_ask_asleep(call, index);
    } else {
        inj_ask(call, index);
    }
}

/// Has a rule decide on a call. A global function: the verifier walks it once for all that call it, and
/// knows of the call only how many bytes it is (Linux 5.12, which wants such a function to return a number).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn inj_ask(call: *mut Call, index: u32) -> u64 {
    ask_of::<false>(call, index)
}

/// The same in a program that sleeps.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn inj_ask_asleep(call: *mut Call, index: u32) -> u64 {
    ask_of::<true>(call, index)
}

#[inline(always)]
fn ask_of<const SLEEPS: bool>(call: *mut Call, index: u32) -> u64 {
    // SAFETY: null, as far as the verifier knows, or the state of `judge`.
    if let Some(call) = unsafe { call.as_mut() }
        && let Some(slot) = RULES.get(index)
    {
        ask_one::<SLEEPS>(slot.rule(), index, call);
    }
    0
}

/// Has a rule that names the call decide on it.
#[inline(always)]
fn ask_one<const SLEEPS: bool>(rule: &RuleEntry, index: u32, call: &mut Call) {
    let signals = is(rule.kind, FaultKind::SysSignal);
    let returns = is(rule.kind, FaultKind::SysReturn);
    // A call returns once; signals come to it beside that, as they do where it is only seen.
    if call.value != 0 && !signals || returns && !sys_return::acts(rule, call.facts.invocation) {
        return;
    }
    let meets = call.facts.meet::<SLEEPS>(rule, call.now);
    if meets == met::NO {
        return;
    }
    let Some(rule) = live(rule, index, call.now) else {
        return;
    };
    if in_use(Uses::CHAINS) && meets == met::UNKNOWN {
        rule.not_told();
        return;
    }
    let Some(selected) = rule.selects_call(Live::in_caller) else {
        return;
    };
    if signals {
        sys_signal::send(&rule, index, selected.0);
        return;
    }
    let delays = is(rule.rule.kind, FaultKind::SysDelay);
    if delays && call.longest == 0 {
        // There is no place where it could wait.
        rule.done(false);
        return;
    }
    let (n, draw) = selected;
    call.value = if delays {
        sys_delay::wait(rule.rule, index, draw, call.longest, call.now)
    } else if is(rule.rule.kind, FaultKind::SysReturn) {
        sys_return::value(rule.rule, call.facts.invocation)
    } else if is(rule.rule.kind, FaultKind::UserReturn) {
        user_return::packed(rule.rule.key)
    } else {
        sys_errno::value(&rule, draw, call.facts.invocation.call)
    };
    rule.hit_call(index, n, returned::errno(call.value));
    if !in_use(Uses::kind(FaultKind::SysSignal)) {
        // The first that has it return or wait decides.
        call.mask = 0;
    }
}

/// A call, as the conditions of rules look at it.
#[repr(C)]
pub(crate) struct Facts {
    /// The rules that name each of the entries that it is about, or a directory above.
    places: [FileRules; 2],
    subject: Subject,
    invocation: Invocation,
}

impl Facts {
    /// Nothing but what the caller asked for. The zeros are none that the compiler or the verifier know:
    /// known, each is a case of its own to the latter.
    #[inline(always)]
    fn none(invocation: Invocation) -> Self {
        let zero = black_box(0_u64);
        let nowhere = FileRules {
            below: [zero; 2],
            not: [zero; 2],
        };
        Self {
            places: [nowhere; 2],
            subject: Subject::NONE,
            invocation,
        }
    }

    /// Adds what the rules in `mask` want to know of the call.
    #[inline(always)]
    fn gather(&mut self, control: &Control, mask: u64, now: u64, find: impl FnOnce(&mut Subject)) {
        if in_use(Uses::CALL_FILTERS) {
            // First, since it is walked once for each way to it.
            if in_use(Uses::CHAINS) && control.by_chain & mask != 0 {
                chain::find(self.invocation.call, now);
            }
            if control.by_call & mask != 0 {
                find(&mut self.subject);
            }
            if control.by_place & mask != 0 {
                let [one, other] = self.subject.dentries;
                files::rules_at(one, &mut self.places[0]);
                files::rules_at(other, &mut self.places[1]);
            }
        }
    }

    /// Whether the conditions of a rule hold, those of the version that counts now: one of [`met`].
    #[inline(always)]
    pub(crate) fn meet<const SLEEPS: bool>(&self, rule: &RuleEntry, now: u64) -> u32 {
        if !in_use(Uses::CALL_FILTERS) {
            return met::YES;
        }
        meet::<SLEEPS>(self, rule, now)
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
                match self.invocation.argument(test.index) {
                    Some(argument) if test.holds(argument) => {}
                    _ => return false,
                }
            }
            place += 1;
        }
        true
    }
}

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
fn meet<const SLEEPS: bool>(facts: &Facts, rule: &RuleEntry, now: u64) -> u32 {
    let key = rule.key;
    let Some(filter) = CALL_FILTERS.get(key % (2 * MAX_RULES)) else {
        return met::NO;
    };
    // First, so that all else is walked once for it.
    let told = if in_use(Uses::CHAINS) {
        chain::fits(filter, key, now)
    } else {
        met::YES
    };
    if told == met::NO {
        return met::NO;
    }
    if filter.asks(condition::USER | condition::NOT_USER)
        && !effective_user().is_some_and(|user| filter.user(user))
    {
        return met::NO;
    }
    if filter.asks(condition::COMMAND | condition::NOT_COMMAND) && !commanded(filter) {
        return met::NO;
    }
    if filter.asks(condition::FILE) && !facts.subject_fits(filter, key) {
        return met::NO;
    }
    if in_use(Uses::SOCKETS)
        && filter.asks(condition::SOCKET)
        && !sockets::fits::<SLEEPS>(facts.invocation, rule, filter)
    {
        return met::NO;
    }
    if filter.asks(condition::ARGUMENTS) && !facts.arguments_pass(filter) {
        return met::NO;
    }
    told
}

/// The caller's effective user, as the host knows it. The helper for that tells the real one.
#[inline(always)]
fn effective_user() -> Option<u32> {
    let credentials: Object = read_current(field!(task_cred));
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
