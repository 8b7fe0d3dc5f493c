//! Where faults are had from either maker, beside each other.

use std::net::IpAddr;

use super::rows::Row;
use crate::{
    agent::{self, Injection},
    command::{Place, Process},
    netns::{Ip, Netns, Pair},
    traffic::{Comparison, Direction, UdpFlow},
};

/// Who makes a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// The kernel, by a queueing discipline.
    Reference,
    /// The program under test.
    Injector,
}

/// Device that arriving packets are sent through, to pass a queueing discipline.
const DETOUR: &str = "detour0";

/// A near namespace that is the victim's alone, a far one, and the traffic between
/// them.
#[derive(Debug)]
pub(super) struct Bed {
    pub(super) hosts: Comparison,
}

impl Bed {
    /// Makes it ready.
    pub(super) fn new() -> Self {
        let hosts = Comparison::new();
        // Only netem would lose and delay the questions of address resolution.
        let pair = &hosts.pair;
        let near = (&pair.near, Pair::NEAR_LINK);
        let far = (&pair.far, Pair::FAR_LINK);
        for ip in [Ip::V4, Ip::V6] {
            know(near, far, Pair::far_address(ip));
            know(far, near, Pair::near_address(ip));
        }
        Self { hosts }
    }

    /// Who can make a row's fault, in the order to do so.
    pub(super) fn makers(row: &Row) -> Vec<Maker> {
        let mut makers = vec![Maker::Reference];
        if injector_knows(row.injector) {
            makers.push(Maker::Injector);
        }
        makers
    }

    /// Does something under a row's fault; what came of it, and how many packets
    /// the injector says it hit.
    #[track_caller]
    pub(super) fn under<T>(
        &self,
        maker: Maker,
        row: &Row,
        way: Direction,
        work: impl FnOnce() -> T,
    ) -> T {
        match maker {
            Maker::Reference if row.tc.is_empty() => work(),
            Maker::Reference => {
                let _discipline = Discipline::add(&self.hosts.pair.near, way, row.tc);
                work()
            }
            Maker::Injector => {
                let target = self.hosts.target();
                let line = format!(
                    "{} --target {target} --direction {} --for 10h",
                    row.injector,
                    way.word()
                );
                let injection = Injection::start(&line.split(' ').collect::<Vec<_>>());
                let result = work();
                let rule = injection.stop().rule();
                assert!(rule.injected > 0, "the fault hit nothing: {line}");
                assert_eq!(rule.errors, 0, "the kernel refused the fault: {line}");
                result
            }
        }
    }

    /// A process in the victim's namespace that is no target, for as long as the value lives.
    /// Packets that arrive are then told apart by their sockets.
    #[track_caller]
    pub(super) fn other(&self) -> Process {
        Place::netns(&self.hosts.pair.near).spawn("sleep", &["100000"])
    }

    /// A flow of numbered packets of IPv4 that the victim sends or receives.
    #[track_caller]
    pub(super) fn flow(&self, way: Direction) -> UdpFlow {
        self.flow_of(way, Ip::V4)
    }

    /// The same of either family.
    #[track_caller]
    pub(super) fn flow_of(&self, way: Direction, ip: Ip) -> UdpFlow {
        let near = (self.hosts.near(), (Pair::near_address(ip), 8001));
        let far = Place::netns(&self.hosts.pair.far);
        let far = (far, (Pair::far_address(ip), 7001));
        let (from, to) = match way {
            Direction::Egress => (near, far),
            Direction::Ingress => (far, near),
        };
        let flow = UdpFlow::start(from.0, to.0, from.1.into(), to.1.into());
        // What arrives is looked at at once, whatever else the only processor does:
        // the waiting of a process for its turn is no delay of a packet.
        let receiver = flow.receiver().pid().to_string();
        Place::HERE.run("chrt", &["--fifo", "--pid", "50", &receiver]);
        flow
    }

    /// The side that sends what the victim sends or receives.
    pub(super) const fn sender(&self, way: Direction) -> &Netns {
        match way {
            Direction::Egress => &self.hosts.pair.near,
            Direction::Ingress => &self.hosts.pair.far,
        }
    }

    /// The side that receives it.
    pub(super) const fn receiver(&self, way: Direction) -> &Netns {
        match way {
            Direction::Egress => &self.hosts.pair.far,
            Direction::Ingress => &self.hosts.pair.near,
        }
    }
}

/// Tells one side the other one's hardware address for good.
fn know((here, link): (&Netns, &str), (there, their_link): (&Netns, &str), address: IpAddr) {
    let shown = there.ip(&["-o", "link", "show", "dev", their_link]);
    let mut words = shown.split_whitespace();
    let hardware = words
        .find(|&word| word == "link/ether")
        .and_then(|_| words.next());
    let hardware = hardware.expect("a cable's hardware address");
    let address = address.to_string();
    here.ip(&[
        "neigh",
        "replace",
        &address,
        "lladdr",
        hardware,
        "dev",
        link,
        "nud",
        "permanent",
    ]);
}

/// Whether the injector lists the kind of a fault, with the options that it takes.
/// A fault without words is none: it can only be had from nobody.
fn injector_knows(fault: &str) -> bool {
    /// Options of every kind, which a kind's own list lacks.
    const COMMON: [&str; 4] = ["--percent", "--when", "--times", "--seed"];
    let mut words = fault.split_whitespace();
    let Some(kind) = words.next() else {
        return false;
    };
    let listed = agent::run(&["faults", kind]);
    let has = |option: &str| listed.stdout.split_whitespace().any(|word| word == option);
    let mut options = words.filter(|word| word.starts_with("--"));
    listed.code() == 0 && options.all(|option| COMMON.contains(&option) || has(option))
}

/// A queueing discipline in the victim's namespace, gone with this value.
struct Discipline<'a> {
    netns: &'a Netns,
    way: Direction,
}

impl<'a> Discipline<'a> {
    #[track_caller]
    fn add(netns: &'a Netns, way: Direction, words: &str) -> Self {
        let tc = |line: &str| netns.tc(&line.split_whitespace().collect::<Vec<_>>());
        let link = Pair::NEAR_LINK;
        let on = match way {
            Direction::Egress => link,
            // What arrives passes no queue, so it makes a detour through a device
            // that has one.
            Direction::Ingress => {
                netns.ip(&["link", "add", DETOUR, "type", "ifb"]);
                netns.ip(&["link", "set", DETOUR, "up"]);
                tc(&format!("qdisc add dev {link} ingress"));
                tc(&format!(
                    "filter add dev {link} parent ffff: protocol all matchall \
                     action mirred egress redirect dev {DETOUR}"
                ));
                DETOUR
            }
        };
        // netem's default of 1000 packets is less than the injector has, and than bulk
        // flows need that are delayed for long.
        let words = words.replace("netem ", "netem limit 100000 ");
        tc(&format!("qdisc add dev {on} root {words}"));
        Self { netns, way }
    }
}

impl Drop for Discipline<'_> {
    fn drop(&mut self) {
        let link = Pair::NEAR_LINK;
        match self.way {
            Direction::Egress => {
                self.netns.tc(&["qdisc", "del", "dev", link, "root"]);
            }
            Direction::Ingress => {
                self.netns.tc(&["qdisc", "del", "dev", link, "ingress"]);
                self.netns.ip(&["link", "del", DETOUR]);
            }
        }
    }
}
