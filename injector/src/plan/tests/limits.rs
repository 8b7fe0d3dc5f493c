//! What the tables of the kernel side hold, and no more.

use std::sync::Arc;

use injector_common::{
    faults::net_delay::TABLE_SIZE,
    names::{MAX_LEVELS, MAX_PEERS, MAX_RULES, MAX_TABLES},
};

use super::*;
use crate::model::{Cidr, DelayTable, Distribution};

#[test]
fn as_many_rules_as_a_mask_has_bits() {
    let rules = |count: u32| vec![(errno(&["read"]), calls_of(web())); count as usize];
    let plan = plan(&rules(MAX_RULES), &able()).expect("a plan");
    let masks: Vec<u64> = plan
        .effects
        .iter()
        .filter_map(|effect| {
            if let Effect::WriteCall { rules, .. } | Effect::WriteScope { rules, .. } = effect {
                Some(*rules)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(masks, [u64::MAX; 2]);
    check(
        &rules(MAX_RULES + 1),
        &able(),
        "refused: rules: 65 rules; allowed: at most 64",
    );
}

#[test]
fn as_many_depths_of_cgroups_as_are_looked_at() {
    let rules = |depths: u32| -> Vec<(Fault, RuleScope)> {
        (0..depths)
            .flat_map(|level| [2 * level, 2 * level + 1].map(|id| (id, level)))
            .map(|(id, level)| {
                let scope = cgroup(u64::from(id), level, &format!("/{id}"));
                (errno(&["read"]), calls_of(scope))
            })
            .collect()
    };
    // One is kept for the command's cgroup.
    let most = u32::try_from(MAX_LEVELS).expect("a small number") - 1;
    assert!(plan(&rules(most), &able()).is_ok());
    check(
        &rules(most + 1),
        &able(),
        "refused: target: cgroups at 8 different depths; allowed: at most 7 depths",
    );
}

#[test]
fn device_names_fit_and_differ() {
    const IFNAMSIZ: usize = 16;
    let rules: Vec<(Fault, RuleScope)> = vec![(
        delay(Direction::Both),
        RuleScope {
            scopes: vec![web()],
            netns: (1..=1000)
                .map(|inode| netns(inode, "/ns", &[("lo", 1), ("eth0", 2)]))
                .collect(),
            files: Vec::new(),
            chain: Vec::new(),
            function: None,
            left_out: None,
        },
    )];
    let plan = plan(&rules, &able()).expect("a plan");
    let mut names = std::collections::BTreeSet::new();
    for effect in &plan.effects {
        let Effect::AddHop(hop) = effect else {
            continue;
        };
        let (near, far) = hop.pair.clone().expect("a pair");
        for name in [near, far, hop.ifb.clone().expect("an ifb")] {
            assert!(name.len() < IFNAMSIZ, "{name} is too long for a device");
            assert!(names.insert(name.clone()), "{name} comes twice");
        }
    }
    assert_eq!(names.len(), 3000);
}

#[test]
fn as_many_tables_of_delays_as_there_is_room_for() {
    // So many rules beside each other share one.
    let rules = |count: u32, sharing: u32| -> Vec<(Fault, RuleScope)> {
        let table = |number: u32| DelayTable {
            name: format!("file:{number}"),
            values: Box::new([0; TABLE_SIZE]),
        };
        (0..count)
            .map(|number| {
                let table = Arc::new(table(number / sharing));
                let delay = Delay {
                    distribution: Distribution::Table(table),
                    ..Delay::steady(Duration::from_millis(1))
                };
                let fault = Fault::Packet(filter(Direction::Egress), PacketFault::Delay(delay));
                (fault, packets_of(web(), host(&[("eth0", 2)])))
            })
            .collect()
    };
    assert!(plan(&rules(MAX_TABLES, 1), &able()).is_ok());
    assert!(plan(&rules(2 * MAX_TABLES, 2), &able()).is_ok());
    check(
        &rules(MAX_TABLES + 1, 1),
        &able(),
        "refused: distribution: 17 tables of delays; allowed: at most 16 different ones for all \
         rules together",
    );
}

#[test]
fn delays_add_up_to_half_an_hour() {
    let rules = |count: usize| {
        let minute = delay_by(filter(Direction::Egress), Duration::from_secs(60));
        vec![(minute, packets_of(web(), host(&[("eth0", 2)]))); count]
    };
    assert!(plan(&rules(30), &able()).is_ok());
    check(
        &rules(31),
        &able(),
        "refused: delay: delays that add up to 1860 s; allowed: at most 1800 s for all rules together",
    );
}

#[test]
fn one_index_in_two_namespaces_means_one_kind_of_interface() {
    let rules = |name: &str| {
        let here = packets_of(web(), host(&[("eth0", 2)]));
        let there = packets_of(web(), private(&[(name, 2)]));
        vec![
            (loss(Direction::Egress), here),
            (loss(Direction::Egress), there),
        ]
    };
    assert!(plan(&rules("eth1"), &able()).is_ok());
    let refused = plan(&rules("tun0"), &able()).expect_err("a clash");
    let told = refused.to_string();
    assert!(
        told.contains("eth0 in /ns/host and tun0 in /ns/pod, both with index 2"),
        "{told}"
    );
}

#[test]
fn one_table_holds_the_networks_of_all_rules() {
    let rules = |count: u32| {
        let networks = (0..count).map(|number| Cidr {
            address: std::net::Ipv4Addr::from_bits(number).into(),
            prefix: 32,
        });
        let filter = PacketFilter {
            peers: networks.collect::<Vec<_>>().into(),
            ..filter(Direction::Egress)
        };
        let scope = || packets_of(web(), host(&[("eth0", 2)]));
        let full = (Fault::Packet(filter, PacketFault::LOSS), scope());
        [full.clone(), full]
    };
    assert!(plan(&rules(MAX_PEERS / 2), &able()).is_ok());
    let error = plan(&rules(MAX_PEERS / 2 + 1), &able()).expect_err("too many");
    let text = error.to_string();
    assert!(
        text.starts_with("peer: 131074 networks; allowed: at most 131072"),
        "{text}"
    );
}
