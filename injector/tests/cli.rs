//! The shipped binary, given what it must refuse: exit code, the field's name
//! and what is allowed, on stderr, and nothing on stdout.
//!
//! Nothing here needs the BPF programs: every command line is answered before
//! anything would be changed.

mod support;

use std::{fs, process::Command, time::Instant};

use support::{cgroup2_mount, injector, refused, skip_unless_root, spec_file};

/// A target that every command line may name: it is checked last.
const ANY: &[&str] = &["--target", "pid:1", "--for", "1s"];

/// `inject` with these words, a target and a time.
fn inject<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["inject"], words, ANY].concat()
}

#[test]
fn percentages() {
    for value in ["120", "0", "-5", "100.01", "abc", "", "nan", "1e1"] {
        refused(
            &inject(&["net-loss", "--percent", value]),
            2,
            &["--percent", "above 0 and at most 100"],
        );
    }
    let both = inject(&["net-loss", "--percent", "5", "--when", "3"]);
    refused(&both, 2, &["--percent", "--when", "cannot be used with"]);
}

#[test]
fn occurrences_and_budgets() {
    for value in ["0", "9..3", "3+0", "x", "-1", "", "3..x"] {
        refused(
            &inject(&["net-loss", "--when", value]),
            2,
            &["--when", "FIRST[..LAST][+STEP]"],
        );
    }
    for value in ["0", "-1", "x", "1.5"] {
        refused(
            &inject(&["net-loss", "--times", value]),
            2,
            &["--times", "at least 1"],
        );
    }
    for value in ["-1", "x", "18446744073709551616"] {
        refused(
            &inject(&["net-loss", "--seed", value]),
            2,
            &["--seed", "whole number"],
        );
    }
}

#[test]
fn durations() {
    for (value, problem) in [
        ("-5ms", "negative"),
        ("5", "no unit"),
        ("5 parsecs", "unit"),
    ] {
        let line = inject(&["net-delay", "--delay", value]);
        refused(&line, 2, &["--delay", problem, "us, ms, s"]);
        let line = inject(&["net-delay", "--delay", "5ms", "--jitter", value]);
        refused(&line, 2, &["--jitter", problem, "us, ms, s"]);
        let line = ["inject", "net-loss", "--target", "pid:1", "--for", value];
        refused(&line, 2, &["--for", problem, "us, ms, s"]);
    }
    let line = inject(&["net-delay", "--delay", "10ms", "--jitter", "11ms"]);
    refused(&line, 2, &["--jitter", "11ms", "at most the delay"]);
    refused(
        &inject(&["net-delay", "--delay", "61s"]),
        2,
        &["--delay", "at most 1m"],
    );
    refused(
        &inject(&["net-delay", "--delay", "0ms"]),
        2,
        &["--delay", "above 0"],
    );
    refused(
        &inject(&["net-delay"]),
        2,
        &["--delay", "DURATION", "at most 60s"],
    );
}

#[test]
fn the_time_is_mandatory() {
    let line = ["inject", "net-loss", "--target", "pid:1"];
    refused(&line, 2, &["--for", "such as 30s"]);
    let line = ["inject", "net-loss", "--target", "pid:1", "--for", "0s"];
    refused(&line, 2, &["--for", "above 0"]);
}

#[test]
fn exact_durations_are_accepted() {
    // Refused for its target only, so the duration was accepted.
    for value in ["0.5s", "500us", "1.5ms", "100ms", "1m"] {
        let output = injector(&inject(&["net-delay", "--delay", value]));
        assert!(
            !output.stderr.contains("--delay"),
            "{value}: {}",
            output.stderr
        );
    }
}

