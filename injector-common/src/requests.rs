//! Requests of io_uring, and what they are known by to programs: numbers that no system call has.
//!
//! A request passes no system call's entry. It reaches the security hooks that a call reaches which
//! does the same, in the thread that hands it over, or in a worker that the kernel made for that
//! thread's process. A hook does not say which operation it was reached by, but each is reached by
//! those of one sort, but for `file_permission`, which is told whether a file is read or written.

use crate::names::{MAX_CALLS, SecurityHook as H};

macro_rules! requests {
    ($($(#[$meta:meta])* $variant:ident $name:literal $($hook:ident)+;)+) => {
        /// What a request asks for. The names are those of `enum io_uring_op`
        /// (`include/uapi/linux/io_uring.h`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Request {
            $($(#[$meta])* $variant,)+
        }

        impl Request {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// What rules name it by.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!("io_uring:", $name),)+ }
            }

            /// The hooks that it reaches: each of them, if it is not always the same.
            #[must_use]
            pub const fn hooks(self) -> &'static [H] {
                match self { $(Self::$variant => &[$(H::$hook),+],)+ }
            }
        }
    };
}

requests! {
    /// `IORING_OP_READ`, `READV`, `READ_FIXED`, `READV_FIXED` and `READ_MULTISHOT`.
    Read "read" FilePermission;
    /// `IORING_OP_WRITE`, `WRITEV`, `WRITE_FIXED`, `WRITEV_FIXED` and `FALLOCATE`. Its number follows that of `Read`.
    Write "write" FilePermission;
    /// `IORING_OP_OPENAT` and `OPENAT2`.
    Openat "openat" FileOpen;
    /// `IORING_OP_STATX`.
    Statx "statx" InodeGetattr;
    /// `IORING_OP_UNLINKAT`, of directories too.
    Unlinkat "unlinkat" PathUnlink PathRmdir;
    /// `IORING_OP_RENAMEAT`.
    Renameat "renameat" PathRename;
    /// `IORING_OP_MKDIRAT`.
    Mkdirat "mkdirat" PathMkdir;
    /// `IORING_OP_SYMLINKAT`.
    Symlinkat "symlinkat" PathSymlink;
    /// `IORING_OP_LINKAT`.
    Linkat "linkat" PathLink;
    /// `IORING_OP_SETXATTR` and `FSETXATTR` (Linux 5.19).
    Setxattr "setxattr" InodeSetxattr;
    /// `IORING_OP_GETXATTR` and `FGETXATTR` (Linux 5.19).
    Getxattr "getxattr" InodeGetxattr;
    /// `IORING_OP_FTRUNCATE` (Linux 6.9).
    Ftruncate "ftruncate" FileTruncate;
    /// `IORING_OP_SOCKET` (Linux 5.19).
    Socket "socket" SocketCreate;
    /// `IORING_OP_CONNECT`.
    Connect "connect" SocketConnect;
    /// `IORING_OP_ACCEPT`.
    Accept "accept" SocketAccept;
    /// `IORING_OP_BIND` (Linux 6.11).
    Bind "bind" SocketBind;
    /// `IORING_OP_LISTEN` (Linux 6.11).
    Listen "listen" SocketListen;
    /// `IORING_OP_SEND`, `SENDMSG`, `SEND_ZC` and `SENDMSG_ZC`.
    Send "send" SocketSendmsg;
    /// `IORING_OP_RECV` and `RECVMSG`.
    Recv "recv" SocketRecvmsg;
    /// `IORING_OP_SHUTDOWN`.
    Shutdown "shutdown" SocketShutdown;
}

/// The first number, above every one that Linux has given to a system call so far.
pub const FIRST: u32 = MAX_CALLS - 32;
const _: () = assert!(Request::ALL.len() <= 32);
const _: () = assert!(Request::Read.known_as() + 1 == Request::Write.known_as());

impl Request {
    /// What programs know it by.
    #[must_use]
    pub const fn known_as(self) -> u32 {
        FIRST + self as u32
    }

    /// The one that reaches a hook, if any does: of two, that of the lower number.
    #[must_use]
    pub const fn at(hook: H) -> Option<Self> {
        let mut which = 0;
        while which < Self::ALL.len() {
            let hooks = Self::ALL[which].hooks();
            let mut place = 0;
            while place < hooks.len() {
                if hooks[place] as u32 == hook as u32 {
                    return Some(Self::ALL[which]);
                }
                place += 1;
            }
            which += 1;
        }
        None
    }
}

/// `io_uring_enter(2)`, within which requests are begun, and before `io_uring_register(2)`, within which
/// they go on; 32-bit callers know both by the same numbers.
pub const ENTER: u64 = 426;

/// Flags of a task (`include/linux/sched.h`): it serves requests of io_uring.
pub const PF_IO_WORKER: u32 = 1 << 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_at_its_hooks() {
        for &request in Request::ALL {
            for &hook in request.hooks() {
                let found = Request::at(hook).expect("a request");
                let writes = request == Request::Write && found == Request::Read;
                assert!(found == request || writes, "{request:?}: {found:?}");
            }
            assert!(
                (FIRST..MAX_CALLS).contains(&request.known_as()),
                "{request:?}"
            );
        }
        assert_eq!(Request::at(H::MmapFile), None);
    }
}
