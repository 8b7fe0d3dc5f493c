//! What the first argument of a system call is (their manual pages).

use super::Syscall;

/// What a call says first of what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstArgument {
    /// The descriptor of the file that it is about, which may be a socket.
    File,
    /// That of a socket, which may have a peer or is to get one.
    Socket,
    /// That of a socket which has none.
    Listener,
    /// The family of a socket that is yet to be made.
    Family,
    /// The descriptor of something else, such as a directory.
    Descriptor,
    /// Something else.
    Other,
}

impl FirstArgument {
    /// What that of a call is.
    #[must_use]
    pub fn of(call: Syscall) -> Self {
        let lists = [
            (FILE, Self::File),
            (SOCKET, Self::Socket),
            (LISTENER, Self::Listener),
            ("socket socketpair", Self::Family),
            (DESCRIPTOR, Self::Descriptor),
        ];
        let has = |list: &str| list.split_ascii_whitespace().any(|name| name == call.name);
        let found = lists.iter().find(|(list, _)| has(list));
        found.map_or(Self::Other, |(_, what)| *what)
    }

    /// Whether it is a descriptor.
    #[must_use]
    pub const fn is_descriptor(self) -> bool {
        match self {
            Self::File | Self::Socket | Self::Listener | Self::Descriptor => true,
            Self::Family | Self::Other => false,
        }
    }

    /// Whether it tells of a socket, or can.
    #[must_use]
    pub const fn tells_socket(self) -> bool {
        match self {
            Self::File | Self::Socket | Self::Listener | Self::Family => true,
            Self::Descriptor | Self::Other => false,
        }
    }

    /// Whether that can be a socket with a peer, or the call can name one.
    #[must_use]
    pub const fn tells_peer(self) -> bool {
        match self {
            Self::File | Self::Socket => true,
            Self::Listener | Self::Family | Self::Descriptor | Self::Other => false,
        }
    }
}

const FILE: &str = "\
    read pread64 readv preadv preadv2 write pwrite64 writev pwritev pwritev2 fsync fdatasync \
    sync_file_range syncfs close lseek fstat fstatfs ftruncate fallocate fadvise64 readahead \
    fchmod fchown fchdir getdents getdents64 flock fcntl ioctl dup dup2 dup3 fsetxattr fgetxattr \
    flistxattr fremovexattr copy_file_range splice tee vmsplice sendfile finit_module quotactl_fd \
    cachestat";

const SOCKET: &str = "\
    connect sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg shutdown getsockopt setsockopt \
    getsockname getpeername";

const LISTENER: &str = "accept accept4 listen bind";

const DESCRIPTOR: &str = "\
    openat openat2 mkdirat mknodat fchownat futimesat newfstatat unlinkat renameat renameat2 \
    linkat readlinkat fchmodat fchmodat2 faccessat faccessat2 utimensat statx execveat \
    name_to_handle_at open_by_handle_at open_tree open_tree_attr fspick mount_setattr move_mount \
    setxattrat getxattrat listxattrat removexattrat file_getattr file_setattr epoll_ctl \
    epoll_wait epoll_pwait epoll_pwait2 inotify_add_watch inotify_rm_watch fanotify_mark \
    timerfd_settime timerfd_gettime signalfd signalfd4 setns pidfd_send_signal pidfd_getfd \
    process_madvise process_mrelease io_uring_enter io_uring_register fsconfig fsmount \
    mq_timedsend mq_timedreceive mq_notify mq_getsetattr landlock_add_rule \
    landlock_restrict_self kexec_file_load close_range";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use injector_common::{names::MAX_CALLS, socket_calls};
    use nix::libc;

    use super::*;

    fn call(name: &str) -> Syscall {
        name.parse().expect(name)
    }

    /// That a name is misspelt, or stands twice, would go unnoticed.
    #[test]
    fn every_name_is_a_call_and_stands_once() {
        let mut seen = BTreeSet::new();
        for list in [FILE, SOCKET, LISTENER, DESCRIPTOR] {
            for name in list.split_ascii_whitespace() {
                assert_eq!(call(name).name, name);
                assert!(seen.insert(name), "{name}");
            }
        }
    }

    #[test]
    fn what_calls_say_first() {
        for (name, what) in [
            ("read", FirstArgument::File),
            ("connect", FirstArgument::Socket),
            ("accept4", FirstArgument::Listener),
            ("socketpair", FirstArgument::Family),
            ("openat", FirstArgument::Descriptor),
            ("open", FirstArgument::Other),
            ("mmap", FirstArgument::Other),
        ] {
            assert_eq!(FirstArgument::of(call(name)), what, "{name}");
        }
    }

    /// The programs go by numbers.
    #[test]
    fn programs_look_where_calls_name_sockets_and_peers() {
        let number = |call: libc::c_long| u32::try_from(call).expect("a number");
        for call in 0..MAX_CALLS {
            let address = match call {
                _ if call == number(libc::SYS_connect) => 1,
                _ if call == number(libc::SYS_sendto) => 4,
                _ => 0,
            };
            assert_eq!(socket_calls::address_argument(call), address, "{call}");
            let header = [libc::SYS_sendmsg, libc::SYS_sendmmsg].map(number);
            assert_eq!(
                socket_calls::has_header(call),
                header.contains(&call),
                "{call}"
            );
            let makes = [libc::SYS_socket, libc::SYS_socketpair].map(number);
            assert_eq!(
                socket_calls::makes_socket(call),
                makes.contains(&call),
                "{call}"
            );
        }
        let families = [socket_calls::AF_INET, socket_calls::AF_INET6].map(i32::from);
        assert_eq!(families, [libc::AF_INET, libc::AF_INET6]);
    }
}
