//! Security hooks (BPF LSM), which stand for system calls on kernels that let
//! nobody override those.
//!
//! One hook is reached from several calls (`file_open` from `execve` too), so
//! each narrows itself by the number of the call that the task is in. The same programs can take
//! the place of `security_HOOK` (`injector/src/kernel/modify_return.rs`).

use core::hint::black_box;

use aya_ebpf::{
    bindings::pt_regs, helpers::bpf_get_current_pid_tgid, macros::lsm, programs::LsmContext,
};
use injector_common::{
    abi::call_slot,
    calls32,
    names::SecurityHook,
    requests::{self, ENTER, PF_IO_WORKER},
};

use crate::{
    atomic::fetch_add,
    calls::{self, Invocation, Named},
    decide::armed,
    files::Subject,
    maps::{CALLS, CONTROL, TRIAL, field},
    objects::{Object, current_registers, read, read_current},
    scope,
};

/// The privilege that code segments of user space have (`USER_RPL`, arch/x86/include/asm/segment.h).
const USER_PRIVILEGE: u16 = 3;
/// Offset of `thread_info.status` in `task_struct`, whose first member it is.
const STATUS_OFFSET: u32 = 16;
/// `TS_COMPAT`: the call came by the 32-bit entry, where numbers mean other calls.
const TS_COMPAT: u32 = 2;
/// `FMODE_NOACCOUNT` (include/linux/fs.h): a file that the kernel opened for
/// itself, such as the one below an overlay.
const FMODE_NOACCOUNT: u32 = 1 << 29;

macro_rules! security_hooks {
    ($($(#[$meta:meta])* $attach:literal $program:ident $hook:ident $args:literal $about:expr;)+) => {
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
                let about = const {
                    // The agent's table says the same.
                    assert!(SecurityHook::$hook.has_file() != matches!($about, Nothing));
                    $about
                };
                enter(SecurityHook::$hook, about, |at| ctx.arg(at)).unwrap_or(0)
            }
        )+
    };
}

/// Which of a hook's arguments say what file it is about.
#[derive(Clone, Copy)]
pub(super) enum About {
    /// No file.
    Nothing,
    /// A `struct file *`.
    File(usize),
    /// A `struct path *`.
    Path(usize),
    /// A `struct dentry *`.
    Entry(usize),
    /// Two of them.
    Entries(usize, usize),
    /// A `struct linux_binprm *`.
    Program(usize),
}

use About::{Entries, Entry, File, Nothing, Path, Program};

impl About {
    /// Finds what the hook is about; `subject` stays as it is where that cannot be read.
    #[inline(always)]
    pub(super) fn find(self, argument: impl Fn(usize) -> Object, subject: &mut Subject) {
        let found = match self {
            Nothing => None,
            File(at) => Subject::file(argument(at)),
            Path(at) => Subject::path(argument(at)),
            Entry(at) => Some(Subject::entries(argument(at), core::ptr::null())),
            Entries(one, other) => Some(Subject::entries(argument(one), argument(other))),
            Program(at) => Subject::program(argument(at)),
        };
        if let Some(found) = found {
            *subject = found;
        }
    }
}

