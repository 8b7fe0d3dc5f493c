//! The layout of what lies in the maps.
//!
//! Fixed-width fields, the widest first, every gap named and zero. Whatever
//! changes here must raise [`ABI_VERSION`]; a golden file in this crate's tests
//! fails otherwise.

use crate::{
    faults::Params,
    filter::PacketFilter,
    names::{CALL_NUMBERS, MAX_LEVELS},
    trigger::Trigger,
};

/// Version of everything in this module, for whoever changes it: the golden
/// file records the layout together with the version, so that none changes
/// unnoticed. Nothing compares it at run time: agent and object cannot differ,
/// since the object is embedded in the agent and built from the same tree.
pub const ABI_VERSION: u32 = 30;

/// What every hook reads first. One entry, written by the agent alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// Boot time in ns (`CLOCK_BOOTTIME`) until which the agent vouches for its
    /// rules. The agent keeps pushing it forward; once it lies in the past,
    /// nothing is injected.
    pub lease_until_ns: u64,
    /// Boot time in ns at which the last rule ends.
    pub deadline_ns: u64,
    /// Rules for which conversations have to be remembered.
    pub by_state: u64,
    /// Rules for which queries of DNS have to be read.
    pub by_query: u64,
    /// Rules with conditions on calls.
    pub by_call: u64,
    /// Of those, rules for which it has to be found out where a file lies.
    pub by_place: u64,
    /// Of those with conditions, rules for which it has to be found out which functions a call came through.
    pub by_chain: u64,
    /// Rules that leave out whoever executes one of the files in the table of spared ones.
    pub sparing: u64,
    /// The [`FileKey::bit`](crate::call_filter::FileKey::bit) of each of these files: whose bit is
    /// not among them need not be looked for.
    pub spared: u64,
    /// The distinct levels at which targeted cgroups lie; the root is 0.
    pub levels: [u32; MAX_LEVELS],
    /// How many of `levels` are in use.
    pub level_count: u32,
    /// 1 when some rule targets processes rather than cgroups.
    pub by_process: u32,
    /// How many slots of the rule table are in use, from the first.
    pub rule_count: u32,
    /// Thread-group id of the agent, which is never hit.
    pub agent_tgid: u32,
    /// Thread-group id of the agent's guardian, which is not hit either; 0 without one.
    pub guardian_tgid: u32,
    /// The same of its waker.
    pub waker_tgid: u32,
    /// Where in the table of clear cgroups those lie that count: 0, or
    /// [`CLEAR_SLOTS`](crate::names::CLEAR_SLOTS) for its second half.
    pub clear_from: u32,
    /// The [`hash_note`] of packets for which rules were asked at a tunnel, when some rule acts on
    /// a WireGuard device; 0 otherwise.
    pub by_hash: u32,
}

/// Bits of a packet's hash that say that the rules of an agent were asked for it.
pub const HASH_NOTE: u32 = 0x00ff_ffff;

/// What those bits are for an agent's packets, and a bit that no hash has among them, so that
/// it is never 0.
#[inline(always)]
#[must_use]
pub const fn hash_note(agent_tgid: u32) -> u32 {
    1 << 31 | 0x6a << 16 | agent_tgid & 0xffff
}

/// Whether a hash bears this note; none does where it is 0.
#[inline(always)]
#[must_use]
pub const fn bears_note(hash: u32, note: u32) -> bool {
    hash & HASH_NOTE | 1 << 31 == note
}

/// A rule as the hooks evaluate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RuleEntry {
    /// Boot time in ns before which the rule is not in force.
    pub start_ns: u64,
    /// Boot time in ns from which on the rule is no longer in force.
    pub deadline_ns: u64,
    /// Seed of the rule's decisions.
    pub seed: u64,
    /// How many bytes may wait in all for a packet of this rule to wait too;
    /// [`crate::waiting::UNLIMITED`] for a rule that lets none wait.
    pub queue_memory: u64,
    /// Which matching operations suffer.
    pub trigger: Trigger,
    /// Parameters of the kind; their meaning stands in `faults::<kind>`.
    pub params: Params,
    /// Which packets match. Ignored by kinds that act on system calls.
    pub filter: PacketFilter,
    /// Number of the [`crate::FaultKind`]; 0 for an empty slot.
    pub kind: u32,
    /// 1 when the rule is in force.
    pub enabled: u32,
    /// By what the tables of peers and of names know this version of the rule.
    pub key: u32,
    /// Whose operations are counted and drawn for by themselves: one of the constants of [`per`].
    pub per: u32,
    /// 1 when nothing is done to operations that it would have suffer.
    pub shadow: u32,
    /// Always 0.
    pub _pad: u32,
}

