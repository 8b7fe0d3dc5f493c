//! Packets at the traffic-control hooks of an interface.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_ANY, bpf_sock, bpf_sock_tuple},
    cty::c_void,
    helpers::generated::{
        bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_set_tstamp,
    },
    macros::classifier,
    programs::TcContext,
};
use injector_common::{
    Control, FaultKind, RuleEntry, RuleIndex, SiteEntry, Verdict,
    faults::{net_corrupt as corrupt, net_delay as delay},
    filter::{EGRESS, INGRESS},
    packet::{self, EchoKey, Facts, PROTO_TCP, PROTO_UDP},
};

use crate::{
    decide::{ENOUGH, GO_ON, armed, ask_rules, live},
    faults::{net_corrupt, net_delay, net_loss},
    maps::{ECHOES, FACTS, SITES, TRIAL},
    scope,
    skb::{NEXT, Skb},
};

/// `BPF_F_CURRENT_NETNS`: look for the socket where the packet is.
const CURRENT_NETNS: u64 = u64::MAX;
/// `BPF_SKB_TSTAMP_DELIVERY_MONO`: the time stamp says when to send.
const TSTAMP_DELIVERY: u32 = 1;

#[classifier]
fn inj_egress(ctx: TcContext) -> i32 {
    judge(&Skb(ctx.skb.skb), EGRESS).unwrap_or(NEXT)
}

#[classifier]
fn inj_ingress(ctx: TcContext) -> i32 {
    judge(&Skb(ctx.skb.skb), INGRESS).unwrap_or(NEXT)
}

/// A packet that enters a device of ours gets its departure time.
#[classifier]
fn inj_hop(ctx: TcContext) -> i32 {
    let skb = Skb(ctx.skb.skb);
    if let Some(due) = net_delay::take_note(&skb) {
        // SAFETY: the context comes from the kernel.
        unsafe { bpf_skb_set_tstamp(skb.0, due, TSTAMP_DELIVERY) };
    }
    NEXT
}

/// A packet that has waited goes on to its interface.
#[classifier]
fn inj_return(ctx: TcContext) -> i32 {
    net_delay::go_on(&Skb(ctx.skb.skb))
}

/// Sends an arriving packet through the device whose index lies in the trial
/// map, to try whether it comes back.
#[classifier]
fn inj_trial_hop(ctx: TcContext) -> i32 {
    let skb = Skb(ctx.skb.skb);
    let hop = TRIAL.get(0).map_or(0, |index| *index as u32);
    net_delay::apply(&skb, INGRESS, hop, 0).unwrap_or(NEXT)
}

/// The verdict on a packet, or `None` to leave it alone.
#[inline(always)]
fn judge(skb: &Skb, direction: u32) -> Option<i32> {
    let (control, now) = armed()?;
    // SAFETY: values are plain integers that only user space replaces.
    let site = unsafe { SITES.get(skb.ifindex()) }?;
    // One that has waited was judged before. One that leaves is known by the
    // device it comes back from; for one that arrives that is overwritten with
    // the interface, so it carries a mark.
    let has_waited = if direction == EGRESS {
        site.hop_return != 0 && skb.arrived_at() == site.hop_return
    } else {
        site.hop_return != 0 && net_delay::has_waited(skb)
    };
    if has_waited || skb.has_vlan_tag() {
        return None;
    }
    // On loopback, what a packet has to wait for as one that leaves is noted
    // in it, and it waits here, where it arrives.
    let noted = if direction == INGRESS && site.loopback != 0 {
        net_delay::take_note(skb)
    } else {
        None
    };
    let mut outcome = Passing::new(skb, direction, control, now)?;
    judge_rules(&mut outcome, site, control);
    if outcome.lost != 0 {
        if outcome.detour != 0 {
            outcome.took_detour = LOST_BEFORE;
            ask_rules(count_detour, &mut outcome);
        }
        return Some(net_loss::apply());
    }
    if outcome.detour == 0 {
        return match noted {
            Some(due) => net_delay::apply(skb, direction, site.hop, due),
            None => None,
        };
    }
    let mut due = net_delay::due(skb, direction, outcome.delay_ns);
    let verdict = if direction == EGRESS && site.loopback != 0 {
        net_delay::note(skb, direction, due);
        Some(NEXT)
    } else {
        if let Some(earlier) = noted {
            due = due.max(earlier + outcome.delay_ns);
        }
        net_delay::apply(skb, direction, site.hop, due)
    };
    outcome.took_detour = u32::from(verdict.is_some());
    ask_rules(count_detour, &mut outcome);
    verdict
}

