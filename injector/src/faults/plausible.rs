//! The errors that a call's manual page lists (section 2 of man-pages 6), for `--errno plausible`.
//!
//! A page that serves several calls is split by what it says of each. Left out is what a call
//! cannot return without having done something, so that to return it alone would mislead:
//!
//! - `EINTR` of `close`, which has closed the descriptor, of `connect`, which goes on connecting, and
//!   of `nanosleep` and `clock_nanosleep`, which have told the time that was left;
//! - `EINPROGRESS` of `connect`, which goes on connecting;
//! - `ESTALE`, at which the kernel itself tries again to open a file: the call would count twice;
//! - of requests of io_uring `EAGAIN`, for the same reason;
//! - errors of the kernel's own above 133, such as `ERESTARTNOINTR`.
//!
//! Calls that no page has errors of are not here, nor are those that hardly any program makes.

use injector_common::{faults::sys_errno::MAX_LISTED, requests::Request};
use nix::libc;

use crate::model::{Errno, Syscall};

macro_rules! listed {
    ($($($call:literal)+: $($errno:ident)+;)+) => {
        /// The numbers of the errors of a call.
        fn numbers(call: &str) -> Option<&'static [i32]> {
            $(const _: () = assert!([$(libc::$errno),+].len() <= MAX_LISTED);)+
            match call {
                $($($call)|+ => Some(&[$(libc::$errno),+]),)+
                _ => None,
            }
        }

        /// Every call that is here.
        #[cfg(test)]
        const CALLS: &[&str] = &[$($($call),+),+];
    };
}

