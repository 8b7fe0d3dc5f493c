//! Spec files, right and wrong.

use std::time::{Duration, Instant};

use injector_common::{FaultKind, trigger::THRESHOLD_ALWAYS};
use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        CallFault, Cidr, Delay, Direction, Dscp, Experiment, Fault, Mark, PacketFault, Protocol,
        Rung, State, Target, TcpFlags,
    },
    spec::build::{Entropy, build},
};

fn experiment(yaml: &str) -> Result<Experiment, Error> {
    build(
        parse(Path::new("x.yaml"), yaml.as_bytes())?,
        Entropy { id: 0xbad, seed: 9 },
    )
}

const FULL: &str = "\
version: 1
name: a bad day
for: 2m
seed: 0x2a
whole-host: true
rules:
  - kind: net-delay
    target: cgroup:/web
    delay: 100ms
    jitter: 0.5ms
    direction: [egress, ingress]
    peer: [10.0.0.0/8, '!10.1.0.0/16', 'fd00::/8']
    local: [192.0.2.0/24, '!192.0.2.7']
    peer-port: [443, 8000-8999, '!8080']
    local-port: 1024
    proto: 6
    interface: eth0
    dscp: '!ef,!cs1'
    mark: ['!0x1/0xff', 0x10, '!2/0xff']
    size: 40-100,1500,!60
    tcp-flags: ['syn,!ack', fin]
    state: '!established'
    percent: 12.5
  - name: disk full
    target: [cgroup:/web, pid:4242, command]
    start: 30s
    for: 1m
    when: 3..9+2
    times: 7
    errno: ENOSPC
    call: [write, pwrite64]
    kind: sys-errno
  - {kind: net-delay, delay: 1s}
  - {kind: sys-errno, call: 'read, write', errno: 5, rung: fmod_ret-security, target: pid:7, percent: 100}
command: [./app, --port, '8080']
";

fn cidr(text: &str) -> Cidr {
    text.parse().expect("a network")
}

#[test]
fn every_key_is_read() {
    let experiment = experiment(FULL).expect("a spec");
    assert_eq!(experiment.name, "a bad day");
    assert_eq!(experiment.id, "00000bad");
    assert_eq!(experiment.seed, 42);
    assert_eq!(experiment.duration, Duration::from_secs(120));
    assert!(experiment.whole_host);
    assert_eq!(experiment.command.as_deref().map(<[String]>::len), Some(3));
    let names: Vec<&str> = experiment
        .rules
        .iter()
        .map(|rule| rule.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["net-delay", "disk full", "net-delay-2", "sys-errno"]
    );

    let delay = &experiment.rules[0];
    assert_eq!(delay.trigger.threshold, THRESHOLD_ALWAYS / 8);
    assert_eq!(delay.duration, Duration::from_secs(120));
    let Fault::Packet(filter, PacketFault::Delay(Delay { delay, jitter, .. })) = &delay.fault
    else {
        panic!("{delay:?}")
    };
    assert_eq!(
        (*delay, *jitter),
        (Duration::from_millis(100), Duration::from_micros(500))
    );
    assert_eq!(filter.peer_ports.these, [443..=443, 8000..=8999]);
    assert_eq!(filter.peer_ports.not, [8080..=8080]);
    assert_eq!(filter.local_ports.these, [1024..=1024]);
    assert_eq!(filter.protocols.these, [Protocol::Tcp]);
    assert_eq!(filter.interfaces.these, ["eth0"]);
    assert_eq!(filter.peers.these, ["10.0.0.0/8", "fd00::/8"].map(cidr));
    assert_eq!(filter.peers.not, ["10.1.0.0/16"].map(cidr));
    assert_eq!(filter.locals.these, ["192.0.2.0/24"].map(cidr));
    assert_eq!(filter.locals.not, ["192.0.2.7/32"].map(cidr));
    assert_eq!(filter.dscps.not, [Dscp(46), Dscp(8)]);
    let (syn, fin) = (
        TcpFlags { set: 2, clear: 16 },
        TcpFlags { set: 1, clear: 0 },
    );
    assert_eq!(filter.tcp_flags, [syn, fin]);
    assert_eq!(filter.states.not, [State::Established]);
    assert_eq!(filter.direction, Direction::Both);
    let mark = |value, mask| Mark { value, mask };
    assert_eq!(filter.marks.these, [mark(0x10, u32::MAX)]);
    assert_eq!(filter.marks.not, [mark(1, 255), mark(2, 255)]);
    assert_eq!(filter.sizes.these, [40..=100, 1500..=1500]);
    assert_eq!(filter.sizes.not, [60..=60]);

    let full = &experiment.rules[1];
    assert_eq!(
        (full.start, full.duration),
        (Duration::from_secs(30), Duration::from_secs(60))
    );
    assert_eq!(full.targets.len(), 3);
    let trigger = full.trigger;
    assert_eq!(
        (trigger.first, trigger.last, trigger.step, trigger.times),
        (3, 9, 2, 7)
    );
    let Fault::Call(calls, CallFault::Errno(errors)) = &full.fault else {
        panic!("{full:?}")
    };
    assert_eq!((calls.wanted.len(), errors[0].errno.name), (2, "ENOSPC"));

    assert_eq!(experiment.rules[2].targets, [Target::Command]);
    let Fault::Call(calls, _) = &experiment.rules[3].fault else {
        panic!("no call")
    };
    let rung = Some(Rung::FmodRetSecurity);
    assert_eq!((calls.wanted.len(), calls.rung), (2, rung));
}

