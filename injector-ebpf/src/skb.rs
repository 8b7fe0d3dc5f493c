//! A socket buffer, as the packet hooks see it.

use core::{arch::asm, mem::MaybeUninit};

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{
        bpf_get_hash_recalc, bpf_redirect, bpf_set_hash, bpf_skb_load_bytes, bpf_skb_store_bytes,
    },
};
use injector_common::{
    abi::{HASH_NOTE, bears_note},
    packet::PacketBytes,
};

/// Verdict that leaves the packet to the next program: `TCX_NEXT`, and
/// `TC_ACT_UNSPEC` under clsact.
pub(crate) const NEXT: i32 = -1;

/// An interface index that no interface has.
const NOWHERE: u32 = i32::MAX as u32;

/// What our programs tell each other of a packet, in its control buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) u32);

impl Stamp {
    /// Nothing, or it was somebody else's.
    pub(crate) const NONE: Self = Self(0);
    /// The time when it is due is noted in it.
    pub(crate) const NOTED: Self = Self(0x696e_6a64);
    /// It was judged, and has waited or is a copy.
    pub(crate) const JUDGED: Self = Self(0x696e_6a77);
    /// The same of one whose time of departure is noted.
    pub(crate) const JUDGED_AND_NOTED: Self = Self(0x696e_6a78);
    /// It was judged, and passes two hooks.
    pub(crate) const JUDGED_TWICE: Self = Self(0x696e_6a79);
    /// It has been split, and is still to be judged.
    pub(crate) const SPLIT: Self = Self(0x696e_6a73);
    /// It is an answer of ours.
    pub(crate) const ANSWER: Self = Self(0x696e_6a61);
}

/// Slots of the control buffer with the stamp, and with what says that there is one.
/// fq keeps data of its own in the first three from the moment that it queues the
/// packet (`struct fq_skb_cb`, net/sched/sch_fq.c).
const CB_STAMP: usize = 0;
const CB_STAMPED: usize = 3;
const STAMPED: u32 = 0x7565_5f61;

/// A packet at a traffic-control hook.
pub(crate) struct Skb(pub(crate) *mut __sk_buff);

impl Skb {
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        // SAFETY: the context comes from the kernel.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ifindex }
    }

    /// Index of the interface that the packet arrived at; 0 for one that this
    /// host made.
    #[inline(always)]
    pub(crate) fn arrived_at(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// Bytes of payload in each segment of a super-packet; 0 for one that is
    /// none.
    #[inline(always)]
    pub(crate) fn gso_size(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).gso_size }
    }

    /// The mark that the host gave the packet.
    #[inline(always)]
    pub(crate) fn mark(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).mark }
    }

    /// The packet's EtherType, in the order of the wire.
    #[inline(always)]
    pub(crate) fn protocol(&self) -> u16 {
        // SAFETY: as above.
        unsafe { (*self.0).protocol as u16 }
    }

    /// Whether the packet carries a VLAN tag beside its data. Such a packet
    /// belongs to a VLAN interface, where it was judged already.
    #[inline(always)]
    pub(crate) fn has_vlan_tag(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).vlan_present != 0 }
    }

    /// Whether rules were asked for this packet before, at the device that stands on
    /// this one: `mark` is what [`Skb::note_asked`] left.
    #[inline(always)]
    pub(crate) fn was_asked(&self, mark: u16) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).tc_index == u32::from(mark) }
    }

    /// Leaves a mark that goes with the packet from a device to the one below or above
    /// it, also through a tunnel, which overwrites the control buffer.
    #[inline(always)]
    pub(crate) fn note_asked(&self, mark: u16) {
        // SAFETY: a context field that a program may write.
        unsafe { (*self.0).tc_index = u32::from(mark) };
    }

    /// The same of a packet that comes out of a WireGuard device: [`Skb::note_in_hash`]
    /// left it.
    #[inline(always)]
    pub(crate) fn is_noted_in_hash(&self, note: u32) -> bool {
        // SAFETY: as above. TCP gives each of its packets a hash too, but also a time, which
        // the device takes off.
        unsafe { bears_note((*self.0).hash, note) && (*self.0).tstamp == 0 }
    }

    /// Leaves a mark that outlives a WireGuard device. Of all that a program can write, it
    /// keeps the hash alone, by which queues below tell flows apart: they look at its upper
    /// bits, which stay.
    #[inline(always)]
    pub(crate) fn note_in_hash(&self, note: u32) {
        // SAFETY: the context comes from the kernel.
        unsafe {
            let flow = bpf_get_hash_recalc(self.0) & !HASH_NOTE;
            bpf_set_hash(self.0, flow | note & HASH_NOTE);
        }
    }

    /// How many packets this one is on the wire: more than one for a
    /// super-packet of segmentation offload.
    #[inline(always)]
    pub(crate) fn segments(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).gso_segs }.max(1)
    }

    /// Five words that travel with the packet from one hook to the next.
    #[inline(always)]
    pub(crate) fn cb(&self) -> *mut [u32; 5] {
        // SAFETY: the context comes from the kernel.
        unsafe { &raw mut (*self.0).cb }
    }

    /// What an earlier program said of the packet.
    #[inline(always)]
    pub(crate) fn stamp(&self) -> Stamp {
        let cb = self.cb();
        // SAFETY: context fields.
        unsafe {
            if (*cb)[CB_STAMPED] == STAMPED {
                Stamp((*cb)[CB_STAMP])
            } else {
                Stamp::NONE
            }
        }
    }

    /// Tells the programs that the packet passes next.
    #[inline(always)]
    pub(crate) fn set_stamp(&self, stamp: Stamp) {
        let cb = self.cb();
        // SAFETY: context fields that a program may write.
        unsafe {
            (*cb)[CB_STAMP] = stamp.0;
            (*cb)[CB_STAMPED] = STAMPED;
        }
    }

    /// Keeps the packet's priority (`SO_PRIORITY`) where it survives a queue and a veth,
    /// which sets it to 0. The place is that of the stamp, which is of no use there.
    #[inline(always)]
    pub(crate) fn keep_priority(&self) {
        let cb = self.cb();
        // SAFETY: context fields, of which a program may write the latter.
        unsafe { (*cb)[CB_STAMPED] = (*self.0).priority };
    }

    /// Gives the packet the priority that [`Skb::keep_priority`] kept.
    #[inline(always)]
    pub(crate) fn restore_priority(&self) {
        let cb = self.cb();
        // SAFETY: context fields, of which a program may write the latter.
        unsafe { (*self.0).priority = (*cb)[CB_STAMPED] };
    }

    /// Writes bytes at `offset`; whether it worked.
    #[inline(always)]
    pub(crate) fn store<const N: usize>(&self, offset: u32, bytes: [u8; N], flags: u64) -> bool {
        // SAFETY: the helper copies N bytes from the array and checks the offset.
        unsafe { bpf_skb_store_bytes(self.0, offset, bytes.as_ptr().cast(), N as u32, flags) == 0 }
    }
}

