//! Arming the programs for one rule.

use aya::{
    Ebpf,
    maps::{
        Array, HashMap, MapData,
        lpm_trie::{Key, LpmTrie},
    },
};
use injector_common::{
    Control, RuleEntry, RuleSlot, ScopeKey, SiteEntry,
    abi::SCOPE_CGROUP,
    dns::NameKey,
    names::{
        MAP_CONTROL, MAP_QUERIES, MAP_RULES, MAP_SCOPES, MAP_SEEN, MAP_SITE_SLOTS, MAP_SITES,
        MAX_LEVELS,
    },
};

/// Length of the link-layer header of the interface that [`arm`] names.
pub const L2_LEN: u32 = 14;

/// Arms the programs for one rule, whose target everything is that passes interface 1;
/// the table to write the rule into.
///
/// # Panics
///
/// When the object lacks a map, or the kernel refuses to write one.
#[must_use]
pub fn arm(ebpf: &mut Ebpf) -> Array<MapData, RuleSlot> {
    arm_at(ebpf, SiteEntry::default())
}

/// The same, with `devices` of ours at the interface.
///
/// # Panics
///
/// As [`arm`].
#[must_use]
pub fn arm_at(ebpf: &mut Ebpf, devices: SiteEntry) -> Array<MapData, RuleSlot> {
    arm_with(ebpf, devices, 1, 0)
}

/// The same for a rule that asks for queries of DNS, with what the table has to say for it:
/// what names end with, a 0 at their beginning, and `NAME_IN` or `NAME_OUT`.
///
/// # Panics
///
/// As [`arm`].
#[must_use]
pub fn arm_queries(ebpf: &mut Ebpf, ends: &[(&str, u32)]) -> Array<MapData, RuleSlot> {
    let table = ebpf.take_map(MAP_QUERIES).expect("the object has the map");
    let mut queries: LpmTrie<MapData, NameKey, u32> = table.try_into().expect("a trie");
    for &(end, value) in ends {
        let mut name = [0; 255];
        for (place, byte) in name.iter_mut().zip(end.bytes().rev()) {
            *place = byte;
        }
        let len = u32::try_from(end.len()).expect("a short name");
        let rule = u8::try_from(RuleEntry::key(0, 0)).expect("a small key");
        let key = Key::new(NameKey::bits(len), NameKey { rule, name });
        queries.insert(&key, value, 0).expect("name what is meant");
    }
    arm_with(ebpf, SiteEntry::default(), 1, 1)
}

/// The same for a rule of [`arm`] whose target is nobody who sends: not the root cgroup, but
/// one that is not there.
///
/// # Panics
///
/// As [`arm`].
#[must_use]
pub fn arm_for_nobody(ebpf: &mut Ebpf) -> Array<MapData, RuleSlot> {
    let devices = SiteEntry::default();
    arm_with(ebpf, devices, 12_345, 0)
}

/// Arms the programs for one rule, aimed at a cgroup. The root, at level 0 and with id 1, owns
/// the whole namespace.
fn arm_with(
    ebpf: &mut Ebpf,
    devices: SiteEntry,
    cgroup: u64,
    by_query: u64,
) -> Array<MapData, RuleSlot> {
    let mut table = |name| ebpf.take_map(name).expect("the object has the map");
    let rules = table(MAP_RULES).try_into().expect("an array");
    let mut sites: Array<MapData, SiteEntry> = table(MAP_SITES).try_into().expect("an array");
    let mut slots: HashMap<MapData, u32, u32> = table(MAP_SITE_SLOTS).try_into().expect("a table");
    let mut scopes: HashMap<MapData, ScopeKey, u64> =
        table(MAP_SCOPES).try_into().expect("a table");
    let mut seen: Array<MapData, u64> = table(MAP_SEEN).try_into().expect("an array");
    let mut control: Array<MapData, Control> = table(MAP_CONTROL).try_into().expect("an array");
    let aim = ScopeKey {
        id: cgroup,
        kind: SCOPE_CGROUP,
        _pad: 0,
    };
    scopes.insert(aim, 1, 0).expect("aim at a cgroup");
    let bit = u32::try_from(cgroup).expect("a small id");
    seen.set(bit / 64, 1 << (bit % 64), 0).expect("note an id");
    let site = SiteEntry {
        rules: 1,
        owner: u64::from(cgroup == 1),
        l2_len: L2_LEN,
        ..devices
    };
    sites.set(0, site, 0).expect("name the interface");
    slots.insert(1, 0, 0).expect("say where it is");
    let armed = Control {
        lease_until_ns: u64::MAX,
        deadline_ns: u64::MAX,
        levels: [0; MAX_LEVELS],
        level_count: 1,
        rule_count: 1,
        by_query,
        ..Control::default()
    };
    control.set(0, armed, 0).expect("arm the programs");
    rules
}
