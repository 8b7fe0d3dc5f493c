//! Peers that a rule names as a target: what runs there is the peer, at whatever
//! addresses its network namespaces have.

use std::net::SocketAddr;

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Netns, Pair, address},
    require,
    traffic::{
        UdpFlow,
        ends::{FAR_PORT, LOAD, NEAR_PORT},
    },
    wait,
};

/// A flow of the victim's to a process of another group, over this cable.
fn flow(pair: &Pair, victim: &Cgroup, (far, group): (&Netns, &Cgroup), ip: Ip, net: u8) -> UdpFlow {
    let (from, to) = (address(ip, net, 1), address(ip, net, 2));
    UdpFlow::start(
        Place::netns(&pair.near).and_cgroup(victim),
        Place::netns(far).and_cgroup(group),
        SocketAddr::new(from, NEAR_PORT),
        SocketAddr::new(to, FAR_PORT),
    )
}

#[test]
fn a_partition_from_a_group_and_where_it_moves_to() {
    require!(NetLoss);
    let pair = Pair::new();
    let another = pair.join_another("near1", "far1", 1);
    let (victim, db, cache) = (
        Cgroup::new("victim"),
        Cgroup::new("db"),
        Cgroup::new("cache"),
    );
    let v4 = flow(&pair, &victim, (&pair.far, &db), Ip::V4, 0);
    let v6 = flow(&pair, &victim, (&pair.far, &db), Ip::V6, 0);
    let other = flow(&pair, &victim, (&another, &cache), Ip::V4, 1);
    let (target, peer) = (victim.target(), db.target());
    let line = ["net-partition", "--peer-target", &peer, "--target", &target];
    let line = [&line[..], &["--proto", "udp", "--for", "80s"]].concat();
    let injection = Injection::start(&line);
    assert_eq!(v4.round(LOAD).missing(), LOAD.count);
    assert_eq!(v6.round(LOAD).missing(), LOAD.count);
    other.round(LOAD).assert_untouched(LOAD);
    // As if it were started again elsewhere.
    db.adopt(other.receiver().pid());
    wait::until("the new address", || {
        (other.round(LOAD).missing() == LOAD.count).then_some(())
    });
    assert_eq!(v4.round(LOAD).missing(), LOAD.count);
    let rule = injection.stop().rule();
    assert_eq!((rule.passed, rule.errors), (0, 0), "{rule:?}");
    for flow in [&v4, &v6, &other] {
        flow.round(LOAD).assert_untouched(LOAD);
    }
}

#[test]
fn a_target_that_is_left_out() {
    require!(NetLoss);
    let pair = Pair::new();
    let another = pair.join_another("near1", "far1", 1);
    let (victim, db, cache) = (
        Cgroup::new("victim"),
        Cgroup::new("db"),
        Cgroup::new("cache"),
    );
    let hit = flow(&pair, &victim, (&pair.far, &db), Ip::V4, 0);
    let spared = flow(&pair, &victim, (&another, &cache), Ip::V4, 1);
    let spared_peer = format!("!pid:{}", spared.receiver().pid());
    let target = victim.target();
    let line = [
        "net-partition",
        "--peer-target",
        &spared_peer,
        "--target",
        &target,
    ];
    let injection = Injection::start(&[&line[..], &["--proto", "udp", "--for", "60s"]].concat());
    assert_eq!(hit.round(LOAD).missing(), LOAD.count);
    spared.round(LOAD).assert_untouched(LOAD);
    assert_eq!(injection.stop().rule().injected, LOAD.count);
}

/// Refuses this peer of a target, with the reason.
#[track_caller]
fn refused(target: &str, peer: &str, why: &str) {
    let line = ["plan", "net-loss", "--for", "1s", "--target", target];
    let plan = agent::run(&[&line[..], &["--peer-target", peer]].concat());
    assert_eq!(plan.code(), 2, "{plan:?}");
    let errors = &plan.stderr;
    assert!(
        errors.contains("peer-target") && errors.contains(why),
        "{errors}"
    );
}

#[test]
fn a_target_without_addresses_of_its_own_is_refused() {
    let (empty, here) = (Cgroup::new("empty"), Cgroup::new("here"));
    let process = Place::cgroup(&here).spawn("sleep", &["60"]);
    let target = here.target();
    refused(&target, &empty.target(), "no process runs in it");
    refused(&target, &target, "shares a network namespace with process");
    let pid = format!("pid:{}", process.pid());
    refused(&target, &pid, "--peer and --peer-port");
    refused(&target, "cgroup:/no/such/group", "does not exist");
    refused(&target, "command", "has no address before it starts");
}
