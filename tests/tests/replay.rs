//! The ledger, and running again what it tells of.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use injector_tests::{
    agent::{self, Agent, Finished, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::{Feature, Where},
    ledger::{Ledger, replay_told, replayed},
    netns::Pair,
    require,
    traffic::{
        Direction, Load,
        ends::{FAR_PORT, OTHER_PORTS, PLAIN, both_ways},
    },
    wait,
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};

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
    let waits_at_all = Feature::NetDelay.available().is_ok();
    let mut rules = String::new();
    let mut rule = |name: &str, options: &str| {
        rules += &format!(
            "- {{name: {name}, kind: {options}, target: '{target}', proto: udp, per: flow, \
             percent: 40}}\n"
        );
    };
    rule("damage", "net-corrupt");
    if waits_at_all {
        rule("late", "net-delay, delay: 2ms");
        rule(
            "spread",
            "net-delay, delay: 3ms, jitter: 2ms, reorder: true",
        );
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
    let other = directory.path().join("again.jsonl");
    let injection = replay_told(&ledger, &other);
    flow.begin(load);
    let _ = flow.finish();
    let again = injection.stop().report();
    let flows = u64::try_from(report.rules.len()).expect("few");
    assert_eq!(
        again.replayed,
        replayed(flows, 0, 0),
        "{report:?} {again:?}"
    );
    // Packet by packet, and how long each has waited.
    let (first, second) = (told.waits(), Ledger::read(&other).waits());
    assert_eq!(first, second);
    let spread = first.iter().filter(|(rule, ..)| rule == "spread");
    let waits: BTreeSet<_> = spread.map(|&(_, _, wait)| wait).collect();
    assert_eq!(waits.len() > 20, waits_at_all, "{waits:?}");
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
    if Where::current().is_virtual() {
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

/// A small file system of its own, for as long as this lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// How much it holds.
    const BYTES: u64 = 64 << 10;

    #[track_caller]
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("make a directory");
        let size = format!("size={}", Self::BYTES);
        let (none, kind) = (None::<&str>, Some("tmpfs"));
        mount(
            none,
            directory.path(),
            kind,
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .expect("mount a file system");
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("hits.jsonl")
    }

    /// Leaves no more room on it.
    #[track_caller]
    fn fill(&self) {
        let mut file = File::create(self.0.path().join("filler")).expect("make a file");
        let error = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.0.path(), MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {error}", self.0.path().display());
        }
    }
}

/// Checks that a run whose ledger found no room ended well, said so, and cannot be
/// replayed; how many hits the ledger has.
#[track_caller]
fn assert_cut_off(end: &Finished, ledger: &Path) -> u64 {
    assert_eq!(end.code(), 0, "{}", end.stderr);
    let reason = format!("{}: No space left on device", text(ledger));
    let report = end.report();
    let told = report.ledger_error.expect("an error");
    assert!(told.starts_with(&reason), "{told}");
    assert!(end.stderr.contains(&reason), "{}", end.stderr);
    let written = fs::read_to_string(ledger).expect("a ledger");
    assert!(written.ends_with("}\n"), "a torn line: {written}");
    let mut lines = written.lines();
    let header = lines.next().unwrap_or_default();
    assert!(header.starts_with("{\"header\":"), "{written}");
    let hits = lines.inspect(|line| assert!(line.starts_with("{\"hit\":"), "{line}"));
    let hits = u64::try_from(hits.count()).expect("few");
    let injected: u64 = report.rules.iter().map(|rule| rule.injected).sum();
    assert_eq!(Some(injected - hits), report.ledger_lost, "{written}");
    let again = agent::run(&["run", "--replay", text(ledger)]);
    assert_eq!(again.code(), 2, "{}", again.stderr);
    let reason = format!(
        "no last line (its disk was full, or its injector was killed: it is cut off after {hits} hits)"
    );
    assert!(again.stderr.contains(&reason), "{}", again.stderr);
    hits
}