#[test]
fn every_kind_is_reachable() {
    for kind in Kind::all() {
        // Whatever a kind requires is missing here, and named.
        let yaml = format!(
            "version: 1\nfor: 1s\nrules: [{{kind: {}, target: cgroup:/web}}]",
            kind.name()
        );
        let required: Vec<String> = kind
            .options()
            .into_iter()
            .filter(|option| option.required)
            .map(|option| option.name)
            .collect();
        match experiment(&yaml) {
            Ok(experiment) => {
                assert_eq!(required, [""; 0]);
                let rule = &experiment.rules[0];
                match kind {
                    Kind::Fault(kind) => assert_eq!(rule.fault.kind(), kind),
                    Kind::Recipe(recipe) => assert!(rule.name.starts_with(recipe.name())),
                }
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("is missing"), "{text}");
                // Recipes on files want a place, of which there are two options.
                let place = text.contains("rules[0].path");
                assert!(
                    place || required.iter().any(|name| text.contains(name)),
                    "{text}"
                );
            }
        }
    }
}

/// Name, kind, direction and share of each rule of a spec.
fn rules_of(rules: &str) -> Result<Vec<(String, FaultKind, Direction, u64)>, Error> {
    let experiment = experiment(&format!("version: 1\nfor: 9s\nrules:\n{rules}"))?;
    let rules = experiment.rules.into_iter().map(|rule| {
        let filter = rule.fault.filter().expect("a filter");
        assert_eq!(filter.peer_ports.these, [443..=443]);
        assert_eq!(
            (rule.duration, rule.targets),
            (Duration::from_secs(9), vec![Target::Process(7)])
        );
        let threshold = rule.trigger.threshold;
        (rule.name, rule.fault.kind(), filter.direction, threshold)
    });
    Ok(rules.collect())
}

#[test]
fn a_recipe_stands_for_its_rules() {
    let common = "target: pid:7, peer-port: 443";
    let found = rules_of(&format!(
        "- {{kind: net-link, profile: wifi-bad, name: sofa, {common}}}"
    ));
    let always = THRESHOLD_ALWAYS;
    let expected = [
        ("sofa.up-loss", FaultKind::NetLoss, Direction::Egress),
        ("sofa.up-rate", FaultKind::NetRate, Direction::Egress),
        ("sofa.up-delay", FaultKind::NetDelay, Direction::Egress),
        ("sofa.down-loss", FaultKind::NetLoss, Direction::Ingress),
        ("sofa.down-rate", FaultKind::NetRate, Direction::Ingress),
        ("sofa.down-delay", FaultKind::NetDelay, Direction::Ingress),
    ]
    .map(|(name, kind, direction)| {
        let share = if kind == FaultKind::NetLoss {
            // Rounded to what the kernel compares.
            (always + 10) / 20
        } else {
            always
        };
        (name.to_owned(), kind, direction, share)
    });
    assert_eq!(found.expect("rules"), expected);
    let one_way = format!("- {{kind: net-link, profile: satellite, direction: ingress, {common}}}");
    let expected = ("net-link.down-delay".to_owned(), FaultKind::NetDelay);
    let found = rules_of(&one_way).expect("rules");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0.clone(), found[0].1), expected);
}

