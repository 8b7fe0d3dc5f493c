//! What a plan says of its rules, word by word.

use injector_common::trigger::THRESHOLD_ALWAYS;

use super::*;
use crate::{
    model::Target,
    plan::text,
    spec::{loss::Share, percent::Percent, when::When},
};

#[test]
fn a_rule_is_told_in_full() {
    let filter = PacketFilter {
        protocols: vec![Protocol::Tcp].into(),
        peers: vec!["10.0.0.0/8".parse().expect("a network")].into(),
        peer_ports: vec![443..=443].into(),
        ..filter(Direction::Both)
    };
    let delay = PacketFault::Delay(Delay {
        jitter: Duration::from_micros(500),
        ..Delay::steady(Duration::from_micros(1500))
    });
    let delay = Fault::Packet(filter, delay);
    let rules = [
        (delay, packets_of(web(), host(&[("eth0", 2)]))),
        (errno(&["openat", "read"]), calls_of(Scope::Command)),
    ];
    let mut experiment = experiment(&rules);
    experiment.duration = Duration::from_millis(90_500);
    experiment.command = Some(["sh", "-c", "sleep 3; \u{1b}[2J"].map(str::to_owned).into());
    let [first, second] = &mut experiment.rules[..] else {
        panic!("two rules")
    };
    first.targets = vec![Target::Cgroup("/web".into()), Target::Process(7)];
    first.trigger.threshold = THRESHOLD_ALWAYS / 8;
    second.targets = vec![Target::Command];
    second.start = Duration::from_secs(30);
    second.duration = Duration::from_secs(60);
    second.trigger = Trigger {
        first: 3,
        last: 9,
        step: 2,
        times: 7,
        ..Trigger::ALWAYS
    };
    let scopes: Vec<RuleScope> = rules.iter().map(|(_, scope)| scope.clone()).collect();
    let plan = build(&experiment, &scopes, &able()).expect("a plan");
    let text = plan.to_string();
    let (told, steps) = text.split_once("  1. ").expect("steps");
    assert_eq!(
        told,
        "\
experiment lab with seed 7, for 90.5s
rule r0 (net-delay) through tcx
    delays TCP packets that the target sends or receives to or from 10.0.0.0/8 port 443 by 1.5ms ± 500us, holding up to 256mb
    target: cgroup:/web, pid:7
    trigger: 12.5 % of the occurrences
    time: from the start, for 30s
rule r1 (sys-errno) through kprobe
    fails openat, read with EIO
    target: command
    trigger: occurrences 3..9+2, at most 7 hits
    time: from 30s, for 1m
command: sh -c \"sleep 3; \\u{1b}[2J\"
"
    );
    assert!(
        steps.starts_with("create cgroup injector-0badcafe"),
        "{steps}"
    );
}

#[test]
fn triggers_are_told_as_they_are_written() {
    let check = |trigger: Trigger, expected: &str| assert_eq!(text::trigger(&trigger), expected);
    check(Trigger::ALWAYS, "every occurrence");
    for percent in ["5", "0.1", "12.5", "99.999999", "0.00000003"] {
        let Percent { threshold } = percent.parse().expect(percent);
        let trigger = Trigger {
            threshold,
            ..Trigger::ALWAYS
        };
        let told = text::trigger(&trigger);
        let told = told.strip_suffix(" % of the occurrences").expect("a share");
        // Not word by word: what is read is rounded to what the kernel compares.
        assert_eq!(told.parse(), Ok(Percent { threshold }), "{percent}");
    }
    for when in ["3", "3+", "3+2", "3..9", "3..9+2", "1", "1+2"] {
        let When { first, last, step } = when.parse().expect(when);
        let trigger = Trigger {
            first,
            last,
            step,
            ..Trigger::ALWAYS
        };
        check(trigger, &format!("occurrences {when}"));
        let Percent { threshold } = "25".parse().expect("a share");
        let drawn = Trigger {
            threshold,
            ..trigger
        };
        check(drawn, &format!("25 % of the occurrences {when}"));
    }
    let once = Trigger {
        times: 1,
        ..Trigger::ALWAYS
    };
    check(once, "every occurrence, at most 1 hit");
    for (correlation, told) in [("75", "75 %"), ("33.3", "33.3 %"), ("100", "100 %")] {
        let share: Share = correlation.parse().expect(correlation);
        let Percent { threshold } = "20".parse().expect("a share");
        let correlated = Trigger {
            threshold,
            correlation: u64::from(share.0) * 2,
            times: 2,
            ..Trigger::ALWAYS
        };
        let expected = format!("20 % of the occurrences, correlated by {told}, at most 2 hits");
        check(correlated, &expected);
    }
}

#[test]
fn no_path_reaches_the_terminal_unescaped() {
    let mut experiment = experiment(&[(errno(&["read"]), calls_of(web()))]);
    let rule = &mut experiment.rules[0];
    rule.targets = vec![Target::Cgroup("/web\u{1b}[2J é".into())];
    assert_eq!(text::targets(rule), ["cgroup:/web\\u{1b}[2J é"]);
}
