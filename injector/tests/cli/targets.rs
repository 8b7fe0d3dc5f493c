//! Targets and interfaces.

use std::{fs, process::Command};

use crate::support::{self, cgroup2_mount, refused, skip_unless_root};

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
                &[&["error: --target: ", &target, "allowed:"], words].concat(),
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
    support::check(&output, "sh", 2, &["error: --target: ", "injector itself"]);
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
        refused(
            &line,
            2,
            &[&["error: --target: ", "allowed:"], words].concat(),
        );
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

    // A hierarchy of version 1 needs no controller, only a name. The mount goes
    // with its namespace.
    let folder = tempfile::tempdir().expect("a folder");
    let script = "mount -t cgroup -o none,name=injtest none \"$1\" && \
                  exec \"$0\" inject net-loss --target \"cgroup:$1\" --for 1s";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, support::BINARY]);
    let answer = support::run(command.arg(folder.path()));
    support::check(
        &answer,
        "unshare",
        2,
        &["error: --target: ", "is a cgroup v1"],
    );
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
    refused(
        &line,
        2,
        &["error: --interface: ", "no-such-dev", "one of", "lo"],
    );
}
