//! The entry of system calls, where the kernel lets a program override their
//! result (`CONFIG_BPF_KPROBE_OVERRIDE`).

use aya_ebpf::{
    EbpfContext as _, bindings::pt_regs, helpers::generated::bpf_override_return, macros::kprobe,
    programs::ProbeContext,
};
use injector_common::{
    FaultKind,
    abi::call_slot,
    faults::sys_delay::MAX_SPIN_US,
    names::{SEEN_ENTRY, SYSCALL_ENTRY},
    uses::Uses,
};

use super::security::current_call;
use crate::{
    calls::{self, Invocation, Named},
    decide::armed,
    faults::sys_delay,
    maps::{CALLS, in_use},
    objects::current_registers,
    scope,
};

/// `__x64_sys_*(const struct pt_regs *regs)`: any of them.
#[kprobe]
fn inj_syscall(ctx: ProbeContext) -> u32 {
    // The wrapper's only argument points to the registers of the caller.
    if let Some(value) = ctx.arg(0).and_then(|user| enter(SYSCALL_ENTRY, user)) {
        // SAFETY: the context comes from the kernel.
        unsafe { bpf_override_return(ctx.as_ptr().cast(), i64::from(value) as u64) };
    }
    0
}

/// The same where the call goes on whatever rules do, on any kernel that has kprobes. It can be
/// made to wait, busy.
#[kprobe]
fn inj_seen_call(ctx: ProbeContext) -> u32 {
    if let Some(user) = ctx.arg(0)
        && let Some(call) = at_entry(SEEN_ENTRY, user)
    {
        let wait = calls::wait::<false>(
            call,
            |subject| call.invocation.find_file(subject),
            MAX_SPIN_US,
        );
        if in_use(Uses::kind(FaultKind::SysDelay))
            && let Some((us, _)) = wait
        {
            sys_delay::spin(us);
        }
    }
    0
}

/// Never attached: tells whether a program may override a result. Of `inj_syscall` the verifier says
/// so only when it has walked all that comes before.
#[kprobe]
fn inj_trial_over(ctx: ProbeContext) -> u32 {
    // SAFETY: the context comes from the kernel.
    unsafe { bpf_override_return(ctx.as_ptr().cast(), 0) };
    0
}

/// What the call returns if a rule hits it at this hook, by the registers of its caller.
#[inline(always)]
pub(super) fn enter(hook: u32, user: *const pt_regs) -> Option<i32> {
    let call = at_entry(hook, user)?;
    calls::apply_at_entry(call, |subject| call.invocation.find_file(subject))
}

/// The call at its entry, if rules name it at this hook.
#[inline(always)]
pub(super) fn at_entry(hook: u32, user: *const pt_regs) -> Option<Named> {
    let (control, now) = armed()?;
    let scoped = scope::of_current_task(control);
    if scoped == 0 {
        return None;
    }
    // A function without arguments serves 32-bit callers too, whose calls are not named here.
    let call = current_call(current_registers())?;
    let mask = scoped & *CALLS.get(call_slot(hook, call))?;
    if mask == 0 {
        return None;
    }
    Some(Named {
        control,
        mask,
        now,
        invocation: Invocation {
            registers: user,
            memory: 0,
            call,
        },
    })
}
