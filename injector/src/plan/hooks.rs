//! Which security hook stands for which system call.

use std::collections::BTreeMap;

use injector_common::names::SecurityHook;

use super::{CallHook, Features, Support};
use crate::model::{FirstArgument, MAX_SPIN, Manner, Moment, Rung, Syscall, Waits, Way};

use SecurityHook as H;

/// The hooks through which a failing call can be had where calls themselves cannot be
/// overridden: one of each list, and of several the first that the kernel has. None for a call
/// that passes no security hook, or that passes one more than once or not always, so that
/// neither shares nor counts would be right.
///
/// A hook is reached only when the kernel gets that far: `open` of a file that
/// is not there fails by itself with ENOENT, and the rule does not see it.
/// Measured on Linux 6.1 and 6.12 with each of these calls (`tests/tests/sys_calls.rs`).
#[must_use]
pub fn security_hooks(call: &str) -> &'static [&'static [SecurityHook]] {
    match call.strip_prefix(Syscall::OF_IO_URING).unwrap_or(call) {
        // Newer than the hook.
        "ftruncate" if call != "ftruncate" => &[&[H::FileTruncate]],
        // Names that requests of io_uring have and calls do not.
        "send" => &[&[H::SocketSendmsg]],
        "recv" => &[&[H::SocketRecvmsg]],
        "open" | "openat" | "openat2" | "creat" | "open_by_handle_at" => &[&[H::FileOpen]],
        "read" | "pread64" | "readv" | "preadv" | "preadv2" | "write" | "pwrite64" | "writev"
        | "pwritev" | "pwritev2" | "getdents" | "getdents64" | "fallocate" => {
            &[&[H::FilePermission]]
        }
        "stat" | "lstat" | "fstat" | "newfstatat" | "statx" => &[&[H::InodeGetattr]],
        "readlink" | "readlinkat" => &[&[H::InodeReadlink]],
        "unlink" => &[&[H::PathUnlink]],
        "rmdir" => &[&[H::PathRmdir]],
        // With AT_REMOVEDIR it is the other call.
        "unlinkat" => &[&[H::PathUnlink], &[H::PathRmdir]],
        "rename" | "renameat" | "renameat2" => &[&[H::PathRename]],
        "mkdir" | "mkdirat" => &[&[H::PathMkdir]],
        "mknod" | "mknodat" => &[&[H::PathMknod]],
        "link" | "linkat" => &[&[H::PathLink]],
        "symlink" | "symlinkat" => &[&[H::PathSymlink]],
        "chmod" | "fchmod" | "fchmodat" | "fchmodat2" => &[&[H::PathChmod]],
        "chown" | "fchown" | "lchown" | "fchownat" => &[&[H::PathChown]],
        "truncate" => &[&[H::PathTruncate]],
        // A hook of its own since Linux 6.2.
        "ftruncate" => &[&[H::FileTruncate, H::PathTruncate]],
        "chroot" => &[&[H::PathChroot]],
        "inotify_add_watch" => &[&[H::PathNotify]],
        "setxattr" | "lsetxattr" | "fsetxattr" => &[&[H::InodeSetxattr]],
        "getxattr" | "lgetxattr" | "fgetxattr" => &[&[H::InodeGetxattr]],
        "listxattr" | "llistxattr" | "flistxattr" => &[&[H::InodeListxattr]],
        "removexattr" | "lremovexattr" | "fremovexattr" => &[&[H::InodeRemovexattr]],
        "mount" => &[&[H::SbMount]],
        "umount2" => &[&[H::SbUmount]],
        "fcntl" => &[&[H::FileFcntl]],
        "flock" => &[&[H::FileLock]],
        "ioctl" => &[&[H::FileIoctl]],
        "mmap" => &[&[H::MmapFile]],
        "mprotect" | "pkey_mprotect" => &[&[H::FileMprotect]],
        "shmget" => &[&[H::ShmAlloc]],
        "shmat" => &[&[H::ShmShmat]],
        "semop" | "semtimedop" => &[&[H::SemSemop]],
        "msgsnd" => &[&[H::MsgMsgsnd]],
        "clone" | "clone3" | "fork" | "vfork" => &[&[H::TaskAlloc]],
        "execve" | "execveat" => &[&[H::BprmCreds]],
        "kill" | "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo" => &[&[H::TaskKill]],
        "prctl" => &[&[H::TaskPrctl]],
        "setrlimit" => &[&[H::TaskSetrlimit]],
        "setpriority" => &[&[H::TaskSetnice]],
        "sched_setaffinity" | "sched_setscheduler" | "sched_setparam" | "sched_setattr" => {
            &[&[H::TaskSetscheduler]]
        }
        "setuid" | "setreuid" | "setresuid" => &[&[H::TaskFixSetuid]],
        "setgid" | "setregid" | "setresgid" => &[&[H::TaskFixSetgid]],
        "setgroups" => &[&[H::TaskFixSetgroups]],
        "capset" => &[&[H::Capset]],
        "eventfd" | "eventfd2" | "epoll_create" | "epoll_create1" | "timerfd_create"
        | "signalfd" | "signalfd4" | "memfd_create" | "inotify_init" | "inotify_init1" => {
            &[&[H::FileAlloc]]
        }
        "socket" => &[&[H::SocketCreate]],
        "socketpair" => &[&[H::SocketSocketpair]],
        "connect" => &[&[H::SocketConnect]],
        "bind" => &[&[H::SocketBind]],
        "listen" => &[&[H::SocketListen]],
        "accept" | "accept4" => &[&[H::SocketAccept]],
        "shutdown" => &[&[H::SocketShutdown]],
        "getsockopt" => &[&[H::SocketGetsockopt]],
        "setsockopt" => &[&[H::SocketSetsockopt]],
        "getsockname" => &[&[H::SocketGetsockname]],
        "getpeername" => &[&[H::SocketGetpeername]],
        "sendto" | "sendmsg" | "sendmmsg" => &[&[H::SocketSendmsg]],
        "recvfrom" | "recvmsg" | "recvmmsg" => &[&[H::SocketRecvmsg]],
        _ => &[],
    }
}

