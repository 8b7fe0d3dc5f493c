//! What is refused, with the field's name and what is allowed, before anything
//! on the machine is changed. These need a machine to be wrong about; what can
//! be refused by its form alone is tested with the command line.

use std::{fs, os::unix::process::CommandExt as _};

use injector_common::names::DEVICE_ALIAS;
use injector_tests::{
    agent::{self, Agent, Finished},
    cgroup::{self, Cgroup},
    command::Place,
    require,
    scene::{Harm, Kind, Scene},
};

/// Checks that a run is refused with this code, that the message has these
/// words in it, and that the scene is as it was.
#[track_caller]
fn assert_refused(scene: &Scene, run: impl FnOnce() -> Finished, code: i32, words: &[&str]) {
    let snapshot = scene.snapshot();
    let finished = run();
    assert_eq!(finished.code(), code, "{finished:?}");
    for word in words {
        assert!(
            finished.stderr.contains(word),
            "no {word:?} in: {}",
            finished.stderr
        );
    }
    assert_eq!(finished.stdout, "", "results of something refused");
    assert!(
        finished.stderr.len() < 2000,
        "a message for people: {}",
        finished.stderr
    );
    snapshot.assert_clean();
    assert_eq!(scene.harm(Kind::Loss), Harm::Nothing);
}

/// Refuses `net-loss` with these options.
#[track_caller]
fn check(options: &[&str], code: i32, words: &[&str]) {
    let scene = Scene::new();
    let args = [&["inject", "net-loss"], options].concat();
    assert_refused(&scene, || agent::run(&args), code, words);
}

/// Refuses `net-loss` of a target.
#[track_caller]
fn check_target(target: &str, words: &[&str]) {
    check(
        &["--target", target, "--for", "1s"],
        2,
        &[&["--target"], words].concat(),
    );
}

#[test]
fn a_group_that_is_not_there() {
    check_target("cgroup:/no/such/group", &["/no/such/group"]);
}

#[test]
fn a_folder_that_is_no_group() {
    check_target("cgroup:/tmp", &["/tmp"]);
}

/// No controller is needed for a hierarchy of version 1, only a name: every
/// kernel with control groups has that, also one that mounts version 2 alone.
#[test]
fn a_group_of_version_one() {
    for (below, words) in [
        ("", "is a cgroup v1"),
        ("/group", "does not exist, and would be a cgroup v1"),
    ] {
        let scene = Scene::new();
        let folder = tempfile::tempdir().expect("make a folder");
        let mount = folder.path().display();
        // The mount goes with its namespace.
        let script = format!(
            "unshare --mount sh -c 'mount -t cgroup -o none,name=injtest none {mount} && \
             exec \"$INJECTOR\" inject net-loss --target cgroup:{mount}{below} --for 1s'"
        );
        let words = ["--target", words, "allowed: a cgroup v2"];
        assert_refused(&scene, || through_shell(&script, None), 2, &words);
    }
}

#[test]
fn a_dead_process() {
    let mut process = Place::HERE.spawn("true", &[]);
    process.wait();
    let pid = process.pid().to_string();
    check_target(&format!("pid:{pid}"), &[&pid]);
}

#[test]
fn process_one() {
    check_target("pid:1", &["1"]);
}

#[test]
fn the_root_group() {
    check_target("cgroup:/", &["--whole-host"]);
    let root = cgroup::mount_point().display().to_string();
    check_target(&format!("cgroup:{root}"), &["--whole-host"]);
}

#[test]
fn a_target_of_no_form() {
    for target in [
        "", "nginx", "pid:", "pid:x", "pid:0", "pid:-1", "cgroup:", "host:all",
    ] {
        check_target(target, &["cgroup:PATH", "pid:N"]);
    }
}

#[test]
fn an_interface_that_is_not_there() {
    let scene = Scene::new();
    let target = scene.target();
    let args = [
        "inject",
        "net-loss",
        "--target",
        &target,
        "--interface",
        "eth77",
        "--for",
        "1s",
    ];
    assert_refused(
        &scene,
        || agent::run(&args),
        2,
        &["--interface", "eth77", "near0"],
    );
}