/// Finds the rules aimed at the packet's owner and asks them.
#[inline(always)]
fn judge_rules(passing: &mut Passing, site: &SiteEntry, control: &Control) -> Option<()> {
    let skb = Skb(passing.skb);
    let owned = if passing.direction == EGRESS {
        // The owner is cheaper to find than the headers are to read.
        let owned = scope::of_sender(control, skb.0, site.owner);
        // Where a target counts as the owner of all else, others who came later
        // and ask for an echo are noted too: its reply is not the target's.
        if owned & site.rules == 0 && site.owner == 0 {
            return None;
        }
        if !read_facts(passing, site.l2_len) {
            return None;
        }
        if passing.facts().echo_id != 0 {
            note_echo(passing, owned);
        }
        owned
    } else {
        if !read_facts(passing, site.l2_len) {
            return None;
        }
        received_by(passing, site.owner)
    };
    passing.mask = owned & site.rules;
    if passing.mask != 0 && passing.facts().protected == 0 {
        ask_rules(ask, passing);
    }
    Some(())
}

/// Reads the packet's headers into `passing`.
///
/// A function of its own, and not inlined, for the sake of the stack: its
/// buffers do not add to those of the callbacks.
#[inline(never)]
fn read_facts(passing: &mut Passing, l2_len: u32) -> bool {
    let skb = Skb(passing.skb);
    // SAFETY: this CPU's scratch space, which no other program uses meanwhile.
    let facts = unsafe { &mut *passing.facts };
    *facts = Facts::NONE;
    packet::parse(&skb, skb.protocol(), l2_len, facts)
}

/// Remembers who asked for an echo: no socket lookup finds the receiver of the
/// reply.
#[inline(never)]
fn note_echo(passing: &Passing, owned: u64) {
    let key = EchoKey {
        peer: passing.facts().dst,
        id: passing.facts().echo_id.into(),
    };
    // A full table forgets the oldest asker.
    let _ = ECHOES.insert(key, owned, u64::from(BPF_ANY));
}

/// The rules aimed at whoever asked for the echo that the packet brings.
#[inline(never)]
fn asked_by(passing: &Passing) -> Option<u64> {
    let key = EchoKey {
        peer: passing.facts().src,
        id: passing.facts().echo_id.into(),
    };
    // SAFETY: values are plain integers.
    unsafe { ECHOES.get(key) }.copied()
}

/// The rules aimed at the socket that will receive the packet, or `owner` if
/// none will.
#[inline(never)]
fn received_by(passing: &Passing, owner: u64) -> u64 {
    let (skb, facts) = (Skb(passing.skb), passing.facts());
    if facts.is_fragment() {
        return owner;
    }
    // SAFETY: all zero is a valid tuple.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let size = if facts.family == 4 {
        // SAFETY: writes one variant of a plain union.
        unsafe {
            tuple.__bindgen_anon_1.ipv4.saddr = facts.src[3];
            tuple.__bindgen_anon_1.ipv4.daddr = facts.dst[3];
            tuple.__bindgen_anon_1.ipv4.sport = facts.src_port.to_be();
            tuple.__bindgen_anon_1.ipv4.dport = facts.dst_port.to_be();
            size_of_val(&tuple.__bindgen_anon_1.ipv4)
        }
    } else {
        // SAFETY: as above.
        unsafe {
            tuple.__bindgen_anon_1.ipv6.saddr = facts.src;
            tuple.__bindgen_anon_1.ipv6.daddr = facts.dst;
            tuple.__bindgen_anon_1.ipv6.sport = facts.src_port.to_be();
            tuple.__bindgen_anon_1.ipv6.dport = facts.dst_port.to_be();
            size_of_val(&tuple.__bindgen_anon_1.ipv6)
        }
    };
    let tuple = &raw mut tuple;
    // SAFETY: the tuple is complete, its size one of the two that the helper
    // knows.
    let sk: *mut bpf_sock = unsafe {
        if facts.proto == PROTO_TCP {
            bpf_sk_lookup_tcp(skb.0.cast(), tuple, size as u32, CURRENT_NETNS, 0)
        } else if facts.proto == PROTO_UDP {
            bpf_sk_lookup_udp(skb.0.cast(), tuple, size as u32, CURRENT_NETNS, 0)
        } else {
            return asked_by(passing).unwrap_or(owner);
        }
    };
    if sk.is_null() {
        return owner;
    }
    // A namespace's only owner has every packet in it, also those of sockets
    // that no process holds: connections yet to be accepted, and closing ones.
    // SAFETY: a lookup gives a full socket, which is given back right after.
    unsafe {
        let mask = scope::stored(sk);
        bpf_sk_release(sk.cast());
        mask | owner
    }
}