#[test]
fn a_recipe_refuses_what_only_single_rules_have() {
    for (options, words) in [
        ("profile: 7g", ["profile", "3g-fast"]),
        ("profile: 3g, percent: 5", ["rules[0].percent", "net-link"]),
        ("profile: 3g, when: 3+", ["rules[0].when", "net-link"]),
        ("profile: 3g, times: 3", ["rules[0].times", "net-link"]),
        ("delay: 3ms", ["rules[0].delay", "profile"]),
    ] {
        let error = rules_of(&format!("- {{kind: net-link, target: pid:7, {options}}}"));
        let error = error.expect_err(options).to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    // Sixteen links have more rules than there is room for.
    let link = "- {kind: net-link, profile: wifi-bad, target: pid:7, peer-port: 443}\n";
    let error = rules_of(&link.repeat(16)).expect_err("too many");
    assert!(error.to_string().contains("96 rules"), "{error}");
}

#[test]
fn without_its_own_time_an_experiment_ends_with_its_last_rule() {
    let yaml = "\
version: 1
rules:
  - {kind: net-loss, target: pid:7, for: 5s, start: 2s, percent: 5}
  - {kind: net-loss, target: pid:7, for: 6s, percent: 5}
";
    assert_eq!(
        experiment(yaml).expect("a spec").duration,
        Duration::from_secs(7)
    );
}

#[test]
fn hostile_documents_are_answered_quickly() {
    let mebibyte = usize::try_from(MAX_BYTES).expect("fits");
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x]\n".to_owned();
    for (to, from) in "bcdefghijk".chars().zip("abcdefghij".chars()) {
        let refs = vec![format!("*{from}"); 8].join(", ");
        bomb.push_str(&format!("{to}: &{to} [{refs}]\n"));
    }
    for (name, yaml) in [
        ("flow sequences", "[".repeat(mebibyte)),
        (
            "flow sequences in a rule",
            format!("version: 1\nrules: {}", "[".repeat(mebibyte / 2)),
        ),
        ("flow mappings", "{a: ".repeat(mebibyte / 4)),
        ("block sequences", "- ".repeat(mebibyte / 2)),
        ("explicit keys", "? ".repeat(mebibyte / 2)),
        ("aliases", bomb),
        (
            "one long line",
            format!("version: {}", "1".repeat(mebibyte - 9)),
        ),
        ("anchors", "&a ".repeat(mebibyte / 3)),
        (
            "many rules",
            format!(
                "version: 1\nfor: 1s\nrules:\n{}",
                "- {kind: net-loss}\n".repeat(50_000)
            ),
        ),
    ] {
        let start = Instant::now();
        let error = experiment(&yaml).expect_err(name);
        assert!(error.to_string().len() < 1000, "{name}: {error}");
        // Each takes well under a second; the room is for a busy machine.
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{name}: {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn large_files_are_refused_unread() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("nested.yaml");
    std::fs::write(&path, "[".repeat(10_000_000)).expect("written");
    let start = Instant::now();
    let error = read(&path).expect_err("too large").to_string();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(error.contains("nested.yaml: file: is too large"), "{error}");
    assert!(
        error.contains("allowed: a readable file of at most 1048576 bytes"),
        "{error}"
    );
    for path in [directory.path(), &directory.path().join("none")] {
        assert!(
            matches!(read(path), Err(Error::Spec(_))),
            "{}",
            path.display()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(Path::new("x"), &bytes);
    }

    #[test]
    fn no_damaged_spec_panics(at in 0usize..FULL.len(), with in "[\\PC\n]{0,3}") {
        let mut yaml = FULL.to_owned();
        yaml.replace_range(at..at + 1, &with);
        let _ = experiment(&yaml);
    }
}

mod kinds;
mod refusals;

#[test]
fn thousands_of_networks_fit() {
    let networks: Vec<String> = (0..20_000)
        .map(|number| format!("10.{}.{}.0/24", number / 256, number % 256))
        .collect();
    let spec = format!(
        "version: 1\nfor: 1s\nrules:\n- {{kind: net-loss, target: pid:7, peer: [{}, '!10.0.0.1']}}\n",
        networks.join(", ")
    );
    let started = Instant::now();
    let experiment = experiment(&spec).expect("a spec");
    let filter = experiment.rules[0].fault.filter().expect("a filter");
    assert_eq!(
        (filter.peers.these.len(), filter.peers.not.len()),
        (20_000, 1)
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}
