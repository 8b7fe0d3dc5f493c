//! Classes of system calls, as strace has them.
//!
//! Which call is in which class was measured with strace 6.1: a program made every call of x86-64
//! under `strace -e trace=%CLASS`. Calls that are newer (Linux 6.5 and later) stand in the last
//! line of a class, by the same rule: whether they take a file name, a descriptor or an address.
//! What does not return and so cannot fail (`exit`, `exit_group`, `rt_sigreturn`) is left out.

use crate::model::Syscall;

/// A class of system calls.
pub(super) struct Class {
    /// What follows the `%`.
    pub(super) name: &'static str,
    calls: &'static str,
}

/// All of them.
pub(super) const CLASSES: &[Class] = &[
    // Those that take a file name.
    Class {
        name: "file",
        calls: "\
            access acct chdir chmod chown chroot creat execve execveat faccessat faccessat2 \
            fanotify_mark fchmodat fchownat fsconfig fspick futimesat getcwd getxattr \
            inotify_add_watch lchown lgetxattr link linkat listxattr llistxattr lremovexattr \
            lsetxattr lstat mkdir mkdirat mknod mknodat mount mount_setattr move_mount \
            name_to_handle_at newfstatat open open_tree openat openat2 pivot_root quotactl \
            readlink readlinkat removexattr rename renameat renameat2 rmdir setxattr stat \
            statfs statx swapoff swapon symlink symlinkat truncate umount2 unlink unlinkat \
            uselib utime utimensat utimes \
            fchmodat2 setxattrat getxattrat listxattrat removexattrat open_tree_attr \
            file_getattr file_setattr",
    },
    // Those that start, end, await or signal processes.
    Class {
        name: "process",
        calls: "\
            clone clone3 execve execveat fork kill pidfd_send_signal rt_sigqueueinfo \
            rt_tgsigqueueinfo tgkill tkill vfork wait4 waitid",
    },
    // Those of sockets.
    Class {
        name: "network",
        calls: "\
            accept accept4 bind connect getpeername getpmsg getsockname getsockopt listen \
            putpmsg recvfrom recvmmsg recvmsg sendfile sendmmsg sendmsg sendto setsockopt \
            shutdown socket socketpair",
    },
    // Those of signals.
    Class {
        name: "signal",
        calls: "\
            io_uring_enter kill pause pidfd_send_signal rt_sigaction rt_sigpending \
            rt_sigprocmask rt_sigqueueinfo rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo \
            sigaltstack signalfd signalfd4 tgkill tkill",
    },
    // Those of System V's queues, semaphores and shared memory.
    Class {
        name: "ipc",
        calls: "\
            msgctl msgget msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt \
            shmget",
    },
    // Those that take or make a file descriptor.
    Class {
        name: "desc",
        calls: "\
            bpf close copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 \
            epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execveat \
            faccessat faccessat2 fadvise64 fallocate fanotify_init fanotify_mark fchdir \
            fchmod fchmodat fchown fchownat fcntl fdatasync fgetxattr finit_module \
            flistxattr flock fremovexattr fsconfig fsetxattr fsmount fsopen fspick fstat \
            fstatfs fsync ftruncate futimesat getdents getdents64 inotify_add_watch \
            inotify_init inotify_init1 inotify_rm_watch io_uring_enter io_uring_register \
            io_uring_setup ioctl kexec_file_load landlock_add_rule landlock_create_ruleset \
            landlock_restrict_self linkat lseek memfd_create memfd_secret mkdirat mknodat \
            mmap mount_setattr move_mount mq_getsetattr mq_notify mq_open mq_timedreceive \
            mq_timedsend name_to_handle_at newfstatat open open_by_handle_at open_tree \
            openat openat2 perf_event_open pidfd_getfd pidfd_open pidfd_send_signal pipe \
            pipe2 poll ppoll pread64 preadv preadv2 process_madvise process_mrelease \
            pselect6 pwrite64 pwritev pwritev2 quotactl_fd read readahead readlinkat readv \
            renameat renameat2 select sendfile setns signalfd signalfd4 splice statx \
            symlinkat sync_file_range syncfs tee timerfd_create timerfd_gettime \
            timerfd_settime unlinkat userfaultfd utimensat vmsplice write writev \
            cachestat fchmodat2 setxattrat getxattrat listxattrat removexattrat \
            open_tree_attr file_getattr file_setattr",
    },
    // Those of the address space.
    Class {
        name: "memory",
        calls: "\
            brk get_mempolicy io_destroy io_setup io_uring_register madvise mbind \
            migrate_pages mincore mlock mlock2 mlockall mmap move_pages mprotect mremap \
            msync munlock munlockall munmap pkey_mprotect remap_file_pages set_mempolicy \
            set_mempolicy_home_node shmat shmdt \
            map_shadow_stack mseal",
    },
    // Those of user and group identities and capabilities.
    Class {
        name: "creds",
        calls: "\
            capget capset getegid geteuid getgid getgroups getresgid getresuid getuid prctl \
            setfsgid setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid",
    },
];

/// The class of requests of io_uring, which strace does not have.
pub(super) const IO_URING: &str = "io_uring";

/// The calls of a class that this architecture has; `None` for what is no class. `net` is
/// `network`, as with strace.
pub(super) fn members(name: &str) -> Option<Vec<Syscall>> {
    if name == IO_URING {
        return Some(Syscall::requests().collect());
    }
    let name = if name == "net" { "network" } else { name };
    let class = CLASSES.iter().find(|class| class.name == name)?;
    let calls = class.calls.split_ascii_whitespace();
    Some(calls.filter_map(|call| call.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That a name is misspelt would go unnoticed: other architectures lack some of them.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_call_is_known() {
        for class in CLASSES {
            let names = class.calls.split_ascii_whitespace();
            for (name, call) in names.zip(members(class.name).expect("a class")) {
                assert_eq!(name, call.name, "{}", class.name);
            }
            let count = class.calls.split_ascii_whitespace().count();
            assert_eq!(members(class.name).map(|calls| calls.len()), Some(count));
        }
    }

    #[test]
    fn requests_are_a_class_of_their_own() {
        let names: Vec<_> = members(IO_URING).into_iter().flatten().collect();
        assert!(names.iter().any(|call| call.name == "io_uring:openat"));
        for request in names {
            assert_eq!(request.name.parse(), Ok(request));
        }
    }

    #[test]
    fn no_class_of_another_name() {
        for name in ["", "File", "%file", "files"] {
            assert_eq!(members(name), None, "{name}");
        }
    }
}
