//! The injector's BPF programs: thin hooks that gather facts, ask
//! `injector-common` for a decision, act on it and count it.
//!
//! Every program fails open: whatever it cannot read or find lets the
//! operation through.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    unstable_features,
    reason = "atomics that return the old value exist for BPF only as inline assembly"
)]

mod answer;
mod atomic;
mod callers;
mod calls;
mod chain;
mod decide;
mod dns;
mod faults;
mod files;
mod filter;
mod flows;
mod hooks;
mod kernel_calls;
mod ledger;
mod maps;
mod objects;
mod scope;
mod segments;
mod skb;
mod sleep;
mod sockets;
mod waiting;
mod workspace;

/// Licence of the programs; the kernel gives some helpers to GPL programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A panic cannot happen in a verified program; a loop without an end makes
/// the verifier refuse one that could.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
