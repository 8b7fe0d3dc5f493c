//! Rules that count per flow: which packets of a flow are hit is known from the seed,
//! whatever other flows do, and on whichever processor.

use std::{fs, net::IpAddr, os::fd::AsFd as _, path::Path};

use aya::maps::{Array, MapData};
use injector_common::{
    RuleStats, Trigger,
    filter::{EGRESS, INGRESS, PacketFilter},
    flow::{self, Flow},
    names::{MAP_STATS, MAP_TURNS, PROG_EGRESS},
    packet::V4_MAPPED,
    random::{roll, rule_seed},
    trigger::THRESHOLD_ALWAYS,
    uses::Uses,
};
use injector_tests::{
    agent::{Finished, Injection},
    cgroup::Cgroup,
    command::Process,
    ledger::{Ledger, replay, replayed},
    netns::{Ip, Pair, address},
    require, test_run,
    traffic::{
        Arrived, Direction, Load, UdpFlow,
        ends::{self, FAR_PORT, NEAR_PORT},
    },
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

const SEED: u64 = 7;

/// A quarter: a share that the kernel's threshold stands for exactly.
const QUARTER: Trigger = Trigger {
    threshold: THRESHOLD_ALWAYS / 4,
    ..Trigger::ALWAYS
};

/// How many packets a flow sends.
const LOAD: Load = Load::of(400);

/// The flow with this number, as the only rule sees its packets.
fn key(number: u16, direction: u32) -> Flow {
    let words = |net: u8| match address(Ip::V4, 0, net) {
        IpAddr::V4(v4) => [0, 0, V4_MAPPED, u32::from_ne_bytes(v4.octets())],
        IpAddr::V6(_) => unreachable!("IPv4 was asked for"),
    };
    Flow {
        direction,
        protocol: 17,
        local: words(1),
        local_port: NEAR_PORT + number,
        peer: words(2),
        peer_port: FAR_PORT + number,
    }
}

/// Which of a flow's first packets the only rule hits.
fn predicted(flow: &Flow) -> Vec<u64> {
    let seed = rule_seed(SEED, 0);
    (1..=LOAD.count)
        .filter(|&n| QUARTER.selects(n, roll(flow::draw(flow, seed, n))))
        .collect()
}

/// Lets a process use these processors only, of those that this one may use.
fn keep_on(number: usize, process: &Process) {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the processors");
    let cpus: Vec<usize> = (0..CpuSet::count())
        .filter(|&cpu| allowed.is_set(cpu).unwrap_or(false))
        .collect();
    let mut only = CpuSet::new();
    only.set(cpus[number % cpus.len()]).expect("a processor");
    sched_setaffinity(Pid::from_raw(process.pid().cast_signed()), &only)
        .expect("choose a processor");
}

/// Lets all flows send at once, each sender on the processor that `on` names.
fn together(flows: &[UdpFlow], on: fn(usize) -> usize) -> Vec<Arrived> {
    for (number, flow) in flows.iter().enumerate() {
        keep_on(on(number), flow.sender());
    }
    flows.iter().for_each(|flow| flow.begin(LOAD));
    flows.iter().map(UdpFlow::finish).collect()
}

/// Three flows that leave and one that arrives, all at once and under one rule: on one
/// processor, on two, and by the program that fails the calls. A ledger tells of each hit,
/// and what it tells is done again.
#[test]
fn each_flow_is_hit_as_its_seed_says() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let ways = [
        Direction::Egress,
        Direction::Egress,
        Direction::Egress,
        Direction::Ingress,
    ];
    let flows: Vec<UdpFlow> = (0..)
        .zip(ways)
        .map(|(number, way)| {
            let ends = ends::Flow {
                near_port: NEAR_PORT + number,
                far_port: FAR_PORT + number,
                ..ends::PLAIN
            };
            ends.start(&pair, &cgroup, way)
        })
        .collect();
    let expected: Vec<Vec<u64>> = (0..)
        .zip(ways)
        .map(|(number, way)| {
            let direction = match way {
                Direction::Egress => EGRESS,
                Direction::Ingress => INGRESS,
            };
            predicted(&key(number, direction))
        })
        .collect();
    let lost = |arrived: &[Arrived]| -> Vec<Vec<u64>> {
        arrived.iter().map(|flow| flow.lost.clone()).collect()
    };
    let all = LOAD.count * u64::try_from(flows.len()).expect("few");
    let hits: usize = expected.iter().map(Vec::len).sum();
    let target = cgroup.target();
    let start = |more: &str, ledger: &Path| {
        let line = format!(
            "net-loss --percent 25 --per flow --seed {SEED} --target {target} --proto udp \
             --for 10m --ledger {} {more}",
            ledger.display()
        );
        Injection::start(&line.split_whitespace().collect::<Vec<_>>())
    };
    let directory = tempfile::tempdir().expect("make a directory");
    let path = directory.path().join("hits.jsonl");

    let injection = start("--direction both", &path);
    let arrived = together(&flows, |_| 0);
    let end = injection.stop();
    assert_eq!(lost(&arrived), expected);
    assert_eq!(count(&end), (all, hits));
    assert_eq!(end.report().ledger_lost, Some(0));
    let ledger = Ledger::read(&path);
    assert_eq!(ledger.seed(), SEED);
    assert_eq!(ledger.end(), (all, hits));
    assert_eq!(ledger.hits.len(), hits);
    for (number, expected) in (0..).zip(&expected) {
        assert_eq!(&ledger.of(NEAR_PORT + number), expected, "flow {number}");
        assert_eq!(ledger.packets(NEAR_PORT + number), Some(LOAD.count));
    }

    let injection = replay(&path);
    let arrived = together(&flows, |number| number);
    let end = injection.stop();
    assert_eq!(lost(&arrived), expected);
    assert_eq!(count(&end), (all, hits));
    assert_eq!(end.report().replayed, replayed(4, 0, 0));

    // A ledger of another seed, of which one flow does not come again.
    let text = fs::read_to_string(&path).expect("a ledger");
    let bent = text.replacen("\"seed\":7,", "\"seed\":8,", 1);
    assert_ne!(text, bent);
    let other = directory.path().join("bent.jsonl");
    fs::write(&other, bent).expect("write a ledger");
    let injection = replay(&other);
    let _ = together(&flows[..3], |number| number);
    assert_eq!(injection.stop().report().replayed, replayed(0, 3, 1));

    let calls = directory.path().join("calls.jsonl");
    let injection = start("--visibility errno=EPERM", &calls);
    let arrived = together(&flows[..3], |number| number);
    let rule = injection.stop().rule();
    let ledger = Ledger::read(&calls);
    for (number, (flow, expected)) in (0..).zip(arrived.iter().zip(&expected)) {
        let failed = u64::try_from(expected.len()).expect("few");
        assert_eq!(flow.send_errors, (failed, 1), "{flow:?}");
        assert_eq!(&ledger.of(NEAR_PORT + number), expected, "flow {number}");
    }
    assert_eq!(rule.matched, 3 * LOAD.count);
}

