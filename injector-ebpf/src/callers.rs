//! Counting the calls of each process or thread by itself.

use aya_ebpf::{
    bindings::BPF_NOEXIST, cty::c_void, macros::raw_tracepoint, programs::RawTracePointContext,
};
use injector_common::{
    RuleEntry, RuleSlot,
    abi::per,
    caller::{Caller, Turn},
};

use crate::{
    atomic::fetch_add,
    decide::{ENOUGH, GO_ON, ask_rules},
    maps::{CONTROL, TURNS, field},
    objects::{Object, current_task, read},
};

/// The turn of a call that matches `rule`: that of its caller, or, where the rule does not count
/// per caller, the `n` of the rule. 0 when there is no room for another caller.
///
/// A function of its own, for the sake of the stack; and for both, so that the verifier
/// walks what follows once.
#[inline(never)]
pub(crate) fn turn(rule: &RuleEntry, n: u64) -> u64 {
    let task = current_task();
    let caller = match rule.per {
        per::PROCESS => read(task, field!(task_leader)).and_then(|leader| caller(leader)),
        per::THREAD => caller(task),
        _ => return n,
    };
    let Some(caller) = caller else {
        return 0;
    };
    let key = caller.key(rule.seed);
    if TURNS.get_ptr_mut(key).is_none() {
        let Some(before) = meet(rule.seed) else {
            return 0;
        };
        // Another thread of the process may have been first; then there is one.
        let _ = TURNS.insert(key, before.0, u64::from(BPF_NOEXIST));
    }
    let Some(count) = TURNS.get_ptr_mut(key) else {
        return 0;
    };
    // SAFETY: an aligned u64 of a map value.
    unsafe { fetch_add(count, 1) + 1 }
}

/// Numbers a caller that the rule with this seed has not met yet.
#[inline(always)]
fn meet(rule_seed: u64) -> Option<Turn> {
    let key = Caller::NOBODY.key(rule_seed);
    if TURNS.get_ptr_mut(key).is_none() {
        let _ = TURNS.insert(key, 0, u64::from(BPF_NOEXIST));
    }
    let met = TURNS.get_ptr_mut(key)?;
    // SAFETY: an aligned u64 of a map value.
    let before = unsafe { fetch_add(met, 1) };
    Some(Turn::before_first(before + 1))
}

/// A thread; its first one stands for the process.
///
/// Whichever thread of a process executes a program takes the first one's id and start, so that
/// the process stays the same.
#[inline(always)]
fn caller(task: Object) -> Option<Caller> {
    Some(Caller {
        id: read(task, field!(task_pid))?,
        started_ns: read(task, field!(task_started))?,
    })
}

/// `sched_process_exit(task)`, once for each thread: its room is for others.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn inj_forget(_ctx: RawTracePointContext) -> i32 {
    if let (Some(control), Some(mut gone)) = (CONTROL.get(0), Gone::now()) {
        gone.rule_count = control.rule_count;
        ask_rules(forget, &mut gone);
    }
    0
}

/// Who ends.
struct Gone {
    thread: Caller,
    /// With its last thread.
    process: Option<Caller>,
    rule_count: u32,
}

impl Gone {
    #[inline(always)]
    fn now() -> Option<Self> {
        let task = current_task();
        let signal: Object = read(task, field!(task_signal))?;
        let process = if read::<i32>(signal, field!(signal_live))? == 0 {
            caller(read(task, field!(task_leader))?)
        } else {
            None
        };
        Some(Self {
            thread: caller(task)?,
            process,
            rule_count: 0,
        })
    }
}

/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`inj_forget`].
unsafe extern "C" fn forget(
    _map: *mut c_void,
    index: *const u32,
    slot: *const RuleSlot,
    gone: *mut Gone,
) -> u64 {
    // SAFETY: see above.
    let (index, rule, gone) = unsafe { (*index, (*slot).rule(), &*gone) };
    if index >= gone.rule_count {
        return ENOUGH;
    }
    // Whoever was never counted is not there.
    match (rule.per, gone.process) {
        (per::THREAD, _) => drop(TURNS.remove(gone.thread.key(rule.seed))),
        (per::PROCESS, Some(process)) => drop(TURNS.remove(process.key(rule.seed))),
        _ => {}
    }
    GO_ON
}