#[test]
fn calls_and_errors() {
    let calls = |call, errno| inject(&["sys-errno", "--call", call, "--errno", errno]);
    refused(
        &calls("opneat", "EIO"),
        2,
        &["--call", "`opneat`", "did you mean openat?"],
    );
    refused(
        &calls("openat,nope", "EIO"),
        2,
        &["--call", "`nope`", "syscalls(2)"],
    );
    refused(&calls("", "EIO"), 2, &["--call"]);
    for errno in [
        "EBOGUS",
        "0",
        "134",
        "4096",
        "-5",
        "99999999999999999999",
        "",
    ] {
        refused(&calls("openat", errno), 2, &["--errno", "1 to 133"]);
    }
    refused(
        &inject(&["sys-errno", "--call", "openat"]),
        2,
        &["--errno", "1 to 133"],
    );
    refused(
        &inject(&["sys-errno", "--errno", "EIO"]),
        2,
        &["--call", "syscalls(2)"],
    );
}

#[test]
fn packet_filters() {
    for (option, value, allowed) in [
        ("--peer-port", "0", "1 to 65535"),
        ("--peer-port", "70000", "1 to 65535"),
        ("--peer-port", "9-3", "1 to 65535"),
        ("--local-port", "65536", "1 to 65535"),
        ("--local-port", "http", "1 to 65535"),
        ("--local-port", "-1", "1 to 65535"),
        ("--peer", "10.0.0.0/33", "/32 for IPv4"),
        ("--peer", "300.1.1.1", "10.0.0.0/8"),
        ("--peer", "example.org", "10.0.0.0/8"),
        ("--peer", "2001:db8::/129", "/128 for IPv6"),
        ("--direction", "sideways", "egress, ingress or both"),
        ("--proto", "sctp", "tcp, udp, icmp or any"),
        ("--interface", "no/such", "1 to 15 bytes"),
    ] {
        refused(
            &inject(&["net-loss", option, value]),
            2,
            &[option, value, allowed],
        );
    }
    let line = inject(&["net-corrupt", "--checksum", "maybe"]);
    refused(&line, 2, &["--checksum", "valid or broken"]);
    let line = inject(&["net-loss", "--proto", "icmp", "--peer-port", "5"]);
    refused(&line, 2, &["--peer-port", "no ports"]);
}

#[test]
fn options_of_another_kind() {
    refused(&inject(&["net-loss", "--delay", "5ms"]), 2, &["--delay"]);
    refused(
        &inject(&["net-delay", "--delay", "5ms", "--checksum", "valid"]),
        2,
        &["--checksum"],
    );
    refused(&inject(&["sys-errno", "--peer", "::1"]), 2, &["--peer"]);
    refused(
        &inject(&["no-such-kind"]),
        2,
        &["no-such-kind", "injector inject"],
    );
    refused(
        &["faults", "no-such-kind"],
        2,
        &["no-such-kind", "net-loss, net-delay"],
    );
    refused(&["stop"], 2, &["--all"]);
    refused(&["completions", "tcsh"], 2, &["tcsh", "bash"]);
}

#[test]
fn targets_that_are_none() {
    let line = ["inject", "net-loss", "--for", "1s"];
    refused(&line, 2, &["--target", "cgroup:PATH or pid:N"]);
    for target in [
        "",
        "5",
        "pid:0",
        "pid:x",
        "pid:-1",
        "cgroup:",
        "cgroup:/a/../b",
        "host",
    ] {
        let line = ["inject", "net-loss", "--target", target, "--for", "1s"];
        refused(&line, 2, &["--target", "cgroup:PATH"]);
    }
}