/// How many packets matched the only rule, and how many it hit.
#[track_caller]
fn count(end: &Finished) -> (u64, usize) {
    let rule = end.rule();
    (rule.matched, usize::try_from(rule.injected).expect("few"))
}

/// A UDP packet over IPv4 from this port, behind an Ethernet header.
fn frame(port: u16) -> Vec<u8> {
    let mut frame = vec![0; 14 + 20 + 8 + 18];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[17] = 46;
    frame[23] = 17;
    frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame[36..38].copy_from_slice(&[0, 53]);
    frame[39] = 26;
    frame
}

/// Where there is room for two flows, packets of a third pass, and are told as errors.
#[test]
fn a_flow_without_room_is_an_error() {
    require!(NetLoss);
    let uses = Uses::kind(injector_common::FaultKind::NetLoss).and(Uses::FLOWS);
    let mut ebpf = test_run::load_sized(uses, &[(MAP_TURNS, 2)]);
    let program = test_run::program(&mut ebpf, PROG_EGRESS);
    let mut rules = test_run::arm(&mut ebpf);
    let mut slot = test_run::loss(PacketFilter::ANY);
    slot.versions[0].per = 1;
    // Of each flow the second packet alone.
    (
        slot.versions[0].trigger.first,
        slot.versions[0].trigger.last,
    ) = (2, 2);
    rules.set(0, slot, 0).expect("write the rule");
    let mut pass = |port| {
        let verdict = test_run::run(program.as_fd(), &mut frame(port), 0);
        verdict.expect("a frame") == test_run::NEXT
    };
    let passed: Vec<bool> = [1, 2, 3, 1, 2, 3, 1].into_iter().map(&mut pass).collect();
    assert_eq!(passed, [true, true, true, false, false, true, true]);
    let stats = ebpf.take_map(MAP_STATS).expect("the counters");
    let stats: Array<MapData, RuleStats> = stats.try_into().expect("an array");
    let stats = stats.get(&0, 0).expect("the rule's counters");
    assert_eq!((stats.matched, stats.injected), (7, 2));
    assert_eq!((stats.passed, stats.errors), (3, 2));
}

/// Where it would mean nothing, it is refused.
#[test]
fn what_belongs_to_no_flow_is_refused() {
    for (kind, reason) in [
        (
            "sys-errno --call read --errno EIO",
            "system calls belong to no flow",
        ),
        ("net-refuse", "no flow yet"),
        ("net-partition", "lets no packet through"),
        ("net-loss --burst 1,25", "all flows of a rule share"),
        (
            "net-delay --delay 1ms --jitter 1ms --correlation 5",
            "of whatever flow",
        ),
        (
            "net-duplicate --percent 5 --correlation 5",
            "of whatever flow",
        ),
        ("net-link --profile 3g", "several rules"),
    ] {
        let line = format!("plan {kind} --per flow --target pid:1 --for 1s");
        let finished = injector_tests::agent::run(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(finished.code(), 2, "{kind}: {}", finished.stderr);
        let told = &finished.stderr;
        assert!(
            told.contains("--per") && told.contains(reason),
            "{kind}: {told}"
        );
    }
}
