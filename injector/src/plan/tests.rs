//! Plans as text: what is done for which rules, on which kernel.

use std::time::Duration;

use injector_common::{CgroupId, IfIndex, NetnsInode, Tgid, Trigger, names::SecurityHook};

use super::*;
use crate::{
    model::{
        Access, CallFault, CallFilter, Calls, Checksum, Damage, Delay, Direction, Experiment,
        Extent, Fault, FileType, PacketFault, PacketFilter, Per, Protocol, Region, Rule,
    },
    resolve::{FilePlace, Interface, Netns, RuleScope, Scope},
    spec::calls::{self, CallWord, Selected},
};

mod filters;
mod functions;
mod limits;
mod packets;
mod returns;
mod sends;
mod syscalls;
mod texts;
mod waits;

/// A cgroup of the host.
fn web() -> Scope {
    cgroup(42, 2, "/web")
}

fn cgroup(id: u64, level: u32, path: &str) -> Scope {
    Scope::Cgroup {
        id: CgroupId(id),
        level,
        path: path.into(),
    }
}

fn process() -> Scope {
    Scope::Processes {
        root: Tgid(7),
        tgids: vec![Tgid(7), Tgid(8), Tgid(9)],
    }
}

/// The host's namespace.
fn host(interfaces: &[(&str, u32)]) -> Netns {
    netns(1, "/ns/host", interfaces)
}

/// A namespace in which every process belongs to the target.
fn private(interfaces: &[(&str, u32)]) -> Netns {
    Netns {
        own: false,
        exclusive: true,
        ..netns(2, "/ns/pod", interfaces)
    }
}

/// Interfaces by name and index. `tun0` has no link-layer header.
fn netns(inode: u64, path: &str, interfaces: &[(&str, u32)]) -> Netns {
    let interface = |&(name, index): &(&str, u32)| Interface {
        name: name.to_owned(),
        index: IfIndex(index),
        l2_len: if name.starts_with("tun") { 0 } else { 14 },
        wireguard: false,
    };
    Netns {
        inode: NetnsInode(inode),
        path: path.into(),
        own: inode == 1,
        exclusive: false,
        interfaces: interfaces.iter().map(interface).collect(),
    }
}

/// What a rule on packets resolves to.
fn packets_of(scope: Scope, netns: Netns) -> RuleScope {
    RuleScope {
        scopes: vec![scope],
        netns: vec![netns],
        files: Vec::new(),
        chain: Vec::new(),
        function: None,
        left_out: None,
    }
}

/// What a rule on calls resolves to.
fn calls_of(scope: Scope) -> RuleScope {
    RuleScope {
        scopes: vec![scope],
        netns: Vec::new(),
        files: Vec::new(),
        chain: Vec::new(),
        function: None,
        left_out: None,
    }
}

fn filter(direction: Direction) -> PacketFilter {
    PacketFilter::new(direction)
}

fn loss(direction: Direction) -> Fault {
    Fault::Packet(filter(direction), PacketFault::LOSS)
}

fn delay(direction: Direction) -> Fault {
    delay_by(filter(direction), Duration::from_millis(100))
}

fn delay_by(filter: PacketFilter, delay: Duration) -> Fault {
    Fault::Packet(filter, PacketFault::Delay(Delay::steady(delay)))
}

fn corrupt(direction: Direction, checksum: Checksum) -> Fault {
    let damage = Damage {
        checksum,
        extent: Extent::Bytes(1),
        region: Region::Payload,
    };
    Fault::Packet(filter(direction), PacketFault::Corrupt(damage))
}

fn errno(words: &[&str]) -> Fault {
    errno_if(words, CallFilter::default())
}

fn errno_if(words: &[&str], filter: CallFilter) -> Fault {
    let Selected { wanted, optional } = selected(words);
    let calls = Calls {
        wanted,
        optional,
        filter,
        rung: None,
    };
    Fault::Call(
        calls,
        CallFault::Errno(vec!["EIO".parse().expect("an error")]),
    )
}

fn no(reason: &str) -> Support {
    Support::Unsupported {
        reason: reason.to_owned(),
    }
}

/// What these words of `--call` name.
fn selected(words: &[&str]) -> Selected {
    let word = |word: &&str| word.parse::<CallWord>().expect("a word");
    calls::select(&words.iter().map(word).collect::<Vec<_>>()).expect("some call")
}

