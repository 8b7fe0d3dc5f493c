//! Who is targeted: the rules aimed at a task or a socket.

use core::hint::black_box;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_kernel,
        generated::{
            bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_listener_sock,
            bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id,
        },
    },
};
use injector_common::{
    Control, ScopeKey,
    abi::{SCOPE_CGROUP, SCOPE_TGID},
    filter::EGRESS,
    names::{CLEAR_SLOTS, MAX_LEVELS, SEEN_BITS},
    packet::is_ip,
};

use crate::{
    files::executes_spared,
    maps::{CLEAR, SCOPES, SEEN, SOCKETS, count_unattributed, field},
    skb::Skb,
    workspace::Workspace,
};

/// The init process, which no rule hits.
const INIT: u32 = 1;

#[inline(always)]
fn rules_of(id: u64, kind: u32) -> u64 {
    // Most ids are in no rule's scope. A bit says so without the hash table's
    // cost: the kernel inlines the lookup in an array.
    let bit = id as u32 % SEEN_BITS;
    let Some(word) = SEEN.get(bit / 64) else {
        return 0;
    };
    if *word >> (bit % 64) & 1 == 0 {
        return 0;
    }
    let key = ScopeKey { id, kind, _pad: 0 };
    // SAFETY: values are plain integers that only user space replaces.
    unsafe { SCOPES.get(key) }.copied().unwrap_or(0)
}

/// The rules aimed at the cgroup `id` and at those above it, which
/// `ancestor(level)` names.
#[inline(always)]
fn rules_of_cgroups(control: &Control, id: u64, ancestor: impl Fn(i32) -> u64) -> u64 {
    // Most cgroups are in no rule's scope, and for those it is known after the
    // first time, however many levels there are to look at. A cgroup never
    // moves, and its id is never used again.
    let slot = control.clear_from + id as u32 % CLEAR_SLOTS;
    let Some(clear) = CLEAR.get_ptr_mut(slot) else {
        return 0;
    };
    // SAFETY: an aligned u64 of a map value, which one instruction reads.
    if unsafe { clear.read_volatile() } == id {
        return 0;
    }
    let mut mask = 0;
    for slot in 0..MAX_LEVELS {
        if slot as u32 >= control.level_count {
            break;
        }
        let id = ancestor(control.levels[slot] as i32);
        if id != 0 {
            mask |= rules_of(id, SCOPE_CGROUP);
        }
    }
    // While the agent still aims its rules there is no lease, and "none" may be
    // said too early.
    if mask == 0 && control.lease_until_ns != 0 {
        // SAFETY: as above; whoever writes last is right.
        unsafe { clear.write_volatile(id) };
    }
    mask
}

/// The rules aimed at the calling task. None are aimed at the agent, at the processes that
/// serve it, and at the init process, whatever the cgroup they live in; and those that spare
/// services of the host not at these.
#[inline(always)]
pub(crate) fn of_current_task(control: &Control) -> u64 {
    let mut mask = 0;
    if control.level_count != 0 {
        // SAFETY: the helper only reads the current task.
        let id = unsafe { bpf_get_current_cgroup_id() };
        mask = rules_of_cgroups(control, id, |level| {
            // SAFETY: as above.
            unsafe { bpf_get_current_ancestor_cgroup_id(level) }
        });
    }
    if mask == 0 && control.by_process == 0 {
        return 0;
    }
    // The upper half is the process, the lower one the thread.
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if tgid == control.agent_tgid
        || tgid == control.guardian_tgid
        || tgid == control.waker_tgid
        || tgid == INIT
    {
        return 0;
    }
    if control.by_process != 0 {
        mask |= rules_of(u64::from(tgid), SCOPE_TGID);
    }
    if mask & control.sparing != 0 && control.spared != 0 && executes_spared(control.spared) {
        mask &= !control.sparing;
    }
    // Known by no bit, so that the verifier walks what follows once.
    black_box(mask)
}

/// Id of the root cgroup. Sockets of the kernel itself, which answers pings and
/// resets connections, count as living there.
const ROOT_CGROUP: u64 = 1;

