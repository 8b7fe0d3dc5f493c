//! Packets that sockets send, and those that they receive, at hooks of the root cgroup.
//!
//! The kernel runs `inj_send` where a packet leaves the IP layer, mostly in the
//! sending task, before the packet is cut into fragments and before any hook of an
//! interface. It tells the caller that a packet was refused, and always by `EPERM`.
//!
//! Nothing keeps another packet from coming between on the same CPU, so that the
//! packet's working space cannot be used here.

use aya_ebpf::{bindings::__sk_buff, cty::c_void, macros::cgroup_skb, programs::SkBuffContext};
use injector_common::{
    Control, FaultKind, RuleIndex, RuleSlot, Verdict,
    conversation::AT_SOCKETS,
    filter::{EGRESS, INGRESS},
    packet::{self, Facts},
    uses::Uses,
};

use crate::{
    decide::{ENOUGH, GO_ON, armed, ask_rules, live},
    faults::net_loss,
    filter,
    ledger::{self, Told},
    maps::{in_use, site},
    scope,
    skb::Skb,
};

/// The packet goes on.
const ALLOW: i32 = 1;
/// The packet is lost, and the call that sends it fails.
const REFUSE: i32 = 0;

#[cgroup_skb(egress)]
fn inj_send(ctx: SkBuffContext) -> i32 {
    judge(ctx.skb.skb).unwrap_or(ALLOW)
}

/// Notes the conversations of packets that sockets receive, for rules that ask which
/// packets begin one. The kernel runs it before the socket gets the packet.
#[cgroup_skb(ingress)]
fn inj_hear(ctx: SkBuffContext) -> i32 {
    hear(ctx.skb.skb);
    ALLOW
}

/// A packet on its way through the rules.
struct Sending {
    facts: Facts,
    /// Rules aimed at the socket that act on sends by this interface.
    mask: u64,
    now: u64,
    rule_count: u32,
    verdict: i32,
}

/// The verdict on a packet, or `None` to leave it alone.
#[inline(always)]
fn judge(skb: *mut __sk_buff) -> Option<i32> {
    let (control, now) = armed()?;
    let mask = rules_of(control, skb)?;
    let mut sending = Sending {
        facts: Facts::NONE,
        mask,
        now,
        rule_count: control.rule_count,
        verdict: ALLOW,
    };
    if !read_facts(skb, &mut sending.facts) || sending.facts.protected != 0 {
        return None;
    }
    filter::follow_conversation(control, mask, &mut sending.facts, EGRESS, AT_SOCKETS);
    ask_rules(ask, &mut sending);
    // The state went through memory, and the kernel takes only verdicts that it
    // knows.
    Some(if sending.verdict == REFUSE {
        REFUSE
    } else {
        ALLOW
    })
}

/// Notes a packet that a target's socket receives.
#[inline(always)]
fn hear(skb: *mut __sk_buff) -> Option<()> {
    let (control, _) = armed()?;
    let mask = rules_of(control, skb)?;
    let mut facts = Facts::NONE;
    if read_facts(skb, &mut facts) {
        filter::follow_conversation(control, mask, &mut facts, INGRESS, AT_SOCKETS);
    }
    Some(())
}

/// The rules that are aimed at the packet's socket and act on sends by its interface,
/// if there are any.
#[inline(always)]
fn rules_of(control: &Control, skb: *mut __sk_buff) -> Option<u64> {
    let rules = site(Skb(skb).ifindex())?.sends;
    if rules == 0 {
        return None;
    }
    let mask = scope::of_socket(control, skb) & rules;
    (mask != 0).then_some(mask)
}

/// Reads the packet's headers, which begin with that of IP.
///
/// A function of its own, for the sake of the stack.
#[inline(never)]
fn read_facts(skb: *mut __sk_buff, facts: &mut Facts) -> bool {
    let skb = Skb(skb);
    let parsed = packet::parse(&skb, skb.protocol(), 0, facts);
    facts.note_frame(0, skb.len(), skb.gso_size(), skb.mark());
    parsed
}

/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`judge`].
unsafe extern "C" fn ask(
    _map: *mut c_void,
    index: *const u32,
    slot: *const RuleSlot,
    sending: *mut Sending,
) -> u64 {
    // SAFETY: see above.
    let (index, rule, sending) = unsafe { (*index, (*slot).rule(), &mut *sending) };
    if index >= sending.rule_count {
        return ENOUGH;
    }
    if rule.kind != FaultKind::NetLoss as u32
        || sending.mask & RuleIndex(index).mask() == 0
        || !filter::matches(rule, &sending.facts, EGRESS)
    {
        return GO_ON;
    }
    let Some(rule) = live(rule, index, sending.now) else {
        return GO_ON;
    };
    let params = rule.rule.params;
    let (mut draw, mut told) = (0, Told::default());
    let (verdict, _) = rule.decide(
        EGRESS,
        |n| {
            let turn = rule.in_flow(n, &sending.facts, EGRESS, &mut draw);
            told.n = turn.0;
            turn
        },
        |draw| net_loss::selects(params, index, EGRESS, draw),
    );
    if verdict != Verdict::Inject {
        return GO_ON;
    }
    rule.done(true);
    if in_use(Uses::LEDGER) {
        ledger::packet(&sending.facts, EGRESS, index, &told, sending.now);
    }
    sending.verdict = REFUSE;
    ENOUGH
}
