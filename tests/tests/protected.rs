//! What must not be hit, whatever the targets take in.

use injector_tests::{
    agent::{self, Agent, Injection},
    cgroup::{self, Cgroup},
    command::Place,
    netns::Pair,
    require,
    residue::Snapshot,
    scene::{Harm, Kind, Scene},
    victim::{CallVictim, Callers, failures},
};

/// Calls in a round.
const COUNT: u64 = 10;

#[track_caller]
fn assert_all_fail(victim: &CallVictim) {
    assert_eq!(failures(&victim.round(COUNT)), COUNT);
}

#[test]
fn the_whole_host_needs_a_flag() {
    require!(NetLoss);
    let snapshot = Snapshot::take(&[]);
    for root in [
        "cgroup:/".to_owned(),
        format!("cgroup:{}", cgroup::mount_point().display()),
    ] {
        let args = [
            "inject",
            "net-loss",
            "--target",
            &root,
            "--percent",
            "1",
            "--for",
            "1s",
        ];
        let refused = agent::run(&args);
        assert_eq!(refused.code(), 2, "{refused:?}");
        assert!(
            refused.stderr.contains("--whole-host"),
            "{}",
            refused.stderr
        );
    }
    snapshot.assert_clean();
}

#[test]
fn the_whole_host_with_the_flag() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let victim = CallVictim::start(Place::cgroup(&cgroup), "mkdir", Callers::One);
    // A call that nothing else on a quiet machine makes.
    let args = [
        "sys-errno",
        "--call",
        "mkdir",
        "--errno",
        "EIO",
        "--target",
        "cgroup:/",
    ];
    let injection = Injection::start(&[&args[..], &["--whole-host", "--for", "30s"]].concat());
    assert_all_fail(&victim);
    drop(injection.stop());
    victim.assert_unharmed(COUNT);
}

/// An agent that lives in its own target must still be able to end its work.
#[test]
fn the_agent_spares_itself() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let victim = CallVictim::start(Place::cgroup(&cgroup), "openat", Callers::One);
    let snapshot = Snapshot::take(&[]);
    let target = cgroup.target();
    for calls in ["openat", "read,write", "mmap"] {
        let args = [
            "sys-errno",
            "--call",
            calls,
            "--errno",
            "EIO",
            "--target",
            &target,
        ];
        let args = [&args[..], &["--for", "30s"]].concat();
        let injection = Injection::start_in(Place::cgroup(&cgroup), &args, &[]);
        if calls == "openat" {
            assert_all_fail(&victim);
        }
        let finished = injection.stop();
        assert_eq!(finished.code(), 0, "{}", finished.stderr);
        snapshot.assert_clean();
    }
}

/// There the agent does not know the id by which the kernel would spare it.
#[test]
fn calls_need_the_hosts_pid_namespace() {
    let cgroup = Cgroup::new("victim");
    let snapshot = Snapshot::take(&[]);
    let target = cgroup.target();
    let output = Place::cgroup(&cgroup)
        .command("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(agent::binary())
        .args(["inject", "sys-errno", "--call", "openat,read,write"])
        .args(["--errno", "EIO", "--target", &target, "--for", "30s"])
        .output()
        .expect("run unshare");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("--pid=host"), "{stderr}");
    snapshot.assert_clean();
}

#[test]
fn process_one_and_the_agent_are_no_targets() {
    require!(NetLoss);
    let refused = agent::run(&["inject", "net-loss", "--target", "pid:1", "--for", "1s"]);
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert!(refused.stderr.contains("--target"), "{}", refused.stderr);

    // The shell becomes the agent, so it can name the agent's process id.
    let script = "exec \"$INJECTOR\" inject net-loss --target pid:$$ --for 1s";
    let binary = agent::binary().display().to_string();
    let output = Place::HERE
        .command("sh")
        .args(["-c", script])
        .env("INJECTOR", binary)
        .output()
        .expect("run a shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--target"), "{stderr}");
}

/// `plan` says what would be done and does none of it.
#[test]
fn a_plan_changes_nothing() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let target = scene.target();
    let args = ["plan", "net-loss", "--target", &target, "--for", "60s"];
    let planned = Agent::start(Place::HERE, &args, &[]).wait();
    assert_eq!(planned.code(), 0, "{planned:?}");
    assert!(
        planned.stdout.contains(Pair::NEAR_LINK),
        "{}",
        planned.stdout
    );
    snapshot.assert_clean();
    assert_eq!(scene.harm(Kind::Loss), Harm::Nothing);
}