/// The hooks by which a call can be failed here, if these work.
///
/// # Errors
///
/// Why it cannot.
pub fn usable_hooks(
    call: &str,
    known: &BTreeMap<SecurityHook, Support>,
) -> Result<Vec<SecurityHook>, String> {
    let lists = security_hooks(call);
    if lists.is_empty() {
        return Err("no security hook that stands for this call".to_owned());
    }
    let mut usable = Vec::new();
    for list in lists {
        let support = |hook: &SecurityHook| known.get(hook);
        let mut hooks = list.iter().copied();
        let found = hooks.find(|hook| support(hook).is_some_and(Support::is_supported));
        usable.push(found.ok_or_else(|| {
            let reasons = list.iter().map(|hook| {
                let reason = support(hook).map_or("it was not tried", Support::reason);
                format!("security hook {}: {reason}", hook.attach())
            });
            reasons.collect::<Vec<_>>().join("; ")
        })?);
    }
    Ok(usable)
}

/// Where programs that meet a call this way are attached here.
///
/// # Errors
///
/// Why the call cannot be met this way.
pub fn hooks_by(rung: Rung, call: Syscall, features: &Features) -> Result<Vec<CallHook>, String> {
    let at_entry = |modifies| match features.entry(call, modifies) {
        _ if call.as_request().is_some() => Err(NO_ENTRY.to_owned()),
        Support::Supported => Ok(vec![CallHook::Entry { modifies }]),
        no @ (Support::Unsupported { .. } | Support::Inconclusive { .. }) => {
            Err(no.reason().to_owned())
        }
    };
    let at_hooks = |known, modifies| {
        if call.as_request().is_some()
            && let no @ (Support::Unsupported { .. } | Support::Inconclusive { .. }) =
                features.request(call)
        {
            return Err(no.reason().to_owned());
        }
        let hooks = usable_hooks(call.name, known)?.into_iter();
        Ok(hooks
            .map(|hook| CallHook::Security { hook, modifies })
            .collect())
    };
    match rung {
        Rung::Kprobe => at_entry(false),
        Rung::FmodRet => at_entry(true),
        Rung::Lsm => at_hooks(&features.security, false),
        Rung::FmodRetSecurity => at_hooks(&features.modified_security, true),
    }
}

/// Why a request of io_uring is not met where calls are entered.
const NO_ENTRY: &str = "requests of io_uring pass no system call's entry";

