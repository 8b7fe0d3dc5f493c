//! The harness itself, without any fault: a bed that loses packets on its own,
//! or a snapshot that overlooks a leftover, would make every other test lie.

use std::{net::SocketAddr, time::Duration};

use injector_tests::{
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Netns, Pair},
    residue::Snapshot,
    traffic::{Bed, Case, Direction, Form, Load, TcpFlow},
    victim::{CallVictim, Callers},
};

fn case(ip: Ip, direction: Direction) -> Case {
    Case {
        form: Form::Cgroup,
        ip,
        direction,
    }
}

#[test]
fn udp_flows_lose_nothing_by_themselves() {
    for ip in [Ip::V4, Ip::V6] {
        for direction in [Direction::Egress, Direction::Ingress] {
            let bed = Bed::new(case(ip, direction));
            for load in [Load::of(20_000), Load::of(500).sized(1400)] {
                bed.round(load, load).assert_untouched(load);
            }
        }
    }
}

#[test]
fn udp_flows_keep_their_pace() {
    let bed = Bed::new(case(Ip::V4, Direction::Egress));
    let load = Load::of(50).spaced(Duration::from_millis(2));
    let start = std::time::Instant::now();
    bed.round(load, load).assert_untouched(load);
    assert!(start.elapsed() >= Duration::from_millis(98));
}

#[test]
fn udp_flows_notice_loss() {
    let bed = Bed::new(case(Ip::V4, Direction::Egress));
    // The far side ignores packets that are addressed to another machine.
    let neighbour = "neighbour replace 10.77.0.2 lladdr 02:00:00:00:00:99 dev near0";
    bed.pair.near.ip(&words(neighbour));
    let load = Load::of(1000);
    let arrived = bed.victim.round(load);
    assert_eq!((arrived.sent, arrived.missing()), (1000, 1000));
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn tcp_flows_arrive_whole() {
    let pair = Pair::new();
    let to = SocketAddr::new(Pair::far_address(Ip::V6), 7000);
    let flow = TcpFlow::start(
        Place::netns(&pair.near),
        Place::netns(&pair.far),
        to,
        3,
        None,
    );
    for _ in 0..2 {
        let stream = flow.round(1_000_000);
        assert_eq!(
            (stream.sent, stream.bytes, stream.bad_bytes),
            (3_000_000, 3_000_000, 0)
        );
    }
}

#[test]
fn every_call_of_the_victim_succeeds_without_a_fault() {
    let calls = [
        "open",
        "openat",
        "openat2",
        "read",
        "pread64",
        "write",
        "pwrite64",
        "connect",
        "bind",
        "sendmsg",
        "sendto",
        "recvmsg",
        "recvfrom",
        "execve",
        "clone",
        "mmap",
        "unlink",
        "unlinkat",
        "rename",
        "mkdir",
        "stat",
        "newfstatat",
        "fsync",
    ];
    for call in calls {
        let victim = CallVictim::start(Place::HERE, call, Callers::LateFamily);
        for _ in 0..2 {
            victim.assert_unharmed(3);
        }
    }
}

#[test]
fn victims_run_in_their_control_group_with_all_their_threads_and_children() {
    let cgroup = Cgroup::new("harness");
    let victim = CallVictim::start(Place::cgroup(&cgroup), "openat", Callers::EarlyFamily);
    assert_eq!(cgroup.processes().len(), 3, "victim, child and grandchild");
    assert_eq!(victim.round(10).len(), 5, "and two more threads");
}

#[test]
fn snapshots_notice_what_was_left() {
    notices(
        &Netns::new(),
        "qdisc add dev lo clsact",
        "qdisc del dev lo clsact",
    );
    notices(&Netns::new(), LIMITED, "qdisc del dev lo root");
}

#[test]
fn snapshots_notice_a_changed_option() {
    let netns = Netns::new();
    netns.tc(&words(LIMITED));
    notices(&netns, LIMITED_OTHERWISE, LIMITED);
}

/// Checks that a change of traffic control is a difference until it is undone.
#[track_caller]
fn notices(netns: &Netns, change: &str, undo: &str) {
    let snapshot = Snapshot::take(&[netns]);
    snapshot.assert_clean();
    netns.tc(&words(change));
    assert!(snapshot.difference().is_some(), "not noticed: {change}");
    netns.tc(&words(undo));
    snapshot.assert_clean();
}

const LIMITED: &str = "qdisc replace dev lo root handle 1: tbf rate 1mbit burst 10k latency 50ms";
const LIMITED_OTHERWISE: &str =
    "qdisc change dev lo root handle 1: tbf rate 1mbit burst 10k latency 51ms";

#[test]
fn snapshots_notice_control_groups_and_devices() {
    let snapshot = Snapshot::take(&[]);
    let group = Cgroup::new("outer");
    let ours = group.child("injector-left");
    assert!(snapshot.difference().is_some(), "a control group");
    drop(ours);
    snapshot.assert_clean();

    let netns = Netns::new();
    netns.ip(&words("link add inj0 type veth peer name other"));
    assert!(snapshot.difference().is_some(), "a device");
    drop(netns);
    snapshot.assert_clean();
}

/// What `cargo xtask test` has set up before, to run this.
#[test]
fn nothing_is_set_up_twice() {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debug/xtask");
    let xtask = std::env::var("INJECTOR_XTASK").unwrap_or_else(|_| built.to_owned());
    let setup = Place::HERE
        .command(xtask)
        .args(["setup", "build", "victims"])
        .output()
        .expect("start xtask");
    assert!(setup.status.success(), "{setup:?}");
    assert_eq!(String::from_utf8_lossy(&setup.stdout), "");
    assert_eq!(
        String::from_utf8_lossy(&setup.stderr),
        "xtask: everything is there\n"
    );
}
