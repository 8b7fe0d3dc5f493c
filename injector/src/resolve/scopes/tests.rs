//! Targets of a host that is a table.

use std::time::Duration;

use injector_common::{CgroupId, IfIndex, Trigger};

use super::{
    fake::{AGENT, FakeHost, OTHER_NETNS, OWN_NETNS, process},
    *,
};
use crate::{
    error::{EXIT_UNSUPPORTED, EXIT_USAGE, exit_code},
    model::{
        CallFault, CallFilter, Calls, Choice, Direction, Fault, Function, FunctionValue,
        PacketFault, PacketFilter, Per, ResourceFault,
    },
    resolve::{CgroupMount, FileId, Interface},
};

mod interfaces;
mod own_cgroup;
mod services;

fn filter(these: &[&str], not: &[&str]) -> PacketFilter {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    PacketFilter {
        interfaces: Choice {
            these: names(these),
            not: names(not),
        },
        ..PacketFilter::new(Direction::Egress)
    }
}

fn loss() -> Fault {
    Fault::Packet(filter(&[], &[]), PacketFault::LOSS)
}

fn errno() -> Fault {
    let calls = Calls {
        wanted: vec!["openat".parse().expect("a call")],
        ..Calls::default()
    };
    Fault::Call(
        calls,
        CallFault::Errno(vec!["EIO".parse().expect("an error")]),
    )
}

fn rule(name: &str, targets: &[&str], fault: Fault) -> Rule {
    Rule {
        name: name.to_owned(),
        targets: targets
            .iter()
            .map(|text| text.parse().expect("a target"))
            .collect(),
        fault,
        trigger: Trigger::ALWAYS,
        per: Per::Rule,
        start: Duration::ZERO,
        duration: Duration::from_secs(1),
        shadow: false,
        removed: false,
    }
}

fn experiment(rules: Vec<Rule>) -> Experiment {
    Experiment {
        id: "0badcafe".to_owned(),
        name: "test".to_owned(),
        seed: 1,
        duration: Duration::from_secs(1),
        rules,
        command: None,
        whole_host: false,
    }
}

fn resolve_one(host: &FakeHost, targets: &[&str], fault: Fault) -> Result<RuleScope, Error> {
    let mut scopes = resolve(&experiment(vec![rule("r", targets, fault)]), host)?;
    Ok(scopes.remove(0))
}

#[track_caller]
fn refused(host: &FakeHost, target: &str, code: u8, words: &[&str]) {
    let error = resolve_one(host, &[target], errno()).expect_err(target);
    assert_eq!(exit_code(&error), code, "{target}: {error}");
    for word in words {
        assert!(error.to_string().contains(word), "{target}: {error}");
    }
}

#[track_caller]
fn cgroup(host: &FakeHost, target: &str, id: u64, level: u32, path: &str) {
    let scope = resolve_one(host, &[target], errno()).expect(target);
    let expected = Scope::Cgroup {
        id: CgroupId(id),
        level,
        path: path.into(),
    };
    assert_eq!(scope.scopes, [expected], "{target}");
    assert_eq!(scope.netns, [], "calls have no namespace");
}

#[test]
fn a_cgroup_has_several_names() {
    let host = FakeHost::new();
    for name in ["/cg/web/php", "/web/php", "web/php", "/web/./php/"] {
        cgroup(&host, &format!("cgroup:{name}"), 41, 2, "/cg/web/php");
    }
    cgroup(&host, "cgroup:db", 50, 1, "/cg/db");
}

