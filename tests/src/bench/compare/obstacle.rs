//! What can be in the way of an exchange without doing it harm, and where exchanges
//! meet it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use super::{exchange::Cost, toxiproxy::Toxiproxy};
use crate::{
    agent::Injection,
    bench::{inject, path::Road},
    command::{Place, Process},
    netns::{Ip, Netns, Pair},
    traffic::await_listener,
};

/// Port of the far end for the victim's exchanges.
const VICTIM_PORT: u16 = 7003;

/// The same for the bystander's.
const BYSTANDER_PORT: u16 = 7004;

/// Where the proxy listens, on the loopback interface of the near side.
const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7005);

/// What is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    Nothing,
    /// A rule on what the victim sends.
    Injector,
    /// The same, also on what it receives.
    InjectorBothWays,
    /// The interface's queueing discipline.
    Netem,
    /// A packet filter that counts the packets of the victim's connection.
    Filter,
    /// A proxy that the victim connects to.
    Proxy,
    /// The same, with something to do on either way.
    ProxyWithToxics,
}

/// All of them; first the one that the others are compared with.
pub(super) const OBSTACLES: [Obstacle; 7] = [
    Obstacle::Nothing,
    Obstacle::Injector,
    Obstacle::InjectorBothWays,
    Obstacle::Netem,
    Obstacle::Filter,
    Obstacle::Proxy,
    Obstacle::ProxyWithToxics,
];

impl Obstacle {
    /// What a table calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Injector => "injector: `net-loss` on a cgroup, never due",
            Self::InjectorBothWays => "injector: the same, both directions",
            Self::Netem => "netem on the interface, without a fault",
            Self::Filter => "nftables: `tcp dport`, `tcp sport` and `counter`",
            Self::Proxy => "toxiproxy without a toxic",
            Self::ProxyWithToxics => "toxiproxy, `latency` of 0 both ways",
        }
    }

    /// Whether the victim has to go out of its way to meet it, and toxiproxy has to be there.
    pub(super) const fn is_proxy(self) -> bool {
        match self {
            Self::Proxy | Self::ProxyWithToxics => true,
            Self::Nothing
            | Self::Injector
            | Self::InjectorBothWays
            | Self::Netem
            | Self::Filter => false,
        }
    }

    /// Puts it in the way.
    ///
    /// # Errors
    ///
    /// What the kernel's tools say when it has no such thing.
    #[track_caller]
    fn start<'a>(self, bed: &Bed<'a>) -> Result<Standing<'a>, String> {
        let near = &bed.road.pair.near;
        Ok(match self {
            Self::Nothing => Standing::Nothing,
            Self::Injector => rule(bed.road, "egress"),
            Self::InjectorBothWays => rule(bed.road, "both"),
            Self::Netem => {
                let link = Pair::NEAR_LINK;
                attempt(near, "tc", &["qdisc", "add", "dev", link, "root", "netem"])?;
                Standing::Discipline(near)
            }
            Self::Filter => {
                let table = format!(
                    "table ip way {{\n \
                     chain out {{ type filter hook output priority 0; \
                     tcp dport {VICTIM_PORT} counter; }}\n \
                     chain in {{ type filter hook input priority 0; \
                     tcp sport {VICTIM_PORT} counter; }}\n}}"
                );
                attempt(near, "nft", &[&table])?;
                Standing::Filter(near)
            }
            Self::Proxy => Standing::Proxy(bed.proxy(), 0),
            Self::ProxyWithToxics => {
                let proxy = bed.proxy();
                proxy.add_toxics();
                Standing::Proxy(proxy, 2)
            }
        })
    }
}

/// A rule on the victim that does not come to inject.
#[track_caller]
fn rule(road: &Road, direction: &str) -> Standing<'static> {
    Standing::Rule(inject(&format!(
        "net-loss --when 4000000000 --direction {direction} --target {} --for 10h",
        road.victim.target()
    )))
}