/// The packet was lost before it could take a detour.
const LOST_BEFORE: u32 = 2;

/// A packet on its way through the rules, and what they say of it.
struct Passing {
    skb: *mut __sk_buff,
    /// This CPU's scratch space. Facts on the stack would lead the verifier to
    /// walk the rules once for each way in which a packet can be parsed; of
    /// what lies in a map it knows nothing, and walks them once.
    ///
    /// No other packet comes between on the same CPU: these hooks run with
    /// bottom halves disabled, and send nothing before they are done with it.
    facts: *mut Facts,
    now: u64,
    /// Rules aimed at the packet's owner that act on this interface.
    mask: u64,
    /// How long it waits.
    delay_ns: u64,
    /// Rules that need it to pass a device of ours, and are not counted yet.
    detour: u64,
    rule_count: u32,
    direction: u32,
    /// 1 when it is gone; the rules behind the one that lost it are not asked.
    lost: u32,
    /// 1 when the device took it, [`LOST_BEFORE`] when another rule lost it.
    took_detour: u32,
}

impl Passing {
    #[inline(always)]
    fn new(skb: &Skb, direction: u32, control: &Control, now: u64) -> Option<Self> {
        Some(Self {
            skb: skb.0,
            facts: FACTS.get_ptr_mut(0)?,
            now,
            mask: 0,
            delay_ns: 0,
            detour: 0,
            rule_count: control.rule_count,
            direction,
            lost: 0,
            took_detour: 0,
        })
    }

    #[inline(always)]
    fn facts(&self) -> &Facts {
        // SAFETY: see the field; the pointer comes from a lookup that succeeded.
        unsafe { &*self.facts }
    }
}

/// Asks one rule. A loss ends the search; damage happens at once; delays add
/// up.
///
/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`judge`].
unsafe extern "C" fn ask(
    _map: *mut c_void,
    index: *const u32,
    rule: *const RuleEntry,
    passing: *mut Passing,
) -> u64 {
    // SAFETY: see above.
    let (index, rule, passing) = unsafe { (*index, &*rule, &mut *passing) };
    if index >= passing.rule_count {
        return ENOUGH;
    }
    let bit = RuleIndex(index).mask();
    if passing.mask & bit == 0 || !rule.filter.matches(passing.facts(), passing.direction) {
        return GO_ON;
    }
    let Some(rule) = live(rule, index, passing.now) else {
        return GO_ON;
    };
    let skb = Skb(passing.skb);
    let (kind, params) = (rule.rule.kind, rule.rule.params);
    if kind == FaultKind::NetCorrupt as u32 && net_corrupt::payload_len(&skb, passing.facts()) == 0
    {
        return GO_ON;
    }
    let (verdict, amount) = rule.decide();
    if verdict != Verdict::Inject {
        return GO_ON;
    }
    if kind == FaultKind::NetLoss as u32 {
        rule.done(true);
        passing.lost = 1;
        return ENOUGH;
    } else if kind == FaultKind::NetDelay as u32 {
        passing.delay_ns += delay::delay_ns(params, amount);
        passing.detour |= bit;
    } else if kind == FaultKind::NetCorrupt as u32 {
        let damaged = net_corrupt::apply(&skb, passing.facts(), params, amount);
        if damaged && corrupt::needs_detour(params) {
            passing.detour |= bit;
        } else {
            rule.done(damaged);
        }
    } else {
        rule.done(false);
    }
    GO_ON
}

/// Counts the rules whose packet took the detour, or could not.
///
/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`judge`].
unsafe extern "C" fn count_detour(
    _map: *mut c_void,
    index: *const u32,
    rule: *const RuleEntry,
    passing: *mut Passing,
) -> u64 {
    // SAFETY: see above.
    let (index, rule, passing) = unsafe { (*index, &*rule, &*passing) };
    if index >= passing.rule_count {
        return ENOUGH;
    }
    if passing.detour & RuleIndex(index).mask() != 0
        && let Some(rule) = live(rule, index, passing.now)
    {
        if passing.took_detour == LOST_BEFORE {
            rule.let_pass();
        } else {
            rule.done(passing.took_detour == 1);
        }
    }
    GO_ON
}
