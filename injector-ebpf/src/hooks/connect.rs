//! `connect` of TCP and UDP sockets, at the hooks of the root cgroup.
//!
//! The kernel runs these programs in the calling task, before the socket knows
//! its peer. What other programs there wrote into the address is what is seen.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_retval, bpf_set_retval},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use injector_common::packet::{Facts, V4_MAPPED};

use crate::{decide::armed, faults::net_refuse, scope};

/// The call goes on.
const ALLOW: i32 = 1;
/// The call fails; with `EPERM`, unless a program has set another error.
const REFUSE: i32 = 0;

#[cgroup_sock_addr(connect4)]
fn inj_refuse4(ctx: SockAddrContext) -> i32 {
    refuse(ctx.sock_addr, v4)
}

#[cgroup_sock_addr(connect6)]
fn inj_refuse6(ctx: SockAddrContext) -> i32 {
    refuse(ctx.sock_addr, v6)
}

/// For kernels without the helpers of [`inj_refuse4`] at this hook.
#[cgroup_sock_addr(connect4)]
fn inj_deny4(ctx: SockAddrContext) -> i32 {
    judge(ctx.sock_addr, v4).map_or(ALLOW, |_| REFUSE)
}

/// The same for IPv6.
#[cgroup_sock_addr(connect6)]
fn inj_deny6(ctx: SockAddrContext) -> i32 {
    judge(ctx.sock_addr, v6).map_or(ALLOW, |_| REFUSE)
}

/// Lets the call fail with the error of the rule that hits it, if one does.
#[inline(always)]
fn refuse(call: *mut bpf_sock_addr, peer: fn(*const bpf_sock_addr) -> [u32; 4]) -> i32 {
    // SAFETY: the helper only reads.
    if unsafe { bpf_get_retval() } != 0 {
        // A program before this one has refused it; its error stays.
        return ALLOW;
    }
    let Some(value) = judge(call, peer) else {
        return ALLOW;
    };
    // SAFETY: the value is a negative error number.
    unsafe { bpf_set_retval(value) };
    REFUSE
}

/// What the call returns if a rule hits it.
#[inline(always)]
fn judge(call: *mut bpf_sock_addr, peer: fn(*const bpf_sock_addr) -> [u32; 4]) -> Option<i32> {
    let (control, now) = armed()?;
    let scoped = scope::of_current_task(control);
    if scoped == 0 {
        return None;
    }
    // SAFETY: the context comes from the kernel.
    let (port, protocol) = unsafe { ((*call).user_port, (*call).protocol) };
    let facts = Facts::of_connect(peer(call), u16::from_be(port as u16), protocol);
    net_refuse::apply(control, scoped, now, facts)
}

#[inline(always)]
fn v4(call: *const bpf_sock_addr) -> [u32; 4] {
    // SAFETY: the context comes from the kernel.
    [0, 0, V4_MAPPED, unsafe { (*call).user_ip4 }]
}

#[inline(always)]
fn v6(call: *const bpf_sock_addr) -> [u32; 4] {
    // SAFETY: as above.
    unsafe { (*call).user_ip6 }
}
