//! Laws of flows, and of what is drawn for their packets.

#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::collections::BTreeSet;

use injector_common::{
    filter::{EGRESS, INGRESS},
    flow::{Flow, draw},
    packet::Facts,
    random::{self, rule_seed},
};
use proptest::{prelude::*, sample::Index};
use support::{any_facts, any_way, reversed};

/// The flow of a UDP packet that is sent from one of these ports.
fn from_port(local_port: u16) -> Flow {
    Flow {
        direction: EGRESS,
        protocol: 17,
        local: [0, 0, 0, 1],
        local_port,
        peer: [0, 0, 0, 2],
        peer_port: 53,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn both_directions_have_the_same_ends(facts in any_facts()) {
        let out = Flow::of(&facts, EGRESS);
        let back = Flow::of(&reversed(&facts), INGRESS);
        prop_assert_eq!(Flow { direction: INGRESS, ..out }, back);
        prop_assert_ne!(out.seed(1), back.seed(1));
    }

    #[test]
    fn nothing_but_the_ends_counts(facts in any_facts(), way in any_way(), other in any_facts()) {
        let alike = Facts {
            src: facts.src,
            dst: facts.dst,
            src_port: facts.src_port,
            dst_port: facts.dst_port,
            number: facts.number,
            ..other
        };
        prop_assert_eq!(Flow::of(&facts, way), Flow::of(&alike, way));
    }

    #[test]
    fn each_part_of_a_flow_and_of_the_seed_counts(
        facts in any_facts(),
        way in any_way(),
        seed in any::<u64>(),
        bit in 0..64_u32,
        word in any::<Index>(),
    ) {
        let flow = Flow::of(&facts, way);
        let known = flow.seed(seed);
        prop_assert_ne!(known, flow.seed(seed ^ (1 << bit)));
        let word = word.index(4);
        let mut others = [flow; 6];
        others[0].direction ^= 3;
        others[1].protocol ^= 1 << (bit % 8);
        others[2].local[word] ^= 1 << (bit % 32);
        others[3].peer[word] ^= 1 << (bit % 32);
        others[4].local_port ^= 1 << (bit % 16);
        others[5].peer_port ^= 1 << (bit % 16);
        for other in others {
            prop_assert_ne!(known, other.seed(seed), "{:?}", other);
            prop_assert_ne!(draw(&flow, seed, 1), draw(&other, seed, 1));
        }
    }

    #[test]
    fn the_ends_are_not_interchangeable(facts in any_facts(), seed in any::<u64>()) {
        prop_assume!((facts.src, facts.src_port) != (facts.dst, facts.dst_port));
        let [there, back] = [facts, reversed(&facts)].map(|facts| Flow::of(&facts, EGRESS));
        prop_assert_ne!(there.seed(seed), back.seed(seed));
    }

    /// Three of ten packets of each flow, and of the first packets of all flows: neither
    /// draws within a flow nor those of neighbouring flows depend on each other.
    #[test]
    fn shares_hold_within_flows_and_across_them(seed in any::<u64>(), port in any::<u16>()) {
        let seed = rule_seed(seed, 0);
        let hit = |draw: u64| u64::from(random::roll(draw)) < 3 * (1 << 32) / 10;
        let count = |draws: &mut dyn Iterator<Item = u64>| draws.filter(|&draw| hit(draw)).count();
        let within = count(&mut (1..=4000).map(|n| draw(&from_port(port), seed, n)));
        let across = count(&mut (0..4000).map(|more| {
            draw(&from_port(port.wrapping_add(more)), seed, 1)
        }));
        // Six standard deviations of 29.
        for share in [within, across] {
            prop_assert!((1026..=1374).contains(&share), "{within} {across}");
        }
    }
}

#[test]
fn the_flows_of_a_busy_host_are_told_apart() {
    let seeds: BTreeSet<u64> = (0..=u16::MAX).map(|port| from_port(port).seed(7)).collect();
    assert_eq!(seeds.len(), 65_536);
}