/// What [`RuleEntry::per`] says.
pub mod per {
    /// All operations of the rule are counted together.
    pub const RULE: u32 = 0;
    /// Each flow's packets by themselves.
    pub const FLOW: u32 = 1;
    /// Each process's calls by themselves.
    pub const PROCESS: u32 = 2;
    /// Each thread's calls by themselves.
    pub const THREAD: u32 = 3;
    /// The calls of each program that a process executes by themselves.
    pub const PROGRAM: u32 = 4;
}

impl RuleEntry {
    /// The key of a version, 0 or 1, of the rule at `index`.
    #[must_use]
    pub const fn key(index: u32, version: u64) -> u32 {
        index << 1 | (version & 1) as u32
    }

    /// Whether the rule is in force at this boot time.
    #[inline(always)]
    #[must_use]
    pub const fn in_force(&self, now_ns: u64) -> bool {
        self.enabled == 1 && now_ns >= self.start_ns && now_ns < self.deadline_ns
    }
}

/// A rule's place in the table: what it is, and room for what it is to be.
///
/// A change is written into the version that is not current, and put in force by one
/// write of `current`. So every operation meets a rule as it was or as it is, and
/// never without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RuleSlot {
    /// Both versions.
    pub versions: [RuleEntry; 2],
    /// Which of them counts: its lowest bit.
    pub current: u64,
}

impl RuleSlot {
    /// The rule as it is.
    #[inline(always)]
    #[must_use]
    pub const fn rule(&self) -> &RuleEntry {
        &self.versions[(self.current & 1) as usize]
    }
}

/// What a rule has done. `matched = injected + passed + exhausted + errors`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuleStats {
    /// Operations that matched scope, filter and time.
    pub matched: u64,
    /// Of those, operations that suffered the fault.
    pub injected: u64,
    /// Operations that the trigger did not select.
    pub passed: u64,
    /// Operations selected after the budget was spent.
    pub exhausted: u64,
    /// Operations that would have suffered, of a rule in shadow. It follows the one before.
    pub shadowed: u64,
    /// Operations that should have suffered, but the kernel refused the action.
    pub errors: u64,
    /// Injections taken from the budget, successful or not.
    pub spent: u64,
    /// Packets that had to wait and were lost, because a queue was too short or its
    /// memory taken. They are among the injected ones; with `net-reorder`, where
    /// those wait that are not selected, among all others.
    pub dropped: u64,
    /// Boot time in ns of the first injection; 0 before it.
    pub first_hit_ns: u64,
    /// Of the injected ones, hits that the ledger had no room for.
    pub unlisted: u64,
    /// Of the injected ones, calls that waited for less than they should have: the rule or the
    /// agent ended, or the thread was killed.
    pub cut_short: u64,
    /// What [`Trigger::after`] made of the last draw, first for operations that the target
    /// makes and packets that it sends, then for those that it receives.
    pub last_draw: [u64; 2],
}

/// One hit, as programs tell the agent for its ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Hit {
    /// Boot time in ns at which the operation was judged.
    pub time_ns: u64,
    /// The operation's number, by which it was drawn for.
    pub n: u64,
    /// How long a packet waits for this rule in ns; 0 where it does not.
    pub wait_ns: u64,
    /// The local address of a packet's [`Flow`](crate::flow::Flow).
    pub local: [u32; 4],
    /// The peer's.
    pub peer: [u32; 4],
    /// The rule's position.
    pub rule: u32,
    /// Thread-group id of the process whose call it is; 0 for a packet.
    pub tgid: u32,
    /// Id of the thread whose call it is; 0 for a packet.
    pub tid: u32,
    /// The error that a call failed with; 0 for a packet, and for a call that did not fail.
    pub errno: u32,
    /// The local port of a packet's flow.
    pub local_port: u16,
    /// The peer's.
    pub peer_port: u16,
    /// The protocol of a packet's flow.
    pub protocol: u8,
    /// The direction of a packet's flow; 0 for a call.
    pub direction: u8,
    /// Zero.
    pub _pad: u16,
}

