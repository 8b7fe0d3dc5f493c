//! The ledger, and running again what it tells of.

use std::{fs, path::Path};

use injector_tests::{
    agent::{self, Agent, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::{Feature, Where},
    ledger::{Ledger, replay, replayed},
    netns::Pair,
    require,
    traffic::{Direction, Load, ends::PLAIN},
};
use nix::sys::signal::Signal;

/// A path in UTF-8.
fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Runs once more what a ledger tells of: its only flow, or its calls, are hit the same.
#[track_caller]
fn assert_one_comes_again(ledger: &Path) {
    let again = agent::run(&["run", "--replay", text(ledger), "--output", "json"]);
    assert_eq!(
        again.report().replayed,
        replayed(1, 0, 0),
        "{}",
        again.stderr
    );
}

/// Rules that hit a packet when they are asked, when it is sent on, when it is copied and
/// when it is answered: each hit is told, whenever it is known.
#[test]
fn late_hits_of_several_rules_are_told() {
    require!(NetCorrupt);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let flow = PLAIN.start(&pair, &cgroup, Direction::Egress);
    let target = cgroup.target();
    let waits = Feature::NetDelay.available().is_ok();
    let mut rules = String::new();
    let mut rule = |name: &str, options: &str| {
        rules += &format!(
            "- {{name: {name}, kind: {options}, target: '{target}', proto: udp, per: flow, \
             percent: 40}}\n"
        );
    };
    rule("damage", "net-corrupt");
    if waits {
        rule("late", "net-delay, delay: 2ms");
    }
    rule("twice", "net-duplicate");
    rule("answered", "net-reject");
    let directory = tempfile::tempdir().expect("make a directory");
    let [spec, ledger] = ["spec.yaml", "hits.jsonl"].map(|name| directory.path().join(name));
    fs::write(
        &spec,
        format!("version: 1\nseed: 3\nfor: 5m\nrules:\n{rules}"),
    )
    .expect("write");

    let line = [
        "run",
        text(&spec),
        "--ledger",
        text(&ledger),
        "--output",
        "json",
    ];
    let injection = Injection::from_agent(Agent::start(Place::HERE, &line, &[]));
    // One at a time, so that nothing that arrives late is taken for lost.
    let load = Load::of(200);
    flow.begin(load);
    let _ = flow.finish();
    let end = injection.stop();
    assert_eq!(end.code(), 0, "{}", end.stderr);
    let (report, told) = (end.report(), Ledger::read(&ledger));
    assert_eq!((report.ledger_lost, told.lost()), (Some(0), 0));
    for rule in &report.rules {
        assert!(rule.injected > 0 && rule.errors == 0, "{rule:?}");
        assert_eq!(told.count(&rule.name), rule.injected, "{rule:?}");
    }
    let late = told.hits.iter().filter(|hit| hit["rule"] == "late");
    for hit in late {
        assert_eq!(hit["wait_ns"], 2_000_000, "{hit}");
    }

    // The file is not needed any more.
    fs::remove_file(&spec).expect("remove a file");
    let injection = replay(&ledger);
    flow.begin(load);
    let _ = flow.finish();
    let again = injection.stop().report();
    let flows = u64::try_from(report.rules.len()).expect("few");
    assert_eq!(
        again.replayed,
        replayed(flows, 0, 0),
        "{report:?} {again:?}"
    );
}

/// Calls that fail are told by their process, and compared by their numbers.
#[test]
fn calls_are_told() {
    require!(SysErrno);
    let directory = tempfile::tempdir().expect("make a directory");
    let ledger = directory.path().join("hits.jsonl");
    let script = "for i in 1 2 3 4 5 6; do ls / >/dev/null 2>&1; done; true";
    let line = format!(
        "inject sys-errno --call getdents64 --errno EIO --percent 50 --seed 3 --for 2m \
         --output json --ledger {} --",
        text(&ledger)
    );
    let mut words: Vec<&str> = line.split_whitespace().collect();
    words.extend(["sh", "-c", script]);
    let end = agent::run(&words);
    let rule = end.rule();
    let told = Ledger::read(&ledger);
    assert!(rule.injected > 0 && rule.passed > 0, "{rule:?}");
    assert_eq!(told.count("sys-errno"), rule.injected, "{rule:?}");
    for hit in &told.hits {
        assert!(hit["tgid"].as_u64().is_some_and(|tgid| tgid > 1), "{hit}");
        assert!(hit.get("flow").is_none(), "{hit}");
    }
    assert_one_comes_again(&ledger);
}

/// So are connections that are refused.
#[test]
fn refused_connections_are_told() {
    require!(NetRefuse);
    let directory = tempfile::tempdir().expect("make a directory");
    let ledger = directory.path().join("hits.jsonl");
    let line = format!(
        "inject net-refuse --peer-port 9 --when 2 --for 2m --output json --ledger {} --",
        text(&ledger)
    );
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let script = "for i in 1 2 3; do (: </dev/tcp/127.0.0.1/9) 2>/dev/null; done; true";
    words.extend(["bash", "-c", script]);
    let rule = agent::run(&words).rule();
    assert_eq!((rule.matched, rule.injected), (3, 1), "{rule:?}");
    let told = Ledger::read(&ledger);
    assert_eq!(told.hits.len(), 1);
    assert_eq!(
        (&told.hits[0]["n"], &told.hits[0]["rule"]),
        (&2.into(), &"net-refuse".into())
    );
    assert_one_comes_again(&ledger);
}

/// An agent that does not come to read its ring: what does not fit is counted, in the
/// report and in the file, and nothing else is missing.
#[test]
fn what_the_ring_has_no_room_for_is_counted() {
    require!(NetLoss);
    // Under emulation so many packets do not pass within a lease.
    if Where::current() != Where::Host {
        return;
    }
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let flow = PLAIN.start(&pair, &cgroup, Direction::Egress);
    let directory = tempfile::tempdir().expect("make a directory");
    let ledger = directory.path().join("hits.jsonl");
    let line = format!(
        "net-loss --target {} --proto udp --for 5m --ledger {}",
        cgroup.target(),
        text(&ledger)
    );
    let injection = Injection::start(&line.split_whitespace().collect::<Vec<_>>());
    injection.agent().signal(Signal::SIGSTOP);
    flow.begin(Load::of(60_000).windowed(u64::MAX / 2));
    let _ = flow.finish();
    injection.agent().signal(Signal::SIGCONT);
    let end = injection.stop();
    let (rule, report, told) = (end.rule(), end.report(), Ledger::read(&ledger));
    let lost = report.ledger_lost.expect("a ledger");
    assert!(lost > 0, "{rule:?}");
    assert_eq!(told.lost(), lost);
    assert_eq!(told.count("net-loss") + lost, rule.injected, "{rule:?}");
    let again = agent::run(&["run", "--replay", text(&ledger)]);
    assert_eq!(again.code(), 2, "{}", again.stderr);
    let reason = format!("lost {lost} hits");
    assert!(again.stderr.contains(&reason), "{}", again.stderr);
}
