//! Calls whose success can be pretended: what they return then, and that it misleads their callers
//! and nobody else.

use crate::model::Syscall;

/// Calls of which a rule may be made, for messages.
pub(crate) const ALLOWED: &str = "calls that return 0 and no more, as fsync, unlink and rename; with 0 also \
                                  those that read or wait, as read and poll; with any value write, pwrite64 \
                                  and sendto. docs/faults.md lists them";

/// Calls that return 0 when they succeed, and nothing else to who makes them.
pub(crate) const DONE: &[&str] = &[
    "fsync",
    "fdatasync",
    "sync",
    "syncfs",
    "sync_file_range",
    "msync",
    "unlink",
    "unlinkat",
    "rmdir",
    "rename",
    "renameat",
    "renameat2",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "utime",
    "utimes",
    "utimensat",
    "futimesat",
    "truncate",
    "ftruncate",
    "fallocate",
    "fadvise64",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "mount",
    "umount2",
    "close",
    "flock",
    "connect",
    "bind",
    "listen",
    "shutdown",
    "setsockopt",
    "epoll_ctl",
    "inotify_rm_watch",
    "kill",
    "tkill",
    "tgkill",
    "nanosleep",
    "clock_nanosleep",
    "sched_yield",
    "setpriority",
    "ioprio_set",
    "munmap",
    "mlock",
    "mlock2",
    "mlockall",
    "munlock",
    "munlockall",
];

/// Calls whose 0 means that there is nothing, or nothing more.
pub(crate) const NOTHING: &[&str] = &[
    "read",
    "pread64",
    "readv",
    "preadv",
    "preadv2",
    "recvfrom",
    "getdents",
    "getdents64",
    "poll",
    "ppoll",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
];

/// Calls that return how many bytes they took, of as many as their third argument says.
pub(crate) const COUNTED: &[&str] = &["write", "pwrite64", "sendto"];

/// Calls that return how many bytes they took, of as many as no single argument says, or another one.
pub(crate) const UNCOUNTED: &[&str] = &[
    "writev",
    "pwritev",
    "pwritev2",
    "sendmsg",
    "sendfile",
    "copy_file_range",
    "splice",
    "tee",
    "vmsplice",
];

/// Whether a call can pretend to have succeeded with this value.
///
/// # Errors
///
/// Why it cannot.
pub(crate) fn check(call: Syscall, value: u32) -> Result<(), &'static str> {
    let is_one_of = |calls: &[&str]| calls.contains(&call.name);
    let takes_nothing = [DONE, NOTHING, UNCOUNTED]
        .iter()
        .any(|calls| is_one_of(calls));
    if is_one_of(COUNTED) || value == 0 && takes_nothing {
        return Ok(());
    }
    Err(if is_one_of(DONE) {
        "it returns nothing but 0"
    } else if is_one_of(NOTHING) {
        "its caller would take for an answer what its memory held before"
    } else if is_one_of(UNCOUNTED) {
        "how many bytes it is asked for is not its third argument"
    } else {
        why_not(call.name)
    })
}

/// Why the success of a call that is on no list cannot be pretended.
fn why_not(call: &str) -> &'static str {
    match call {
        "mmap" | "brk" | "mremap" | "shmat" => "its caller uses what it returns as an address",
        "fork" | "vfork" | "clone" | "clone3" => {
            "a caller that gets 0 takes itself for the child, and one that gets another number waits \
             for a child of that number"
        }
        "execve" | "execveat" => "it returns to its caller only when it fails",
        "open" | "openat" | "openat2" | "creat" | "open_by_handle_at" | "socket" | "accept"
        | "accept4" | "dup" | "dup2" | "dup3" | "eventfd" | "eventfd2" | "epoll_create"
        | "epoll_create1" | "timerfd_create" | "signalfd" | "signalfd4" | "memfd_create"
        | "inotify_init" | "inotify_init1" | "inotify_add_watch" | "fanotify_init"
        | "pidfd_open" | "pidfd_getfd" | "userfaultfd" | "perf_event_open" | "shmget"
        | "semget" | "msgget" => {
            "its caller uses what it returns as a descriptor or id, which another file may have"
        }
        "setuid"
        | "setgid"
        | "setreuid"
        | "setregid"
        | "setresuid"
        | "setresgid"
        | "setgroups"
        | "setfsuid"
        | "setfsgid"
        | "capset"
        | "prctl"
        | "seccomp"
        | "setns"
        | "unshare"
        | "chroot"
        | "pivot_root"
        | "landlock_restrict_self" => {
            "its caller would go on with rights that it believes to have given up"
        }
        "stat" | "fstat" | "lstat" | "newfstatat" | "statx" | "statfs" | "fstatfs" | "pipe"
        | "pipe2" | "socketpair" | "getsockname" | "getpeername" | "getsockopt" | "getrandom"
        | "clock_gettime" | "gettimeofday" | "uname" | "getcwd" | "readlink" | "readlinkat"
        | "recvmsg" | "recvmmsg" | "wait4" | "waitid" | "getrlimit" | "prlimit64" | "getrusage"
        | "getxattr" | "lgetxattr" | "fgetxattr" | "listxattr" | "llistxattr" | "flistxattr"
        | "select" | "pselect6" => {
            "its caller would take for an answer what its memory held before"
        }
        _ => "it is not known what a caller makes of a success that did not happen",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_that_of_a_call_and_on_one_list() {
        let mut names: Vec<&str> = [DONE, NOTHING, COUNTED, UNCOUNTED].concat();
        for name in &names {
            name.parse::<Syscall>().expect(name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn what_is_listed_is_taken_with_its_own_values() {
        let check = |name: &str, value| check(name.parse().expect(name), value);
        for name in [DONE, NOTHING, UNCOUNTED].concat() {
            assert_eq!(check(name, 0), Ok(()), "{name}");
            check(name, 1).expect_err(name);
        }
        for &name in COUNTED {
            assert_eq!(check(name, 0), Ok(()), "{name}");
            assert_eq!(check(name, 7), Ok(()), "{name}");
        }
        for name in ["mmap", "fork", "openat", "setresuid", "fstat", "ptrace"] {
            check(name, 0).expect_err(name);
        }
    }
}