#[test]
fn a_bind_mount_hides_the_root_but_not_the_level() {
    let mut host = FakeHost::new();
    host.mounts = vec![CgroupMount {
        point: "/cg".into(),
        root: "/a/b".into(),
    }];
    host.directories
        .insert("/cg".into(), (30, crate::resolve::Filesystem::CgroupV2));
    cgroup(&host, "cgroup:/cg/web", 40, 3, "/cg/web");
    cgroup(&host, "cgroup:/a/b/web", 40, 3, "/cg/web");
    cgroup(&host, "cgroup:/cg", 30, 2, "/cg");
    refused(&host, "cgroup:/web", EXIT_USAGE, &["does not exist"]);

    host.initial_cgroup_namespace = false;
    refused(
        &host,
        "cgroup:/cg/web",
        EXIT_UNSUPPORTED,
        &["cgroup namespace"],
    );
}

#[test]
fn what_is_no_cgroup_of_version_2_is_refused() {
    let host = FakeHost::new();
    refused(
        &host,
        "cgroup:/nope",
        EXIT_USAGE,
        &["rules[0].target: cgroup:/nope", "does not exist"],
    );
    refused(
        &host,
        "cgroup:/v1",
        EXIT_USAGE,
        &["cgroup v1", "allowed: a cgroup v2"],
    );
    refused(&host, "cgroup:/v1/below", EXIT_USAGE, &["cgroup v1"]);
    refused(
        &host,
        "cgroup:/tmp",
        EXIT_USAGE,
        &["outside of the cgroup v2 mount"],
    );
    for root in ["cgroup:/", "cgroup:/cg", "cgroup:."] {
        refused(&host, root, EXIT_USAGE, &["root cgroup", "--whole-host"]);
    }
}

#[test]
fn the_whole_host_needs_its_flag() {
    let host = FakeHost::new();
    let mut whole = experiment(vec![rule("r", &["cgroup:/"], errno())]);
    whole.whole_host = true;
    let scopes = resolve(&whole, &host).expect("allowed");
    let root = Scope::Cgroup {
        id: CgroupId(1),
        level: 0,
        path: "/cg".into(),
    };
    assert_eq!(scopes[0].scopes, [root]);
}

#[test]
fn a_process_comes_with_its_descendants() {
    let host = FakeHost::new();
    let scope = resolve_one(&host, &["pid:11"], errno()).expect("a process");
    let tgids = vec![Tgid(11), Tgid(12), Tgid(13)];
    assert_eq!(
        scope.scopes,
        [Scope::Processes {
            root: Tgid(11),
            tgids
        }]
    );
}

#[test]
fn what_is_no_process_is_refused() {
    let host = FakeHost::new();
    refused(&host, "pid:1", EXIT_USAGE, &["PID 1"]);
    refused(&host, "pid:2", EXIT_USAGE, &["kernel thread"]);
    refused(
        &host,
        "pid:14",
        EXIT_USAGE,
        &["thread of process 12", "allowed: the process: pid:12"],
    );
    refused(&host, "pid:99", EXIT_USAGE, &["not a running process"]);
    refused(
        &host,
        &format!("pid:{AGENT}"),
        EXIT_USAGE,
        &["injector itself"],
    );
}

#[test]
fn an_error_says_which_rule_it_is_about() {
    let host = FakeHost::new();
    let rules = vec![
        rule("first", &["pid:11"], loss()),
        rule("second", &["pid:20", "pid:1"], errno()),
    ];
    let error = resolve(&experiment(rules), &host).expect_err("PID 1");
    let text = error.to_string();
    assert!(text.starts_with("rules[1].target: pid:1 "), "{text}");
}

