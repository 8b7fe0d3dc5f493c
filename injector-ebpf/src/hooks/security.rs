//! Security hooks (BPF LSM), which stand for system calls on kernels that let
//! nobody override those.
//!
//! One hook is reached from several calls (`file_open` from `execve` too), so
//! each narrows itself by the number of the call that the task is in. The same programs can take
//! the place of `security_HOOK` (`injector/src/kernel/modify_return.rs`).

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
    maps::{CALLS, CONTROL, INJ_FILE_MODE, INJ_TASK_CRED, INJ_TASK_REAL_CRED, TRIAL},
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
    "path_rmdir" inj_rmdir PathRmdir 2 None;
    "path_link" inj_link PathLink 3 None;
    "path_symlink" inj_symlink PathSymlink 3 None;
    "path_mknod" inj_mknod PathMknod 4 None;
    "path_chmod" inj_chmod PathChmod 2 None;
    "path_chown" inj_chown PathChown 3 None;
    "path_truncate" inj_truncate PathTruncate 1 None;
    "file_truncate" inj_ftruncate FileTruncate 1 Some(0);
    "path_chroot" inj_chroot PathChroot 1 None;
    "path_notify" inj_notify PathNotify 3 None;
    "inode_readlink" inj_readlink InodeReadlink 1 None;
    "inode_setxattr" inj_setxattr InodeSetxattr 6 None;
    "inode_getxattr" inj_getxattr InodeGetxattr 2 None;
    "inode_listxattr" inj_listxattr InodeListxattr 1 None;
    "inode_removexattr" inj_rmxattr InodeRemovexattr 3 None;
    "sb_mount" inj_mount SbMount 5 None;
    "sb_umount" inj_umount SbUmount 2 None;
    "file_alloc_security" inj_file_alloc FileAlloc 1 None;
    "file_fcntl" inj_fcntl FileFcntl 3 None;
    "file_lock" inj_flock FileLock 2 None;
    "file_ioctl" inj_ioctl FileIoctl 3 None;
    "file_mprotect" inj_mprotect FileMprotect 3 None;
    "task_kill" inj_kill TaskKill 4 None;
    "task_prctl" inj_prctl TaskPrctl 5 None;
    "task_setrlimit" inj_setrlimit TaskSetrlimit 3 None;
    "task_setscheduler" inj_sched TaskSetscheduler 1 None;
    "task_setnice" inj_setnice TaskSetnice 2 None;
    "task_fix_setuid" inj_setuid TaskFixSetuid 3 None;
    "task_fix_setgid" inj_setgid TaskFixSetgid 3 None;
    "task_fix_setgroups" inj_setgroups TaskFixSetgroups 2 None;
    "capset" inj_capset Capset 5 None;
    "socket_create" inj_socket SocketCreate 4 None;
    "socket_socketpair" inj_socketpair SocketSocketpair 2 None;
    "socket_listen" inj_listen SocketListen 2 None;
    "socket_accept" inj_accept SocketAccept 2 None;
    "socket_shutdown" inj_shutdown SocketShutdown 2 None;
    "socket_getsockopt" inj_getsockopt SocketGetsockopt 3 None;
    "socket_setsockopt" inj_setsockopt SocketSetsockopt 3 None;
    "socket_getsockname" inj_getsockname SocketGetsockname 1 None;
    "socket_getpeername" inj_getpeername SocketGetpeername 1 None;
    "shm_alloc_security" inj_shmget ShmAlloc 1 None;
    "shm_shmat" inj_shmat ShmShmat 3 None;
    "sem_semop" inj_semop SemSemop 4 None;
    "msg_queue_msgsnd" inj_msgsnd MsgMsgsnd 3 None;
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
pub(super) fn enter(hook: SecurityHook, file: Option<*const u8>) -> Option<i32> {
    let (control, now) = armed()?;
    let scoped = scope::of_current_task(control);
    if scoped == 0 {
        return None;
    }
    let number = current_call()?;
    let named = *CALLS.get(call_slot(hook as u32, number))?;
    let mask = scoped & named;
    if mask == 0 || file.is_some_and(opened_by_kernel) || acts_as_another() {
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

/// Whether the kernel has put other credentials on the task, as an overlay does while it asks the
/// file system below it for what it was asked itself: the call has then reached the hook before,
/// and must count once.
#[inline(always)]
fn acts_as_another() -> bool {
    let [own, acting] = [INJ_TASK_REAL_CRED.load(), INJ_TASK_CRED.load()];
    // SAFETY: the helpers take the current task and check the addresses.
    unsafe {
        let task = bpf_get_current_task_btf().cast::<u8>();
        let read = |offset: u32| bpf_probe_read_kernel(task.add(offset as usize).cast::<u64>());
        matches!((read(own), read(acting)), (Ok(own), Ok(acting)) if own != acting)
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
