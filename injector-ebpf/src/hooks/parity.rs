//! A program that is never attached: a test runs it on packets of its own and
//! compares what `injector-common` decides in here with what it decides on the
//! host.

use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::{
    helpers::generated::{bpf_skb_load_bytes, bpf_skb_store_bytes},
    macros::classifier,
    programs::TcContext,
};
use injector_common::{
    Trigger,
    faults::Params,
    filter::PacketFilter,
    packet::{self, Facts, PacketBytes},
    parity::{ParityResult, ParityVector},
};

use crate::{
    filter,
    maps::RULES,
    skb::{NEXT, Skb},
    workspace::Workspace,
};

/// Where the packet to judge begins, behind the vector.
const PACKET_OFFSET: u32 = size_of::<ParityVector>() as u32;

#[classifier]
fn inj_parity(ctx: TcContext) -> i32 {
    let Some(space) = Workspace::get() else {
        return NEXT;
    };
    let mut round = Round {
        skb: Skb(ctx.skb.skb),
        // SAFETY: the pointer comes from a lookup that succeeded.
        facts: unsafe { &mut (*space).facts },
        result: ParityResult::default(),
    };
    *round.facts = Facts::NONE;
    // Functions of their own, for the sake of the stack: only one of them has
    // its buffers on it at a time.
    if trigger(&mut round) && parse(&mut round) && matches(&mut round) && faults(&mut round) {
        round.result.reached = 1;
    }
    // SAFETY: the helper copies the struct and checks the packet's length.
    unsafe {
        bpf_skb_store_bytes(
            round.skb.0,
            0,
            (&raw const round.result).cast(),
            size_of::<ParityResult>() as u32,
            0,
        )
    };
    NEXT
}

/// One vector on its way.
struct Round {
    skb: Skb,
    facts: &'static mut Facts,
    result: ParityResult,
}

impl Round {
    /// A field of the vector, `offset` bytes into it.
    ///
    /// # Safety
    ///
    /// Any bytes must be a valid `T`.
    #[inline(always)]
    unsafe fn field<T>(&self, offset: usize) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper fills the whole value, or fails; the caller
        // vouches for the type.
        unsafe {
            let status = bpf_skb_load_bytes(
                self.skb.0.cast(),
                offset as u32,
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            );
            (status == 0).then(|| value.assume_init())
        }
    }

    #[inline(always)]
    fn long(&self, offset: usize) -> Option<u64> {
        // SAFETY: any bytes are an integer.
        unsafe { self.field(offset) }
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> Option<u32> {
        // SAFETY: any bytes are an integer.
        unsafe { self.field(offset) }
    }
}

/// The packet to judge, which lies behind the vector, and the payload of one segment.
struct Inner<'a>(&'a Skb, u32);

impl PacketBytes for Inner<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.0.load(PACKET_OFFSET + offset)
    }

    #[inline(always)]
    fn fill<const N: usize>(&self, offset: u32, words: &mut [u32; N]) -> bool {
        self.0.fill(PACKET_OFFSET + offset, words)
    }

    #[inline(always)]
    fn frame_len(&self) -> u32 {
        self.0.len().saturating_sub(PACKET_OFFSET)
    }

    #[inline(always)]
    fn is_super(&self) -> bool {
        self.1 != 0
    }
}

#[inline(never)]
fn trigger(round: &mut Round) -> bool {
    let read = || {
        // SAFETY: a trigger is made of integers.
        let trigger: Trigger = unsafe { round.field(offset_of!(ParityVector, trigger)) }?;
        let seed = round.long(offset_of!(ParityVector, seed))?;
        let n = round.long(offset_of!(ParityVector, n))?;
        let spent = round.long(offset_of!(ParityVector, spent))?;
        Some((trigger, seed, n, spent))
    };
    let Some((trigger, seed, n, spent)) = read() else {
        return false;
    };
    round.result.note_trigger(&trigger, seed, n, spent);
    true
}

#[inline(never)]
fn parse(round: &mut Round) -> bool {
    let word = |offset| round.word(offset);
    let (Some(l2_len), Some(ether_type), Some(frame_len), Some(gso_size), Some(mark)) = (
        word(offset_of!(ParityVector, l2_len)),
        word(offset_of!(ParityVector, ether_type)),
        word(offset_of!(ParityVector, frame_len)),
        word(offset_of!(ParityVector, gso_size)),
        word(offset_of!(ParityVector, mark)),
    ) else {
        return false;
    };
    let inner = Inner(&round.skb, gso_size);
    let parsed = packet::parse(&inner, ether_type as u16, l2_len, round.facts);
    round.result.parsed = parsed as u32;
    if parsed {
        round.facts.note_frame(l2_len, frame_len, gso_size, mark);
        round.result.note_facts(round.facts);
    }
    true
}

#[inline(never)]
fn matches(round: &mut Round) -> bool {
    let (Some(direction), Some(seen), Some(seed)) = (
        round.word(offset_of!(ParityVector, direction)),
        round.long(offset_of!(ParityVector, seen)),
        round.long(offset_of!(ParityVector, seed)),
    ) else {
        return false;
    };
    // The filter has no room on the stack, and at the hooks it lies here, too.
    let Some(slot) = RULES.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the helper fills the whole filter, or fails; a filter is made of
    // integers.
    let status = unsafe {
        bpf_skb_load_bytes(
            round.skb.0.cast(),
            offset_of!(ParityVector, filter) as u32,
            (&raw mut (*slot).versions[0].filter).cast(),
            size_of::<PacketFilter>() as u32,
        )
    };
    if status != 0 {
        return false;
    }
    if round.result.parsed == 1 {
        round.result.note_flow(round.facts, direction, seed);
        round.result.note_conversation(round.facts, direction, seen);
        // SAFETY: a map value, which nothing else refers to.
        let rule = unsafe { &(*slot).versions[0] };
        round.result.matches = filter::matches(rule, round.facts, direction) as u32;
    }
    true
}

#[inline(never)]
fn faults(round: &mut Round) -> bool {
    // SAFETY: parameters are integers.
    let params: Option<Params> = unsafe { round.field(offset_of!(ParityVector, params)) };
    let (Some(params), Some(frame_len), Some(now), Some(in_flow)) = (
        params,
        round.word(offset_of!(ParityVector, frame_len)),
        round.long(offset_of!(ParityVector, n)),
        round.long(offset_of!(ParityVector, in_flow)),
    ) else {
        return false;
    };
    round
        .result
        .note_faults(round.facts, frame_len, params, now, in_flow);
    true
}