#[test]
fn the_host_is_checked_first() {
    let mut host = FakeHost::new();
    host.missing_capabilities = vec!["CAP_BPF", "CAP_PERFMON"];
    refused(
        &host,
        "cgroup:/nope",
        EXIT_UNSUPPORTED,
        &["missing CAP_BPF, CAP_PERFMON;", "root", "CAP_SYS_PTRACE"],
    );

    let mut host = FakeHost::new();
    host.btf = false;
    refused(
        &host,
        "cgroup:/web",
        EXIT_UNSUPPORTED,
        &["/sys/kernel/btf/vmlinux", "6.12.0"],
    );

    let mut host = FakeHost::new();
    host.mounts.clear();
    refused(
        &host,
        "cgroup:/web",
        EXIT_UNSUPPORTED,
        &["no cgroup2 mount", "mount -t cgroup2"],
    );
    assert!(
        resolve_one(&host, &["pid:11"], errno()).is_ok(),
        "a process needs no cgroup"
    );
    let found = resolve_one(&host, &["pid:11"], loss()).expect_err("its sockets do");
    assert_eq!(exit_code(&found), EXIT_UNSUPPORTED);
    assert!(
        found.to_string().contains("net-loss for a target pid:N"),
        "{found}"
    );

    let mut host = FakeHost::new();
    host.initial_pid_namespace = false;
    refused(
        &host,
        "pid:11",
        EXIT_UNSUPPORTED,
        &["pid namespace", "--pid=host"],
    );
    // The injector does not know by which id the kernel would have to spare it.
    let words = ["system calls", "--pid=host"];
    refused(&host, "cgroup:web", EXIT_UNSUPPORTED, &words);
    // Nor who is in a cgroup, and its guardian would not outlive the container.
    let freeze = Fault::Resource(ResourceFault::Freeze);
    let found = resolve_one(&host, &["cgroup:web"], freeze).expect_err("a rule on resources");
    assert_eq!(exit_code(&found), EXIT_UNSUPPORTED);
    assert!(found.to_string().contains("on resources"), "{found}");
    assert!(resolve_one(&host, &["cgroup:web"], loss()).is_ok());
}

fn names(netns: &Netns) -> Vec<&str> {
    netns
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect()
}

#[test]
fn a_namespace_of_its_own_is_exclusive() {
    let host = FakeHost::new();
    for target in ["cgroup:web", "pid:11"] {
        let scope = resolve_one(&host, &[target], loss()).expect(target);
        let [netns] = scope.netns.as_slice() else {
            panic!("{target}: {scope:?}")
        };
        assert_eq!(
            (netns.inode, netns.own, netns.exclusive),
            (OTHER_NETNS, false, true)
        );
        assert_eq!(netns.path, Path::new("/proc/11/ns/net"));
        assert_eq!(names(netns), ["lo", "eth0"]);
    }
    // Process 11 shares the namespace and is not hit.
    let scope = resolve_one(&host, &["cgroup:web/php"], loss()).expect("a cgroup");
    assert!(!scope.netns[0].exclusive, "{scope:?}");
}

#[test]
fn the_agents_own_namespace_is_never_exclusive() {
    let mut host = FakeHost::new();
    for target in ["cgroup:db", "cgroup:empty", "pid:20"] {
        let scope = resolve_one(&host, &[target], loss()).expect(target);
        let [netns] = scope.netns.as_slice() else {
            panic!("{target}: {scope:?}")
        };
        assert_eq!(
            (netns.inode, netns.own, netns.exclusive),
            (OWN_NETNS, true, false)
        );
    }
    // Even when nobody but the targets and the agent is in it.
    host.processes
        .retain(|process| [11, 12, 13, 500].contains(&process.tgid.0));
    host.processes.push(process(20, 1, OWN_NETNS));
    host.cgroups.insert("/cg/db".into(), vec![20]);
    let scope = resolve_one(&host, &["cgroup:db"], loss()).expect("a cgroup");
    assert!(!scope.netns[0].exclusive, "{scope:?}");
}

#[test]
fn a_rule_can_reach_into_several_namespaces() {
    let host = FakeHost::new();
    let scope = resolve_one(&host, &["cgroup:web", "cgroup:db"], loss()).expect("cgroups");
    let found: Vec<_> = scope
        .netns
        .iter()
        .map(|netns| (netns.inode, netns.own, netns.exclusive))
        .collect();
    assert_eq!(
        found,
        [(OWN_NETNS, true, false), (OTHER_NETNS, false, true)]
    );
    let scope = resolve_one(&host, &["cgroup:web", "cgroup:empty"], loss()).expect("cgroups");
    assert_eq!(
        scope.netns.len(),
        2,
        "an empty cgroup may get processes here: {scope:?}"
    );
}