/// A kernel that can do everything.
fn able() -> Features {
    Features::of_any_kernel(selected(&["all"]).wanted.into_iter())
}

/// A kernel without TCX and without a way to fail calls themselves, as Debian 12's.
fn debian() -> Features {
    Features {
        packets: Ok(PacketAttach::Clsact),
        override_return: no("no override here"),
        modify_return: no("not modifiable"),
        ..able()
    }
}

/// Rules named `r0`, `r1`, … with what their targets resolve to.
fn experiment(rules: &[(Fault, RuleScope)]) -> Experiment {
    let rule = |(number, (fault, _)): (usize, &(Fault, RuleScope))| Rule {
        name: format!("r{number}"),
        targets: Vec::new(),
        fault: fault.clone(),
        trigger: Trigger::ALWAYS,
        per: Per::Rule,
        start: Duration::ZERO,
        duration: Duration::from_secs(30),
        shadow: false,
        removed: false,
    };
    let runs_command = rules
        .iter()
        .any(|(_, scope)| scope.scopes.contains(&Scope::Command));
    Experiment {
        id: "0badcafe".to_owned(),
        name: "lab".to_owned(),
        seed: 7,
        duration: Duration::from_secs(30),
        rules: rules.iter().enumerate().map(rule).collect(),
        command: runs_command.then(|| vec!["true".to_owned()]),
        whole_host: false,
    }
}

fn plan(rules: &[(Fault, RuleScope)], features: &Features) -> Result<Plan, crate::error::Error> {
    let scopes: Vec<RuleScope> = rules.iter().map(|(_, scope)| scope.clone()).collect();
    build(&experiment(rules), &scopes, features)
}

/// Compares the plan for `rules` line by line with `expected`, or the refusal,
/// after `refused: `. The first line and what is told of rules and command are
/// left out: `texts` has tests of them.
#[track_caller]
fn check(rules: &[(Fault, RuleScope)], features: &Features, expected: &str) {
    let found = match plan(rules, features) {
        Ok(plan) => {
            assert_in_order(&plan);
            let text = plan.to_string();
            let (first, rest) = text.split_once('\n').expect("several lines");
            assert_eq!(first, "experiment lab with seed 7, for 30s");
            let told = |line: &&str| line.starts_with("    ") || line.starts_with("command: ");
            let steps: Vec<&str> = rest.lines().filter(|line| !told(line)).collect();
            steps.join("\n")
        }
        Err(error) => format!("refused: {error}"),
    };
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.trim().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    };
    assert_eq!(lines(&found), lines(expected), "\n{found}");
}

/// The order of the variants is the order in a plan: everything is written
/// before anything is attached, and nothing acts before the end.
#[track_caller]
fn assert_in_order(plan: &Plan) {
    let rank = |effect: &Effect| match effect {
        Effect::CreateCgroup { .. } => 0,
        Effect::AddHop(_) => 1,
        Effect::WriteRule { .. } | Effect::NameFiles { .. } | Effect::NameChain { .. } => 2,
        Effect::FollowProcesses | Effect::ForgetCallers | Effect::ForgetPrograms => 3,
        Effect::WriteScope { .. } => 4,
        Effect::FollowSockets => 5,
        Effect::TagSockets { .. } => 6,
        Effect::WriteSite { .. } => 7,
        Effect::WriteCall { .. } | Effect::NameFunction { .. } => 8,
        Effect::AttachPackets { .. } => 9,
        Effect::AttachEntry { .. } | Effect::AttachSeen { .. } | Effect::AttachTwin { .. } => 10,
        Effect::AttachSecurity { .. } => 11,
        Effect::StartWaker => 12,
        Effect::AttachSleepingHook { .. }
        | Effect::AttachSleepingEntry { .. }
        | Effect::AttachReturn { .. } => 13,
        Effect::AttachFunction { .. } => 14,
        Effect::AttachConnect { .. } => 15,
        Effect::AttachSend { .. } => 16,
        Effect::StartGuardian => 17,
        Effect::HandOver { .. } => 18,
        Effect::Enable => 19,
    };
    assert!(plan.effects.is_sorted_by_key(rank), "{plan}");
    let enabled = plan
        .effects
        .iter()
        .filter(|&effect| *effect == Effect::Enable);
    assert_eq!(enabled.count(), 1, "{plan}");
}
