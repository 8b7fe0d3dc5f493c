//! A victim that has a namespace to itself.

use std::process::Command;

use super::{Direction, UdpFlow, ends::PLAIN};
use crate::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Pair},
};

/// A pair whose near namespace belongs to the victim alone: only there are
/// echo replies, which have no socket, the victim's.
#[derive(Debug)]
pub struct Alone {
    /// The namespaces.
    pub pair: Pair,
    /// The victim's group.
    pub cgroup: Cgroup,
    /// A flow that the victim sends.
    pub flow: UdpFlow,
}

impl Alone {
    /// Makes both, and starts the flow.
    ///
    /// # Panics
    ///
    /// When something does not start.
    #[must_use]
    pub fn new() -> Self {
        let pair = Pair::new();
        let cgroup = Cgroup::new("victim");
        let flow = PLAIN.start(&pair, &cgroup, Direction::Egress);
        Self { pair, cgroup, flow }
    }

    /// Loses what goes either way and meets these conditions.
    ///
    /// # Panics
    ///
    /// When the rule does not come in force.
    #[must_use]
    #[track_caller]
    pub fn lose(&self, filter: &[&str]) -> Injection {
        self.lose_going("both", filter)
    }

    /// Loses what goes this way and meets these conditions.
    ///
    /// # Panics
    ///
    /// When the rule does not come in force.
    #[must_use]
    #[track_caller]
    pub fn lose_going(&self, direction: &str, filter: &[&str]) -> Injection {
        let target = self.cgroup.target();
        let rule = ["net-loss", "--target", &target, "--for", "60s"];
        Injection::start(&[&rule, &["--direction", direction][..], filter].concat())
    }

    /// Whether one echo is answered.
    #[must_use]
    pub fn ping(&self, ip: Ip) -> bool {
        self.ping_with(ip, &[])
    }

    /// The same with options of ping.
    #[must_use]
    pub fn ping_with(&self, ip: Ip, options: &[&str]) -> bool {
        let far = Pair::far_address(ip).to_string();
        let near = Place::netns(&self.pair.near).and_cgroup(&self.cgroup);
        let words = [&["-n", "-c", "1", "-W", "1"], options, &[&far]].concat();
        near.output("ping", &words).status.success()
    }

    /// Whether a connection is answered, be it by a refusal.
    ///
    /// # Panics
    ///
    /// When neither can be told.
    #[must_use]
    pub fn connect(&self) -> bool {
        let far = Pair::far_address(Ip::V4);
        let near = Place::netns(&self.pair.near).and_cgroup(&self.cgroup);
        let mut curl: Command = near.command("curl");
        let output = curl
            .args(["-s", "-m", "1", &format!("http://{far}:9/")])
            .output();
        // 7: refused; 28: nobody answers.
        let code = output.expect("run curl").status.code();
        assert!(matches!(code, Some(7 | 28)), "curl ended with {code:?}");
        code == Some(7)
    }
}

impl Default for Alone {
    fn default() -> Self {
        Self::new()
    }
}