#[test]
fn processes_that_must_not_be_hit() {
    skip_unless_root!();
    let target = |pid: u32, words: &[&str]| {
        let target = format!("pid:{pid}");
        for command in ["inject", "plan"] {
            let line = [command, "net-loss", "--target", &target, "--for", "1s"];
            refused(
                &line,
                2,
                &[&["target", &target, "allowed:"], words].concat(),
            );
        }
    };
    target(1, &["PID 1"]);
    target(2, &["kernel thread"]);

    let mut ended = Command::new("true").spawn().expect("a process");
    let stat = format!("/proc/{}/stat", ended.id());
    while !fs::read_to_string(&stat).expect("stat").contains(") Z ") {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // A zombie, then not even that.
    target(ended.id(), &["not a running process"]);
    ended.wait().expect("reaped");
    target(ended.id(), &["not a running process"]);

    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            let path = fs::read_link("/proc/thread-self").expect("a thread");
            let tid = path
                .file_name()
                .and_then(|name| name.to_str())
                .map(str::to_owned);
            send.send(tid.expect("a thread id")).expect("received");
            let _ = wait.recv();
        });
        let tid = receive
            .recv()
            .expect("a thread id")
            .parse()
            .expect("a number");
        target(
            tid,
            &["thread of process", &format!("pid:{}", std::process::id())],
        );
        drop(done);
    });

    let script = "exec \"$0\" inject net-loss --target pid:$$ --for 1s";
    let output = support::run(Command::new("sh").args(["-c", script, support::BINARY]));
    support::check(&output, "sh", 2, &["target", "injector itself"]);
}

#[test]
fn cgroups_that_are_none() {
    skip_unless_root!();
    let Some(mount) = cgroup2_mount() else {
        panic!("no cgroup2 mount on this host")
    };
    let target = |path: &str, words: &[&str]| {
        let target = format!("cgroup:{path}");
        let line = ["inject", "net-loss", "--target", &target, "--for", "1s"];
        refused(&line, 2, &[&["target", "allowed:"], words].concat());
    };
    for path in [
        &format!("{mount}/no-such-cgroup"),
        "/no-such-cgroup",
        "no-such-cgroup",
    ] {
        target(path, &["does not exist"]);
    }
    for path in [&mount, "/", "."] {
        target(path, &["root cgroup", "--whole-host"]);
    }
    target("/tmp", &["outside of the cgroup v2 mount"]);
    match support::mount_of_type("cgroup") {
        Some(v1) => target(&v1, &["cgroup v1"]),
        None => eprintln!("SKIP: no cgroup v1 is mounted here"),
    }
}

#[test]
fn interfaces_that_are_none() {
    skip_unless_root!();
    let line = [
        "inject",
        "net-loss",
        "--interface",
        "no-such-dev",
        "--for",
        "1s",
        "--",
        "true",
    ];
    refused(&line, 2, &["interface", "no-such-dev", "one of", "lo"]);
}

#[test]
fn hosts_that_lack_something() {
    skip_unless_root!();
    let line = "inject net-loss --for 1s -- true";
    let inside = |wrapper: &[&str], words: &[&str]| {
        let (program, arguments) = wrapper.split_first().expect("a wrapper");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg(support::BINARY)
            .args(line.split(' '));
        support::check(&support::run(&mut command), wrapper[0], 3, words);
    };
    let nobody = support::BinaryForAll::new();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--clear-groups"])
        .arg(nobody.path())
        .args(line.split(' '));
    let answer = support::run(&mut command);
    support::check(
        &answer,
        "not root",
        3,
        &["permission", "CAP_BPF", "run as root"],
    );
    inside(
        &["unshare", "--map-root-user"],
        &["permission", "CAP_BPF", "user namespace"],
    );
    inside(
        &[
            "unshare",
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"",
        ],
        &["BTF", "/sys/kernel/btf/vmlinux"],
    );
    let mount = cgroup2_mount().expect("a cgroup2 mount");
    let script = format!("umount --lazy {mount} && exec \"$0\" \"$@\"");
    inside(
        &["unshare", "--mount", "sh", "-c", &script],
        &["cgroup v2", "mount -t cgroup2"],
    );

    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", support::BINARY]);
    command.args(["inject", "net-loss", "--target", "pid:7", "--for", "1s"]);
    support::check(
        &support::run(&mut command),
        "unshare --pid",
        3,
        &["target", "pid namespace"],
    );
}

