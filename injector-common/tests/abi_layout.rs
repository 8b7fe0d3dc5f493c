//! The layout of what lies in the maps does not change unnoticed, and has no
//! padding.
//!
//! After a deliberate change: raise `ABI_VERSION`, then record the layout with
//! `INJECTOR_RECORD_ABI=1 cargo test -p injector-common --test abi_layout`.

use std::{env, fmt::Write as _, fs, path::Path};

use injector_common::{
    ABI_VERSION, Control, Hit, RuleEntry, RuleSlot, RuleState, RuleStats, ScopeKey, SiteEntry,
    Trigger,
    call_chain::{Function, Functions},
    call_filter::{ArgumentTest, CallFilter, FileKey, FileRules},
    conversation::Conversation,
    dns::NameKey,
    faults::sys_errno::ErrorList,
    filter::{PacketFilter, PeerName, PortSet},
    packet::EchoKey,
    parity::{ParityResult, ParityVector},
    sleep::{Dormitory, Sleeper},
};

/// Set to record the layout after a change.
const RECORD: &str = "INJECTOR_RECORD_ABI";

struct Type {
    name: &'static str,
    size: usize,
    align: usize,
    fields: Vec<Field>,
}

struct Field {
    name: &'static str,
    offset: usize,
    size: usize,
}

fn size_of_field<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// The layout of types whose fields are all named: one that is left out does
/// not compile.
macro_rules! layout {
    ($($type:ident { $($field:ident),+ $(,)? })+) => {
        vec![$({
            let _every_field_is_named = |$type { $($field: _),+ }: $type| ();
            Type {
                name: stringify!($type),
                size: size_of::<$type>(),
                align: align_of::<$type>(),
                fields: vec![$(Field {
                    name: stringify!($field),
                    offset: std::mem::offset_of!($type, $field),
                    size: size_of_field(|value: &$type| &value.$field),
                }),+],
            }
        }),+]
    };
}

fn shared() -> Vec<Type> {
    layout! {
        Control {
            lease_until_ns, deadline_ns, by_state, by_query, by_call, by_place, by_chain, sparing, spared, levels, level_count, by_process, rule_count, agent_tgid,
            guardian_tgid, waker_tgid, clear_from, by_hash,
        }
        RuleEntry {
            start_ns, deadline_ns, seed, queue_memory, trigger, params, filter, kind, enabled, key, per, shadow, _pad,
        }
        RuleSlot { versions, current }
        Trigger { threshold, first, last, step, times, correlation }
        PacketFilter {
            protocols, dscps, tcp_flags, peer_addr, peer_mask, marks, sizes, peer_ports, local_ports, peers,
            locals, directions, families, states, flagless, marks_taken, _pad,
        }
        PortSet { ranges }
        PeerName { owner, addr }
        NameKey { rule, name }
        CallFilter {
            arguments, name_head, name_tail, command, families, user_first, user_last, conditions, file_types,
            access, head_length, tail_length, _pad,
        }
        ArgumentTest { value, index, test }
        ErrorList { errors, count }
        FileKey { inode, device, _pad }
        FileRules { below, not }
        Function { start, end, rules }
        Functions { list }
        RuleStats {
            matched, injected, passed, exhausted, shadowed, errors, spent, dropped, first_hit_ns, unlisted, cut_short,
            last_draw,
        }
        Hit {
            time_ns, n, wait_ns, local, peer, rule, tgid, tid, errno, local_port, peer_port, protocol, direction, _pad,
        }
        RuleState { chain, done_ns }
        ScopeKey { id, kind, _pad }
        SiteEntry {
            rules, owner, sends, splits, hop, hop_return, l2_len, loopback, split, split_return,
        }
        Sleeper { due_ns, woken, wanted }
        Dormitory { base, served_until_ns, holder, _pad }
    }
}

/// Types without padding that no other version can meet: keys that only
/// programs use, and what crosses to the kernel in tests.
fn unrecorded() -> Vec<Type> {
    layout! {
        EchoKey { peer, id }
        Conversation { low, high, low_port, high_port }
        ParityVector {
            trigger, params, seed, n, spent, in_flow, seen, filter, direction, l2_len, ether_type,
            frame_len, gso_size, mark,
        }
        ParityResult {
            delay_ns, departure_ns, flow_seed, threshold, way, listed, src, dst, proto, transport_offset, payload_offset, end_offset,
            size, mark, conversation, src_port, dst_port, icmp_type, family, protected, is_fragment, echo_id, tcp_flags,
            number, dscp, state, has_conversation, roll, amount, selected,
            verdict, parsed, matches, place, pattern, return_value, pretended, _pad, reached, asked,
        }
    }
}

fn render(types: &[Type]) -> String {
    let mut text = format!("ABI_VERSION {ABI_VERSION}\n");
    for one in types {
        let Type {
            name, size, align, ..
        } = one;
        writeln!(text, "\n{name}: size {size}, align {align}").expect("a string takes it");
        for Field { name, offset, size } in &one.fields {
            writeln!(text, "  {offset:4} {name}: {size}").expect("a string takes it");
        }
    }
    text
}

/// The version in the golden file's first line.
fn recorded_version(golden: &str) -> u32 {
    let first = golden.lines().next().unwrap_or_default();
    let number = first.strip_prefix("ABI_VERSION ");
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("the golden file begins with `{first}`, not `ABI_VERSION N`"))
}

/// What is wrong with a layout, and what to do about it.
fn judge(golden: &str, current: &str) -> Result<(), String> {
    if golden == current {
        return Ok(());
    }
    let recorded = recorded_version(golden);
    if ABI_VERSION <= recorded {
        return Err(format!(
            "the layout of a shared type changed, but ABI_VERSION is still {recorded}: raise it in \
             src/abi.rs, then record the layout with {RECORD}=1.\nIt was:\n{golden}\nIt \
             is:\n{current}"
        ));
    }
    Err(format!(
        "ABI_VERSION was raised from {recorded} to {ABI_VERSION}: record the layout by running \
         this test with {RECORD}=1, and commit tests/abi_layout.golden"
    ))
}

#[test]
fn layout_is_as_recorded() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/abi_layout.golden");
    let golden = fs::read_to_string(&path).expect("tests/abi_layout.golden");
    let current = render(&shared());
    if env::var_os(RECORD).is_some() && ABI_VERSION > recorded_version(&golden) {
        fs::write(&path, current).expect("the golden file can be written");
        return;
    }
    if let Err(advice) = judge(&golden, &current) {
        panic!("{advice}");
    }
}

#[test]
fn a_change_needs_a_new_version() {
    let current = render(&shared());
    assert!(judge(&current, &current).is_ok());
    let same_version = format!("ABI_VERSION {ABI_VERSION}\n\nControl: size 1, align 1\n");
    let advice = judge(&same_version, &current).unwrap_err();
    assert!(advice.contains("raise it in src/abi.rs"), "{advice}");
    let older = format!("ABI_VERSION {}\n", ABI_VERSION - 1);
    let advice = judge(&older, &current).unwrap_err();
    assert!(advice.contains("record the layout"), "{advice}");
}

#[test]
fn no_type_has_padding() {
    for one in shared().into_iter().chain(unrecorded()) {
        let mut end = 0;
        for field in &one.fields {
            assert_eq!(
                field.offset, end,
                "a gap before {}.{}",
                one.name, field.name
            );
            end += field.size;
        }
        assert_eq!(
            end, one.size,
            "{} is padded at its end: name the gap and keep it zero",
            one.name
        );
    }
}