/// The rules aimed at the socket that a packet leaves from. A packet that no
/// process sent is `owner`'s.
#[inline(always)]
pub(crate) fn of_sender(
    control: &Control,
    skb: *mut __sk_buff,
    space: *mut Workspace,
    owner: u64,
) -> u64 {
    // SAFETY: the context comes from the kernel.
    let sender = unsafe { bpf_skb_cgroup_id(skb) };
    if owner == 0 {
        note_nobodys(skb, space, sender);
    }
    let nobodys = if sender <= ROOT_CGROUP { owner } else { 0 };
    let mask = of_socket_in(control, skb, sender, nobodys);
    // Read back, so that the verifier walks what follows once, and not for "none" again.
    // SAFETY: an aligned word of a map's value that nobody else uses now.
    unsafe {
        let word = &raw mut (*space).draw;
        word.write_volatile(mask);
        word.read_volatile()
    }
}

/// The rules aimed at the socket that a packet leaves from, and at no other owner.
#[inline(always)]
pub(crate) fn of_socket(control: &Control, skb: *mut __sk_buff) -> u64 {
    // SAFETY: the context comes from the kernel.
    let sender = unsafe { bpf_skb_cgroup_id(skb) };
    of_socket_in(control, skb, sender, 0)
}

/// The same for a socket that was made in the cgroup `sender`, and the rules in `mask`:
/// joined at the end, these would be a path of their own to the verifier.
#[inline(always)]
fn of_socket_in(control: &Control, skb: *mut __sk_buff, sender: u64, mut mask: u64) -> u64 {
    if control.level_count != 0 {
        mask |= rules_of_cgroups(control, sender, |level| {
            // SAFETY: the context comes from the kernel.
            unsafe { bpf_skb_ancestor_cgroup_id(skb, level) }
        });
    }
    if control.by_process != 0 {
        mask |= stored_in(skb);
    }
    mask
}

/// The rules that were left in the socket that a packet leaves from.
///
/// A function of its own, and not inlined, as [`note_nobodys`].
#[inline(never)]
fn stored_in(skb: *mut __sk_buff) -> u64 {
    // SAFETY: a context field; the verifier tracks the pointer as a socket or null.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return 0;
    }
    // SAFETY: not null, as the helpers demand. What they give is a full socket, or null.
    unsafe {
        let full = bpf_sk_fullsock(sk);
        if !full.is_null() {
            return stored(full);
        }
        // A connection that is half open: the answer to its first packet leaves from a
        // request, which knows who listens.
        let listener = bpf_get_listener_sock(sk);
        if listener.is_null() {
            0
        } else {
            stored(listener)
        }
    }
}

/// Counts a packet if it leaves from no socket, or from one of the kernel's own.
///
/// A function of its own, and not inlined: what comes after it would be verified once for
/// each way through it.
#[inline(never)]
fn note_nobodys(skb: *mut __sk_buff, space: *mut Workspace, sender: u64) {
    if sender <= ROOT_CGROUP
        && is_ip(Skb(skb).protocol())
        && (sender == 0 || is_kernels(skb, space))
    {
        count_unattributed(EGRESS);
    }
}

/// Whether a packet leaves from a socket of the kernel's own, which resets connections,
/// answers pings and acknowledges what comes late.
#[inline(always)]
fn is_kernels(skb: *mut __sk_buff, space: *mut Workspace) -> bool {
    let bit = field!(sock_kern);
    // SAFETY: a context field, and a word of a map's value that nobody else uses now. By
    // way of it the verifier takes the address for a number, which the helper checks.
    unsafe {
        let word = &raw mut (*space).draw;
        word.cast::<*const u8>()
            .write_volatile((*skb).__bindgen_anon_2.sk.cast());
        let sock = word.read_volatile() as *const u8;
        bpf_probe_read_kernel(sock.wrapping_add(bit as usize / 8))
            .is_ok_and(|byte| byte >> (bit % 8) & 1 != 0)
    }
}

/// The rules that were left in a socket: when it was made, by the program that
/// follows its creator; when it was accepted, by the socket that listened; or
/// from user space, when it was open already.
///
/// The cgroup of a socket that a lookup found cannot be asked for at a
/// traffic-control hook (`bpf_sk_cgroup_id` is refused up to Linux 6.18).
///
/// # Safety
///
/// `sk` is a full socket, not null.
#[inline(always)]
pub(crate) unsafe fn stored(sk: *mut bpf_sock) -> u64 {
    let map = &raw const SOCKETS;
    // SAFETY: the map is ours and the caller vouches for the socket; without
    // the create flag the helper only looks.
    let value =
        unsafe { bpf_sk_storage_get(map.cast_mut().cast(), sk.cast(), core::ptr::null_mut(), 0) };
    if value.is_null() {
        0
    } else {
        // SAFETY: the map's values are u64, and the pointer is not null.
        unsafe { *value.cast::<u64>() }
    }
}