/// Where programs that meet a call are attached here: by the way that was asked for, or else by
/// the first that works.
///
/// Where results can be overridden that is its entry, since it serves every call alike: a call
/// without one is not there. Elsewhere it is the call's place, and then security hooks. Where it
/// has to be known which file the call is about, security hooks come first, since the entry has a
/// path only as it was written.
///
/// # Errors
///
/// Why the call cannot be met.
pub fn call_hooks(call: Syscall, way: Way, features: &Features) -> Result<Vec<CallHook>, String> {
    if call.as_request().is_some() && (way.waits.is_some() || way.seen) {
        // A thread that hands requests over does not wait for them, and is not hit for one of them.
        return Err("a request of io_uring can fail, and nothing else".to_owned());
    }
    if way.by_chain && !features.call_chain.is_supported() {
        return Err(features.call_chain.reason().to_owned());
    }
    if let Some(waits) = way.waits {
        return waiting_hooks(call, way, waits, features);
    }
    if way.seen {
        return seen_hooks(call, way, features);
    }
    let hooks_by = |rung| {
        can_return(rung, way)?;
        if way.by_file {
            tells_file(rung, call, way)?;
        }
        let hooks = hooks_by(rung, call, features)?;
        if way.by_chain && hooks.iter().any(|&hook| hides_chain(hook)) {
            return Err(NO_CHAIN.to_owned());
        }
        Ok(hooks)
    };
    if let Some(rung) = way.rung {
        return hooks_by(rung);
    }
    let has_entry = call.as_request().is_none();
    if has_entry && !way.by_file && features.override_return.is_supported() {
        return hooks_by(Rung::Kprobe);
    }
    let mut refused: Vec<String> = Vec::new();
    for &rung in rungs(way.by_file) {
        match hooks_by(rung) {
            Ok(hooks) => return Ok(hooks),
            // What the kernel lacks altogether is said once, for all calls.
            Err(_) if !has_entry && rung.is_at_entry() => {}
            Err(_) if rung == Rung::Kprobe && !features.override_return.is_supported() => {}
            Err(_) if rung == Rung::FmodRet && !features.modify_return.is_supported() => {}
            Err(why) if refused.contains(&why) => {}
            Err(why) => refused.push(why),
        }
    }
    Err(refused.join("; otherwise: "))
}

/// Whether the caller's mappings cannot be looked up at a hook: the kernel asks there while it
/// changes them (`mmap_write_lock`).
const fn hides_chain(hook: CallHook) -> bool {
    matches!(
        hook,
        CallHook::Security {
            hook: H::FileMprotect,
            ..
        }
    )
}

/// Why it is not known at such a hook which functions a call came through.
const NO_CHAIN: &str = "its security hook is asked while the caller's mappings change, so that \
     the functions it came through cannot be told";

/// Where programs see a call: at its entry, for which no kernel needs an option, or at security
/// hooks if it has to be known which file it is about.
fn seen_hooks(call: Syscall, way: Way, features: &Features) -> Result<Vec<CallHook>, String> {
    let mut refused = Vec::new();
    if way.by_file {
        for rung in [Rung::Lsm, Rung::FmodRetSecurity] {
            match tells_file(rung, call, way).and_then(|()| hooks_by(rung, call, features)) {
                Ok(hooks) => return Ok(hooks),
                Err(why) if refused.contains(&why) => {}
                Err(why) => refused.push(why),
            }
        }
        if let Err(why) = tells_file(Rung::Kprobe, call, way) {
            refused.push(why);
            return Err(refused.join("; otherwise: "));
        }
    }
    match features.seen(call) {
        Support::Supported => Ok(vec![CallHook::Seen]),
        no @ (Support::Unsupported { .. } | Support::Inconclusive { .. }) => {
            refused.push(no.reason().to_owned());
            Err(refused.join("; otherwise: "))
        }
    }
}