/// A ledger that finds no more room: for hits, or for its last line alone.
#[test]
fn a_full_disk_cuts_the_ledger_off() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let flow = PLAIN.start(&pair, &cgroup, Direction::Egress);
    let target = cgroup.target();
    let load = Load::of(600).windowed(u64::MAX / 2);

    let disk = SmallDisk::new();
    let ledger = disk.path();
    let line = format!(
        "net-loss --target {target} --proto udp --for 5m --ledger {}",
        text(&ledger)
    );
    let injection = Injection::start(&line.split_whitespace().collect::<Vec<_>>());
    flow.begin(load);
    let _ = flow.finish();
    let end = injection.stop();
    let hits = assert_cut_off(&end, &ledger);
    let injected = end.rule().injected;
    assert!(hits > 0 && hits < injected, "{hits} of {injected}");

    // So many rules that their last line is longer than what is left of a page.
    let disk = SmallDisk::new();
    let ledger = disk.path();
    let mut rules = String::new();
    for port in FAR_PORT..FAR_PORT + 60 {
        rules += &format!(
            "- {{name: a rule of a name that takes room {port}, kind: net-loss, \
             target: '{target}', proto: udp, peer-port: {port}}}\n"
        );
    }
    let directory = tempfile::tempdir().expect("make a directory");
    let spec = directory.path().join("spec.yaml");
    fs::write(&spec, format!("version: 1\nfor: 5m\nrules:\n{rules}")).expect("write");
    let words = ["run", text(&spec), "--ledger", text(&ledger)];
    let words = [&words[..], &["--output", "json"]].concat();
    let injection = Injection::from_agent(Agent::start(Place::HERE, &words, &[]));
    let few = Load::of(3);
    flow.begin(few);
    let _ = flow.finish();
    wait::until("hits in the ledger", || {
        let written = fs::read_to_string(&ledger).expect("a ledger");
        (written.lines().count() == 4).then_some(())
    });
    disk.fill();
    let end = injection.stop();
    assert_eq!(assert_cut_off(&end, &ledger), few.count);
    assert_eq!(end.report().ledger_lost, Some(0));
}

/// Packets go on while the run is ended: what is hit until the very end is in the report
/// and in the ledger, or in neither.
#[test]
fn the_report_and_the_ledger_end_together() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let flows = both_ways(&pair, &cgroup);
    let directory = tempfile::tempdir().expect("make a directory");
    for round in 0..2 {
        let ledger = directory.path().join(format!("{round}.jsonl"));
        let line = format!(
            "net-loss --percent 10 --per flow --direction both --target {} --proto udp --for 5m \
             --ledger {}",
            cgroup.target(),
            text(&ledger)
        );
        let injection = Injection::start(&line.split_whitespace().collect::<Vec<_>>());
        flows.iter().for_each(|flow| flow.begin(Load::of(20_000)));
        // Packets are told of flows that were hit: of each, then.
        let ports = [PLAIN, OTHER_PORTS].map(|flow| format!(":{}\"", flow.near_port));
        wait::until("hits of both flows", || {
            let written = fs::read_to_string(&ledger).expect("a ledger");
            let hits = |port: &String| written.matches(port.as_str()).count();
            ports.iter().all(|port| hits(port) > 10).then_some(())
        });
        let end = injection.stop();
        // They went on behind the end.
        let arrived: u64 = flows.iter().map(|flow| flow.finish().sent).sum();
        let (rule, told) = (end.rule(), Ledger::read(&ledger));
        assert!(rule.matched < arrived, "{rule:?}");
        let lost = end.report().ledger_lost.expect("a ledger");
        assert_eq!(told.lost(), lost);
        assert_eq!(told.count("net-loss") + lost, rule.injected, "{rule:?}");
        let injected = usize::try_from(rule.injected).expect("few");
        assert_eq!(told.end(), (rule.matched, injected));
        assert_eq!(told.all_packets(), rule.matched, "{rule:?}");
    }
}
