//! A packet on its way through the rules.

use aya_ebpf::{bindings::__sk_buff, cty::c_void};
use injector_common::{
    Control, FaultKind, RuleIndex, RuleSlot, SiteEntry, Verdict,
    faults::{
        dns as dns_fault, net_corrupt as corrupt, net_delay as delay, net_duplicate,
        net_loss as loss, net_reorder,
    },
    filter::EGRESS,
    packet::Facts,
    uses::Uses,
};

use super::answering;
use crate::{
    decide::{ENOUGH, GO_ON, Live, ask_rules, live},
    faults::{
        net_corrupt, net_delay, net_duplicate::Copying, net_loss, net_rate, net_reject, net_reset,
    },
    filter, ledger,
    maps::{in_use, is},
    skb::{NEXT, Skb, vanish},
    waiting,
    workspace::Workspace,
};

/// The packet is lost, and nobody is told.
const LOST: u32 = 1;
/// The packet is lost, and the sender's stack is told.
const LOST_TOLD: u32 = 2;

/// The packet is to be answered.
const ANSWERED: u32 = 3;

/// The device took the packet, or it needed none.
const TAKEN: u32 = net_delay::TAKEN;
/// The device's queue had no room for it.
const NO_ROOM: u32 = net_delay::NO_ROOM;
/// The packet was lost before it could take a detour, or be copied.
const LOST_BEFORE: u32 = u32::MAX;

/// Packets are copied.
const COPIES: Uses = Uses::kind(FaultKind::NetDuplicate);

/// A packet on its way through the rules, and what they say of it.
pub(super) struct Passing {
    pub(super) skb: *mut __sk_buff,
    space: *mut Workspace,
    pub(super) now: u64,
    /// Rules aimed at the packet's owner that act on this interface.
    pub(super) mask: u64,
    /// How long it waits.
    delay_ns: u64,
    /// Rules that need it to pass a device of ours, and are not counted yet.
    detour: u64,
    /// Rules that copy it, and are not counted yet.
    copied: u64,
    rule_count: u32,
    pub(super) direction: u32,
    /// [`LOST`], [`LOST_TOLD`] or [`ANSWERED`] when it goes no further; the rules
    /// behind the one that stopped it are not asked.
    lost: u32,
    /// Which rule's answer, if it is to be answered.
    pub(super) culprit: u32,
    /// 1 when it need not stay behind the packet before it in its flow.
    overtakes: u32,
    /// What became of it: [`TAKEN`], [`NO_ROOM`] or [`LOST_BEFORE`]; anything else
    /// when the device refused it.
    end: u32,
    copying: Copying,
}

impl Passing {
    #[inline(always)]
    pub(super) fn new(
        skb: &Skb,
        space: *mut Workspace,
        direction: u32,
        control: &Control,
        now: u64,
    ) -> Self {
        if in_use(Uses::LEDGER) {
            // SAFETY: the pointer comes from a lookup that succeeded.
            unsafe { (*space).hit = 0 };
        }
        // What some rules set and others do not begins as nothing that the
        // verifier knows: it would walk the rules once for each set of fields
        // that are still what they began as.
        // SAFETY: the pointer comes from a lookup that succeeded.
        let unset = || unsafe { (*space).forget(0) };
        Self {
            skb: skb.0,
            space,
            now,
            mask: 0,
            delay_ns: unset(),
            detour: unset(),
            copied: unset(),
            rule_count: control.rule_count,
            direction,
            lost: unset() as u32,
            culprit: unset() as u32,
            overtakes: unset() as u32,
            end: TAKEN,
            copying: Copying::default(),
        }
    }

    #[inline(always)]
    pub(super) fn facts(&self) -> &Facts {
        // SAFETY: the pointer comes from a lookup that succeeded.
        unsafe { &(*self.space).facts }
    }

    /// This CPU's working space.
    #[inline(always)]
    pub(super) fn space(&mut self) -> &mut Workspace {
        // SAFETY: as above; whoever borrows it borrows this as well.
        unsafe { &mut *self.space }
    }

    /// Counts what came of a rule's injection.
    #[inline(always)]
    pub(super) fn done(&mut self, rule: &Live<'_>, bit: u64, success: bool) {
        rule.done(success);
        if in_use(Uses::LEDGER) && success {
            self.space().hit |= bit;
        }
    }

    /// Lets the packet wait for a rule.
    #[inline(always)]
    fn wait(&mut self, index: u32, wait_ns: u64) {
        self.delay_ns += wait_ns;
        if in_use(Uses::LEDGER) {
            self.space().note_wait(index, wait_ns);
        }
    }

    /// Asks the rules in `mask`.
    #[inline(always)]
    pub(super) fn ask(&mut self) {
        ask_rules(ask, self);
    }