/// A device that packets of another rule take a detour through.
#[test]
fn a_device_of_the_injector() {
    let scene = Scene::new();
    let near = &scene.pair.near;
    near.ip(&[
        "link", "add", "held", "type", "veth", "peer", "name", "held-far",
    ]);
    near.ip(&["link", "set", "dev", "held", "alias", DEVICE_ALIAS]);
    let target = scene.target();
    let args = [
        "inject",
        "net-loss",
        "--target",
        &target,
        "--interface",
        "held",
        "--for",
        "1s",
    ];
    assert_refused(
        &scene,
        || agent::run(&args),
        2,
        &["--interface", "held", "injector's own", "near0"],
    );
}

/// Refuses options that are wrong for a victim that is right.
#[track_caller]
fn check_options(kind: &str, options: &[&str], words: &[&str]) {
    let scene = Scene::new();
    let target = scene.target();
    let args = [&["inject", kind, "--target", &target], options].concat();
    assert_refused(&scene, || agent::run(&args), 2, words);
}

#[test]
fn percentages() {
    for value in ["120", "0", "-1", "x"] {
        check_options(
            "net-loss",
            &["--percent", value, "--for", "1s"],
            &["--percent", "100"],
        );
    }
}

#[test]
fn durations() {
    check_options("net-loss", &[], &["--for"]);
    check_options("net-loss", &["--for", "0s"], &["--for"]);
    check_options(
        "net-delay",
        &["--delay", "-5ms", "--for", "1s"],
        &["--delay"],
    );
    let jitter = ["--delay", "5ms", "--jitter", "6ms", "--for", "1s"];
    check_options("net-delay", &jitter, &["--jitter", "delay"]);
}

#[test]
fn calls_and_errors() {
    let call = |call, errno| ["--call", call, "--errno", errno, "--for", "1s"];
    check_options("sys-errno", &call("opneat", "EIO"), &["--call", "opneat"]);
    check_options("sys-errno", &call("99999", "EIO"), &["--call", "99999"]);
    check_options("sys-errno", &call("%files", "EIO"), &["--call", "%file"]);
    check_options("sys-errno", &call("read,!read", "EIO"), &["--call"]);
    check_options(
        "sys-errno",
        &call("openat", "EBOGUS"),
        &["--errno", "EBOGUS"],
    );
    check_options("sys-errno", &call("openat", "0"), &["--errno", "133"]);
    check_options("sys-errno", &call("openat", "4096"), &["--errno", "133"]);
    check_options(
        "sys-errno",
        &call("openat", "EIO=0"),
        &["--errno", "1000000"],
    );
    check_options(
        "sys-errno",
        &call("openat", "EIO,5=2"),
        &["--errno", "twice"],
    );
    let nine = "1,2,3,4,5,6,7,8,9";
    check_options("sys-errno", &call("openat", nine), &["--errno", "1 to 8"]);
}

#[test]
fn ports_and_networks() {
    for (option, value) in [
        ("--peer-port", "0"),
        ("--peer-port", "70000"),
        ("--local-port", "9-3"),
        ("--peer", "10.0.0.0/33"),
        ("--peer", "300.0.0.1"),
    ] {
        check_options("net-loss", &[option, value, "--for", "1s"], &[option]);
    }
}

/// Exact durations below a second are accepted: the plan repeats them.
#[test]
fn short_durations_are_exact() {
    require!(NetDelay);
    let scene = Scene::new();
    let target = scene.target();
    for (value, exact) in [("0.5s", "500ms"), ("500us", "500µs")] {
        let args = [
            "plan",
            "net-delay",
            "--target",
            &target,
            "--delay",
            value,
            "--for",
            "1s",
        ];
        let planned = agent::run(&args);
        assert_eq!(planned.code(), 0, "{planned:?}");
        let ascii = exact.replace('µ', "u");
        let told = planned.stdout.contains(exact) || planned.stdout.contains(&ascii);
        assert!(told, "no {exact} in: {}", planned.stdout);
    }
}

#[test]
fn the_agent_itself() {
    let scene = Scene::new();
    let run = || {
        through_shell(
            "exec \"$INJECTOR\" inject net-loss --target pid:$$ --for 1s",
            None,
        )
    };
    assert_refused(&scene, run, 2, &["--target"]);
}

