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

/// A victim's group in the near namespace, and two others, each in a namespace of its
/// own at the other end of a cable.
struct Bed {
    victim: Cgroup,
    db: Cgroup,
    cache: Cgroup,
    pair: Pair,
    another: Netns,
}

impl Bed {
    fn new() -> Self {
        let pair = Pair::new();
        Self {
            victim: Cgroup::new("victim"),
            db: Cgroup::new("db"),
            cache: Cgroup::new("cache"),
            another: pair.join_another("near1", "far1", 1),
            pair,
        }
    }

    fn to_db(&self, ip: Ip) -> UdpFlow {
        self.flow(Place::netns(&self.pair.far).and_cgroup(&self.db), ip, 0)
    }

    fn to_cache(&self) -> UdpFlow {
        let place = Place::netns(&self.another).and_cgroup(&self.cache);
        self.flow(place, Ip::V4, 1)
    }

    /// A flow of the victim's over this cable.
    fn flow(&self, to: Place<'_>, ip: Ip, net: u8) -> UdpFlow {
        UdpFlow::start(
            Place::netns(&self.pair.near).and_cgroup(&self.victim),
            to,
            SocketAddr::new(address(ip, net, 1), NEAR_PORT),
            SocketAddr::new(address(ip, net, 2), FAR_PORT),
        )
    }

    /// Cuts the victim off from this peer.
    #[track_caller]
    fn cut(&self, peer: &str) -> Injection {
        let target = self.victim.target();
        let line = ["net-partition", "--target", &target, "--peer-target", peer];
        Injection::start(&[&line[..], &["--proto", "udp", "--for", "80s"]].concat())
    }
}

#[test]
fn a_partition_from_a_group_and_where_it_moves_to() {
    require!(NetLoss);
    let bed = Bed::new();
    let (v4, v6) = (bed.to_db(Ip::V4), bed.to_db(Ip::V6));
    let other = bed.to_cache();
    let injection = bed.cut(&bed.db.target());
    assert_eq!(v4.round(LOAD).missing(), LOAD.count);
    assert_eq!(v6.round(LOAD).missing(), LOAD.count);
    other.round(LOAD).assert_untouched(LOAD);
    // As if it were started again elsewhere.
    bed.db.adopt(other.receiver().pid());
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
    let bed = Bed::new();
    let (hit, spared) = (bed.to_db(Ip::V4), bed.to_cache());
    let injection = bed.cut(&format!("!pid:{}", spared.receiver().pid()));
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
