//! Every map, and the globals that the loader sets.

use aya_ebpf::{
    Global,
    bindings::{
        BPF_F_CLONE, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC,
        bpf_map_type::{BPF_MAP_TYPE_SK_STORAGE, BPF_MAP_TYPE_TASK_STORAGE},
    },
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use injector_common::{
    Control, FaultKind, Hit, RuleSlot, RuleState, RuleStats, ScopeKey, SiteEntry,
    abi::near_slot,
    call_chain::Functions,
    call_filter::{CallFilter, FileKey, FileRules},
    conversation::Conversation,
    dns::NameKey,
    faults::{
        net_delay::Table,
        net_reset::{StreamKey, StreamSeen},
        sys_errno::ErrorList,
    },
    fields::Fields,
    filter::{INGRESS, PeerName},
    names::{
        CALL_NUMBERS, CLEAR_SLOTS, HOOK_COUNT, LEDGER_BYTES, MAX_CODE_FILES, MAX_CONVERSATIONS,
        MAX_ECHOES, MAX_FILES, MAX_FLOWS, MAX_PEERS, MAX_QUERIES, MAX_RULES, MAX_SCOPES, MAX_SITES,
        MAX_SPARED, MAX_STREAMS, MAX_TABLES, MAX_TURNS, NEAR_SITES, SEEN_BITS,
    },
    packet::EchoKey,
    sleep::{Dormitory, MAX_SLEEPERS, Sleeper},
    uses::Uses,
    waiting::WORDS,
};

use crate::{chain::Chain, workspace::Workspace};

#[btf_map(name = "inj_control")]
pub(crate) static CONTROL: Array<Control, 1> = Array::new();

#[btf_map(name = "inj_rules")]
pub(crate) static RULES: Array<RuleSlot, { MAX_RULES as usize }> = Array::new();

#[btf_map(name = "inj_stats")]
pub(crate) static STATS: Array<RuleStats, { MAX_RULES as usize }> = Array::new();

#[btf_map(name = "inj_states")]
pub(crate) static STATES: Array<RuleState, { MAX_RULES as usize }> = Array::new();

/// A rule's state in one direction: that of its chain, or its last draw.
#[inline(always)]
pub(crate) fn chain(rule: u32, direction: u32) -> Option<*mut u64> {
    let state = STATES.get_ptr_mut(rule)?;
    // SAFETY: the pointer comes from a lookup that succeeded.
    Some(unsafe { &raw mut (*state).chain[way(direction)] })
}

/// When a rule's link has sent all packets so far, in one direction.
#[inline(always)]
pub(crate) fn done_ns(rule: u32, direction: u32) -> Option<*mut u64> {
    let state = STATES.get_ptr_mut(rule)?;
    // SAFETY: as above.
    Some(unsafe { &raw mut (*state).done_ns[way(direction)] })
}

/// How many packets passed that no socket was found for, so that no rule could hit
/// them: first those that left, then those that arrived.
#[btf_map(name = "inj_nobodys")]
pub(crate) static UNATTRIBUTED: PerCpuArray<u64, 2> = PerCpuArray::new();

/// Counts a packet that belongs to nobody.
#[inline(always)]
pub(crate) fn count_unattributed(direction: u32) {
    if let Some(count) = UNATTRIBUTED.get_ptr_mut(way(direction) as u32) {
        // SAFETY: the pointer comes from a lookup that succeeded. Programs at
        // packets do not interrupt each other on a CPU.
        unsafe { *count += 1 };
    }
}

/// Where a state keeps what is about a direction.
#[inline(always)]
pub(crate) const fn way(direction: u32) -> usize {
    (direction == INGRESS) as usize
}

#[btf_map(name = "inj_tables")]
pub(crate) static TABLES: Array<Table, { MAX_TABLES as usize }> = Array::new();

/// When the link of a flow has sent all packets so far, by flow and rule.
#[btf_map(name = "inj_links")]
pub(crate) static LINKS: LruHashMap<u64, u64, { MAX_FLOWS as usize }> = LruHashMap::new();

/// How many packets of a flow matched a rule, by the flow's own seed under the rule; and the
/// turn of a caller, by its key. No flow is forgotten: one that began to count anew would be hit
/// otherwise than its number says. A caller is when it ends.
#[btf_map(name = "inj_turns")]
pub(crate) static TURNS: HashMap<u64, u64, { MAX_TURNS as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

#[btf_map(name = "inj_ledger")]
pub(crate) static LEDGER: RingBuf<Hit, { LEDGER_BYTES as usize }> = RingBuf::new();

#[btf_map(name = "inj_calls")]
pub(crate) static CALLS: Array<u64, { (CALL_NUMBERS * HOOK_COUNT) as usize }> = Array::new();

/// The errors that a call can plausibly fail with, by what it is known by.
#[btf_map(name = "inj_errors")]
pub(crate) static ERRORS: Array<ErrorList, { CALL_NUMBERS as usize }> = Array::new();

/// Conditions of rules on calls, by the rule's key.
#[btf_map(name = "inj_call_filts")]
pub(crate) static CALL_FILTERS: Array<CallFilter, { 2 * MAX_RULES as usize }> = Array::new();

/// The files that rules name.
#[btf_map(name = "inj_files")]
pub(crate) static FILES: HashMap<
    FileKey,
    FileRules,
    { MAX_FILES as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

/// The functions that rules name, by file.
#[btf_map(name = "inj_functions")]
pub(crate) static FUNCTIONS: HashMap<
    FileKey,
    Functions,
    { MAX_CODE_FILES as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

/// Executables of services that rules leave out; the values mean nothing.
#[btf_map(name = "inj_spared")]
pub(crate) static SPARED: HashMap<
    FileKey,
    u32,
    { MAX_SPARED as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

/// The file that the agent asked for last.
#[btf_map(name = "inj_found")]
pub(crate) static FOUND: Array<FileKey, 1> = Array::new();

#[btf_map(name = "inj_space")]
pub(crate) static SPACE: PerCpuArray<Workspace, 1> = PerCpuArray::new();

#[btf_map(name = "inj_sleepers")]
pub(crate) static SLEEPERS: Array<Sleeper, { MAX_SLEEPERS as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

#[btf_map(name = "inj_dormitory")]
pub(crate) static DORMITORY: Array<Dormitory, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// How many calls are about to lie down at their entry.
#[btf_map(name = "inj_drowsy")]
pub(crate) static DROWSY: Array<u64, 1> = Array::new();

/// Storage in a task. Written out because aya-ebpf has no type for it.
#[repr(C)]
pub(crate) struct TaskStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: as that of sockets below.
unsafe impl<T> Sync for TaskStorage<T> {}

/// What was decided for a call at its entry.
#[btf_map(name = "inj_decided")]
pub(crate) static DECIDED: TaskStorage<u64> = TaskStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// What is known of the chain of a call.
#[btf_map(name = "inj_chains")]
pub(crate) static CHAINS: TaskStorage<Chain> = TaskStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

#[btf_map(name = "inj_trial")]
pub(crate) static TRIAL: Array<u64, 1> = Array::new();

#[btf_map(name = "inj_scopes")]
pub(crate) static SCOPES: HashMap<
    ScopeKey,
    u64,
    { MAX_SCOPES as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

/// A zero proves that no id with these low bits is in the scope table. Agent
/// and programs both set bits while processes fork, so the agent maps it into
/// its memory, where it can do that as atomically as they do.
#[btf_map(name = "inj_seen")]
pub(crate) static SEEN: Array<u64, { SEEN_BITS as usize / 64 }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

/// Cgroups that no rule is aimed at, nor at any above them: an id lies in the
/// slot that its low bits name, until another one takes it. Twice, since what is known
/// ends when rules are aimed anew: one half counts, and the other is emptied, for which the
/// agent maps it into its memory.
#[btf_map(name = "inj_clear")]
pub(crate) static CLEAR: Array<u64, { 2 * CLEAR_SLOTS as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

#[btf_map(name = "inj_sites")]
static SITES: Array<SiteEntry, { MAX_SITES as usize }> = Array::new();

#[btf_map(name = "inj_site_slots")]
static SITE_SLOTS: HashMap<u32, u32, { MAX_SITES as usize }> = HashMap::new();

#[btf_map(name = "inj_sites_near")]
static SITES_NEAR: Array<u64, { NEAR_SITES as usize }> = Array::new();

/// What is to be known of an interface, if rules act there.
///
/// Each packet that passes asks this. The kernel inlines the lookup in an array, and a
/// call of the hash table would cost more than all else that a bystander's packet does
/// here. Only the place is looked for in two ways, so that the verifier sees one entry.
#[inline(always)]
pub(crate) fn site(ifindex: u32) -> Option<&'static SiteEntry> {
    let near = SITES_NEAR.get(ifindex % NEAR_SITES)?;
    let slot = match near_slot(*near, ifindex) {
        Some(slot) => slot,
        // SAFETY: values are plain integers.
        None => *unsafe { SITE_SLOTS.get(ifindex) }?,
    };
    SITES.get(slot)
}

#[btf_map(name = "inj_flows")]
pub(crate) static FLOWS: LruHashMap<u64, u64, { MAX_FLOWS as usize }> = LruHashMap::new();

/// What waits takes so many bytes: in each slot of time, and in all; and which tick is
/// the first (`injector_common::waiting`).
#[btf_map(name = "inj_waiting")]
pub(crate) static WAITING: Array<u64, { WORDS as usize }> = Array::new();

#[btf_map(name = "inj_streams")]
pub(crate) static STREAMS: LruHashMap<StreamKey, StreamSeen, { MAX_STREAMS as usize }> =
    LruHashMap::new();

#[btf_map(name = "inj_echoes")]
pub(crate) static ECHOES: LruHashMap<EchoKey, u64, { MAX_ECHOES as usize }> = LruHashMap::new();

#[btf_map(name = "inj_peers")]
pub(crate) static PEERS: LpmTrie<PeerName, u32, { MAX_PEERS as usize }> = LpmTrie::new();

#[btf_map(name = "inj_queries")]
pub(crate) static QUERIES: LpmTrie<NameKey, u32, { MAX_QUERIES as usize }> = LpmTrie::new();

/// What was seen of a conversation, a bit for each of its ways and each hook.
#[btf_map(name = "inj_talks")]
pub(crate) static CONVERSATIONS: LruHashMap<Conversation, u64, { MAX_CONVERSATIONS as usize }> =
    LruHashMap::new();

/// Storage in a socket, which a socket accepted from it inherits.
///
/// Written out because aya-ebpf's own type cannot carry `BPF_F_CLONE`.
#[repr(C)]
pub(crate) struct InheritedSocketStorage {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const u64,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the fields describe the map to the loader through their types; no
// code reads or writes them.
unsafe impl Sync for InheritedSocketStorage {}

#[btf_map(name = "inj_sockets")]
pub(crate) static SOCKETS: InheritedSocketStorage = InheritedSocketStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// [`Uses::bits`] of the agent's rules.
#[unsafe(no_mangle)]
pub(crate) static INJ_USES: Global<u64> = Global::new(Uses::EVERYTHING.bits());

/// Whether rules of the agent use one of these parts. The verifier knows, and leaves
/// out what comes after a no.
#[inline(always)]
pub(crate) fn in_use(parts: Uses) -> bool {
    Uses::from_bits(INJ_USES.load()).any(parts)
}

/// Whether a rule's kind is this one. Nothing of it stays where the agent has no such
/// rule.
#[inline(always)]
pub(crate) fn is(kind: u32, wanted: FaultKind) -> bool {
    kind == wanted as u32 && in_use(Uses::kind(wanted))
}

/// Where fields lie in the running kernel's structures; nothing is read from it but through
/// [`field`].
#[unsafe(no_mangle)]
pub(crate) static INJ_FIELDS: Fields = Fields::UNKNOWN;

/// Where one field of [`Fields`] lies. The agent has replaced the value.
macro_rules! field {
    ($name:ident) => {
        // SAFETY: an aligned word of a static, which the compiler must not take for the value
        // that it has in here.
        unsafe { (&raw const $crate::maps::INJ_FIELDS.$name).read_volatile() }
    };
}
pub(crate) use field;