/// Runs the injector through a shell, as some user, since only there a run can
/// be put in a place that lacks something.
fn through_shell(script: &str, user: Option<u32>) -> Finished {
    let mut command = Place::HERE.command("sh");
    command
        .args(["-c", script])
        .env("INJECTOR", agent::binary());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    Agent::from_command(command).wait()
}

#[test]
fn a_user_who_is_not_root() {
    let scene = Scene::new();
    let target = scene.target();
    // The binary may lie where only root can reach it.
    let folder = tempfile::tempdir().expect("make a folder");
    let copy = folder.path().join("injector");
    fs::copy(agent::binary(), &copy).expect("copy the injector");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), open).expect("open a folder");
    let script = format!(
        "{} inject net-loss --target {target} --for 1s",
        copy.display()
    );
    let run = || through_shell(&script, Some(65534));
    assert_refused(&scene, run, 3, &["CAP_BPF", "CAP_NET_ADMIN", "root"]);
}

#[test]
fn a_kernel_without_type_information() {
    let scene = Scene::new();
    let target = scene.target();
    let script = format!(
        "unshare --mount sh -c 'mount -t tmpfs none /sys/kernel/btf && \
         exec \"$INJECTOR\" inject net-loss --target {target} --for 1s'"
    );
    assert_refused(&scene, || through_shell(&script, None), 3, &["BTF"]);
}

#[test]
fn no_mounted_hierarchy() {
    let scene = Scene::new();
    let target = scene.target();
    let script = format!(
        "unshare --mount sh -c 'umount -l {mount} && \
         exec \"$INJECTOR\" inject net-loss --target {target} --for 1s'",
        mount = cgroup::mount_point().display()
    );
    assert_refused(&scene, || through_shell(&script, None), 3, &["cgroup2"]);
}

/// Refuses a spec file.
#[track_caller]
fn check_file(content: &[u8], words: &[&str]) {
    let scene = Scene::new();
    let file = tempfile::Builder::new()
        .suffix(".yaml")
        .tempfile()
        .expect("make a file");
    fs::write(file.path(), content).expect("write a file");
    let path = file.path().to_str().expect("a path in UTF-8");
    assert_refused(
        &scene,
        || agent::run(&["run", path]),
        2,
        &[words, &[path]].concat(),
    );
}

/// A spec file with one rule that would be right but for what is added.
fn spec(addition: &str) -> (Cgroup, String) {
    let cgroup = Cgroup::new("spec");
    let target = cgroup.target();
    let text = format!(
        "version: 1\nfor: 1s\nrules:\n- {{kind: net-loss, target: '{target}'{addition}}}\n"
    );
    (cgroup, text)
}

#[test]
fn a_file_with_an_unknown_key() {
    let (_cgroup, text) = spec(", precent: 5");
    check_file(text.as_bytes(), &["precent", "percent"]);
}

#[test]
fn a_file_with_a_wrong_type() {
    let (_cgroup, text) = spec(", percent: [5]");
    check_file(text.as_bytes(), &["percent"]);
}

#[test]
fn a_file_of_nothing_but_nesting() {
    let deep = "[".repeat(10 << 20);
    check_file(deep.as_bytes(), &[]);
}

#[test]
fn a_file_that_is_not_text() {
    check_file(b"version: 1\nname: \xff\xfe\n", &["UTF-8"]);
}

#[test]
fn a_file_that_is_not_there() {
    let scene = Scene::new();
    let run = || agent::run(&["run", "/no/such/file.yaml"]);
    assert_refused(&scene, run, 2, &["/no/such/file.yaml"]);
}

#[test]
fn rules_that_contradict_each_other() {
    let cgroup = Cgroup::new("spec");
    let rule = |name: &str, errno: &str| {
        let target = cgroup.target();
        format!(
            "- {{name: {name}, kind: sys-errno, call: openat, errno: {errno}, target: '{target}'}}\n"
        )
    };
    let text = format!(
        "version: 1\nfor: 1s\nrules:\n{}{}",
        rule("one", "EIO"),
        rule("two", "EPERM")
    );
    let scene = Scene::new();
    let file = tempfile::NamedTempFile::new().expect("make a file");
    fs::write(file.path(), text).expect("write a file");
    let path = file.path().to_str().expect("a path in UTF-8");
    assert_refused(
        &scene,
        || agent::run(&["run", path]),
        2,
        &["one", "two", "contradict"],
    );
}
