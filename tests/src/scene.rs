//! A victim of each kind in a place with queueing disciplines of its own, to be
//! injured and left in all possible ways.

use std::time::Duration;

use crate::{
    agent::{Agent, Finished, Injection},
    cgroup::Cgroup,
    command::Place,
    dialer::Dialer,
    kernel::{Feature, Where},
    netns::{Ip, Pair},
    residue::Snapshot,
    resolver::{Asker, NameServer},
    traffic::{Load, UdpFlow},
    victim::{CallVictim, Callers, failures},
};

/// One fault of each kind, whose effect is beyond doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every packet is lost.
    Loss,
    /// Every call that sends a packet fails.
    Denial,
    /// Every packet to a process is lost, after super-packets were split: what follows
    /// its children and its sockets is in force too, and devices are made.
    Reception,
    /// Every packet is delayed.
    Delay,
    /// Every packet is rejected.
    Rejection,
    /// Every connection is reset.
    Reset,
    /// Every packet is damaged, and its receiver's stack drops it.
    Corruption,
    /// Every packet arrives twice.
    Duplication,
    /// Nothing passes either way.
    Partition,
    /// Every packet waits for those before it on a slow link.
    Rate,
    /// Every packet waits for one that may go ahead, and none may.
    Reordering,
    /// Every `mkdir` fails.
    Errno,
    /// There is no room below the root directory, by two rules with files.
    DiskFull,
    /// Every `connect` fails.
    Refusal,
    /// No name exists.
    Names,
    /// Every name is told late.
    LateNames,
    /// Every packet goes over a link of a profile.
    Link,
}

impl Kind {
    /// What the kernel needs for it.
    #[must_use]
    pub const fn feature(self) -> Feature {
        match self {
            Self::Loss | Self::Reception | Self::Duplication | Self::Partition => Feature::NetLoss,
            Self::Denial => Feature::SendErrno,
            Self::Rejection => Feature::NetReject,
            Self::Reset => Feature::NetReset,
            Self::Delay | Self::Rate | Self::Reordering | Self::Link => Feature::NetDelay,
            // The name server is on the loopback.
            Self::LateNames => Feature::LoopbackDelay,
            Self::Corruption => Feature::NetCorrupt,
            Self::Errno => Feature::SysErrno,
            Self::DiskFull => Feature::Lsm,
            Self::Refusal => Feature::NetRefuse,
            Self::Names => Feature::Dns,
        }
    }

    /// What follows `injector inject`: the name of a kind or recipe, and its options.
    #[must_use]
    pub const fn fault(self) -> &'static [&'static str] {
        match self {
            Self::Loss => &["net-loss"],
            Self::Denial => &["net-loss", "--visibility", "errno=EPERM"],
            Self::Reception => &["net-loss", "--direction", "ingress", "--unit", "segment"],
            Self::Rejection => &["net-reject"],
            Self::Reset => &["net-reset"],
            Self::Delay => &["net-delay", "--delay", "60ms"],
            Self::Corruption => &["net-corrupt", "--checksum", "broken"],
            Self::Duplication => &["net-duplicate"],
            Self::Partition => &["net-partition"],
            // 70 ms for each.
            Self::Rate => &["net-rate", "--rate", "12kbit", "--queue", "10s"],
            Self::Reordering => &["net-reorder", "--delay", "60ms", "--gap", "1000"],
            // A call that no shell and no loader makes.
            Self::Errno => &["sys-errno", "--call", "mkdir", "--errno", "EIO"],
            Self::DiskFull => &["disk-full", "--path", "/"],
            Self::Refusal => &["net-refuse"],
            Self::Names => &["dns", "--answer", "nxdomain"],
            Self::LateNames => &["dns", "--answer", "delay", "--delay", "60ms"],
            Self::Link => &["net-link", "--profile", "3g"],
        }
    }

    /// Whether some of its programs outlive their agent here, in filters.
    #[must_use]
    pub fn uses_filters(self) -> bool {
        !matches!(
            self,
            Self::Errno | Self::DiskFull | Self::Refusal | Self::Denial
        ) && Feature::Tcx.expected(Where::current()).is_err()
    }
}

/// How much of a victim's work suffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// None of it.
    Nothing,
    /// A part of it, as when a fault ends meanwhile.
    Something,
    /// All of it.
    Everything,
}

/// The least delay of those that delay; nothing else delays a packet so long.
const DELAY: Duration = Duration::from_millis(60);

/// Few, because a lost packet is waited for.
const LOAD: Load = Load::of(10);

/// A victim of every kind.
#[derive(Debug)]
pub struct Scene {
    /// A flow whose sender is the victim.
    pub flow: UdpFlow,
    /// A victim that makes calls.
    calls: CallVictim,
    /// A victim that exchanges bytes with another, on their own loopback.
    dialer: Dialer,
    /// A victim that asks a name server, on the same loopback.
    asker: Asker,
    _names: NameServer,
    /// The group of all four.
    cgroup: Cgroup,
    /// Where the flow flows.
    pub pair: Pair,
}

