//! Hosts and users that cannot do it.

use std::process::Command;

use crate::support::{self, cgroup2_mount, skip_unless_root};

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
        &["permission", "CAP_BPF", "CAP_SYS_PTRACE", "run as root"],
    );
    for (left, missing) in [
        (
            "-all,+bpf,+perfmon,+net_admin",
            "missing CAP_SYS_ADMIN, CAP_SYS_PTRACE;",
        ),
        ("-net_admin", "missing CAP_NET_ADMIN;"),
    ] {
        inside(
            &["setpriv", "--bounding-set", left, "--inh-caps", "-all"],
            &[missing],
        );
    }
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
fn a_cause_is_said_once() {
    skip_unless_root!();
    let script = "umount --lazy /proc && exec \"$0\" inject net-loss --for 1s -- true";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, support::BINARY]);
    let answer = support::run(&mut command);
    let reason = "error: /proc/self/status: No such file or directory (os error 2)\n";
    support::check(&answer, "without /proc", 3, &[]);
    assert_eq!(answer.stderr, reason);
}