    /// Does with the packet what the rules said: the verdict on it, or `None`
    /// to leave it alone. `noted` is when it is due for rules that saw it leave.
    #[inline(always)]
    pub(super) fn settle(&mut self, site: &SiteEntry, noted: u64) -> Option<i32> {
        if self.lost != 0 {
            self.end = LOST_BEFORE;
            if in_use(Uses::ANSWERS) && self.lost == ANSWERED {
                return answering::apply(self, site);
            }
            return Some(net_loss::apply(self.lost == LOST_TOLD));
        }
        if !in_use(Uses::DETOURS) || self.detour == 0 && noted == 0 {
            if in_use(COPIES) && self.copied != 0 {
                self.copying = Copying::around(self.direction, site.loopback != 0);
            }
            return None;
        }
        let skb = Skb(self.skb);
        let mut due = 0;
        if self.detour != 0 {
            due = if self.overtakes != 0 {
                net_delay::now() + self.delay_ns
            } else {
                net_delay::due(&skb, self.direction, self.delay_ns)
            };
        }
        if self.direction == EGRESS && site.loopback != 0 {
            net_delay::note(&skb, self.direction, due);
            self.copying = Copying::noted();
            return Some(NEXT);
        }
        if noted != 0 {
            due = due.max(noted + self.delay_ns);
        }
        let sent = net_delay::send(&skb, self.direction, site.hop, due);
        self.copying = Copying::through(site.hop);
        self.end = sent;
        // What only waits for rules that saw it leave, and counted it then, goes on:
        // lost, it would be lost without a word.
        let gone = sent == TAKEN || sent == NO_ROOM && self.detour != 0;
        gone.then(vanish)
    }

    /// Tells the ledger of the rules that hit the packet, if there is one.
    #[inline(always)]
    pub(super) fn tell(&mut self) {
        if in_use(Uses::LEDGER) && self.space().hit != 0 {
            ask_rules(tell, self);
        }
    }