listed! {
    "accept" "accept4": EAGAIN EBADF ECONNABORTED EFAULT EINTR EINVAL EMFILE ENFILE ENOBUFS
        ENOTSOCK EOPNOTSUPP EPERM EPROTO;
    "access": EACCES EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM EROFS
        ETXTBSY;
    "add_key": EACCES EDQUOT EFAULT EINVAL EKEYEXPIRED EKEYREVOKED ENOKEY ENOMEM EPERM;
    "bind": EACCES EADDRINUSE EADDRNOTAVAIL EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM
        ENOTDIR ENOTSOCK EROFS;
    "bpf": E2BIG EBADF EFAULT EINVAL ENOMEM EPERM;
    "capset" "prlimit64" "sched_setaffinity": EFAULT EINVAL EPERM ESRCH;
    "chdir": EACCES EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR;
    "chmod" "chown" "lchown": EACCES EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM
        EROFS;
    "chroot": EACCES EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM;
    "clock_getres" "clock_gettime": EFAULT EINVAL ENODEV;
    "clock_nanosleep": EFAULT EINVAL EOPNOTSUPP;
    "clock_settime": EACCES EFAULT EINVAL ENODEV EPERM;
    "clone" "clone3": EACCES EAGAIN EBUSY EEXIST EINVAL ENOMEM ENOSPC EOPNOTSUPP EPERM EUSERS;
    "close": EBADF EDQUOT EIO ENOSPC;
    "close_range": EINVAL EMFILE ENOMEM;
    "connect": EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNREFUSED
        EFAULT EISCONN ENETUNREACH ENOTSOCK EPERM EPROTOTYPE ETIMEDOUT;
    "copy_file_range": EBADF EFBIG EINVAL EIO EISDIR ENOMEM ENOSPC EOPNOTSUPP EOVERFLOW EPERM
        ETXTBSY EXDEV;
    "creat" "open": EACCES EAGAIN EBUSY EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EISDIR ELOOP
        EMFILE ENAMETOOLONG ENFILE ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENXIO EOPNOTSUPP EOVERFLOW
        EPERM EROFS ETXTBSY;
    "dup": EBADF EMFILE;
    "dup2": EBADF EBUSY EINTR EMFILE;
    "dup3": EBADF EBUSY EINTR EINVAL EMFILE;
    "epoll_create" "epoll_create1" "inotify_init1": EINVAL EMFILE ENFILE ENOMEM;
    "epoll_ctl": EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM;
    "epoll_pwait" "epoll_pwait2" "epoll_wait": EBADF EFAULT EINTR EINVAL;
    "eventfd": EMFILE ENFILE ENODEV ENOMEM;
    "eventfd2": EINVAL EMFILE ENFILE ENODEV ENOMEM;
    "execve": E2BIG EACCES EAGAIN EFAULT EINVAL EIO EISDIR ELIBBAD ELOOP EMFILE ENAMETOOLONG
        ENFILE ENOENT ENOEXEC ENOMEM ENOTDIR EPERM ETXTBSY;
    "execveat": E2BIG EACCES EAGAIN EBADF EFAULT EINVAL EIO EISDIR ELIBBAD ELOOP EMFILE
        ENAMETOOLONG ENFILE ENOENT ENOEXEC ENOMEM ENOTDIR EPERM ETXTBSY;
    "faccessat" "faccessat2": EACCES EBADF EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM
        ENOTDIR EPERM EROFS ETXTBSY;
    "fadvise64": EBADF EINVAL ESPIPE;
    "fallocate": EBADF EFBIG EINTR EINVAL EIO ENODEV ENOSPC ENOSYS EOPNOTSUPP EPERM ESPIPE
        ETXTBSY;
    "fchdir": EACCES EBADF ENOTDIR;
    "fchmod": EBADF EIO EPERM EROFS;
    "fchmodat" "fchmodat2": EACCES EBADF EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM
        ENOTDIR EOPNOTSUPP EPERM EROFS;
    "fchown": EBADF EIO ENOENT EPERM EROFS;
    "fchownat": EACCES EBADF EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM
        EROFS;
    "fcntl": EACCES EAGAIN EBADF EBUSY EDEADLK EFAULT EINTR EINVAL EMFILE ENOLCK ENOTDIR EPERM;
    "fdatasync" "fsync": EBADF EDQUOT EINTR EINVAL EIO ENOSPC EROFS;
    "fgetxattr": E2BIG EBADF EFAULT ENODATA ENOMEM EOPNOTSUPP ERANGE;
    "flistxattr": E2BIG EBADF EFAULT ENOMEM EOPNOTSUPP ERANGE;
    "flock": EAGAIN EBADF EINTR EINVAL ENOLCK;
    "fork": EAGAIN ENOMEM ENOSYS;
    "fremovexattr": EBADF EFAULT ENODATA ENOMEM EOPNOTSUPP;
    "fsetxattr": EBADF EDQUOT EEXIST EFAULT ENODATA ENOMEM ENOSPC EOPNOTSUPP EPERM ERANGE;
    "fstat": EBADF EFAULT ENOMEM EOVERFLOW;
    "fstatfs": EBADF EFAULT EINTR EIO ENOMEM ENOSYS EOVERFLOW;
    "ftruncate": EBADF EFBIG EINTR EINVAL EIO EPERM EROFS ETXTBSY;
    "futex": EACCES EAGAIN EDEADLK EFAULT EINTR EINVAL ENFILE ENOMEM ENOSYS EPERM ESRCH
        ETIMEDOUT;
    "futimesat": EACCES EBADF ENOENT ENOTDIR EPERM EROFS;
    "getcwd": EACCES EFAULT EINVAL ENAMETOOLONG ENOENT ENOMEM ERANGE;
    "getdents" "getdents64": EBADF EFAULT EINVAL ENOENT ENOTDIR;
    "getgroups" "getitimer" "getrlimit" "getrusage" "nanosleep" "rt_sigaction" "rt_sigprocmask"
    "setitimer" "timer_gettime" "timer_settime": EFAULT EINVAL;
    "getpeername": EBADF EFAULT EINVAL ENOBUFS ENOTCONN ENOTSOCK;
    "getpgid": ESRCH;
    "getpriority" "sched_getparam" "sched_getscheduler": EINVAL ESRCH;
    "getrandom": EAGAIN EFAULT EINTR EINVAL ENOSYS;
    "getsid": EPERM ESRCH;
    "getsockname": EBADF EFAULT EINVAL ENOBUFS ENOTSOCK;
    "getsockopt" "setsockopt": EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK;
    "gettimeofday" "sysinfo" "time" "times" "uname": EFAULT;
    "getxattr" "lgetxattr": E2BIG EACCES EFAULT ELOOP ENAMETOOLONG ENODATA ENOENT ENOMEM ENOTDIR
        EOPNOTSUPP ERANGE;
    "inotify_add_watch": EACCES EBADF EEXIST EFAULT EINVAL ENAMETOOLONG ENOENT ENOMEM ENOSPC
        ENOTDIR;
    "inotify_init": EMFILE ENFILE ENOMEM;
    "inotify_rm_watch" "readahead": EBADF EINVAL;
    "io_cancel": EAGAIN EFAULT EINVAL ENOSYS;
    "io_destroy": EFAULT EINVAL ENOSYS;
    "io_getevents": EFAULT EINTR EINVAL ENOSYS;
    "io_setup": EAGAIN EFAULT EINVAL ENOMEM ENOSYS;
    "io_submit": EAGAIN EBADF EFAULT EINVAL ENOSYS EPERM;
    "ioctl": EBADF EFAULT EINVAL ENOTTY;
    "keyctl": EACCES EAGAIN EDEADLK EDQUOT EEXIST EFAULT EINVAL EKEYEXPIRED EKEYREJECTED
        EKEYREVOKED ELOOP EMSGSIZE ENFILE ENOENT ENOKEY ENOMEM ENOTDIR EOPNOTSUPP EPERM ETIMEDOUT;
    "kill" "sched_setparam" "sched_setscheduler": EINVAL EPERM ESRCH;
    "link": EACCES EDQUOT EEXIST EFAULT EIO ELOOP EMLINK ENAMETOOLONG ENOENT ENOMEM ENOSPC
        ENOTDIR EPERM EROFS EXDEV;
    "linkat": EACCES EBADF EDQUOT EEXIST EFAULT EINVAL EIO ELOOP EMLINK ENAMETOOLONG ENOENT
        ENOMEM ENOSPC ENOTDIR EPERM EROFS EXDEV;
    "listen": EADDRINUSE EBADF ENOTSOCK EOPNOTSUPP;
    "listxattr" "llistxattr": E2BIG EACCES EFAULT ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR
        EOPNOTSUPP ERANGE;
    "lremovexattr" "removexattr": EACCES EFAULT ELOOP ENAMETOOLONG ENODATA ENOENT ENOMEM ENOTDIR
        EOPNOTSUPP;
    "lseek": EBADF EINVAL ENXIO EOVERFLOW ESPIPE;
    "lsetxattr" "setxattr": EACCES EDQUOT EEXIST EFAULT ELOOP ENAMETOOLONG ENODATA ENOENT ENOMEM
        ENOSPC ENOTDIR EOPNOTSUPP EPERM ERANGE;
    "lstat" "stat": EACCES EFAULT ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EOVERFLOW;
    "madvise": EACCES EAGAIN EBADF EBUSY EFAULT EHWPOISON EINVAL EIO ENOMEM EPERM;
    "membarrier": EINVAL ENOSYS EPERM;
    "memfd_create": EFAULT EINVAL EMFILE ENFILE ENOMEM;
    "mincore": EFAULT EINVAL ENOMEM;
    "mkdir": EACCES EDQUOT EEXIST EFAULT EINVAL ELOOP EMLINK ENAMETOOLONG ENOENT ENOMEM ENOSPC
        ENOTDIR EPERM EROFS;
    "mkdirat": EACCES EBADF EDQUOT EEXIST EFAULT EINVAL ELOOP EMLINK ENAMETOOLONG ENOENT ENOMEM
        ENOSPC ENOTDIR EPERM EROFS;
    "mknod": EACCES EDQUOT EEXIST EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOSPC ENOTDIR
        EPERM EROFS;
    "mknodat": EACCES EBADF EDQUOT EEXIST EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOSPC
        ENOTDIR EPERM EROFS;
    "mlock" "mlock2" "timer_create": EAGAIN EINVAL ENOMEM EPERM;
    "mlockall" "munlock" "munlockall": EINVAL ENOMEM EPERM;
    "mmap": EACCES EAGAIN EBADF EEXIST EINVAL ENFILE ENODEV ENOMEM EOVERFLOW EPERM ETXTBSY;
    "mount": EACCES EBUSY EFAULT EINVAL ELOOP EMFILE ENAMETOOLONG ENODEV ENOENT ENOMEM ENOTBLK
        ENOTDIR ENXIO EPERM EROFS;
    "mprotect" "pkey_mprotect": EACCES EINVAL ENOMEM;
    "mq_open": EACCES EEXIST EINVAL EMFILE ENAMETOOLONG ENFILE ENOENT ENOMEM ENOSPC;
    "mq_timedreceive" "mq_timedsend": EAGAIN EBADF EINTR EINVAL EMSGSIZE ETIMEDOUT;
    "mq_unlink": EACCES ENAMETOOLONG ENOENT;
    "mremap": EAGAIN EFAULT EINVAL ENOMEM;
    "msgctl": EACCES EFAULT EIDRM EINVAL EPERM;
    "msgget": EACCES EEXIST ENOENT ENOMEM ENOSPC;
    "msgrcv": E2BIG EACCES EAGAIN EFAULT EIDRM EINTR EINVAL ENOMSG ENOSYS;
    "msgsnd": EACCES EAGAIN EFAULT EIDRM EINTR EINVAL ENOMEM;
    "msync": EBUSY EINVAL ENOMEM;
    "munmap": EINVAL ENOMEM;
    "name_to_handle_at": EBADF EFAULT EINVAL ENOENT ENOTDIR EOPNOTSUPP EOVERFLOW;
    "newfstatat": EACCES EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EOVERFLOW;
    "open_by_handle_at": EBADF EFAULT EINVAL ELOOP EPERM;
    "openat": EACCES EAGAIN EBADF EBUSY EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EISDIR ELOOP
        EMFILE ENAMETOOLONG ENFILE ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENXIO EOPNOTSUPP EOVERFLOW
        EPERM EROFS ETXTBSY;
    "openat2": E2BIG EACCES EAGAIN EBADF EBUSY EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EISDIR
        ELOOP EMFILE ENAMETOOLONG ENFILE ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENXIO EOPNOTSUPP
        EOVERFLOW EPERM EROFS ETXTBSY EXDEV;
    "pause": EINTR;
    "personality" "shmdt" "timer_delete": EINVAL;
    "pidfd_getfd": EBADF EINVAL EMFILE ENFILE EPERM ESRCH;
    "pidfd_open": EINVAL EMFILE ENFILE ENODEV ENOMEM ESRCH;
    "pidfd_send_signal": EBADF EINVAL EPERM ESRCH;
    "pipe": EFAULT EMFILE ENFILE;
    "pipe2": EFAULT EINVAL EMFILE ENFILE ENOPKG;
    "pivot_root": EBUSY EINVAL ENOTDIR EPERM;
    "poll" "ppoll": EFAULT EINTR EINVAL ENOMEM;
    "prctl": EACCES EBADF EBUSY EFAULT EINVAL ENODEV ENXIO EOPNOTSUPP EPERM ERANGE;
    "pread64" "preadv": EAGAIN EBADF EFAULT EINTR EINVAL EIO EISDIR ENXIO EOVERFLOW ESPIPE;
    "preadv2": EAGAIN EBADF EFAULT EINTR EINVAL EIO EISDIR ENXIO EOPNOTSUPP EOVERFLOW ESPIPE;
    "process_vm_readv" "process_vm_writev": EFAULT EINVAL ENOMEM EPERM ESRCH;
    "pselect6" "select": EBADF EINTR EINVAL ENOMEM;
    "ptrace": EBUSY EFAULT EINVAL EIO EPERM ESRCH;
    "pwrite64" "pwritev": EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC
        ENXIO EOVERFLOW EPERM EPIPE ESPIPE;
    "pwritev2": EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC ENXIO
        EOPNOTSUPP EOVERFLOW EPERM EPIPE ESPIPE;
    "quotactl": EACCES EBUSY EFAULT EINVAL ENOENT ENOSYS ENOTBLK EPERM ERANGE ESRCH;
    "read" "readv": EAGAIN EBADF EFAULT EINTR EINVAL EIO EISDIR;
    "readlink": EACCES EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR;
    "readlinkat": EACCES EBADF EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR;
    "reboot" "setdomainname" "sethostname" "setrlimit" "settimeofday": EFAULT EINVAL EPERM;
    "recvfrom" "recvmmsg" "recvmsg": EAGAIN EBADF ECONNREFUSED EFAULT EINTR EINVAL ENOMEM
        ENOTCONN ENOTSOCK;
    "rename": EACCES EBUSY EDQUOT EFAULT EINVAL EISDIR ELOOP EMLINK ENAMETOOLONG ENOENT ENOMEM
        ENOSPC ENOTDIR ENOTEMPTY EPERM EROFS EXDEV;
    "renameat": EACCES EBADF EBUSY EDQUOT EFAULT EINVAL EISDIR ELOOP EMLINK ENAMETOOLONG ENOENT
        ENOMEM ENOSPC ENOTDIR ENOTEMPTY EPERM EROFS EXDEV;
    "renameat2": EACCES EBADF EBUSY EDQUOT EEXIST EFAULT EINVAL EISDIR ELOOP EMLINK ENAMETOOLONG
        ENOENT ENOMEM ENOSPC ENOTDIR ENOTEMPTY EPERM EROFS EXDEV;
    "request_key": EACCES EDQUOT EFAULT EINTR EINVAL EKEYEXPIRED EKEYREJECTED EKEYREVOKED ENOKEY
        ENOMEM EPERM;
    "rmdir": EACCES EBUSY EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR ENOTEMPTY EPERM
        EROFS;
    "rt_sigqueueinfo" "rt_tgsigqueueinfo" "tgkill" "tkill": EAGAIN EINVAL EPERM ESRCH;
    "rt_sigtimedwait": EAGAIN EINTR EINVAL;
    "sched_getaffinity": EFAULT EINVAL ESRCH;
    "sched_setattr": E2BIG EBUSY EINVAL EPERM ESRCH;
    "seccomp": EACCES EBUSY EFAULT EINVAL ENOMEM EOPNOTSUPP ESRCH;
    "semctl": EACCES EFAULT EIDRM EINVAL EPERM ERANGE;
    "semget": EACCES EEXIST EINVAL ENOENT ENOMEM ENOSPC;
    "semop" "semtimedop": E2BIG EACCES EAGAIN EFAULT EFBIG EIDRM EINTR EINVAL ENOMEM ERANGE;
    "sendfile": EAGAIN EBADF EFAULT EINVAL EIO ENOMEM EOVERFLOW ESPIPE;
    "sendmmsg" "sendmsg" "sendto": EAGAIN EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINTR
        EINVAL EISCONN EMSGSIZE ENOBUFS ENOMEM ENOTCONN ENOTSOCK EOPNOTSUPP EPIPE;
    "setgid": EINVAL EPERM;
    "setgroups" "sigaltstack": EFAULT EINVAL ENOMEM EPERM;
    "setns": EBADF EINVAL ENOMEM EPERM ESRCH;
    "setpgid" "setpriority": EACCES EINVAL EPERM ESRCH;
    "setregid" "setresgid" "setresuid" "setreuid" "setuid": EAGAIN EINVAL EPERM;
    "setsid": EPERM;
    "shmat": EACCES EIDRM EINVAL ENOMEM;
    "shmctl": EACCES EFAULT EIDRM EINVAL ENOMEM EOVERFLOW EPERM;
    "shmget": EACCES EEXIST EINVAL ENFILE ENOENT ENOMEM ENOSPC EPERM;
    "shutdown": EBADF EINVAL ENOTCONN ENOTSOCK;
    "signalfd" "signalfd4": EBADF EINVAL EMFILE ENFILE ENODEV ENOMEM;
    "socket": EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT;
    "socketpair": EAFNOSUPPORT EFAULT EMFILE ENFILE EOPNOTSUPP EPROTONOSUPPORT;
    "splice": EAGAIN EBADF EINVAL ENOMEM ESPIPE;
    "statfs": EACCES EFAULT EINTR EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOSYS ENOTDIR EOVERFLOW;
    "statx": EACCES EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR;
    "swapoff": EINVAL ENOENT ENOMEM EPERM;
    "swapon": EBUSY EINVAL ENFILE ENOENT ENOMEM EPERM;
    "symlink": EACCES EDQUOT EEXIST EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOSPC ENOTDIR
        EPERM EROFS;
    "symlinkat": EACCES EBADF EDQUOT EEXIST EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOSPC
        ENOTDIR EPERM EROFS;
    "sync_file_range": EBADF EINVAL EIO ENOMEM ENOSPC ESPIPE;
    "syncfs": EBADF EIO ENOSPC;
    "tee": EAGAIN EINVAL ENOMEM;
    "timerfd_create": EINVAL EMFILE ENFILE ENODEV ENOMEM EPERM;
    "timerfd_gettime": EBADF EFAULT EINVAL;
    "timerfd_settime": EBADF ECANCELED EFAULT EINVAL;
    "truncate": EACCES EFAULT EFBIG EINTR EINVAL EIO EISDIR ELOOP ENAMETOOLONG ENOENT ENOTDIR
        EPERM EROFS ETXTBSY;
    "umount2": EAGAIN EBUSY EFAULT EINVAL ENAMETOOLONG ENOENT ENOMEM EPERM;
    "unlink": EACCES EBUSY EFAULT EIO EISDIR ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM
        EROFS;
    "unlinkat": EACCES EBADF EBUSY EFAULT EINVAL EIO EISDIR ELOOP ENAMETOOLONG ENOENT ENOMEM
        ENOTDIR EPERM EROFS;
    "unshare": EINVAL ENOMEM ENOSPC EPERM EUSERS;
    "userfaultfd": EINVAL EMFILE ENFILE ENOMEM EPERM;
    "utime" "utimes": EACCES ENOENT EPERM EROFS;
    "utimensat": EACCES EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOTDIR EPERM EROFS ESRCH;
    "vfork": EAGAIN ENOMEM;
    "vmsplice": EAGAIN EBADF EINVAL ENOMEM;
    "wait4": ECHILD EINTR EINVAL ESRCH;
    "waitid": EAGAIN ECHILD EINTR EINVAL;
    "write" "writev": EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC
        EPERM EPIPE;
}

