//! Calls on memory, processes, credentials and sockets.

use std::os::fd::{AsRawFd as _, RawFd};

use syscalls::{Sysno, syscall};

use super::{
    CAPABILITIES, Fixture, NONE, Outcomes, PAGE, closed, or_nothing_there, own_ids, reaped,
};

sweep! {
    fn mprotect(f) {
        sys!(mprotect, f.page, PAGE, libc::PROT_READ).map(drop)
    }
    fn pkey_mprotect(f) {
        sys!(pkey_mprotect, f.page, PAGE, libc::PROT_READ, NONE).map(drop)
    }
    fn shmget(_fixture) {
        let made = sys!(shmget, libc::IPC_PRIVATE, PAGE, 0o600)?;
        sys!(shmctl, made, libc::IPC_RMID, 0).map(drop)
    }
    fn shmat(f) {
        let at = sys!(shmat, f.segment, 0, 0)?;
        sys!(shmdt, at).map(drop)
    }
    fn semop(f) {
        // Number, what to add, flags: to wait until it is 0, which it is.
        let nothing = [0_u16; 3];
        sys!(semop, f.semaphore, nothing.as_ptr(), 1).map(drop)
    }
    fn semtimedop(f) {
        // Number, what to add, flags: to wait until it is 0, which it is.
        let nothing = [0_u16; 3];
        sys!(semtimedop, f.semaphore, nothing.as_ptr(), 1, 0).map(drop)
    }
    fn msgsnd(f) {
        let mut message = [1_u64; 2];
        let (at, flags) = (message.as_mut_ptr(), libc::IPC_NOWAIT);
        sys!(msgsnd, f.queue, at, 8, flags)?;
        sys!(msgrcv, f.queue, at, 8, 0, flags).map(drop)
    }
    fn fork(_fixture) {
        reaped(sys!(fork))
    }
    fn clone3(_fixture) {
        // Eleven words, of which the fifth is the signal at its end.
        let mut how = [0_u64; 11];
        how[4] = u64::from(libc::SIGCHLD.unsigned_abs());
        reaped(sys!(clone3, how.as_ptr(), size_of_val(&how)))
    }
    fn kill(_fixture) {
        sys!(kill, own_ids().0, 0).map(drop)
    }
    fn tkill(_fixture) {
        sys!(tkill, own_ids().1, 0).map(drop)
    }
    fn tgkill(_fixture) {
        sys!(tgkill, own_ids().0, own_ids().1, 0).map(drop)
    }
    fn rt_sigqueueinfo(_fixture) {
        let info = [0_u64; 16];
        sys!(rt_sigqueueinfo, own_ids().0, 0, info.as_ptr()).map(drop)
    }
    fn rt_tgsigqueueinfo(_fixture) {
        let (info, ids) = ([0_u64; 16], own_ids());
        sys!(rt_tgsigqueueinfo, ids.0, ids.1, 0, info.as_ptr()).map(drop)
    }
    fn prctl(_fixture) {
        sys!(prctl, libc::PR_GET_DUMPABLE, 0, 0, 0, 0).map(drop)
    }
    fn setrlimit(_fixture) {
        let none = [0_u64; 2];
        sys!(setrlimit, libc::RLIMIT_CORE, none.as_ptr()).map(drop)
    }
    fn setpriority(_fixture) {
        sys!(setpriority, libc::PRIO_PROCESS, 0, 0).map(drop)
    }
    fn sched_setaffinity(f) {
        sys!(sched_setaffinity, 0, size_of_val(&f.affinity), f.affinity.as_ptr()).map(drop)
    }
    fn sched_setscheduler(_fixture) {
        let none = 0_u32;
        sys!(sched_setscheduler, 0, libc::SCHED_OTHER, &raw const none).map(drop)
    }
    fn sched_setparam(_fixture) {
        let none = 0_u32;
        sys!(sched_setparam, 0, &raw const none).map(drop)
    }
    fn sched_setattr(_fixture) {
        // The size, and else what everybody has.
        let attributes = [48_u64, 0, 0, 0, 0, 0];
        sys!(sched_setattr, 0, attributes.as_ptr(), 0).map(drop)
    }
    fn setuid(_fixture) {
        sys!(setuid, 0).map(drop)
    }
    fn setreuid(_fixture) {
        sys!(setreuid, 0, 0).map(drop)
    }
    fn setresuid(_fixture) {
        // A change: for none, the kernel does not ask.
        sys!(setresuid, NONE, NONE, 1)?;
        sys!(setresuid, NONE, NONE, 0).map(drop)
    }
    fn setgid(_fixture) {
        sys!(setgid, 0).map(drop)
    }
    fn setregid(_fixture) {
        sys!(setregid, 0, 0).map(drop)
    }
    fn setresgid(_fixture) {
        sys!(setresgid, NONE, NONE, 1)?;
        sys!(setresgid, NONE, NONE, 0).map(drop)
    }
    fn setgroups(_fixture) {
        sys!(setgroups, 0, 0).map(drop)
    }
    fn capset(f) {
        sys!(capset, CAPABILITIES.as_ptr(), f.capabilities.as_ptr()).map(drop)
    }
    fn eventfd(_fixture) {
        closed(sys!(eventfd, 0))
    }
    fn eventfd2(_fixture) {
        closed(sys!(eventfd2, 0, 0))
    }
    fn epoll_create(_fixture) {
        closed(sys!(epoll_create, 1))
    }
    fn epoll_create1(_fixture) {
        closed(sys!(epoll_create1, 0))
    }
    fn timerfd_create(_fixture) {
        closed(sys!(timerfd_create, 1, 0))
    }
    fn signalfd(_fixture) {
        let mask = 0_u64;
        closed(sys!(signalfd, NONE, &raw const mask, 8))
    }
    fn signalfd4(_fixture) {
        let mask = 0_u64;
        closed(sys!(signalfd4, NONE, &raw const mask, 8, 0))
    }
    fn memfd_create(_fixture) {
        closed(sys!(memfd_create, c"x".as_ptr(), 0))
    }
    fn inotify_init(_fixture) {
        closed(sys!(inotify_init))
    }
    fn inotify_init1(_fixture) {
        closed(sys!(inotify_init1, 0))
    }
    fn socket(_fixture) {
        closed(sys!(socket, libc::AF_UNIX, libc::SOCK_DGRAM, 0))
    }
    fn socketpair(_fixture) {
        let mut pair = [-1; 2];
        sys!(socketpair, libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr())?;
let [one, other] = pair.map(|fd: RawFd| usize::try_from(fd).unwrap_or(0));
        closed(Ok(one))?;
        closed(Ok(other))
    }
    fn listen(f) {
        sys!(listen, f.listener.as_raw_fd(), 1).map(drop)
    }
    fn accept(f) {
        or_nothing_there(sys!(accept, f.listener.as_raw_fd(), 0, 0))
    }
    fn accept4(f) {
        or_nothing_there(sys!(accept4, f.listener.as_raw_fd(), 0, 0, 0))
    }
    fn shutdown(f) {
        sys!(shutdown, f.spare.0.as_raw_fd(), libc::SHUT_RD).map(drop)
    }
    fn getsockopt(f) {
        let (mut value, mut len) = (0_u32, 4_u32);
        sys!(getsockopt, f.pair.0.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TYPE, &raw mut value, &raw mut len).map(drop)
    }
    fn setsockopt(f) {
        let value = 1_u32;
        sys!(setsockopt, f.pair.0.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, &raw const value, 4).map(drop)
    }
    fn getsockname(f) {
        let (mut name, mut len) = ([0_u64; 16], 128_u32);
        sys!(getsockname, f.pair.0.as_raw_fd(), name.as_mut_ptr(), &raw mut len).map(drop)
    }
    fn getpeername(f) {
        let (mut name, mut len) = ([0_u64; 16], 128_u32);
        sys!(getpeername, f.pair.0.as_raw_fd(), name.as_mut_ptr(), &raw mut len).map(drop)
    }
    fn sendmmsg(f) {
        f.messages(|socket, message| sys!(sendmmsg, socket, message, 1, libc::MSG_DONTWAIT))?;
        let mut taken = [0; 8];
        let _ = nix::unistd::read(&f.pair.1, &mut taken);
        Ok(())
    }
    fn recvmmsg(f) {
        let _ = nix::unistd::write(&f.pair.1, b"x");
        let received = f.messages(|socket, message| sys!(recvmmsg, socket, message, 1, libc::MSG_DONTWAIT, 0));
        if received.is_err() {
            let _ = nix::unistd::read(&f.pair.0, &mut [0; 8]);
        }
        received
    }
}
