//! Counting the calls of each process, program or thread by itself.

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
    objects::{Object, current_task, read, read_current},
};

/// The turn of a call that matches `rule`: that of its caller, or, where the rule does not count
/// per caller, the `n` of the rule. 0 when there is no room for another caller.
///
/// A function of its own, for the sake of the stack; and for both, so that the verifier
/// walks what follows once.
#[inline(never)]
pub(crate) fn turn(rule: &RuleEntry, n: u64) -> u64 {
    let caller = match rule.per {
        per::PROCESS => caller(read_current(field!(task_leader)), 0),
        per::PROGRAM => caller(read_current(field!(task_leader)), program()),
        per::THREAD => caller(current_task(), 0),
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
fn caller(task: Object, program: u64) -> Option<Caller> {
    Some(Caller {
        program,
        id: read(task, field!(task_pid))?,
        started_ns: read(task, field!(task_started))?,
    })
}

/// Which program of its process the current task is in, from 1: the kernel counts them, for each
/// thread alike, since only one is left when a process executes another.
#[inline(always)]
fn program() -> u64 {
    read_current::<u64>(field!(task_execs)).wrapping_add(1)
}

/// `sched_process_exit(task)`, once for each thread: its room is for others.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn inj_forget(_ctx: RawTracePointContext) -> i32 {
    if let Some(gone) = Gone::with_thread() {
        gone.forget();
    }
    0
}

/// `sched_process_exec(task, old_pid, bprm)`, when the kernel has counted the new program: the room
/// of the one before it is for others.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn inj_forget_prog(_ctx: RawTracePointContext) -> i32 {
    if let Some(gone) = Gone::with_program() {
        gone.forget();
    }
    0
}

/// Who is no more; [`Caller::NOBODY`] where it goes on.
struct Gone {
    thread: Caller,
    process: Caller,
    program: Caller,
    rule_count: u32,
}

impl Gone {
    /// When the current thread ends: its process too, and the last program of that, if it is the
    /// last one.
    #[inline(always)]
    fn with_thread() -> Option<Self> {
        let signal: Object = read_current(field!(task_signal));
        let (mut process, mut last) = (Caller::NOBODY, Caller::NOBODY);
        if read::<i32>(signal, field!(signal_live))? == 0 {
            process = caller(read_current(field!(task_leader)), 0)?;
            last = Caller {
                program: program(),
                ..process
            };
        }
        Some(Self {
            thread: caller(current_task(), 0)?,
            process,
            program: last,
            rule_count: 0,
        })
    }

    /// When the current process has left a program for another.
    #[inline(always)]
    fn with_program() -> Option<Self> {
        Some(Self {
            thread: Caller::NOBODY,
            process: Caller::NOBODY,
            program: caller(read_current(field!(task_leader)), program().wrapping_sub(1))?,
            rule_count: 0,
        })
    }

    #[inline(always)]
    fn forget(mut self) {
        if let Some(control) = CONTROL.get(0) {
            self.rule_count = control.rule_count;
            ask_rules(forget, &mut self);
        }
    }
}

/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`Gone::forget`].
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
    let caller = match rule.per {
        per::THREAD => &gone.thread,
        per::PROCESS => &gone.process,
        per::PROGRAM => &gone.program,
        _ => return GO_ON,
    };
    // By the key of nobody a rule counts its callers. Whoever was never counted is not there.
    if caller.id != 0 {
        let _ = TURNS.remove(caller.key(rule.seed));
    }
    GO_ON
}