/// The errors that a call can plausibly fail with, without repeats; `None` where they are not
/// known.
#[must_use]
pub(crate) fn errors(call: Syscall) -> Option<Vec<Errno>> {
    // A request of io_uring fails as the call does that it stands for.
    let name = call.name.strip_prefix(Syscall::OF_IO_URING);
    let name = match name.unwrap_or(call.name) {
        "send" => "sendto",
        "recv" => "recvfrom",
        name => name,
    };
    let errors = numbers(name)?.iter();
    let errors = errors.filter_map(|&number| Errno::of(number.unsigned_abs()));
    Some(
        errors
            .filter(|&errno| !is_tried_again(call, errno))
            .collect(),
    )
}

/// Whether the kernel does not end a request of io_uring with this error, but tries it again, at once or
/// when it may go on (`io_uring/io_uring.c`, `io_uring/net.c`).
#[must_use]
pub(crate) fn is_tried_again(call: Syscall, errno: Errno) -> bool {
    let again: &[i32] = match call.as_request() {
        None => &[],
        Some(Request::Connect) => &[libc::EAGAIN, libc::EINPROGRESS, libc::ECONNABORTED],
        Some(_) => &[libc::EAGAIN],
    };
    again
        .iter()
        .any(|number| number.unsigned_abs() == errno.value)
}