/// Where a call can wait: asleep if it can be, since whoever keeps a processor keeps others from
/// it.
fn waiting_hooks(
    call: Syscall,
    way: Way,
    waits: Waits,
    features: &Features,
) -> Result<Vec<CallHook>, String> {
    if waits.at == Moment::Exit {
        return returning_hooks(call, way, waits, features);
    }
    let mut refused = Vec::new();
    if waits.manner != Some(Manner::Busy) {
        for at_entry in [false, true] {
            match sleeping_hooks(call, way, at_entry, features) {
                Ok(hooks) => return Ok(hooks),
                Err(why) if refused.contains(&why) => {}
                Err(why) => refused.push(why),
            }
        }
        refused = vec![format!("asleep: {}", refused.join("; or "))];
    }
    if waits.manner != Some(Manner::Asleep) {
        // Only at its entry is a call kept busy.
        let busy = if waits.briefly {
            let told = if way.by_file {
                tells_file(Rung::Kprobe, call, way)
            } else {
                Ok(())
            };
            told.and_then(|()| match features.seen(call) {
                Support::Supported => Ok(vec![CallHook::Seen]),
                no @ (Support::Unsupported { .. } | Support::Inconclusive { .. }) => {
                    Err(no.reason().to_owned())
                }
            })
        } else {
            Err(format!("it is longer than {MAX_SPIN:?}"))
        };
        match busy {
            Ok(hooks) => return Ok(hooks),
            Err(why) => refused.push(format!("busy: {why}")),
        }
    }
    Err(refused.join("; "))
}

/// Where a call can wait before it returns: asleep if it can be.
fn returning_hooks(
    call: Syscall,
    way: Way,
    waits: Waits,
    features: &Features,
) -> Result<Vec<CallHook>, String> {
    returns(call)?;
    if way.by_file {
        tells_file(Rung::FmodRet, call, way)?;
    }
    if (way.by_file || way.by_socket) && call.name == "close" {
        return Err("its file is closed when it returns".to_owned());
    }
    let mut refused = Vec::new();
    for (manner, name) in [(Manner::Asleep, "asleep"), (Manner::Busy, "busy")] {
        if waits.manner.is_some_and(|wanted| wanted != manner) {
            continue;
        }
        if manner == Manner::Busy && !waits.briefly {
            refused.push(format!("{name}: it is longer than {MAX_SPIN:?}"));
            continue;
        }
        match features.at_return(call, manner) {
            Support::Supported => return Ok(vec![CallHook::Returning(manner)]),
            no @ (Support::Unsupported { .. } | Support::Inconclusive { .. }) => {
                refused.push(format!("{name}: {}", no.reason()));
            }
        }
    }
    Err(refused.join("; "))
}

