//! What the injector's two sides share: the layout of the BPF maps, the names
//! of maps and programs, and every decision that a hook takes.
//!
//! The crate is `no_std` and compiles for BPF and for the host alike, so that
//! property tests on the host reach each line that later runs in the kernel.
//! It does no I/O, reads no clock and draws no random number: time, counters
//! and the seed are passed in, which makes a decision a pure function of its
//! arguments.
#![no_std]
#![forbid(unsafe_op_in_unsafe_fn)]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod answer;
pub mod call_chain;
pub mod call_filter;
pub mod caller;
pub mod calls32;
pub mod conversation;
pub mod dns;
pub mod ends;
pub mod faults;
pub mod fields;
pub mod filter;
pub mod flow;
pub mod ids;
pub mod kinds;
pub mod names;
pub mod packet;
pub mod parity;
pub mod random;
pub mod requests;
pub mod sleep;
pub mod socket_calls;
pub mod trigger;
#[cfg(feature = "user")]
pub mod user;
pub mod uses;
pub mod waiting;

pub use abi::{
    ABI_VERSION, Control, Hit, RuleEntry, RuleSlot, RuleState, RuleStats, ScopeKey, SiteEntry,
};
pub use ids::{CgroupId, IfIndex, NetnsInode, RuleIndex, Tgid};
pub use kinds::FaultKind;
pub use trigger::{Trigger, Verdict};
