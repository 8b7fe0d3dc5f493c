//! One vector of inputs through every decision, for the test that compares the
//! host's answers with the kernel's.
//!
//! The program [`crate::names::PROG_PARITY`] is never attached. A test runs it
//! on a packet that begins with a [`ParityVector`], followed by the packet to
//! judge, and finds a [`ParityResult`] in the vector's place.

use crate::{
    conversation::{self, Conversation},
    dns::NameReader,
    faults::{Params, dns as dns_fault, net_corrupt::Region, net_delay, sys_errno, sys_return},
    filter::PacketFilter,
    flow::Flow,
    packet::Facts,
    random,
    trigger::Trigger,
};

/// The inputs of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ParityVector {
    /// The rule's trigger.
    pub trigger: Trigger,
    /// The parameters, taken by every kind for its own.
    pub params: Params,
    /// Seed of the rule's decisions.
    pub seed: u64,
    /// Which matching operation this is, from 1; also the time in ns.
    pub n: u64,
    /// How many injections were taken from the budget; also what became of the last draw.
    pub spent: u64,
    /// When the flow's last packet leaves, in ns.
    pub in_flow: u64,
    /// What was seen of the packet's conversation.
    pub seen: u64,
    /// Which packets match.
    pub filter: PacketFilter,
    /// Which way the packet goes.
    pub direction: u32,
    /// Length of its link-layer header.
    pub l2_len: u32,
    /// Its EtherType, in the order of the wire.
    pub ether_type: u32,
    /// Length of the whole frame.
    pub frame_len: u32,
    /// Payload of one segment of it, as [`Facts::note_frame`] takes it.
    pub gso_size: u32,
    /// Its mark.
    pub mark: u32,
}

/// The answers of one round. Facts stand here one by one: their own type has
/// no layout to rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ParityResult {
    /// [`net_delay::delay_ns`].
    pub delay_ns: u64,
    /// [`net_delay::departure_ns`].
    pub departure_ns: u64,
    /// [`Flow::seed`].
    pub flow_seed: u64,
    /// [`Trigger::threshold_after`].
    pub threshold: u64,
    /// The bit of the packet's way in its conversation; 0 without one.
    pub way: u64,
    /// [`ErrorList::choose`](sys_errno::ErrorList::choose) of the list that the parameters are.
    pub listed: i64,
    /// [`Facts::src`].
    pub src: [u32; 4],
    /// [`Facts::dst`].
    pub dst: [u32; 4],
    /// [`Facts::proto`].
    pub proto: u32,
    /// [`Facts::transport_offset`].
    pub transport_offset: u32,
    /// [`Facts::payload_offset`].
    pub payload_offset: u32,
    /// [`Facts::end_offset`].
    pub end_offset: u32,
    /// [`Facts::size`].
    pub size: u32,
    /// [`Facts::mark`].
    pub mark: u32,
    /// The packet's conversation.
    pub conversation: Conversation,
    /// [`Facts::src_port`].
    pub src_port: u16,
    /// [`Facts::dst_port`].
    pub dst_port: u16,
    /// [`Facts::icmp_type`].
    pub icmp_type: u8,
    /// [`Facts::family`].
    pub family: u8,
    /// [`Facts::protected`].
    pub protected: u8,
    /// [`Facts::is_fragment`].
    pub is_fragment: u8,
    /// [`Facts::echo_id`].
    pub echo_id: u16,
    /// [`Facts::tcp_flags`].
    pub tcp_flags: u16,
    /// [`Facts::number`].
    pub number: u8,
    /// [`Facts::dscp`].
    pub dscp: u8,
    /// [`Facts::state`], as the conversation has it.
    pub state: u8,
    /// 1 where the packet belongs to a conversation.
    pub has_conversation: u8,
    /// [`random::roll`].
    pub roll: u32,
    /// [`random::amount`].
    pub amount: u32,
    /// [`Trigger::selects`].
    pub selected: u32,
    /// [`Trigger::within_budget`].
    pub verdict: u32,
    /// What `packet::parse` returned.
    pub parsed: u32,
    /// [`PacketFilter::matches`], and what the peer table says.
    pub matches: u32,
    /// Where the last change of [`Region::change`] lies.
    pub place: u32,
    /// Its pattern; 0 when there is none.
    pub pattern: u32,
    /// [`sys_errno::clamp`] of [`sys_errno::return_value`].
    pub return_value: i32,
    /// [`sys_return::result`] of [`sys_return::value`], or where what the flow holds is even, of what
    /// the parameters hold.
    pub pretended: i32,
    /// Zero.
    pub _pad: u32,
    /// 1 once all of this was filled in.
    pub reached: u32,
    /// [`dns_fault::takes_type`] of the low half of `n`, and above its bit what a
    /// [`NameReader`] makes of the lowest byte.
    pub asked: u32,
}