#[test]
fn the_default_interfaces_are_those_that_packets_pass_once() {
    let host = FakeHost::new();
    let scope = resolve_one(&host, &["cgroup:db"], loss()).expect("a cgroup");
    // A user may call a device `inj0`.
    assert_eq!(names(&scope.netns[0]), ["lo", "eth0", "inj0", "wg0"]);
    let wireguard = &scope.netns[0].interfaces[3];
    assert_eq!(
        *wireguard,
        Interface {
            name: "wg0".to_owned(),
            index: IfIndex(6),
            l2_len: 0,
            wireguard: true
        }
    );
}

#[test]
fn an_interface_can_be_named() {
    let host = FakeHost::new();
    let on = |target: &str, name| {
        resolve_one(
            &host,
            &[target],
            Fault::Packet(filter(&[name], &[]), PacketFault::LOSS),
        )
    };
    for name in ["eth0", "port0", "eth1", "inj0"] {
        let scope = on("cgroup:db", name).expect(name);
        assert_eq!(
            names(&scope.netns[0]),
            [name],
            "named, so acted on in any state"
        );
    }
    let error = on("cgroup:db", "nope").expect_err("no such interface");
    assert_eq!(exit_code(&error), EXIT_USAGE);
    let text = error.to_string();
    assert!(
        text.starts_with("rules[0].interface: there is no `nope`"),
        "{text}"
    );
    assert!(
        text.ends_with("one of eth0, eth1, gre0, inj0, lo, port0, wg0"),
        "{text}"
    );
    for name in ["inja0-0badcafe", "renamed"] {
        let error = on("cgroup:db", name).expect_err("a device of the injector");
        assert_eq!(exit_code(&error), EXIT_USAGE);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!(
                "rules[0].interface: `{name}` is a device of the injector"
            )),
            "{text}"
        );
        assert!(text.contains("allowed: one of eth0, eth1"), "{text}");
    }
    let error = on("cgroup:db", "gre0").expect_err("a link of another type");
    assert_eq!(exit_code(&error), EXIT_UNSUPPORTED);
    assert!(
        on("cgroup:web", "wg0").is_err(),
        "it is in another namespace"
    );
}

#[test]
fn a_namespace_without_interfaces_is_refused() {
    let mut host = FakeHost::new();
    host.other_links.clear();
    let error = resolve_one(&host, &["cgroup:web"], loss()).expect_err("no interface");
    assert_eq!(exit_code(&error), EXIT_UNSUPPORTED);
    assert!(
        error.to_string().contains("an interface that is up"),
        "{error}"
    );
}

#[test]
fn two_names_of_one_cgroup_are_one_target() {
    let host = FakeHost::new();
    let two = |a: &str, b: &str| {
        let rules = vec![rule("first", &[a], errno()), rule("second", &[b], errno())];
        resolve(&experiment(rules), &host)
    };
    for (a, b) in [
        ("cgroup:/web", "cgroup:/cg/web"),
        ("cgroup:/web", "cgroup:/cg/web/php"),
        ("pid:11", "pid:13"),
    ] {
        let error = two(a, b).expect_err("the second can never fire");
        assert_eq!(exit_code(&error), EXIT_USAGE);
        assert!(
            error.to_string().contains("`first` and `second`"),
            "{error}"
        );
    }
    assert!(
        two("cgroup:/cg/web/php", "cgroup:/web").is_ok(),
        "the wider one has more to hit"
    );
    assert!(two("cgroup:/db", "cgroup:/web").is_ok());
}

fn errno_at(paths: &[&str], not: &[&str]) -> Fault {
    let list = |paths: &[&str]| paths.iter().map(Into::into).collect();
    let Fault::Call(mut calls, fault) = errno() else {
        panic!("no calls")
    };
    calls.filter = CallFilter {
        paths: Choice {
            these: list(paths),
            not: list(not),
        },
        ..CallFilter::default()
    };
    Fault::Call(calls, fault)
}