// hook, program, name, number of arguments, which of them say what file it is about
security_hooks! {
    "file_open" inj_file_open FileOpen 1 File(0);
    "file_permission" inj_file_perm FilePermission 2 File(0);
    "inode_getattr" inj_getattr InodeGetattr 1 Path(0);
    "mmap_file" inj_mmap_file MmapFile 4 File(0);
    "task_alloc" inj_task_alloc TaskAlloc 2 Nothing;
    "bprm_creds_for_exec" inj_bprm BprmCreds 1 Program(0);
    "path_unlink" inj_unlink PathUnlink 2 Entry(1);
    "path_rename" inj_rename PathRename 5 Entries(1, 3);
    "path_mkdir" inj_mkdir PathMkdir 3 Entry(1);
    "socket_connect" inj_connect SocketConnect 3 Nothing;
    "socket_bind" inj_bind SocketBind 3 Nothing;
    "socket_sendmsg" inj_sendmsg SocketSendmsg 3 Nothing;
    "socket_recvmsg" inj_recvmsg SocketRecvmsg 4 Nothing;
    "path_rmdir" inj_rmdir PathRmdir 2 Entry(1);
    "path_link" inj_link PathLink 3 Entries(0, 2);
    "path_symlink" inj_symlink PathSymlink 3 Entry(1);
    "path_mknod" inj_mknod PathMknod 4 Entry(1);
    "path_chmod" inj_chmod PathChmod 2 Path(0);
    "path_chown" inj_chown PathChown 3 Path(0);
    "path_truncate" inj_truncate PathTruncate 1 Path(0);
    "file_truncate" inj_ftruncate FileTruncate 1 File(0);
    "path_chroot" inj_chroot PathChroot 1 Path(0);
    "path_notify" inj_notify PathNotify 3 Path(0);
    "inode_readlink" inj_readlink InodeReadlink 1 Entry(0);
    "inode_setxattr" inj_setxattr InodeSetxattr 6 Entry(1);
    "inode_getxattr" inj_getxattr InodeGetxattr 2 Entry(0);
    "inode_listxattr" inj_listxattr InodeListxattr 1 Entry(0);
    "inode_removexattr" inj_rmxattr InodeRemovexattr 3 Entry(1);
    "sb_mount" inj_mount SbMount 5 Path(1);
    "sb_umount" inj_umount SbUmount 2 Nothing;
    "file_alloc_security" inj_file_alloc FileAlloc 1 Nothing;
    "file_fcntl" inj_fcntl FileFcntl 3 File(0);
    "file_lock" inj_flock FileLock 2 File(0);
    "file_ioctl" inj_ioctl FileIoctl 3 File(0);
    "file_mprotect" inj_mprotect FileMprotect 3 Nothing;
    "task_kill" inj_kill TaskKill 4 Nothing;
    "task_prctl" inj_prctl TaskPrctl 5 Nothing;
    "task_setrlimit" inj_setrlimit TaskSetrlimit 3 Nothing;
    "task_setscheduler" inj_sched TaskSetscheduler 1 Nothing;
    "task_setnice" inj_setnice TaskSetnice 2 Nothing;
    "task_fix_setuid" inj_setuid TaskFixSetuid 3 Nothing;
    "task_fix_setgid" inj_setgid TaskFixSetgid 3 Nothing;
    "task_fix_setgroups" inj_setgroups TaskFixSetgroups 2 Nothing;
    "capset" inj_capset Capset 5 Nothing;
    "socket_create" inj_socket SocketCreate 4 Nothing;
    "socket_socketpair" inj_socketpair SocketSocketpair 2 Nothing;
    "socket_listen" inj_listen SocketListen 2 Nothing;
    "socket_accept" inj_accept SocketAccept 2 Nothing;
    "socket_shutdown" inj_shutdown SocketShutdown 2 Nothing;
    "socket_getsockopt" inj_getsockopt SocketGetsockopt 3 Nothing;
    "socket_setsockopt" inj_setsockopt SocketSetsockopt 3 Nothing;
    "socket_getsockname" inj_getsockname SocketGetsockname 1 Nothing;
    "socket_getpeername" inj_getpeername SocketGetpeername 1 Nothing;
    "shm_alloc_security" inj_shmget ShmAlloc 1 Nothing;
    "shm_shmat" inj_shmat ShmShmat 3 Nothing;
    "sem_semop" inj_semop SemSemop 4 Nothing;
    "msg_queue_msgsnd" inj_msgsnd MsgMsgsnd 3 Nothing;
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
pub(super) fn enter(
    hook: SecurityHook,
    about: About,
    argument: impl Fn(usize) -> Object + Copy,
) -> Option<i32> {
    let call = at_hook(hook as u32, request_at(hook, argument), about, argument)?;
    calls::apply(call, |subject| about.find(argument, subject))
}

/// No request of io_uring: number 0 is a system call's.
pub(super) const NO_REQUEST: u32 = 0;
/// `MAY_WRITE` (include/linux/fs.h), as a shift.
const MAY_WRITE_SHIFT: u32 = 1;

/// What a request of io_uring is known by that reaches a hook.
#[inline(always)]
fn request_at(hook: SecurityHook, argument: impl Fn(usize) -> Object) -> u32 {
    let Some(request) = requests::Request::at(hook) else {
        return NO_REQUEST;
    };
    let writes = match request {
        requests::Request::Read => argument(1) as usize as u32 >> MAY_WRITE_SHIFT & 1,
        _ => 0,
    };
    request.known_as() + writes
}

/// The call at a security hook, or the request of io_uring if one can get there, if rules name it at
/// the hook of this number.
#[inline(always)]
pub(super) fn at_hook(
    hook: u32,
    request: u32,
    about: About,
    argument: impl Fn(usize) -> Object,
) -> Option<Named> {
    let (control, now) = armed()?;
    let scoped = scope::of_current_task(control);
    if scoped == 0 {
        return None;
    }
    let registers = current_registers();
    let call = call_or_request(registers, request)?;
    let mask = scoped & *CALLS.get(call_slot(hook, call))?;
    if mask == 0 || acts_as_another() {
        return None;
    }
    if let File(at) = about
        && opened_by_kernel(argument(at))
    {
        return None;
    }
    Some(Named {
        control,
        mask,
        now,
        invocation: Invocation {
            registers,
            // SAFETY: as in [`entered`].
            memory: unsafe { (&raw const (*registers).rcx).read_volatile() } as u32,
            call,
        },
    })
}

/// The system call that the current task is in, by its [`current_registers`]: its number, or what it
/// is known by if a 32-bit caller made it ([`calls32`]).
///
/// `None` for a thread of the kernel, and for a call of x32, whose number has a bit above all others.
#[inline(always)]
pub(super) fn current_call(registers: *const pt_regs) -> Option<u32> {
    let (no_user, number, _) = entered(registers);
    if no_user != 0 || number >= u64::from(requests::FIRST) {
        return None;
    }
    Some(known_as(registers, number))
}

/// The same at a security hook, or `request`, if one can get here, where the task serves io_uring.
///
/// `None` as well for whatever else the task does that is no part of a call.
#[inline(always)]
fn call_or_request(registers: *const pt_regs, request: u32) -> Option<u32> {
    let (no_user, number, result) = entered(registers);
    let flags: u32 = read_current(field!(task_flags));
    // All of it is computed, since a branch would be two ways through what follows to the verifier.
    let works = is_zero(u64::from(flags & PF_IO_WORKER)) ^ 1;
    let enters = is_zero((number.wrapping_sub(ENTER)) >> 1);
    let has_result = is_zero(result ^ NO_RESULT) ^ 1;
    // What is left to do for a task that dies, such as to write its memory down, is no request; nor
    // is what others have left to do, or a fault of its memory has begun.
    let dies = u64::from(flags & (PF_EXITING | PF_DUMPCORE));
    let ring: u64 = read_current(field!(task_io_uring));
    let is_left = has_result & is_zero(no_user | dies) & (is_zero(ring) ^ 1);
    let serves = works | enters | is_left;
    let is_call = is_zero(no_user | (number / u64::from(requests::FIRST)) | has_result | serves);
    let can = u64::from(request != NO_REQUEST) & serves;
    if is_call | can == 0 {
        return None;
    }
    let call = known_as(registers, number);
    if request == NO_REQUEST {
        return Some(call);
    }
    let serves = (black_box(serves) as u32).wrapping_neg();
    Some(call & !serves | request & serves)
}

/// Of the task's registers: 0 if it came from user space, the number of a call, and its result.
#[inline(always)]
fn entered(registers: *const pt_regs) -> (u64, u64, u64) {
    // SAFETY: the verifier knows those of the current task, and refuses any others.
    unsafe {
        let segment = (&raw const (*registers).cs).cast::<u16>().read_volatile();
        (
            u64::from(segment & USER_PRIVILEGE ^ USER_PRIVILEGE),
            (&raw const (*registers).orig_rax).read_volatile(),
            (&raw const (*registers).rax).read_volatile(),
        )
    }
}

/// What the call of this number is known by which the current task is in.
#[inline(always)]
fn known_as(registers: *const pt_regs, number: u64) -> u32 {
    // SAFETY: as in [`entered`].
    let first = unsafe { (&raw const (*registers).rbx).read_volatile() };
    const { assert!(calls32::known_as(0) == TS_COMPAT << 8) }
    let call = number as u32 | (read_current::<u32>(STATUS_OFFSET) & TS_COMPAT) << 8;
    let other = call ^ calls32::known_as(calls32::SOCKETCALL);
    // Ones in all bits if it is another call.
    let is_other = black_box((other | other.wrapping_neg()) >> 31).wrapping_neg();
    call & is_other | calls32::by_socketcall(first as u32) & !is_other
}

/// 1 or 0, without a branch.
#[inline(always)]
fn is_zero(value: u64) -> u64 {
    black_box((value | value.wrapping_neg()) >> 63) ^ 1
}

/// What a call returns as long as it has returned nothing: `-ENOSYS` (arch/x86/entry/entry_64.S).
const NO_RESULT: u64 = (-38_i64).cast_unsigned();
/// `PF_EXITING` (include/linux/sched.h): the task is about to end.
const PF_EXITING: u32 = 1 << 2;
/// `PF_DUMPCORE` (the same): its memory is being written down.
const PF_DUMPCORE: u32 = 1 << 9;

/// Whether the kernel has put other credentials on the task, as an overlay does while it asks the
/// file system below it for what it was asked itself: the call has then reached the hook before,
/// and must count once.
#[inline(always)]
fn acts_as_another() -> bool {
    let own: u64 = read_current(field!(task_real_cred));
    let acting: u64 = read_current(field!(task_cred));
    own != acting
}

/// Whether the kernel opened the file for itself. A call on an overlay reaches
/// the hook twice, for the file that the caller sees and for the one below it,
/// and must count once.
#[inline(always)]
fn opened_by_kernel(file: Object) -> bool {
    // As in [`Subject::file`].
    if file.is_null() {
        return false;
    }
    let mode: Option<u32> = read(file, field!(file_mode));
    mode.is_some_and(|mode| mode & FMODE_NOACCOUNT != 0)
}
