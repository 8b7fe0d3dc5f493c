//! The ledger: a file that tells of each hit, and of the experiment that made them, so
//! that it can be run again.
//!
//! One line of JSON for each thing that is told ([`Line`]): first the header, then the
//! hits in the order in which programs told them, and at the end what is needed to see
//! whether the file is complete.

mod compare;
mod read;
mod write;

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use injector_common::{
    Hit, RuleStats,
    filter::{EGRESS, INGRESS},
    flow::Flow,
    packet::V4_MAPPED,
    random::rule_seed,
};
use serde::{Deserialize, Serialize};

pub use compare::{Replayed, Run};
pub use read::Recorded;
pub use write::{Cut, Lines};

use crate::{
    model::{Errno, Experiment, Fault, Rule},
    report::StoppedBy,
};

/// Version of the format. One that reads less must not read a newer one.
pub const VERSION: u32 = 1;

/// A line of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Line<'a> {
    /// The first: what was run, and where.
    Header(Header),
    /// A hit.
    #[serde(borrow)]
    Hit(HitLine<'a>),
    /// How many packets a flow had that was hit.
    #[serde(borrow)]
    Flow(FlowLine<'a>),
    /// The last.
    End(End),
}

/// What was run, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`VERSION`].
    pub version: u32,
    /// The experiment's id.
    pub experiment: String,
    /// The seed of its decisions, drawn or given.
    pub seed: u64,
    /// The kernel's release.
    pub kernel: String,
    /// What the user wrote.
    pub spec: Spec,
    /// The rules, in their order.
    pub rules: Vec<RuleHead>,
}

/// What the user wrote: arguments, and the file that they name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The arguments of the injector, without its own name.
    pub arguments: Vec<String>,
    /// The text of the spec file, for `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// What a rule is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleHead {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// `rule`, `flow`, `process` or `thread`.
    pub per: Cow<'static, str>,
}

impl RuleHead {
    /// Of a rule.
    #[must_use]
    pub fn of(rule: &Rule) -> Self {
        Self {
            name: rule.name.clone(),
            kind: rule.fault.kind().name().to_owned(),
            per: Cow::Borrowed(rule.per.name()),
        }
    }
}

impl Header {
    /// Of an experiment that is about to run on this kernel.
    #[must_use]
    pub fn new(experiment: &Experiment, kernel: String, spec: Spec) -> Self {
        Self {
            version: VERSION,
            experiment: experiment.id.clone(),
            seed: experiment.seed,
            kernel,
            spec,
            rules: experiment.rules.iter().map(RuleHead::of).collect(),
        }
    }
}

/// A hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HitLine<'a> {
    /// When, in ns since the rules came in force.
    pub time_ns: u64,
    /// The rule's name.
    #[serde(borrow)]
    pub rule: Cow<'a, str>,
    /// What was done: the rule's kind.
    #[serde(borrow)]
    pub action: Cow<'a, str>,
    /// The operation's number, by which it was drawn for.
    pub n: u64,
    /// How long the packet waits for this rule, in ns, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ns: Option<u64>,
    /// The packet's flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowKey>,
    /// The process whose call it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tgid: Option<u32>,
    /// The thread whose call it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// The name of the error that the call failed with, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(borrow)]
    pub errno: Option<Cow<'a, str>>,
}

impl<'a> HitLine<'a> {
    /// Of a hit of this rule, of an experiment that was put in force at `start_ns`.
    #[must_use]
    pub fn new(hit: &Hit, rule: &'a Rule, start_ns: u64) -> Self {
        let flow = FlowKey::of(hit);
        Self {
            time_ns: hit.time_ns.saturating_sub(start_ns),
            rule: Cow::Borrowed(&rule.name),
            action: Cow::Borrowed(rule.fault.kind().name()),
            n: hit.n,
            wait_ns: (hit.wait_ns != 0).then_some(hit.wait_ns),
            tgid: flow.is_none().then_some(hit.tgid),
            tid: flow.is_none().then_some(hit.tid),
            errno: Errno::of(hit.errno).map(|errno| Cow::Borrowed(errno.name)),
            flow,
        }
    }
}

/// How many packets of a flow matched a rule that counts per flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowLine<'a> {
    /// The rule's name.
    #[serde(borrow)]
    pub rule: Cow<'a, str>,
    /// The flow.
    pub flow: FlowKey,
    /// How many.
    pub packets: u64,
}

/// How it ended, and what should be in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// What ended it.
    pub stopped_by: StoppedBy,
    /// Hits that are not in the file, because there was no room for them.
    pub lost: u64,
    /// What each rule did.
    pub rules: Vec<RuleEnd>,
}