    /// Makes the copies, and counts the rules that could not be counted before
    /// it was known what became of the packet.
    #[inline(always)]
    pub(super) fn end(&mut self) {
        if !in_use(Uses::DETOURS.and(COPIES)) || self.detour | self.copied == 0 {
            return;
        }
        // SAFETY: the pointer comes from a lookup that succeeded.
        let space = unsafe { &mut *self.space };
        self.copying.hide(space);
        self.end = space.forget(self.end.into()) as u32;
        ask_rules(count, self);
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
    slot: *const RuleSlot,
    passing: *mut Passing,
) -> u64 {
    // SAFETY: see above.
    let (index, rule, passing) = unsafe { (*index, (*slot).rule(), &mut *passing) };
    if index >= passing.rule_count {
        return ENOUGH;
    }
    let bit = RuleIndex(index).mask();
    if passing.mask & bit == 0 || !filter::matches(rule, passing.facts(), passing.direction) {
        return GO_ON;
    }
    let Some(rule) = live(rule, index, passing.now) else {
        return GO_ON;
    };
    let skb = Skb(passing.skb);
    let kind = rule.rule.kind;
    if is(kind, FaultKind::NetCorrupt)
        && !net_corrupt::can(skb.0, passing.space(), &rule.rule.params)
    {
        return GO_ON;
    }
    let direction = passing.direction;
    if is(kind, FaultKind::NetReject) && !net_reject::can(passing.facts(), rule.rule.params) {
        return GO_ON;
    }
    if is(kind, FaultKind::NetReset)
        && !net_reset::is_due(&skb, passing.space(), &rule, index, direction)
    {
        return GO_ON;
    }
    let (verdict, draw) = rule.decide(
        direction,
        |n| {
            let space = passing.space();
            let turn = rule.in_flow(n, &space.facts, direction, &mut space.draw);
            if in_use(Uses::LEDGER) {
                space.note_number(index, turn.0);
            }
            turn
        },
        |draw| {
            !is(kind, FaultKind::NetLoss)
                || net_loss::selects(rule.rule.params, index, direction, draw)
        },
    );
    // Those of `net-reorder` wait that are not selected, those of all others that are.
    if in_use(Uses::QUEUES)
        && waiting::is_full(rule.rule)
        && (verdict == Verdict::Inject) != is(kind, FaultKind::NetReorder)
    {
        if !is(kind, FaultKind::NetReorder) {
            passing.done(&rule, bit, true);
        }
        rule.dropped();
        passing.lost = LOST;
        return ENOUGH;
    }
    if verdict != Verdict::Inject {
        if is(kind, FaultKind::NetReorder) {
            // It waits, so that those which are selected can go ahead of it.
            passing.delay_ns += net_reorder::delay_ns(rule.rule.params);
            passing.detour |= bit;
        }
        return GO_ON;
    }
    if is(kind, FaultKind::NetLoss)
        || is(kind, FaultKind::NetPartition)
        || is(kind, FaultKind::Dns) && dns_fault::code(rule.rule.params) == dns_fault::TIMEOUT
    {
        passing.done(&rule, bit, true);
        passing.lost = if is(kind, FaultKind::NetLoss) && loss::is_told(rule.rule.params) {
            LOST_TOLD
        } else {
            LOST
        };
        return ENOUGH;
    } else if is(kind, FaultKind::NetDelay) {
        let wait = net_delay::delay_ns(rule.rule.params, index, direction, draw);
        passing.wait(index, wait);
        passing.overtakes |= u32::from(delay::may_overtake(rule.rule.params));
        passing.detour |= bit;
    } else if is(kind, FaultKind::NetCorrupt) {
        let damaged = net_corrupt::apply(skb.0, passing.space(), &rule.rule.params, draw);
        if damaged && in_use(Uses::DETOURS) && corrupt::needs_detour(rule.rule.params) {
            passing.detour |= bit;
        } else {
            passing.done(&rule, bit, damaged);
        }
    } else if is(kind, FaultKind::NetDuplicate) {
        passing.copied |= bit;
    } else if is(kind, FaultKind::NetReorder) {
        passing.overtakes = 1;
        passing.done(&rule, bit, true);
    } else if is(kind, FaultKind::NetRate) {
        let header_len = passing.facts().payload_offset;
        match net_rate::wait_ns(&skb, rule.rule.params, index, direction, header_len) {
            Some(wait) => {
                passing.wait(index, wait);
                passing.detour |= bit;
            }
            None => {
                passing.done(&rule, bit, true);
                rule.dropped();
                passing.lost = LOST;
                return ENOUGH;
            }
        }
    } else if is(kind, FaultKind::Dns) && dns_fault::code(rule.rule.params) == dns_fault::DELAY {
        passing.wait(index, dns_fault::delay_ns(rule.rule.params));
        passing.detour |= bit;
    } else if is_answer(kind) {
        passing.space().draw = draw;
        // Counted once it is built.
        passing.lost = ANSWERED;
        passing.culprit = index;
        return ENOUGH;
    } else {
        rule.done(false);
    }
    GO_ON
}

/// Whether rules of this kind make a packet its own answer.
#[inline(always)]
fn is_answer(kind: u32) -> bool {
    is(kind, FaultKind::NetReject) || is(kind, FaultKind::NetReset) || is(kind, FaultKind::Dns)
}

/// Counts one rule whose packet took the detour or was copied, or could not.
///
/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`Passing::end`].
unsafe extern "C" fn count(
    _map: *mut c_void,
    index: *const u32,
    slot: *const RuleSlot,
    passing: *mut Passing,
) -> u64 {
    // SAFETY: see above.
    let (index, rule, passing) = unsafe { (*index, (*slot).rule(), &mut *passing) };
    if index >= passing.rule_count {
        return ENOUGH;
    }
    let bit = RuleIndex(index).mask();
    if (passing.detour | passing.copied) & bit != 0
        && let Some(rule) = live(rule, index, passing.now)
    {
        if in_use(Uses::QUEUES) && passing.end == NO_ROOM && passing.detour & bit != 0 {
            rule.dropped();
        }
        if rule.rule.kind == FaultKind::NetReorder as u32 {
            // Its packets that wait were counted as passed.
        } else if passing.end == LOST_BEFORE {
            rule.let_pass();
        } else if in_use(COPIES) && passing.copied & bit != 0 {
            let copies = net_duplicate::copies(rule.rule.params);
            let copied = passing.copying.send(&Skb(passing.skb), copies);
            passing.done(&rule, bit, copied);
        } else {
            let taken = passing.end <= NO_ROOM;
            passing.done(&rule, bit, taken);
        }
    }
    GO_ON
}

/// Tells the ledger of one rule that hit the packet.
///
/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`Passing::tell`].
unsafe extern "C" fn tell(
    _map: *mut c_void,
    index: *const u32,
    _slot: *const RuleSlot,
    passing: *mut Passing,
) -> u64 {
    // SAFETY: see above.
    let (index, passing) = unsafe { (*index, &mut *passing) };
    if index >= passing.rule_count {
        return ENOUGH;
    }
    let (direction, now) = (passing.direction, passing.now);
    let space = passing.space();
    if space.hit & RuleIndex(index).mask() != 0 {
        let told = *space.told(index);
        ledger::packet(&space.facts, direction, index, &told, now);
    }
    GO_ON
}
