//! Where calls can wait asleep: security hooks at which programs may sleep, and the entry of calls
//! whose place programs may take.
//!
//! At its entry a call waits in a program that the kernel does not let run again on a processor
//! while it sleeps there. So several of them serve a call, of which the first that is free takes
//! it, and another one, which does not sleep, decides before them. The same holds at its return,
//! behind what it does, whatever comes of it.
//!
//! The agent's own loader loads these programs, since they call kernel functions
//! (`injector/src/kernel/modify_return.rs`).

use core::ptr::null_mut;

use aya_ebpf::{
    bindings::{BPF_LOCAL_STORAGE_GET_F_CREATE, pt_regs, task_struct},
    cty::c_void,
    helpers::generated::{bpf_get_current_task_btf, bpf_ktime_get_boot_ns, bpf_task_storage_get},
    macros::lsm,
    programs::{FEntryContext, LsmContext},
};
use injector_common::{
    faults::sys_delay::{MAX_SLEEP_US, MAX_SPIN_US, is_result},
    names::{SEEN_RETURN, SLEEPING_ENTRY, SLEEPING_HOOKS, SLEEPING_RETURN, SecurityHook},
};

use super::{
    security::{
        self,
        About::{self, Entry, File, Nothing, Path, Program},
    },
    syscall,
};
use crate::{
    atomic::{exchange, fetch_add},
    calls::{self, Named},
    faults::sys_delay::{packed, spin, unpacked},
    files::Subject,
    maps::{DECIDED, DROWSY, STATS},
    objects::Object,
    sleep::{self, Bed},
};

macro_rules! sleeping_hooks {
    ($($attach:literal $program:ident $hook:ident $args:literal $about:expr;)+) => {
        $(
            #[lsm(hook = $attach)]
            fn $program(ctx: LsmContext) -> i32 {
                // The argument after the hook's own: what programs before this one returned.
                let earlier: i32 = ctx.arg($args);
                if earlier == 0 {
                    wait(SecurityHook::$hook, $about, |at| ctx.arg(at));
                }
                earlier
            }
        )+
    };
}

// hook, program, name, number of arguments, which of them say what file it is about: as those of
// `security.rs`
sleeping_hooks! {
    "file_open" inj_sl_open FileOpen 1 File(0);
    "inode_getattr" inj_sl_getattr InodeGetattr 1 Path(0);
    "inode_readlink" inj_sl_readlink InodeReadlink 1 Entry(0);
    "inode_getxattr" inj_sl_getxattr InodeGetxattr 2 Entry(0);
    "mmap_file" inj_sl_mmap MmapFile 4 File(0);
    "file_ioctl" inj_sl_ioctl FileIoctl 3 File(0);
    "file_lock" inj_sl_flock FileLock 2 File(0);
    "task_alloc" inj_sl_task TaskAlloc 2 Nothing;
    "bprm_creds_for_exec" inj_sl_bprm BprmCreds 1 Program(0);
    "task_prctl" inj_sl_prctl TaskPrctl 5 Nothing;
    "sb_mount" inj_sl_mount SbMount 5 Path(1);
    "sb_umount" inj_sl_umount SbUmount 2 Nothing;
    "socket_create" inj_sl_socket SocketCreate 4 Nothing;
    "socket_socketpair" inj_sl_sockpair SocketSocketpair 2 Nothing;
    "socket_bind" inj_sl_bind SocketBind 3 Nothing;
    "socket_connect" inj_sl_connect SocketConnect 3 Nothing;
    "socket_listen" inj_sl_listen SocketListen 2 Nothing;
    "socket_accept" inj_sl_accept SocketAccept 2 Nothing;
    "socket_sendmsg" inj_sl_sendmsg SocketSendmsg 3 Nothing;
    "socket_recvmsg" inj_sl_recvmsg SocketRecvmsg 4 Nothing;
    "socket_shutdown" inj_sl_shutdown SocketShutdown 2 Nothing;
    "socket_getsockopt" inj_sl_getopt SocketGetsockopt 3 Nothing;
    "socket_getsockname" inj_sl_sockname SocketGetsockname 1 Nothing;
    "socket_getpeername" inj_sl_peername SocketGetpeername 1 Nothing;
}

#[inline(always)]
fn wait(hook: SecurityHook, about: About, argument: impl Fn(usize) -> Object + Copy) -> Option<()> {
    let call = security::at_hook(
        SLEEPING_HOOKS + hook as u32,
        security::NO_REQUEST,
        about,
        argument,
    )?;
    let (bed, us, rule) = decide(call, |subject| about.find(argument, subject))?;
    bed.sleep(us, rule);
    bed.leave();
    None
}

/// As much of such a program as the kernel has to allow.
#[lsm(hook = "file_open")]
fn inj_sl_trial(ctx: LsmContext) -> i32 {
    if let Some(drowsy) = DROWSY.get_ptr_mut(0) {
        asleep(drowsy, ENTERING);
    }
    ctx.arg(1)
}

/// Where and for how long a call waits, and by which rule. That it cannot is an error of the rule
/// that would have it wait.
#[inline(always)]
fn decide(call: Named, find: impl FnOnce(&mut Subject)) -> Option<(Bed, u32, u32)> {
    // Before the rules are asked: what they count is what then happens.
    let bed = Bed::take(call.now);
    let longest = if bed.is_there() { MAX_SLEEP_US } else { 0 };
    let wait = calls::wait::<true>(call, find, longest);
    if let Some((us, rule)) = wait {
        return Some((bed, us, rule));
    }
    if bed.is_there() {
        bed.leave();
    }
    None
}

