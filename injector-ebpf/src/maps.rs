//! Every map, and the globals that the loader sets.

use aya_ebpf::{
    Global,
    bindings::{
        BPF_F_CLONE, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE,
    },
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
    macros::btf_map,
};
use injector_common::{
    Control, RuleEntry, RuleState, RuleStats, ScopeKey, SiteEntry,
    conversation::Conversation,
    faults::net_delay::Table,
    filter::PeerName,
    names::{
        CLEAR_SLOTS, HOOK_COUNT, MAX_CALLS, MAX_CONVERSATIONS, MAX_ECHOES, MAX_FLOWS, MAX_PEERS,
        MAX_RULES, MAX_SCOPES, MAX_SITES, MAX_TABLES, SEEN_BITS,
    },
    packet::{EchoKey, Facts},
};

#[btf_map(name = "inj_control")]
pub(crate) static CONTROL: Array<Control, 1> = Array::new();

#[btf_map(name = "inj_rules")]
pub(crate) static RULES: Array<RuleEntry, { MAX_RULES as usize }> = Array::new();

#[btf_map(name = "inj_stats")]
pub(crate) static STATS: Array<RuleStats, { MAX_RULES as usize }> = Array::new();

#[btf_map(name = "inj_states")]
pub(crate) static STATES: Array<RuleState, { MAX_RULES as usize }> = Array::new();

#[btf_map(name = "inj_tables")]
pub(crate) static TABLES: Array<Table, { MAX_TABLES as usize }> = Array::new();

/// When the link of a flow has sent all packets so far, by flow and rule.
#[btf_map(name = "inj_links")]
pub(crate) static LINKS: LruHashMap<u64, u64, { MAX_FLOWS as usize }> = LruHashMap::new();

#[btf_map(name = "inj_calls")]
pub(crate) static CALLS: Array<u64, { (MAX_CALLS * HOOK_COUNT) as usize }> = Array::new();

#[btf_map(name = "inj_facts")]
pub(crate) static FACTS: PerCpuArray<Facts, 1> = PerCpuArray::new();

/// Where numbers pass through of which the verifier shall know nothing.
#[btf_map(name = "inj_scratch")]
pub(crate) static SCRATCH: PerCpuArray<u64, 1> = PerCpuArray::new();

/// The same number, of which the verifier knows nothing any more.
///
/// It walks what follows once for each number that it knows to be different,
/// and for each set of fields that are still what they began as: what it does not
/// know, it need not tell apart.
#[inline(always)]
pub(crate) fn forget(number: u64) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return number;
    };
    // SAFETY: an aligned u64 of a map value that belongs to this CPU.
    unsafe {
        scratch.write_volatile(number);
        scratch.read_volatile()
    }
}

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
/// slot that its low bits name, until another one takes it.
#[btf_map(name = "inj_clear")]
pub(crate) static CLEAR: Array<u64, { CLEAR_SLOTS as usize }> = Array::new();

#[btf_map(name = "inj_sites")]
pub(crate) static SITES: HashMap<u32, SiteEntry, { MAX_SITES as usize }> = HashMap::new();

#[btf_map(name = "inj_flows")]
pub(crate) static FLOWS: LruHashMap<u64, u64, { MAX_FLOWS as usize }> = LruHashMap::new();

#[btf_map(name = "inj_echoes")]
pub(crate) static ECHOES: LruHashMap<EchoKey, u64, { MAX_ECHOES as usize }> = LruHashMap::new();

#[btf_map(name = "inj_peers")]
pub(crate) static PEERS: LpmTrie<PeerName, u32, { MAX_PEERS as usize }> = LpmTrie::new();

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

/// Offset of `tgid` in the running kernel's `struct task_struct`.
#[unsafe(no_mangle)]
pub(crate) static INJ_TASK_TGID: Global<u32> = Global::new(0);

/// Offset of `signal` in `struct task_struct`.
#[unsafe(no_mangle)]
pub(crate) static INJ_TASK_SIGNAL: Global<u32> = Global::new(0);

/// Offset of `live` in `struct signal_struct`.
#[unsafe(no_mangle)]
pub(crate) static INJ_SIGNAL_LIVE: Global<u32> = Global::new(0);

/// Offset of `f_mode` in `struct file`.
#[unsafe(no_mangle)]
pub(crate) static INJ_FILE_MODE: Global<u32> = Global::new(0);