impl PacketBytes for Skb {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper copies N bytes into the array, or clears it and fails.
        let (status, bytes) = unsafe {
            let status =
                bpf_skb_load_bytes(self.0.cast(), offset, bytes.as_mut_ptr().cast(), N as u32);
            (status, bytes.assume_init())
        };
        (status == 0).then_some(bytes)
    }

    #[inline(always)]
    fn fill<const N: usize>(&self, offset: u32, words: &mut [u32; N]) -> bool {
        let size = 4 * N as u32;
        // The helper looks as well, and costs more to ask.
        if offset.wrapping_add(size) > self.len() {
            return false;
        }
        // SAFETY: the helper copies so many bytes into the array, or fails.
        unsafe { bpf_skb_load_bytes(self.0.cast(), offset, words.as_mut_ptr().cast(), size) == 0 }
    }

    #[inline(always)]
    fn frame_len(&self) -> u32 {
        self.len()
    }

    #[inline(always)]
    fn is_super(&self) -> bool {
        self.gso_size() != 0
    }
}

/// What of a packet lies in one piece, as its headers nearly always do. It is read without
/// a call of the kernel.
pub(crate) struct Linear<'a>(pub(crate) &'a Skb);

/// Where a header may begin, as a mask: the verifier wants a bound.
const MAX_OFFSET: u32 = 0xff;

impl PacketBytes for Linear<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.0.load(offset)
    }

    #[inline(always)]
    fn fill<const N: usize>(&self, offset: u32, words: &mut [u32; N]) -> bool {
        // SAFETY: the context comes from the kernel.
        let (start, end) = unsafe { ((*self.0.0).data as usize, (*self.0.0).data_end as usize) };
        let mut at = start + (offset & MAX_OFFSET) as usize;
        if offset > MAX_OFFSET || at + 4 * N > end {
            return false;
        }
        for word in words {
            let value: u64;
            // SAFETY: these four bytes lie in the packet, as was just seen. They are not
            // aligned, so that Rust would read them one by one.
            unsafe {
                asm!(
                    "{value} = *(u32 *)({at} + 0)",
                    "{at} += 4",
                    value = out(reg) value,
                    at = inout(reg) at,
                    options(pure, readonly, nostack),
                );
            }
            *word = value as u32;
        }
        true
    }

    #[inline(always)]
    fn frame_len(&self) -> u32 {
        self.0.len()
    }
}

/// Verdict that makes the packet vanish without telling the sender.
///
/// `TC_ACT_SHOT` would tell a local TCP at once, which then re-sends without a
/// loss event: not what a wire does. A redirect to an interface that does not
/// exist frees the packet while the sender sees success, under TCX and clsact
/// alike.
#[inline(always)]
pub(crate) fn vanish() -> i32 {
    // SAFETY: the helper only notes the index.
    unsafe { bpf_redirect(NOWHERE, 0) as i32 }
}
