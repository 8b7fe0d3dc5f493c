//! Flows between two namespaces that differ in what filters look at.

use std::net::SocketAddr;

use super::{Direction, Load, UdpFlow};
use crate::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Pair, address},
    require,
};

/// No answer comes within a window, so few packets make a short test.
pub const LOAD: Load = Load::of(200);

/// Port of a flow's near end.
pub const NEAR_PORT: u16 = 8100;
/// That of its far end.
pub const FAR_PORT: u16 = 7100;

/// One end of a flow, as far as a filter can tell.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// IP version.
    pub ip: Ip,
    /// Number of the cable that it takes.
    pub cable: u8,
    /// Port of the near end.
    pub near_port: u16,
    /// Port of the far end.
    pub far_port: u16,
}

/// A flow.
pub const PLAIN: Flow = Flow {
    ip: Ip::V4,
    cable: 0,
    near_port: NEAR_PORT,
    far_port: FAR_PORT,
};

/// Two flows between the same addresses need ports of their own on both sides.
pub const OTHER_PORTS: Flow = Flow {
    near_port: NEAR_PORT + 1,
    far_port: FAR_PORT + 1,
    ..PLAIN
};

/// A flow through the other cable.
pub const OTHER_CABLE: Flow = Flow { cable: 1, ..PLAIN };

impl Flow {
    /// Starts both ends, the near one in a group. The target is there.
    ///
    /// # Panics
    ///
    /// When they do not become ready.
    #[must_use]
    #[track_caller]
    pub fn start(self, pair: &Pair, cgroup: &Cgroup, direction: Direction) -> UdpFlow {
        let near = SocketAddr::new(address(self.ip, self.cable, 1), self.near_port);
        let far = SocketAddr::new(address(self.ip, self.cable, 2), self.far_port);
        let near_place = Place::netns(&pair.near).and_cgroup(cgroup);
        let far_place = Place::netns(&pair.far);
        match direction {
            Direction::Egress => UdpFlow::start(near_place, far_place, near, far),
            Direction::Ingress => UdpFlow::start(far_place, near_place, far, near),
        }
    }
}

/// Starts a flow that leaves a group of the near side, and one that arrives there.
///
/// # Panics
///
/// When their ends do not become ready.
#[must_use]
#[track_caller]
pub fn both_ways(pair: &Pair, cgroup: &Cgroup) -> [UdpFlow; 2] {
    [
        PLAIN.start(pair, cgroup, Direction::Egress),
        OTHER_PORTS.start(pair, cgroup, Direction::Ingress),
    ]
}

/// Loses all of one flow and nothing of another flow of the same victim, which
/// differs from it in one respect only.
///
/// # Panics
///
/// When it is otherwise.
#[track_caller]
pub fn check(filter: &[&str], hit: Flow, spared: Flow) {
    check_kind(&[&["net-loss"], filter].concat(), hit, spared);
}

/// The same by a kind that is named with its options.
///
/// # Panics
///
/// When it is otherwise.
#[track_caller]
pub fn check_kind(kind: &[&str], hit: Flow, spared: Flow) {
    require!(NetLoss);
    for direction in [Direction::Egress, Direction::Ingress] {
        let pair = Pair::new();
        pair.join("near1", "far1", 1);
        let cgroup = Cgroup::new("victim");
        let hit = hit.start(&pair, &cgroup, direction);
        let spared = spared.start(&pair, &cgroup, direction);
        let target = cgroup.target();
        let mut args = kind.to_vec();
        args.extend(["--target", &target, "--for", "60s"]);
        args.extend(["--direction", direction.word()]);
        // The namespace is the victim's alone, and so are the kernel's own
        // packets in it.
        args.extend(["--proto", "udp"]);
        let injection = Injection::start(&args);
        assert_eq!(hit.round(LOAD).missing(), LOAD.count, "{direction:?}");
        spared.round(LOAD).assert_untouched(LOAD);
        let rule = injection.stop().rule();
        assert_eq!(
            (rule.matched, rule.injected),
            (LOAD.count, LOAD.count),
            "{direction:?}"
        );
        hit.round(LOAD).assert_untouched(LOAD);
    }
}
