//! The descendants and the sockets of targeted processes.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, BPF_SK_STORAGE_GET_F_CREATE},
    helpers::{bpf_get_current_pid_tgid, generated::bpf_sk_storage_get},
    macros::{cgroup_sock, raw_tracepoint},
    programs::{RawTracePointContext, SockContext},
};
use aya_log_ebpf::debug;
use injector_common::{ScopeKey, abi::SCOPE_TGID, names::SEEN_BITS};

use crate::{
    atomic::set_bits,
    maps::{CONTROL, SCOPES, SEEN, SOCKETS, field},
    objects::{Object, read},
    scope,
};

#[inline(always)]
fn key(tgid: u32) -> ScopeKey {
    ScopeKey {
        id: u64::from(tgid),
        kind: SCOPE_TGID,
        _pad: 0,
    }
}

/// `sched_process_fork(parent, child)`, before the child first runs.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn inj_fork(ctx: RawTracePointContext) -> i32 {
    let _ = fork(&ctx);
    0
}

#[inline(always)]
fn fork(ctx: &RawTracePointContext) -> Option<()> {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: values are plain integers.
    let rules = *unsafe { SCOPES.get(key(parent)) }?;
    let child: Object = ctx.arg(1);
    let tgid = read::<u32>(child, field!(task_tgid))?;
    if tgid != parent {
        let bit = tgid % SEEN_BITS;
        let word = SEEN.get_ptr_mut(bit / 64)?;
        // SAFETY: an aligned u64 of a map value.
        unsafe { set_bits(word, 1 << (bit % 64)) };
        SCOPES.insert(key(tgid), rules, u64::from(BPF_ANY)).ok()?;
        debug!(ctx, "process {} follows its parent {}", tgid, parent);
    }
    Some(())
}

/// `sched_process_exit(task)`, once for each thread.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn inj_exit(ctx: RawTracePointContext) -> i32 {
    let _ = exit(&ctx);
    0
}

#[inline(always)]
fn exit(ctx: &RawTracePointContext) -> Option<()> {
    let task: Object = ctx.arg(0);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: values are plain integers.
    unsafe { SCOPES.get(key(tgid)) }?;
    let signal = read::<Object>(task, field!(task_signal))?;
    // The number may go to another process only after the last thread.
    if read::<i32>(signal, field!(signal_live))? == 0 {
        SCOPES.remove(key(tgid)).ok()?;
    }
    Some(())
}

/// A new socket remembers the rules aimed at its creator.
#[cgroup_sock(sock_create)]
fn inj_sock_new(ctx: SockContext) -> i32 {
    let mut rules = CONTROL.get(0).map_or(0, scope::of_current_task);
    if rules != 0 {
        let map = &raw const SOCKETS;
        // SAFETY: map and context are the kernel's; the value is a u64, as the
        // map's are.
        unsafe {
            bpf_sk_storage_get(
                map.cast_mut().cast(),
                ctx.as_ptr(),
                (&raw mut rules).cast(),
                u64::from(BPF_SK_STORAGE_GET_F_CREATE),
            );
        }
    }
    1 // allow
}
