//! A packet on its way through the rules.

use aya_ebpf::{bindings::__sk_buff, cty::c_void};
use injector_common::{
    Control, FaultKind, RuleEntry, RuleIndex, Verdict,
    faults::{
        net_corrupt as corrupt, net_delay as delay, net_duplicate, net_loss as loss, net_reorder,
    },
    packet::Facts,
    random,
};

use crate::{
    decide::{ENOUGH, GO_ON, ask_rules, live},
    faults::{net_corrupt, net_delay, net_loss, net_rate},
    filter,
    maps::FACTS,
    skb::Skb,
};

/// The packet is lost, and nobody is told.
const LOST: u32 = 1;
/// The packet is lost, and the sender's stack is told.
pub(super) const LOST_TOLD: u32 = 2;

/// The device took the packet, or it needed none.
pub(super) const TAKEN: u32 = 1;
/// The packet was lost before it could take a detour, or be copied.
pub(super) const LOST_BEFORE: u32 = 2;
/// The device refused the packet.
pub(super) const REFUSED: u32 = 0;

/// A packet on its way through the rules, and what they say of it.
pub(super) struct Passing {
    pub(super) skb: *mut __sk_buff,
    /// This CPU's scratch space. Facts on the stack would lead the verifier to
    /// walk the rules once for each way in which a packet can be parsed; of
    /// what lies in a map it knows nothing, and walks them once.
    ///
    /// No other packet comes between on the same CPU: these hooks run with
    /// bottom halves disabled, and send nothing before they are done with it.
    pub(super) facts: *mut Facts,
    now: u64,
    /// Rules aimed at the packet's owner that act on this interface.
    pub(super) mask: u64,
    /// How long it waits.
    pub(super) delay_ns: u64,
    /// Rules that need it to pass a device of ours, and are not counted yet.
    pub(super) detour: u64,
    /// Rules that copy it, and are not counted yet.
    pub(super) copied: u64,
    rule_count: u32,
    pub(super) direction: u32,
    /// [`LOST`] or [`LOST_TOLD`] when it is gone; the rules behind the one that
    /// lost it are not asked.
    pub(super) lost: u32,
    /// 1 when it need not stay behind the packet before it in its flow.
    pub(super) overtakes: u32,
    /// How many copies are made of it.
    pub(super) copies: u32,
    /// 1 when all copies went out.
    pub(super) copies_sent: u32,
    /// [`TAKEN`], [`LOST_BEFORE`] or [`REFUSED`].
    end: u32,
}

impl Passing {
    #[inline(always)]
    pub(super) fn new(skb: &Skb, direction: u32, control: &Control, now: u64) -> Option<Self> {
        Some(Self {
            skb: skb.0,
            facts: FACTS.get_ptr_mut(0)?,
            now,
            mask: 0,
            delay_ns: 0,
            detour: 0,
            copied: 0,
            rule_count: control.rule_count,
            direction,
            lost: 0,
            overtakes: 0,
            copies: 0,
            copies_sent: 0,
            end: TAKEN,
        })
    }

    #[inline(always)]
    pub(super) fn facts(&self) -> &Facts {
        // SAFETY: see the field; the pointer comes from a lookup that succeeded.
        unsafe { &*self.facts }
    }

    /// Asks the rules in `mask`.
    #[inline(always)]
    pub(super) fn ask(&mut self) {
        ask_rules(ask, self);
    }

    /// Counts the rules that could not be counted before it was known what
    /// became of the packet.
    #[inline(always)]
    pub(super) fn end(&mut self, end: u32) {
        if self.detour | self.copied != 0 {
            self.end = end;
            ask_rules(count, self);
        }
    }
}

/// Asks one rule. A loss ends the search; damage happens at once; delays and
/// copies add up.
///
/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`Passing::ask`].
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
    if passing.mask & bit == 0 || !filter::matches(rule, index, passing.facts(), passing.direction)
    {
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
    let way = passing.direction as usize - 1;
    let (verdict, draw) = rule.decide(|draw| {
        kind != FaultKind::NetLoss as u32 || net_loss::selects(params, index, way, draw)
    });
    if verdict != Verdict::Inject {
        if kind == FaultKind::NetReorder as u32 {
            // It waits, so that those which are selected can go ahead of it.
            passing.delay_ns += net_reorder::delay_ns(params);
            passing.detour |= bit;
        }
        return GO_ON;
    }
    if kind == FaultKind::NetLoss as u32 {
        rule.done(true);
        passing.lost = if loss::is_told(params) {
            LOST_TOLD
        } else {
            LOST
        };
        return ENOUGH;
    } else if kind == FaultKind::NetDelay as u32 {
        passing.delay_ns += net_delay::delay_ns(params, index, way, draw);
        passing.overtakes |= u32::from(delay::may_overtake(params));
        passing.detour |= bit;
    } else if kind == FaultKind::NetCorrupt as u32 {
        let damaged = net_corrupt::apply(&skb, passing.facts(), params, random::amount(draw));
        if damaged && corrupt::needs_detour(params) {
            passing.detour |= bit;
        } else {
            rule.done(damaged);
        }
    } else if kind == FaultKind::NetDuplicate as u32 {
        passing.copies += net_duplicate::copies(params);
        passing.copied |= bit;
    } else if kind == FaultKind::NetReorder as u32 {
        passing.overtakes = 1;
        rule.done(true);
    } else if kind == FaultKind::NetRate as u32 {
        let header_len = passing.facts().payload_offset;
        match net_rate::wait_ns(&skb, params, index, passing.direction, header_len) {
            Some(wait) => {
                passing.delay_ns += wait;
                passing.detour |= bit;
            }
            None => {
                rule.done(true);
                rule.dropped();
                passing.lost = LOST;
                return ENOUGH;
            }
        }
    } else {
        rule.done(false);
    }
    GO_ON
}

/// Counts one rule whose packet took the detour or was copied, or could not.
///
/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`Passing::end`].
unsafe extern "C" fn count(
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
    let bit = RuleIndex(index).mask();
    if (passing.detour | passing.copied) & bit != 0
        && let Some(rule) = live(rule, index, passing.now)
        // Its packets that wait were counted as passed.
        && rule.rule.kind != FaultKind::NetReorder as u32
    {
        if passing.end == LOST_BEFORE {
            rule.let_pass();
        } else if passing.copied & bit != 0 {
            rule.done(passing.copies_sent == 1);
        } else {
            rule.done(passing.end == TAKEN);
        }
    }
    GO_ON
}