/// Why a call has no errors here.
#[must_use]
pub(crate) fn unknown(call: Syscall) -> String {
    format!(
        "it is not known which errors {} can plausibly fail with",
        call.name
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        plan::hooks::security_hooks,
        spec::calls::{CallWord, select},
    };

    fn call(name: &str) -> Syscall {
        name.parse().expect(name)
    }

    #[test]
    fn every_call_that_has_errors_is_one_and_has_each_once() {
        for name in CALLS {
            let errors = errors(call(name)).expect(name);
            let distinct: BTreeSet<u32> = errors.iter().map(|errno| errno.value).collect();
            assert_eq!(errors.len(), distinct.len(), "{name}: {errors:?}");
            assert_eq!(
                Some(errors.len()),
                numbers(name).map(<[i32]>::len),
                "{name}"
            );
        }
        let distinct: BTreeSet<&&str> = CALLS.iter().collect();
        assert_eq!(CALLS.len(), distinct.len());
    }

    #[test]
    fn what_stock_kernels_can_fail_has_errors() {
        let all: CallWord = "all".parse().expect("a word");
        for call in select(&[all]).expect("all calls").wanted {
            if !security_hooks(call.name).is_empty() {
                assert!(errors(call).is_some(), "{}", call.name);
            }
        }
    }

    #[test]
    fn what_would_mislead_is_left_out() {
        let names = |name| -> Vec<&str> {
            let errors = errors(call(name)).expect(name);
            errors.iter().map(|errno| errno.name).collect()
        };
        for (name, errno) in [
            ("close", "EINTR"),
            ("connect", "EINTR"),
            ("connect", "EINPROGRESS"),
            ("nanosleep", "EINTR"),
            ("clock_nanosleep", "EINTR"),
            ("open_by_handle_at", "ESTALE"),
        ] {
            assert!(!names(name).contains(&errno), "{name}");
        }
        assert!(names("read").contains(&"EINTR"));
        assert_eq!(errors(call("getpid")), None);
    }
}
