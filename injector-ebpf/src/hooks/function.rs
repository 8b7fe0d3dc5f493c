//! The entry of functions of programs and libraries, where the kernel lets a program write the
//! registers of whoever comes by.

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_get_attach_cookie, macros::uprobe,
    programs::ProbeContext,
};
use injector_common::{abi::call_slot, faults::user_return::Entry, names::FUNCTION_ENTRY};

use crate::{
    calls::{self, Invocation, Named},
    decide::armed,
    faults::user_return,
    maps::CALLS,
    scope,
};

/// Any function. Which one it is the agent has said when it attached the program.
#[uprobe]
fn inj_function(ctx: ProbeContext) -> u32 {
    let _ = enter(&ctx);
    0
}

#[inline(always)]
fn enter(ctx: &ProbeContext) -> Option<()> {
    let (control, now) = armed()?;
    let scoped = scope::of_current_task(control);
    if scoped == 0 {
        return None;
    }
    let entry = entry(ctx);
    let mask = scoped & *CALLS.get(call_slot(FUNCTION_ENTRY, entry.number()))?;
    // Before the rules are asked: nothing is counted that cannot be hit.
    let back = user_return::back(entry, ctx.regs)?;
    if mask == 0 {
        return None;
    }
    let named = Named {
        control,
        mask,
        now,
        invocation: Invocation {
            registers: core::ptr::null(),
            memory: 0,
            call: 0,
        },
    };
    let value = user_return::value(calls::judge_function(named))?;
    user_return::apply(ctx.regs, back, value);
    Some(())
}

/// What the agent said of the function.
#[inline(always)]
fn entry(ctx: &ProbeContext) -> Entry {
    // SAFETY: the context comes from the kernel.
    Entry::from_bits(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) })
}

/// Has a function of the agent's own return 1.
#[uprobe]
fn inj_trial_func(ctx: ProbeContext) -> u32 {
    if let Some(back) = user_return::back(entry(&ctx), ctx.regs) {
        user_return::apply(ctx.regs, back, 1);
    }
    0
}