/// Beside what was decided at a call's entry.
const ENTERING: u64 = 0;
/// Beside what was decided at its return. What was decided at one place is for that one alone.
const RETURNING: u64 = 1 << 32;

/// What was decided for the thread's call; null if nothing ever was and `create` is not set.
#[inline(always)]
fn decided(create: bool) -> *mut u64 {
    let flags = if create {
        u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE)
    } else {
        0
    };
    // SAFETY: the helper takes the current task and gives a value of the map, or null.
    unsafe {
        bpf_task_storage_get(
            (&raw const DECIDED).cast_mut().cast(),
            bpf_get_current_task_btf().cast::<task_struct>(),
            null_mut(),
            flags,
        )
    }
    .cast()
}

/// `__x64_sys_*(const struct pt_regs *regs)`, before it: decides whether the call waits.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry")]
extern "C" fn inj_lie_down(ctx: *mut c_void) -> i32 {
    let ctx = FEntryContext::new(ctx);
    forget_left();
    let _ = lie_down(SLEEPING_ENTRY, ctx.arg(0), ENTERING);
    0
}

/// `__x64_sys_*(const struct pt_regs *regs)`, behind it: decides whether the call waits.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry")]
extern "C" fn inj_lie_late(ctx: *mut c_void) -> i32 {
    let ctx = FEntryContext::new(ctx);
    forget_left();
    // The argument after the function's own: what it returned.
    if is_result(ctx.arg(1)) {
        let _ = lie_down(SLEEPING_RETURN, ctx.arg(0), RETURNING);
    }
    0
}

/// Takes back what was decided for an earlier call of the thread, which could not sleep since all
/// programs were taken in which it could have: it is for no other call.
#[inline(always)]
fn forget_left() {
    let Some(drowsy) = DROWSY.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: an aligned u64 of a map value.
    if unsafe { drowsy.read_volatile() } == 0 {
        return;
    }
    let place = decided(false);
    if place.is_null() {
        return;
    }
    // SAFETY: aligned u64s of map values.
    let left = unsafe { exchange(place, 0) };
    if left != 0 {
        // SAFETY: as above.
        unsafe { fetch_add(drowsy, u64::MAX) };
        give_up(unpacked(left as i32).1);
    }
}

#[inline(always)]
fn lie_down(hook: u32, user: *const pt_regs, place_of: u64) -> Option<()> {
    let call = syscall::at_entry(hook, user)?;
    let drowsy = DROWSY.get_ptr_mut(0)?;
    // The kernel may have no memory at hand where many threads come for the first time.
    let place = decided(true);
    let longest = if !place.is_null() && sleep::is_served(call.now) {
        MAX_SLEEP_US
    } else {
        0
    };
    let find = |subject: &mut Subject| call.invocation.find_file(subject);
    let (us, rule) = calls::wait::<false>(call, find, longest)?;
    if place.is_null() {
        return None;
    }
    // SAFETY: as above.
    unsafe {
        fetch_add(drowsy, 1);
        exchange(place, packed(us, rule) as u64 | place_of);
    }
    None
}

/// Counts as an error what was decided by a rule and could not be had.
#[inline(always)]
fn give_up(rule: u32) {
    if let Some(stats) = STATS.get_ptr_mut(rule) {
        // SAFETY: aligned u64s of a map value.
        unsafe {
            fetch_add(&raw mut (*stats).injected, u64::MAX);
            fetch_add(&raw mut (*stats).errors, 1);
        }
    }
}

/// In the place of the call: waits, if that was decided and no program before this one did it.
///
/// It returns a long, as that of `modify_return.rs`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry")]
extern "C" fn inj_asleep(ctx: *mut c_void) -> i64 {
    let ctx = FEntryContext::new(ctx);
    // The argument after the function's own: what programs before this one returned.
    let earlier: i64 = ctx.arg(1);
    if let Some(drowsy) = DROWSY.get_ptr_mut(0) {
        // SAFETY: an aligned u64 of a map value.
        if unsafe { drowsy.read_volatile() } != 0 {
            asleep(drowsy, ENTERING);
        }
    }
    earlier
}

/// Behind the call: the same.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry")]
extern "C" fn inj_asleep_late(_ctx: *mut c_void) -> i32 {
    if let Some(drowsy) = DROWSY.get_ptr_mut(0) {
        // SAFETY: an aligned u64 of a map value.
        if unsafe { drowsy.read_volatile() } != 0 {
            asleep(drowsy, RETURNING);
        }
    }
    0
}

/// Behind the call: waits busy.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry")]
extern "C" fn inj_busy_late(ctx: *mut c_void) -> i32 {
    let ctx = FEntryContext::new(ctx);
    if is_result(ctx.arg(1))
        && let Some(call) = syscall::at_entry(SEEN_RETURN, ctx.arg(0))
        && let Some((us, _)) = calls::wait::<false>(
            call,
            |subject| call.invocation.find_file(subject),
            MAX_SPIN_US,
        )
    {
        spin(us);
    }
    0
}

#[inline(always)]
fn asleep(drowsy: *mut u64, place_of: u64) {
    let place = decided(false);
    if place.is_null() {
        return;
    }
    // SAFETY: aligned u64s of map values.
    let decided = unsafe {
        let decided = place.read_volatile();
        if decided == 0 || decided & RETURNING != place_of {
            return;
        }
        exchange(place, 0)
    };
    // SAFETY: as above; and a clock is read.
    let now = unsafe {
        fetch_add(drowsy, u64::MAX);
        bpf_ktime_get_boot_ns()
    };
    let (us, rule) = unpacked(decided as i32);
    let bed = Bed::take(now);
    if bed.is_there() {
        bed.sleep(us, rule);
        bed.leave();
    } else {
        give_up(rule);
    }
}
