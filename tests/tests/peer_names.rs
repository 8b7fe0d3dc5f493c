//! Peers that a rule names by host name: looked up when the rule comes in force,
//! and again as long as it is.

use std::{fs, path::Path};

use injector_tests::{
    agent::{self, Agent, Injection},
    cgroup::Cgroup,
    command::Place,
    netns::Pair,
    require,
    traffic::{
        Direction,
        ends::{Flow, LOAD, PLAIN},
    },
    wait,
};

/// Starts the injector with this file for /etc/hosts, which nobody else sees.
#[track_caller]
fn start(hosts: &Path, args: &[&str]) -> Injection {
    let mut command = Place::HERE.command("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
        .arg(hosts)
        .arg(agent::binary())
        .args(args)
        .args(["--output", "json"])
        .env("INJECTOR_LOG", "info");
    Injection::from_agent(Agent::from_command(command))
}

#[test]
fn a_name_is_followed_to_its_new_address() {
    require!(NetLoss);
    let pair = Pair::new();
    pair.join("near1", "far1", 1);
    let cgroup = Cgroup::new("victim");
    let first = PLAIN.start(&pair, &cgroup, Direction::Egress);
    let second = Flow { cable: 1, ..PLAIN }.start(&pair, &cgroup, Direction::Egress);
    let hosts = tempfile::NamedTempFile::new().expect("a file");
    fs::write(hosts.path(), "10.77.0.2 db.test\n").expect("write a file");
    let target = cgroup.target();
    let line = ["inject", "net-partition", "--peer", "db.test", "--target"];
    let line = [&line[..], &[&target, "--proto", "udp", "--for", "80s"]].concat();
    let injection = start(hosts.path(), &line);
    assert_eq!(first.round(LOAD).missing(), LOAD.count);
    second.round(LOAD).assert_untouched(LOAD);
    // In place: what is mounted is the file, not its name.
    fs::write(hosts.path(), "10.77.1.2 db.test\n").expect("write a file");
    wait::until("the new address", || {
        (second.round(LOAD).missing() == LOAD.count).then_some(())
    });
    // Whoever is still connected to the old one is its peer as well.
    assert_eq!(first.round(LOAD).missing(), LOAD.count);
    fs::write(hosts.path(), "").expect("write a file");
    let rule = injection.stop().rule();
    assert_eq!((rule.passed, rule.errors), (0, 0), "{rule:?}");
    first.round(LOAD).assert_untouched(LOAD);
    second.round(LOAD).assert_untouched(LOAD);
}

#[test]
fn a_name_that_is_left_out() {
    require!(NetLoss);
    let pair = Pair::new();
    pair.join("near1", "far1", 1);
    let cgroup = Cgroup::new("victim");
    let hit = PLAIN.start(&pair, &cgroup, Direction::Egress);
    let spared = Flow { cable: 1, ..PLAIN }.start(&pair, &cgroup, Direction::Egress);
    let hosts = tempfile::NamedTempFile::new().expect("a file");
    fs::write(hosts.path(), "10.77.1.2 ns.test\nfd77::2 ns.test\n").expect("write a file");
    let target = cgroup.target();
    let line = ["inject", "net-partition", "--peer", "10.77.0.0/16,!ns.test"];
    let line = [&line[..], &["--target", &target, "--for", "60s"]].concat();
    let injection = start(hosts.path(), &line);
    assert_eq!(hit.round(LOAD).missing(), LOAD.count);
    spared.round(LOAD).assert_untouched(LOAD);
    assert_eq!(injection.stop().rule().injected, LOAD.count);
}