#[test]
fn functions_are_looked_for_where_the_target_lives() {
    let by = |function: &str| {
        let Fault::Call(mut calls, fault) = errno() else {
            panic!("no calls")
        };
        let function = function.parse().expect(function);
        calls.filter.functions.these.push(function);
        Fault::Call(calls, fault)
    };
    let find = |target: &str, function| resolve_one(&FakeHost::new(), &[target], by(function));
    let scopes = find("cgroup:/web", "save@/inside/app").expect("a function");
    let [place] = &scopes.chain[..] else {
        panic!("{scopes:?}")
    };
    assert_eq!(place.to_string(), "save@/inside/app of process 11");
    assert_eq!(place.parts, [16..32, 64..80]);
    let refused = |target, function| find(target, function).expect_err(function).to_string();
    let nowhere = refused("cgroup:/db", "save@/inside/app");
    assert!(
        nowhere.contains("/inside/app cannot be found by the target"),
        "{nowhere}"
    );
    let other = refused("cgroup:/web", "load@/inside/app");
    assert!(
        other.contains("no function of this name, but save"),
        "{other}"
    );
    assert!(other.contains("nm(1)"), "{other}");
}

#[test]
fn files_are_looked_for_where_the_target_lives() {
    let places = |target: &str, fault: Fault| {
        let scopes = resolve_one(&FakeHost::new(), &[target], fault).expect(target);
        let names = scopes.files.iter().map(ToString::to_string);
        names.collect::<Vec<_>>().join(", ")
    };
    // The agent's root, where what the target starts will live.
    let both = "/data, /data/mounted";
    assert_eq!(places("cgroup:/empty", errno_at(&["/data"], &[])), both);
    assert_eq!(places("cgroup:/db", errno_at(&["/data"], &[])), both);
    // A root of its own.
    let inside = places("cgroup:/web", errno_at(&["/inside/x"], &["/data"]));
    let expected = "/inside/x of process 11, !/data of process 11, !/data/mounted of process 11";
    assert_eq!(inside, expected);
    let refused = resolve_one(
        &FakeHost::new(),
        &["cgroup:/db"],
        errno_at(&["/inside/x"], &[]),
    );
    let error = refused.expect_err("no such file").to_string();
    assert!(
        error.contains("/inside/x cannot be found by the target"),
        "{error}"
    );
}

#[test]
fn a_function_is_looked_for_where_the_target_lives() {
    let place = |targets: &[&str], file: &str| {
        let fault = Fault::Function(Function {
            name: "malloc".to_owned(),
            file: file.into(),
            value: FunctionValue {
                bits: 0,
                hex: false,
            },
        });
        resolve_one(&FakeHost::new(), targets, fault).map(|scope| {
            let place = scope.function.expect("a function");
            (place.to_string(), place.file)
        })
    };
    let at = |targets, file| place(targets, file).expect(file);
    // The agent's root, where what the target starts will live; and a root of its own.
    assert_eq!(
        at(&["cgroup:/empty"], "/app"),
        ("malloc in /app".to_owned(), FileId([0, 2]))
    );
    let inside = ("malloc in /app of process 11".to_owned(), FileId([0, 11]));
    assert_eq!(at(&["cgroup:/web"], "/app"), inside);
    // One file for all, or not.
    assert_eq!(
        at(&["cgroup:/web", "cgroup:/db"], "/lib/libc.so.6").1,
        FileId([0, 1])
    );
    let error = place(&["cgroup:/web", "cgroup:/db"], "/app").expect_err("two files");
    assert!(error.to_string().contains("2 different files"), "{error}");
    let error = place(&["cgroup:/web"], "/nowhere").expect_err("no file");
    assert!(error.to_string().contains("file: is nowhere"), "{error}");
}