/// What a rule did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleEnd {
    /// Its name.
    pub name: String,
    /// Operations that matched.
    pub matched: u64,
    /// Of those, operations that suffered: as many hits as there should be.
    pub injected: u64,
    /// Of those, hits that the programs had no room to tell.
    pub lost: u64,
}

impl RuleEnd {
    /// Of a rule that counted this.
    #[must_use]
    pub fn new(rule: &Rule, stats: &RuleStats) -> Self {
        Self {
            name: rule.name.clone(),
            matched: stats.matched,
            injected: stats.injected,
            lost: stats.unlisted,
        }
    }
}

/// Which way the packets of a flow go, seen from the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It sends them.
    Egress,
    /// It receives them.
    Ingress,
}

/// A flow, as people write its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowKey {
    /// Which way.
    pub way: Way,
    /// The number of its protocol.
    pub proto: u8,
    /// The target's address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub peer: SocketAddr,
}

impl FlowKey {
    /// The flow of the packet that was hit, if it was one.
    #[must_use]
    pub fn of(hit: &Hit) -> Option<Self> {
        let way = match u32::from(hit.direction) {
            EGRESS => Way::Egress,
            INGRESS => Way::Ingress,
            _ => return None,
        };
        Some(Self {
            way,
            proto: hit.protocol,
            local: SocketAddr::new(address(hit.local), hit.local_port),
            peer: SocketAddr::new(address(hit.peer), hit.peer_port),
        })
    }

    /// What a rule keeps the flow's count by, under the experiment's seed.
    #[must_use]
    pub fn seed(&self, experiment_seed: u64, rule: u32) -> u64 {
        let flow = Flow {
            direction: match self.way {
                Way::Egress => EGRESS,
                Way::Ingress => INGRESS,
            },
            protocol: self.proto,
            local: words(self.local.ip()),
            local_port: self.local.port(),
            peer: words(self.peer.ip()),
            peer_port: self.peer.port(),
        };
        flow.seed(rule_seed(experiment_seed, rule))
    }
}

/// An address from the form that programs keep it in.
fn address(words: [u32; 4]) -> IpAddr {
    let mut bytes = [0; 16];
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    let address = Ipv6Addr::from(bytes);
    address
        .to_ipv4_mapped()
        .map_or(IpAddr::V6(address), IpAddr::V4)
}

/// The form that programs keep an address in.
fn words(address: IpAddr) -> [u32; 4] {
    let of_v4 = |v4: Ipv4Addr| [0, 0, V4_MAPPED, u32::from_ne_bytes(v4.octets())];
    match address {
        IpAddr::V4(v4) => of_v4(v4),
        IpAddr::V6(v6) => {
            let bytes = v6.octets();
            [0, 4, 8, 12].map(|at| {
                u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
            })
        }
    }
}

/// Whether a rule's hits are packets.
#[must_use]
pub const fn hits_packets(rule: &Rule) -> bool {
    matches!(rule.fault, Fault::Packet(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["10.1.2.3", "2001:db8::1", "::", "::1"] {
            let ip: IpAddr = text.parse().expect("an address");
            assert_eq!(address(words(ip)), ip, "{text}");
        }
    }

    #[test]
    fn a_hit_is_a_line() {
        let hit = Hit {
            n: 3,
            local: words([10, 0, 0, 1].into()),
            peer: words([10, 0, 0, 2].into()),
            local_port: 80,
            peer_port: 9,
            protocol: 17,
            direction: 1,
            ..Hit::default()
        };
        let line = Line::Hit(HitLine {
            time_ns: 5,
            rule: "one".into(),
            action: "net-loss".into(),
            n: hit.n,
            wait_ns: None,
            flow: FlowKey::of(&hit),
            tgid: None,
            tid: None,
            errno: None,
        });
        let text = serde_json::to_string(&line).expect("text keys");
        assert_eq!(
            text,
            "{\"hit\":{\"time_ns\":5,\"rule\":\"one\",\"action\":\"net-loss\",\"n\":3,\
             \"flow\":{\"way\":\"egress\",\"proto\":17,\"local\":\"10.0.0.1:80\",\
             \"peer\":\"10.0.0.2:9\"}}}"
        );
        assert_eq!(
            serde_json::from_str::<Line<'_>>(&text).expect("a line"),
            line
        );
        let call = Hit {
            tgid: 7,
            ..Hit::default()
        };
        assert_eq!(FlowKey::of(&call), None);
    }
}
