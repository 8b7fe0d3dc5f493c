//! Laws of what begins a conversation and what belongs to one.

#[allow(dead_code, reason = "shared with other tests")]
mod support;

use injector_common::{
    conversation::{
        AT_INTERFACES, AT_SOCKETS, Conversation, STATE_ESTABLISHED, STATE_NEW, tcp_state, udp_state,
    },
    filter::{EGRESS, INGRESS},
    packet::Facts,
};
use proptest::{collection::vec, prelude::*};
use support::{any_facts, any_way, reversed};

/// Facts of a UDP packet.
fn any_udp() -> impl Strategy<Value = Facts> {
    (any_facts(), 1..=u16::MAX, any::<u16>()).prop_map(|(facts, src_port, dst_port)| Facts {
        proto: 17,
        number: 17,
        src_port,
        dst_port,
        ..facts
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_connection_begins_with_a_syn_alone(flags in any::<u16>()) {
        let alone = flags & 0x02 != 0 && flags & 0x10 == 0;
        prop_assert_eq!(tcp_state(flags), if alone { STATE_NEW } else { STATE_ESTABLISHED });
    }

    #[test]
    fn a_conversation_is_one_from_both_ends(facts in any_udp(), way in any_way()) {
        let (there, bit) = Conversation::of(&facts, way).unwrap();
        let (back, other) = Conversation::of(&reversed(&facts), way).unwrap();
        prop_assert_eq!(there, back);
        let to_itself = facts.src == facts.dst && facts.src_port == facts.dst_port;
        prop_assert_eq!(bit == other, to_itself);
        let (far, _) = Conversation::of(&Facts { dst_port: !facts.dst_port, ..facts }, way).unwrap();
        prop_assert!(far != there);
    }

    #[test]
    fn only_the_first_packet_is_new(
        facts in any_udp(),
        // Which way each packet goes, and whether both hooks see it, as on
        // loopback, or the one of its way; and each of them in both places.
        packets in vec(any::<bool>(), 1..8),
        loopback in any::<bool>(),
    ) {
        prop_assume!((facts.src, facts.src_port) != (facts.dst, facts.dst_port));
        let mut seen = 0;
        for (number, sent) in packets.iter().enumerate() {
            let facts = if *sent { facts } else { reversed(&facts) };
            let hooks = match (loopback, sent) {
                (true, _) => vec![EGRESS, INGRESS],
                (false, true) => vec![EGRESS],
                (false, false) => vec![INGRESS],
            };
            for hook in hooks {
                let (_, bit) = Conversation::of(&facts, hook).unwrap();
                let expected = if number == 0 { STATE_NEW } else { STATE_ESTABLISHED };
                for place in [AT_SOCKETS, AT_INTERFACES] {
                    prop_assert_eq!(udp_state(seen >> place, bit), expected, "packet {}", number);
                    seen |= bit << place;
                }
            }
        }
    }

    #[test]
    fn what_is_not_udp_is_not_remembered(facts in any_facts()) {
        let conversation = Conversation::of(&facts, EGRESS);
        prop_assert_eq!(conversation.is_some(), facts.proto == 17 && (facts.src_port, facts.dst_port) != (0, 0));
    }
}