/// Whether a call comes back to who made it, with a result of its own (their manual pages).
///
/// # Errors
///
/// Why it does not.
pub fn returns(call: Syscall) -> Result<(), String> {
    let why = match call.name {
        "execve" | "execveat" => "it returns to another program, or else has done nothing",
        "pause" | "rt_sigsuspend" => "it returns only when a signal interrupts it",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

/// Where a call can wait asleep: behind its entry, or there.
///
/// # Errors
///
/// Why it cannot.
pub fn sleeping_hooks(
    call: Syscall,
    way: Way,
    at_entry: bool,
    features: &Features,
) -> Result<Vec<CallHook>, String> {
    let rung = if at_entry { Rung::FmodRet } else { Rung::Lsm };
    if way.by_file {
        tells_file(rung, call, way)?;
    }
    if !features.waker.is_supported() {
        return Err(features.waker.reason().to_owned());
    }
    if at_entry {
        return match features.sleeping_entry(call) {
            Support::Supported => Ok(vec![CallHook::Asleep(None)]),
            no @ (Support::Unsupported { .. } | Support::Inconclusive { .. }) => {
                Err(no.reason().to_owned())
            }
        };
    }
    if way.by_table {
        // Tries are refused to them: `Sleepable programs can only use array, hash, ringbuf and
        // local storage maps` (Linux 6.12).
        return Err(
            "a program that sleeps at a security hook knows no more of peers than one \
                    network and their ports"
                .to_owned(),
        );
    }
    let hooks: Vec<SecurityHook> = security_hooks(call.name)
        .iter()
        .copied()
        .flatten()
        .copied()
        .collect();
    if hooks.is_empty() || hooks.iter().any(|hook| hook.sleeping_program().is_none()) {
        return Err(
            "no security hook of this call lets programs sleep, and holds no lock".to_owned(),
        );
    }
    let hooks = usable_hooks(call.name, &features.sleeping_hooks)?;
    Ok(hooks
        .into_iter()
        .map(|hook| CallHook::Asleep(Some(hook)))
        .collect())
}

/// The rungs in the order in which they are tried.
#[must_use]
pub const fn rungs(by_file: bool) -> &'static [Rung] {
    if by_file {
        &[
            Rung::Lsm,
            Rung::FmodRetSecurity,
            Rung::Kprobe,
            Rung::FmodRet,
        ]
    } else {
        &Rung::ALL
    }
}

/// Whether a rung can have calls return what is wanted.
///
/// # Errors
///
/// Why it cannot.
pub fn can_return(rung: Rung, way: Way) -> Result<(), String> {
    let Some(value) = way.returns else {
        return Ok(());
    };
    let why = match rung {
        Rung::Kprobe => return Ok(()),
        Rung::FmodRet if value > 0 => return Ok(()),
        Rung::FmodRet => "a program in the place of a call that returns 0 lets it go on",
        // Linux 6.12 takes no program that could return more than 0 there, and what the kernel makes
        // of one on 6.1 is each hook's own matter.
        Rung::Lsm | Rung::FmodRetSecurity => "at a security hook a call can fail, and not succeed",
    };
    Err(why.to_owned())
}

/// Whether a rung can tell of the file that a call is about what has to be known.
///
/// # Errors
///
/// Why it cannot.
pub fn tells_file(rung: Rung, call: Syscall, way: Way) -> Result<(), String> {
    let all = |so: fn(SecurityHook) -> bool| {
        let lists = security_hooks(call.name).iter();
        lists.copied().flatten().all(|&hook| so(hook))
    };
    let (tells, why) = match rung {
        Rung::Kprobe | Rung::FmodRet => (
            takes_descriptor(call),
            "its first argument is no descriptor of the file",
        ),
        Rung::Lsm | Rung::FmodRetSecurity if way.open && !all(SecurityHook::has_open_file) => (
            false,
            "no security hook of this call is told of an open file",
        ),
        Rung::Lsm | Rung::FmodRetSecurity if way.made && !all(|hook| !hook.makes_file()) => (
            false,
            "no security hook of this call is told of a file that has been made",
        ),
        Rung::Lsm | Rung::FmodRetSecurity => (
            all(SecurityHook::has_file),
            "no security hook of this call is told of a file",
        ),
    };
    if tells { Ok(()) } else { Err(why.to_owned()) }
}

/// Whether the call's first argument is the descriptor of the file that it is about.
#[must_use]
pub fn takes_descriptor(call: Syscall) -> bool {
    FirstArgument::of(call) == FirstArgument::File
}

#[cfg(test)]
mod tests {
    use injector_common::requests::Request;

    use super::*;

    /// Programs know by the hook what a request is.
    #[test]
    fn requests_have_the_hooks_of_their_calls() {
        for &request in Request::ALL {
            let lists = security_hooks(request.name()).iter();
            let hooks: Vec<_> = lists.copied().flatten().copied().collect();
            assert_eq!(hooks, request.hooks(), "{request:?}");
        }
    }

    fn features(hooks: &[SecurityHook]) -> BTreeMap<SecurityHook, Support> {
        let supported = hooks.iter().map(|&hook| (hook, Support::Supported));
        let no = Support::Unsupported {
            reason: "no".to_owned(),
        };
        supported.chain([(H::FileTruncate, no)]).collect()
    }

    #[test]
    fn a_call_needs_one_hook_of_each_list() {
        let older = features(&[H::PathUnlink, H::PathTruncate]);
        assert_eq!(usable_hooks("unlink", &older), Ok(vec![H::PathUnlink]));
        // Where its own hook is not there, the older one serves.
        assert_eq!(usable_hooks("ftruncate", &older), Ok(vec![H::PathTruncate]));
        let both = features(&[H::PathUnlink, H::PathRmdir]);
        let hooks = Ok(vec![H::PathUnlink, H::PathRmdir]);
        assert_eq!(usable_hooks("unlinkat", &both), hooks);
        for (call, features, reason) in [
            (
                "unlinkat",
                &older,
                "security hook path_rmdir: it was not tried",
            ),
            (
                "ftruncate",
                &both,
                "security hook file_truncate: no; security hook path_truncate: it was not tried",
            ),
            ("sync", &both, "no security hook that stands for this call"),
        ] {
            assert_eq!(usable_hooks(call, features), Err(reason.to_owned()));
        }
    }
}