/// What a rule remembers from packet to packet. Each direction is a link of its
/// own: the first entry is for packets that the target sends, the second for
/// those that it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuleState {
    /// The state of a loss model's chain, or the last packet's draw.
    pub chain: [u64; 2],
    /// Time in ns (`CLOCK_MONOTONIC`) at which a link has sent all packets so far.
    pub done_ns: [u64; 2],
}

/// Kind of [`ScopeKey`]: a cgroup with everything below it.
pub const SCOPE_CGROUP: u32 = 1;
/// Kind of [`ScopeKey`]: a process, all its threads.
pub const SCOPE_TGID: u32 = 2;

/// Key of the scope table, whose value is the mask of rules aimed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ScopeKey {
    /// A cgroup id or a thread-group id.
    pub id: u64,
    /// [`SCOPE_CGROUP`] or [`SCOPE_TGID`].
    pub kind: u32,
    /// Zero: map keys are compared byte by byte.
    pub _pad: u32,
}

/// An interface that packet rules act on, by its index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SiteEntry {
    /// Rules that act on packets at this interface.
    pub rules: u64,
    /// Of those, rules whose target owns the whole network namespace, so that
    /// a packet here that belongs to no process is the target's too.
    pub owner: u64,
    /// Rules that make the calls fail which send packets by this interface.
    /// They are asked where sockets send, and not at the interface.
    pub sends: u64,
    /// Of `rules`, those that count what is one packet on the wire. Others have no
    /// device that splits for them, where they act alone.
    pub splits: u64,
    /// Index of the device that packets of this interface wait in; 0 for none.
    /// It is one end of a pair, or an ifb on the loopback interface.
    pub hop: u32,
    /// Index of the pair's other end, from which they come back; 0 for none.
    pub hop_return: u32,
    /// Length of the link-layer header: 14 for Ethernet, 0 for a tunnel.
    pub l2_len: u32,
    /// 1 for the loopback interface, where a packet that leaves arrives at once
    /// and waits only then.
    pub loopback: u32,
    /// Index of the device that splits super-packets before they are judged; 0 where
    /// rules count a super-packet once.
    pub split: u32,
    /// Index of the other end of its pair, from which they come back; 0 for none.
    pub split_return: u32,
}

/// Where an interface is in the table of sites, for the slot that the low bits of its
/// index name: the index itself above, and the place below.
#[inline(always)]
#[must_use]
pub const fn near_site(ifindex: u32, slot: u32) -> u64 {
    (ifindex as u64) << 32 | slot as u64
}

/// The place in the table that `near` gives for an interface, if it is this one's.
#[inline(always)]
#[must_use]
pub const fn near_slot(near: u64, ifindex: u32) -> Option<u32> {
    if (near >> 32) as u32 == ifindex {
        Some((near & 0xffff_ffff) as u32)
    } else {
        None
    }
}

/// Where a call is in a hook's part of the call table, by what programs know it by; its value is the
/// mask of rules that name the call.
#[inline(always)]
#[must_use]
pub const fn call_slot(hook: u32, number: u32) -> u32 {
    hook * CALL_NUMBERS + number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_bears_the_note_of_one_agent() {
        let note = hash_note(7);
        for flow in [0, 0x0123_4567, u32::MAX] {
            let hash = flow & !HASH_NOTE | note & HASH_NOTE;
            assert!(bears_note(hash, note));
            assert!(!bears_note(hash, hash_note(8)));
            assert!(!bears_note(hash, 0) && !bears_note(flow, note));
        }
    }
}
