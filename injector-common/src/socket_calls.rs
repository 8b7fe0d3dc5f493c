//! What calls on sockets say of them beside their descriptor, by what programs know calls by: their
//! numbers on x86-64 (arch/x86/entry/syscalls/syscall_64.tbl), and those of 32-bit callers.

use crate::calls32::{by_socketcall, known_as};

/// Address family of IPv4 (`AF_INET`, include/linux/socket.h).
pub const AF_INET: u16 = 2;
/// That of IPv6.
pub const AF_INET6: u16 = 10;

const SOCKET: u32 = 41;
const CONNECT: u32 = 42;
const SENDTO: u32 = 44;
const SENDMSG: u32 = 46;
const SOCKETPAIR: u32 = 53;
const SENDMMSG: u32 = 307;

// Of 32-bit callers, alone and by `socketcall` (include/uapi/linux/net.h).
const SOCKET_32: u32 = known_as(359);
const SOCKETPAIR_32: u32 = known_as(360);
const CONNECT_32: u32 = known_as(362);
const SENDTO_32: u32 = known_as(369);
const SENDMSG_32: u32 = known_as(370);
const SENDMMSG_32: u32 = known_as(345);
const MANY_SOCKET: u32 = by_socketcall(1);
const MANY_CONNECT: u32 = by_socketcall(3);
const MANY_SOCKETPAIR: u32 = by_socketcall(8);
const MANY_SENDTO: u32 = by_socketcall(11);
const MANY_SENDMSG: u32 = by_socketcall(16);
const MANY_SENDMMSG: u32 = by_socketcall(20);

/// Whether a call makes a socket, of the family that its first argument is.
#[inline(always)]
#[must_use]
pub const fn makes_socket(call: u32) -> bool {
    matches!(
        call,
        SOCKET | SOCKETPAIR | SOCKET_32 | SOCKETPAIR_32 | MANY_SOCKET | MANY_SOCKETPAIR
    )
}

/// Which argument of a call is where the address of a peer lies (`struct sockaddr`); 0 for none.
#[inline(always)]
#[must_use]
pub const fn address_argument(call: u32) -> u32 {
    match call {
        CONNECT | CONNECT_32 | MANY_CONNECT => 1,
        SENDTO | SENDTO_32 | MANY_SENDTO => 4,
        _ => 0,
    }
}

/// Whether a call's second argument is where a `struct msghdr` lies, alone or as the first of many,
/// which may name a peer.
#[inline(always)]
#[must_use]
pub const fn has_header(call: u32) -> bool {
    matches!(
        call,
        SENDMSG | SENDMMSG | SENDMSG_32 | SENDMMSG_32 | MANY_SENDMSG | MANY_SENDMMSG
    )
}