/// Runs a program of the kernel's tools; what it says when it fails.
fn attempt(netns: &Netns, program: &str, args: &[&str]) -> Result<(), String> {
    let output = Place::netns(netns).output(program, args);
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().next().unwrap_or_default().to_owned())
}

/// Something in the way.
enum Standing<'a> {
    Nothing,
    Rule(Injection),
    Discipline(&'a Netns),
    Filter(&'a Netns),
    /// With so many toxics.
    Proxy(Toxiproxy<'a>, usize),
}

impl Standing<'_> {
    /// Takes it away, once the victim's exchanges have met it.
    ///
    /// # Panics
    ///
    /// When they have not.
    #[track_caller]
    fn stop(self) {
        match self {
            Self::Nothing => {}
            Self::Rule(injection) => {
                let rule = injection.stop().rule();
                assert!(rule.matched >= Cost::EXCHANGES, "{rule:?}");
                assert_eq!(rule.injected, 0, "{rule:?}");
            }
            Self::Discipline(netns) => {
                let link = Pair::NEAR_LINK;
                let text = netns.tc(&["-s", "qdisc", "show", "dev", link, "root"]);
                assert!(!text.contains("Sent 0 bytes"), "nothing came by: {text}");
                netns.tc(&["qdisc", "del", "dev", link, "root"]);
            }
            Self::Filter(netns) => {
                let near = Place::netns(netns);
                let text = near.run("nft", &["list", "ruleset"]);
                assert!(!text.contains("packets 0 "), "nothing came by: {text}");
                near.run("nft", &["flush", "ruleset"]);
            }
            Self::Proxy(proxy, toxics) => {
                assert_eq!(proxy.toxics(), toxics, "toxics of {proxy:?}");
            }
        }
    }
}

/// A road whose far side sends messages back.
pub(super) struct Bed<'a> {
    road: &'a Road,
    toxiproxy: Option<&'a Path>,
    _echo: Process,
}

impl<'a> Bed<'a> {
    /// Makes it ready. `toxiproxy` is the path of its server, which proxies need.
    ///
    /// # Panics
    ///
    /// When nobody listens on the far side.
    #[track_caller]
    pub(super) fn new(road: &'a Road, toxiproxy: Option<&'a Path>) -> Self {
        let far = &road.pair.far;
        let program = std::env::current_exe().expect("the path of the running program");
        let [victim, bystander] =
            [VICTIM_PORT, BYSTANDER_PORT].map(|port| far_end(port).to_string());
        let args = ["echo", "--on", &victim, "--on", &bystander];
        let echo = Place::netns(far).spawn(program, &args);
        for port in [VICTIM_PORT, BYSTANDER_PORT] {
            await_listener(far, &port.to_string());
        }
        Self {
            road,
            toxiproxy,
            _echo: echo,
        }
    }

    #[track_caller]
    fn proxy(&self) -> Toxiproxy<'a> {
        let program = self.toxiproxy.expect("toxiproxy is there");
        Toxiproxy::start(program, &self.road.pair.near, PROXY, far_end(VICTIM_PORT))
    }

    /// What the victim's and the bystander's exchanges cost with this in the way.
    ///
    /// # Errors
    ///
    /// Why this kernel does not have it.
    #[track_caller]
    pub(super) fn costs(&self, obstacle: Obstacle) -> Result<[Cost; 2], String> {
        let standing = obstacle.start(self)?;
        let near = Place::netns(&self.road.pair.near);
        let victims = if obstacle.is_proxy() {
            PROXY
        } else {
            far_end(VICTIM_PORT)
        };
        let costs = [
            Cost::measure(&near.and_cgroup(&self.road.victim), victims),
            Cost::measure(
                &near.and_cgroup(&self.road.bystander),
                far_end(BYSTANDER_PORT),
            ),
        ];
        standing.stop();
        Ok(costs)
    }
}

fn far_end(port: u16) -> SocketAddr {
    SocketAddr::new(Pair::far_address(Ip::V4), port)
}
