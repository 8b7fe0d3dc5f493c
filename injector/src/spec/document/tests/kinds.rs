//! The keys of each kind's own, as a file has them.

use std::time::Duration;

use injector_common::{faults::net_loss::CERTAIN, trigger::THRESHOLD_ALWAYS};

use super::experiment;
use crate::model::{
    After, Answer, Checksum, Damage, Direction, End, Extent, Fault, Link, LossModel, PacketFault,
    Per, QueueMemory, Region, Unreachable, Visibility,
};

/// The fault of a rule with these keys.
fn fault(keys: &str) -> Fault {
    let yaml = format!("version: 1\nfor: 1s\nrules:\n  - {{target: pid:7, kind: {keys}}}\n");
    let experiment = experiment(&yaml).expect(keys);
    experiment.rules.into_iter().next().expect("a rule").fault
}

/// The same of a kind on packets.
fn of_packets(keys: &str) -> PacketFault {
    match fault(keys) {
        Fault::Packet(_, fault) => fault,
        other @ (Fault::Call(..)
        | Fault::Refuse { .. }
        | Fault::Function(_)
        | Fault::Resource(_)) => {
            panic!("{keys}: {other:?}")
        }
    }
}

#[test]
fn losses() {
    let PacketFault::Loss { model, visibility } =
        of_packets("net-loss, burst: '25,50,75', visibility: local")
    else {
        panic!("no loss")
    };
    let LossModel::Gilbert(model) = model else {
        panic!("{model:?}")
    };
    assert_eq!((model.p, model.r), (CERTAIN / 4, CERTAIN / 2));
    assert_eq!((model.bad, model.good), (CERTAIN / 4 * 3, 0));
    assert_eq!(visibility, Visibility::Local);
    let PacketFault::Loss { model, .. } = of_packets("net-loss, markov: 25") else {
        panic!("no loss")
    };
    assert!(matches!(model, LossModel::Markov(model) if model.p13 == CERTAIN / 4));
}

#[test]
fn links() {
    let keys = "net-rate, rate: 10mbit, burst: 32kb, overhead: -14, queue: 300ms, queue-memory: 1mb, per: flow";
    let link = Link {
        rate: 10_000_000,
        burst: 32 << 10,
        overhead: -14,
        queue: Duration::from_millis(300),
        memory: QueueMemory { bytes: 1 << 20 },
        per: Per::Flow,
    };
    assert_eq!(of_packets(keys), PacketFault::Rate(link));
}

#[test]
fn order_and_copies() {
    let keys = "net-reorder, delay: 20ms, gap: 7, queue-memory: 2mb";
    let PacketFault::Reorder { delay, gap, memory } = of_packets(keys) else {
        panic!("no reordering")
    };
    assert_eq!((delay, gap), (Duration::from_millis(20), 7));
    assert_eq!(memory, QueueMemory { bytes: 2 << 20 });
    let PacketFault::Duplicate { copies, .. } = of_packets("net-duplicate, copies: 3") else {
        panic!("no copies")
    };
    assert_eq!(copies, 3);
}

#[test]
fn damage() {
    for (keys, extent) in [("bits: 5", Extent::Bits(5)), ("bytes: 3", Extent::Bytes(3))] {
        let keys = format!("net-corrupt, checksum: broken, region: headers, {keys}");
        let expected = Damage {
            checksum: Checksum::Broken,
            extent,
            region: Region::Headers,
        };
        let found = of_packets(&keys);
        assert!(
            matches!(found, PacketFault::Corrupt(damage) if damage == expected),
            "{found:?}"
        );
    }
}

#[test]
fn answers() {
    let by = Answer::Icmp;
    let code = Unreachable::PolicyFail;
    assert_eq!(
        of_packets("net-reject, with: icmp, code: policy-fail"),
        PacketFault::Reject { by, code }
    );
    let (end, after) = (End::Peer, After::Bytes(77));
    assert_eq!(
        of_packets("net-reset, end: peer, after-bytes: 77"),
        PacketFault::Reset { end, after }
    );
    let (end, after) = (End::Local, After::Time(Duration::from_secs(9)));
    assert_eq!(
        of_packets("net-reset, end: local, after: 9s"),
        PacketFault::Reset { end, after }
    );
}

#[test]
fn refusals_of_connections() {
    let keys = "net-refuse, errno: ETIMEDOUT, proto: udp, peer: 10.0.0.0/8, peer-port: 80, peer-target: 'cgroup:/db'";
    let Fault::Refuse { filter, errno } = fault(keys) else {
        panic!("no refusal")
    };
    assert_eq!(errno.name, "ETIMEDOUT");
    assert_eq!(filter.peer_ports.these, [80..=80]);
    assert_eq!(
        (filter.peers.these.len(), filter.named_peers.these.len()),
        (1, 1)
    );
    assert_eq!(filter.protocols.these.len(), 1);
}

#[test]
fn a_partition_goes_both_ways() {
    let Fault::Packet(filter, PacketFault::Partition) = fault("net-partition, peer: db") else {
        panic!("no partition")
    };
    assert_eq!(filter.direction, Direction::Both);
    assert_eq!(filter.named_peers.these.len(), 1);
}

#[test]
fn correlated_draws() {
    for kind in [
        "net-loss",
        "net-corrupt",
        "net-duplicate",
        "net-reorder, delay: 1ms",
    ] {
        let trigger = |keys: &str| {
            let rule = format!("{{target: pid:7, kind: {kind}, percent: 25, {keys}}}");
            let yaml = format!("version: 1\nfor: 1s\nrules: [{rule}]\n");
            experiment(&yaml).expect(&rule).rules[0].trigger
        };
        let correlated = trigger("correlation: 50");
        // The share is still there to be told, and compared with other rules.
        assert_eq!(correlated.threshold, THRESHOLD_ALWAYS / 4, "{kind}");
        assert_eq!(correlated.correlation, THRESHOLD_ALWAYS / 2, "{kind}");
        let full = trigger("correlation: 100%").correlation;
        assert_eq!(full, THRESHOLD_ALWAYS, "{kind}");
        assert_eq!(trigger("correlation: 0").correlation, 0, "{kind}");
    }
}