impl ParityResult {
    /// Notes what was read from the packet.
    #[inline(always)]
    pub const fn note_facts(&mut self, facts: &Facts) {
        self.src = facts.src;
        self.dst = facts.dst;
        self.proto = facts.proto;
        self.transport_offset = facts.transport_offset;
        self.payload_offset = facts.payload_offset;
        self.end_offset = facts.end_offset;
        self.src_port = facts.src_port;
        self.dst_port = facts.dst_port;
        self.size = facts.size;
        self.mark = facts.mark;
        self.tcp_flags = facts.tcp_flags;
        self.number = facts.number;
        self.dscp = facts.dscp;
        self.echo_id = facts.echo_id;
        self.icmp_type = facts.icmp_type;
        self.family = facts.family;
        self.protected = facts.protected;
        self.is_fragment = facts.is_fragment() as u8;
    }

    /// Notes the seed of the packet's flow.
    #[inline(always)]
    pub const fn note_flow(&mut self, facts: &Facts, direction: u32, rule_seed: u64) {
        self.flow_seed = Flow::of(facts, direction).seed(rule_seed);
    }

    /// Notes the packet's conversation, of which `seen` was seen, and in `facts`
    /// what follows from it.
    #[inline(always)]
    pub const fn note_conversation(&mut self, facts: &mut Facts, direction: u32, seen: u64) {
        if let Some((conversation, bit)) = Conversation::of(facts, direction) {
            self.conversation = conversation;
            self.has_conversation = 1;
            self.way = bit;
            facts.state = conversation::udp_state(seen, bit);
        }
        self.state = facts.state;
    }

    /// Notes what the trigger says of occurrence `n`.
    #[inline(always)]
    pub const fn note_trigger(&mut self, trigger: &Trigger, seed: u64, n: u64, spent: u64) {
        let draw = random::draw(seed, n);
        self.roll = random::roll(draw);
        self.amount = random::amount(draw);
        self.selected = trigger.selects(n, self.roll) as u32;
        self.threshold = trigger.threshold_after(spent);
        self.verdict = trigger.within_budget(spent) as u32;
    }

    /// Notes what the kinds make of the packet. Facts and trigger are noted
    /// already.
    #[inline(always)]
    pub const fn note_faults(
        &mut self,
        facts: &Facts,
        frame_len: u32,
        params: Params,
        now_ns: u64,
        in_flow: u64,
    ) {
        self.delay_ns = net_delay::delay_ns(params, self.amount);
        self.departure_ns = net_delay::departure_ns(now_ns, self.delay_ns, in_flow);
        let region = Region::of(facts, frame_len, params);
        let last = params[1].wrapping_sub(1);
        if let Some((offset, pattern)) = region.change(params, in_flow, last) {
            self.place = offset;
            self.pattern = pattern as u32;
        }
        let [low, high, ..] = now_ns.to_le_bytes();
        let kind = u16::from_le_bytes([low, high]);
        self.asked = dns_fault::takes_type(params, kind) as u32
            | (NameReader::within_label().take(low) << 1);
        let list = sys_errno::ErrorList {
            errors: params,
            count: now_ns,
        };
        self.listed = list.choose(in_flow) as i64;
        self.return_value = sys_errno::clamp(sys_errno::return_value(params, in_flow));
        self.pretended = if in_flow & 1 != 0 {
            sys_return::result(sys_return::packed(sys_return::value(params, in_flow)))
        } else {
            let [a, b, c, d, ..] = params[1].to_le_bytes();
            sys_return::result(i32::from_le_bytes([a, b, c, d]))
        };
    }
}