#[test]
fn spec_files() {
    let rule = "{kind: net-loss, target: pid:1";
    for (yaml, words) in [
        (String::new(), vec!["file: is empty"]),
        (format!("version: 1\nfor: 1s\nrules: [{rule}, percnt: 5}}]"), vec![":3:", "rules[0].percnt", "percent, when, times"]),
        (format!("version: 1\nfor: 1s\nrules: [{rule}, percent: [5]}}]"), vec![":3:", "rules[0].percent"]),
        (format!("version: 1\nfor: 1s\nrules: [{rule}, percent: 120}}]"), vec![":3:", "rules[0].percent", "above 0 and at most 100"]),
        (format!("version: 1\nfor: 0s\nrules: [{rule}}}]"), vec!["for", "above 0"]),
        (format!("version: 1\nrules: [{rule}}}]"), vec!["for: is missing"]),
        (format!("version: 1\nfor: 1s\nfor: 1s\nrules: [{rule}}}]"), vec![":3:", "for", "once"]),
        ("version: 1\nfor: 1s\nrules: [{kind: net-los}]".to_owned(), vec!["rules[0].kind", "net-loss"]),
        (
            "version: 1\nfor: 1s\nrules:\n- {name: one, kind: sys-errno, target: pid:1, call: openat, errno: EIO}\n\
             - {name: two, kind: sys-errno, target: pid:1, call: openat, errno: ENOENT}".to_owned(),
            vec!["`one` and `two` contradict each other", "allowed:"],
        ),
    ] {
        let file = spec_file(yaml.as_bytes());
        let path = file.path().to_str().expect("a path");
        refused(&["run", path], 2, &words);
    }
    let file = spec_file(b"version: 1\nname: \xff\xfe");
    let path = file.path().to_str().expect("a path");
    refused(&["run", path], 2, &[path, ":2:", "UTF-8"]);
    refused(
        &["run", "/no/such/file.yaml"],
        2,
        &["/no/such/file.yaml", "file", "No such file"],
    );
    refused(&["run", "/"], 2, &["file", "is a directory"]);
}

#[test]
fn nesting_is_answered_quickly() {
    for size in [10_000_000, 1_000_000] {
        let file = spec_file("[".repeat(size).as_bytes());
        let path = file.path().to_str().expect("a path");
        let start = Instant::now();
        refused(&["run", path], 2, &[path, "file", "allowed:"]);
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }
}

#[test]
fn help_and_tables() {
    for line in [
        &["--help"][..],
        &["inject", "--help"],
        &["inject", "net-delay", "--help"],
        &["plan", "sys-errno", "--help"],
        &["run", "--help"],
    ] {
        let output = injector(line);
        assert_eq!(output.code, Some(0), "{line:?}");
        assert!(
            output.stdout.contains("Examples:"),
            "{line:?}: {}",
            output.stdout
        );
    }
    let output = injector(&["inject", "net-loss", "--help"]);
    assert!(!output.stdout.contains("--jitter"), "{}", output.stdout);
    let output = injector(&["faults"]);
    for kind in ["net-loss", "net-delay", "net-corrupt", "sys-errno"] {
        assert!(output.stdout.contains(kind), "{}", output.stdout);
        let output = injector(&["faults", kind]);
        assert!(
            output.stdout.contains(&format!("injector inject {kind}")),
            "{}",
            output.stdout
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = injector(&["completions", shell]);
        assert!(output.stdout.contains("net-corrupt"), "{shell}");
    }
}

#[test]
fn the_doctor_answers_in_json() {
    let output = injector(&["doctor", "--output", "json"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let json: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(json["kinds"].as_array().map(Vec::len), Some(4), "{json}");
    assert!(
        json["kernel"].is_string() && json["capabilities_missing"].is_array(),
        "{json}"
    );
}

#[test]
fn a_closed_pipe_is_no_error() {
    let script = "\"$0\" faults | true; \"$0\" completions bash | true";
    let output = support::run(Command::new("sh").args(["-c", script, support::BINARY]));
    assert_eq!(output.stderr, "");
}
