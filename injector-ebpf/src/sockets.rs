//! Sockets: which one a call is on, and who is at its other end.

use core::hint::black_box;

use aya_ebpf::helpers::{
    bpf_probe_read_user,
    generated::{bpf_probe_read_kernel, bpf_probe_read_user as copy_from_user},
};
use injector_common::{
    RuleEntry,
    call_filter::{CallFilter, condition},
    calls32::upper_half,
    filter::PeerName,
    packet::V4_MAPPED,
    socket_calls::{AF_INET, AF_INET6, address_argument, has_header, makes_socket},
};

use crate::{
    calls::Invocation,
    files::open_file,
    filter::known,
    maps::field,
    objects::{Object, read},
};

/// `S_IFMT` and `S_IFSOCK` (include/uapi/linux/stat.h).
const TYPE: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;

/// Where the port and the addresses are in a `struct sockaddr_in` and a `struct sockaddr_in6`
/// (include/uapi/linux/in.h and in6.h).
const PORT: u32 = 2;
const V4_ADDRESS: u32 = 4;
const V6_ADDRESS: u32 = 8;

/// Where a `struct msghdr` has the length of the peer's address.
const NAME_LENGTH: u32 = 8;

/// Whether the call is on a socket that the rule means. What cannot be read is none.
///
/// A function of its own, for the sake of the stack.
#[inline(never)]
pub(crate) fn fits<const SLEEPS: bool>(
    invocation: Invocation,
    rule: &RuleEntry,
    filter: &CallFilter,
) -> bool {
    let Some(first) = invocation.argument(0) else {
        return false;
    };
    if makes_socket(unknown(invocation.call)) {
        return filter.family(first as u32);
    }
    let Some(sock) = behind(first) else {
        return false;
    };
    let Some(family) = read::<u16>(sock, field!(sock_family)) else {
        return false;
    };
    if !filter.family(u32::from(family)) {
        return false;
    }
    if !filter.asks(condition::PEER) {
        return true;
    }
    // Zeros that the compiler knows would be cleared by a loop.
    let mut address = [black_box(0); 4];
    let port = match named(invocation) {
        None => None,
        Some(at) if at.is_null() => own_peer(sock, family, &mut address),
        Some(at) => peer_at(at, &mut address),
    };
    let Some(port) = port else {
        return false;
    };
    let mapped = address[0] == 0 && address[1] == 0 && address[2] == V4_MAPPED;
    let family = if mapped { 4 } else { 6 };
    let peers = &rule.filter;
    peers.takes_end(family, &address, u16::from_be(port))
        && (!peers.asks_table()
            || !SLEEPS && peers.takes_peer(known(PeerName::new(rule.key, family, address))))
}

/// The same number, of which the verifier does not know that it is the same: what comparisons tell of
/// this one is no more ways for all that goes by the other.
#[inline(always)]
fn unknown(call: u32) -> u32 {
    call ^ black_box(0)
}

/// The socket (`struct sock`) that a descriptor of the caller stands for.
#[inline(always)]
fn behind(descriptor: u64) -> Option<Object> {
    let file = open_file(descriptor)?;
    let inode: Object = read(file, field!(file_inode))?;
    let mode: u16 = read(inode, field!(inode_mode))?;
    if mode & TYPE != SOCKET {
        return None;
    }
    // Null where the file of a Unix socket was opened with O_PATH.
    let socket: Object = read(file, field!(file_private))?;
    read(socket, field!(socket_sock))
}

/// Where in the caller's memory the peer's address is that the call names; null if it names none.
#[inline(always)]
fn named(invocation: Invocation) -> Option<Object> {
    let call = unknown(invocation.call);
    let place = address_argument(call);
    if place != 0 {
        return Some(invocation.argument(place)? as Object);
    }
    if !has_header(call) {
        return Some(core::ptr::null());
    }
    let header = invocation.argument(1)? as Object;
    // It is the field after a pointer.
    let upper = upper_half(invocation.call);
    let length: u32 = read_user(header, NAME_LENGTH - (upper >> 63 << 2) as u32)?;
    if length == 0 {
        return Some(core::ptr::null());
    }
    let name: u64 = read_user(header, 0)?;
    Some((name & !upper) as Object)
}

/// Reads who a socket is connected to: the port, as on the wire; `None` if to nobody.
#[inline(always)]
fn own_peer(sock: Object, family: u16, address: &mut [u32; 4]) -> Option<u16> {
    if family == AF_INET {
        address[2] = V4_MAPPED;
        address[3] = read(sock, field!(sock_peer_v4))?;
    } else if family == AF_INET6 {
        let from = sock.wrapping_add(field!(sock_peer_v6) as usize);
        // SAFETY: the helper checks the address, and writes as many bytes as there are.
        let error = unsafe { bpf_probe_read_kernel(address.as_mut_ptr().cast(), 16, from.cast()) };
        if error != 0 {
            return None;
        }
    } else {
        return None;
    }
    if address[0] | address[1] | address[3] == 0 {
        return None;
    }
    read(sock, field!(sock_peer_port))
}

/// Reads an address of the caller's: the port, as on the wire.
#[inline(always)]
fn peer_at(at: Object, address: &mut [u32; 4]) -> Option<u16> {
    let family: u16 = read_user(at, 0)?;
    if family == AF_INET {
        address[2] = V4_MAPPED;
        address[3] = read_user(at, V4_ADDRESS)?;
    } else if family == AF_INET6 {
        let from = at.wrapping_add(V6_ADDRESS as usize);
        // SAFETY: as above.
        let error = unsafe { copy_from_user(address.as_mut_ptr().cast(), 16, from.cast()) };
        if error != 0 {
            return None;
        }
    } else {
        return None;
    }
    read_user(at, PORT)
}

/// Reads a `T` at `offset` from the caller's memory.
#[inline(always)]
fn read_user<T>(place: Object, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address; callers ask for integers and pointers only.
    unsafe { bpf_probe_read_user(place.wrapping_add(offset as usize).cast::<T>()) }.ok()
}
