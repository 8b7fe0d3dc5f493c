//! Security hooks (BPF LSM), which stand for system calls on kernels that let
//! nobody override those.
//!
//! One hook is reached from several calls (`file_open` from `execve` too), so
//! each narrows itself by the number of the call that the task is in.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_kernel,
        generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    },
    macros::lsm,
    programs::LsmContext,
};
use injector_common::{
    abi::call_slot,
    names::{MAX_CALLS, SecurityHook},
};

use crate::{
    atomic::fetch_add,
    decide::armed,
    faults::sys_errno,
    maps::{CALLS, CONTROL, INJ_FILE_MODE, TRIAL},
    scope,
};

/// Code segment of 64-bit user space (`__USER_CS`, arch/x86/include/asm/segment.h).
const USER_CS: u64 = 0x33;
/// Offset of `thread_info.status` in `task_struct`, whose first member it is.
const STATUS_OFFSET: usize = 16;
/// `TS_COMPAT`: the call came by the 32-bit entry, where numbers mean others.
const TS_COMPAT: u32 = 2;
/// `FMODE_NOACCOUNT` (include/linux/fs.h): a file that the kernel opened for
/// itself, such as the one below an overlay.
const FMODE_NOACCOUNT: u32 = 1 << 29;

macro_rules! security_hooks {
    ($($(#[$meta:meta])* $attach:literal $program:ident $hook:ident $args:literal $file:expr;)+) => {
        $(
            $(#[$meta])*
            #[lsm(hook = $attach)]
            fn $program(ctx: LsmContext) -> i32 {
                // The argument after the hook's own: what programs before this
                // one returned.
                let earlier: i32 = ctx.arg($args);
                if earlier != 0 {
                    return earlier;
                }
                let file: Option<usize> = $file;
                enter(SecurityHook::$hook, file.map(|at| ctx.arg(at))).unwrap_or(0)
            }
        )+
    };
}

// hook, program, name, number of arguments, position of a `struct file *`
security_hooks! {
    "file_open" inj_file_open FileOpen 1 Some(0);
    "file_permission" inj_file_perm FilePermission 2 Some(0);
    "inode_getattr" inj_getattr InodeGetattr 1 None;
    "mmap_file" inj_mmap_file MmapFile 4 None;
    "task_alloc" inj_task_alloc TaskAlloc 2 None;
    "bprm_creds_for_exec" inj_bprm BprmCreds 1 None;
    "path_unlink" inj_unlink PathUnlink 2 None;
    "path_rename" inj_rename PathRename 5 None;
    "path_mkdir" inj_mkdir PathMkdir 3 None;
    "socket_connect" inj_connect SocketConnect 3 None;
    "socket_bind" inj_bind SocketBind 3 None;
    "socket_sendmsg" inj_sendmsg SocketSendmsg 3 None;
    "socket_recvmsg" inj_recvmsg SocketRecvmsg 4 None;
}

/// Counts that it ran, for the agent that tries whether security programs run
/// at all: where `bpf` is not among the active security modules they load and
/// attach without error and are never called.
#[lsm(hook = "file_open")]
fn inj_trial_open(ctx: LsmContext) -> i32 {
    let agent = CONTROL.get(0).map_or(0, |control| control.agent_tgid);
    if (bpf_get_current_pid_tgid() >> 32) as u32 == agent
        && let Some(count) = TRIAL.get_ptr_mut(0)
    {
        // SAFETY: an aligned u64 of a map value.
        unsafe { fetch_add(count, 1) };
    }
    ctx.arg(1)
}

#[inline(always)]
fn enter(hook: SecurityHook, file: Option<*const u8>) -> Option<i32> {
    let (control, now) = armed()?;
    let scoped = scope::of_current_task(control);
    if scoped == 0 {
        return None;
    }
    let number = current_call()?;
    let named = *CALLS.get(call_slot(hook as u32, number))?;
    let mask = scoped & named;
    if mask == 0 || file.is_some_and(opened_by_kernel) {
        return None;
    }
    sys_errno::apply(control, mask, now)
}

/// Number of the 64-bit system call that the current task is in.
///
/// `None` for a 32-bit call and for a worker of io_uring, whose registers hold
/// no call at all.
#[inline(always)]
fn current_call() -> Option<u32> {
    // SAFETY: the helpers take the current task; every address is read through
    // a helper that checks it.
    unsafe {
        let task = bpf_get_current_task_btf();
        let regs = bpf_task_pt_regs(task) as *const pt_regs;
        if bpf_probe_read_kernel(&raw const (*regs).cs).ok()? != USER_CS {
            return None;
        }
        let status = task.cast::<u8>().add(STATUS_OFFSET).cast::<u32>();
        if bpf_probe_read_kernel(status).ok()? & TS_COMPAT != 0 {
            return None;
        }
        let number = bpf_probe_read_kernel(&raw const (*regs).orig_rax).ok()?;
        (number < u64::from(MAX_CALLS)).then_some(number as u32)
    }
}

/// Whether the kernel opened the file for itself. A call on an overlay reaches
/// the hook twice, for the file that the caller sees and for the one below it,
/// and must count once.
#[inline(always)]
fn opened_by_kernel(file: *const u8) -> bool {
    let offset = INJ_FILE_MODE.load() as usize;
    // SAFETY: the helper checks the address.
    let mode = unsafe { bpf_probe_read_kernel(file.add(offset).cast::<u32>()) };
    mode.is_ok_and(|mode| mode & FMODE_NOACCOUNT != 0)
}