impl Scene {
    /// Sets the scene.
    ///
    /// # Panics
    ///
    /// When something does not start.
    #[must_use]
    pub fn new() -> Self {
        let pair = Pair::new();
        foreign_qdiscs(&pair);
        let cgroup = Cgroup::new("victim");
        let near = Place::netns(&pair.near).and_cgroup(&cgroup);
        let flow = UdpFlow::start(
            near,
            Place::netns(&pair.far),
            (Pair::near_address(Ip::V4), 8001).into(),
            (Pair::far_address(Ip::V4), 7001).into(),
        );
        let calls = CallVictim::start(near, "mkdir", Callers::One);
        let here = (std::net::Ipv4Addr::LOCALHOST, 7100).into();
        let dialer = Dialer::start(near, near, here, &["--exchanges", "1"]);
        let to = (std::net::Ipv4Addr::LOCALHOST, 53).into();
        let names = NameServer::start(near, to);
        Self {
            flow,
            calls,
            dialer,
            asker: Asker::start(near, to, &[], &["example.net/A"]),
            _names: names,
            cgroup,
            pair,
        }
    }

    /// All that an injection here may change.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot::take(&[&self.pair.near, &self.pair.far])
    }

    /// The option that names the victim.
    #[must_use]
    pub fn target(&self) -> String {
        self.cgroup.target()
    }

    /// The option that names the victim of a kind.
    fn target_of(&self, kind: Kind) -> String {
        match kind {
            Kind::Reception => format!("pid:{}", self.flow.receiver().pid()),
            Kind::Loss
            | Kind::Denial
            | Kind::Rejection
            | Kind::Reset
            | Kind::Delay
            | Kind::Corruption
            | Kind::Duplication
            | Kind::Partition
            | Kind::Rate
            | Kind::Reordering
            | Kind::Errno
            | Kind::DiskFull
            | Kind::Refusal
            | Kind::Names
            | Kind::LateNames
            | Kind::Link => self.target(),
        }
    }

    /// Lets the victim work once, and tells how much of the work suffered.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[track_caller]
    pub fn harm(&self, kind: Kind) -> Harm {
        let harmed = match kind {
            Kind::Errno | Kind::DiskFull => failures(&self.calls.round(LOAD.count)),
            Kind::Refusal | Kind::Reset => self.dialer.round(LOAD.count).failures,
            Kind::Names => self.asker.seen(LOAD.count)[0].failures,
            Kind::LateNames => {
                assert_eq!(self.asker.seen(LOAD.count)[0].failures, 0);
                u64::from(self.asker.shortest() >= DELAY) * LOAD.count
            }
            Kind::Loss | Kind::Reception | Kind::Rejection | Kind::Corruption | Kind::Partition => {
                self.flow.round(LOAD).missing()
            }
            Kind::Denial => self.flow.round(LOAD).send_errors.0,
            Kind::Duplication => self.flow.round(LOAD).duplicates,
            Kind::Delay | Kind::Rate | Kind::Reordering | Kind::Link => {
                let arrived = self.flow.round(LOAD);
                assert_eq!(arrived.intact, LOAD.count, "{arrived:?}");
                arrived.delays.at_least(DELAY)
            }
        };
        match harmed {
            0 => Harm::Nothing,
            all if all == LOAD.count => Harm::Everything,
            _ => Harm::Something,
        }
    }

    /// Puts a fault in force on the victim.
    ///
    /// # Panics
    ///
    /// When it does not come in force.
    #[must_use]
    #[track_caller]
    pub fn inject(&self, kind: Kind, options: &[&str], variables: &[(&str, &str)]) -> Injection {
        let target = self.target_of(kind);
        let mut args = kind.fault().to_vec();
        args.extend(["--target", &target]);
        args.extend(options);
        Injection::start_in(Place::HERE, &args, variables)
    }

    /// Runs a fault to its end, whether it comes in force or not.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[must_use]
    #[track_caller]
    pub fn run(&self, kind: Kind, options: &[&str], variables: &[(&str, &str)]) -> Finished {
        let target = self.target_of(kind);
        let mut args = vec!["inject"];
        args.extend(kind.fault());
        args.extend(["--target", &target, "--output", "json"]);
        args.extend(options);
        Agent::start(Place::HERE, &args, variables).wait()
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts disciplines with options on the interfaces, as a user may have. None of
/// them disturbs the scene's few packets.
fn foreign_qdiscs(pair: &Pair) {
    let near = if Feature::Fq.expected(Where::current()).is_ok() {
        "qdisc add dev near0 root handle 7: fq limit 5000 flow_limit 77 quantum 3000"
    } else {
        "qdisc add dev near0 root handle 7: tbf rate 1gbit burst 1mb latency 70ms"
    };
    for line in [
        near,
        "qdisc add dev lo root handle 1: htb default 10",
        "class add dev lo parent 1: classid 1:10 htb rate 2gbit burst 2mb cburst 2mb",
    ] {
        pair.near.tc(&line.split(' ').collect::<Vec<_>>());
    }
    if Feature::Netem.expected(Where::current()).is_ok() {
        let far = "qdisc add dev far0 root handle 9: netem limit 1234 delay 1ms";
        pair.far.tc(&far.split(' ').collect::<Vec<_>>());
    }
}

/// The state of a process, as the kernel's letter.
///
/// # Panics
///
/// When it is gone.
#[must_use]
pub fn state(pid: u32) -> char {
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("read a process's state");
    // pid (name) state …; the name may hold anything, a parenthesis too.
    let (_, rest) = stat.rsplit_once(") ").expect("a state");
    rest.chars().next().expect("a state")
}
