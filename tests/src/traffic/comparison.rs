//! The same traffic under the same fault, once from the injector and once from
//! the kernel's own emulator, netem.

use std::fs;

use serde_json::Value;

use super::Direction;
use crate::{
    agent::Injection,
    cgroup::Cgroup,
    command::{Place, Process},
    netns::{Ip, Netns, Pair},
    wait,
};

/// The server's port.
const PORT: &str = "5201";

/// Who makes a fault.
#[derive(Clone, Copy, Debug)]
pub enum Maker {
    /// The kernel's emulator.
    Netem,
    /// The program under test.
    Injector,
}

/// A fault in the words of both makers.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    /// The options of the `netem` discipline.
    pub netem: &'a str,
    /// Kind and options after `injector inject`.
    pub injector: &'a str,
}

/// Where faults are compared: a near namespace that is the victim's alone, so
/// that echo replies are the victim's too, and a server on the far side.
#[derive(Debug)]
pub struct Comparison {
    /// The namespaces.
    pub pair: Pair,
    cgroup: Cgroup,
    _resident: Process,
    _server: Process,
}

impl Comparison {
    /// Makes it ready.
    ///
    /// # Panics
    ///
    /// When something does not start.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        let pair = Pair::new();
        forget_connections(&pair);
        let cgroup = Cgroup::new("victim");
        let near = Place::netns(&pair.near).and_cgroup(&cgroup);
        // A group's namespaces are those of its processes.
        let resident = near.spawn("sleep", &["100000"]);
        let server = Place::netns(&pair.far).spawn("iperf3", &["-s", "--logfile", "/dev/null"]);
        await_listener(&pair.far, PORT);
        Self {
            pair,
            cgroup,
            _resident: resident,
            _server: server,
        }
    }

    /// The victim's place.
    #[must_use]
    pub fn near(&self) -> Place<'_> {
        Place::netns(&self.pair.near).and_cgroup(&self.cgroup)
    }

    /// The victim, for `--target`.
    #[must_use]
    pub fn target(&self) -> String {
        self.cgroup.target()
    }

    /// Lets senders have at most so many bytes on the way.
    ///
    /// # Panics
    ///
    /// When the parameter cannot be set.
    pub fn limit_window(&self, bytes: u32) {
        for netns in [&self.pair.near, &self.pair.far] {
            netns.enter(|| {
                let sizes = format!("4096 16384 {bytes}");
                fs::write("/proc/sys/net/ipv4/tcp_wmem", sizes).expect("set a parameter");
            });
        }
    }

    /// Does something under a fault.
    ///
    /// # Panics
    ///
    /// When the fault does not come in force or hits nothing.
    #[track_caller]
    pub fn under<T>(
        &self,
        maker: Maker,
        direction: Direction,
        fault: Fault<'_>,
        work: impl FnOnce() -> T,
    ) -> T {
        // netem only works on what an interface sends.
        let (netns, link) = match direction {
            Direction::Egress => (&self.pair.near, Pair::NEAR_LINK),
            Direction::Ingress => (&self.pair.far, Pair::FAR_LINK),
        };
        match maker {
            Maker::Netem => {
                let options = fault.netem;
                let line = format!("qdisc add dev {link} root netem limit 100000 {options}");
                netns.tc(&line.split(' ').collect::<Vec<_>>());
                let result = work();
                netns.tc(&["qdisc", "del", "dev", link, "root"]);
                result
            }
            Maker::Injector => {
                let line = format!(
                    "{} --target {} --direction {} --for 10m",
                    fault.injector,
                    self.target(),
                    direction.word()
                );
                let injection = Injection::start(&line.split(' ').collect::<Vec<_>>());
                let result = work();
                let rule = injection.stop().rule();
                assert!(rule.injected > 0, "the fault hit nothing");
                result
            }
        }
    }

    /// The same so many times from both makers, in turns, so that a busier
    /// moment of the machine meets both: netem's and the injector's results.
    ///
    /// # Panics
    ///
    /// When a fault does not come in force or hits nothing.
    #[track_caller]
    pub fn both<T>(
        &self,
        rounds: usize,
        direction: Direction,
        fault: Fault<'_>,
        work: impl Fn() -> T,
    ) -> [Vec<T>; 2] {
        let mut results = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (maker, results) in [Maker::Netem, Maker::Injector].iter().zip(&mut results) {
                results.push(self.under(*maker, direction, fault, &work));
            }
        }
        results
    }

    /// Sends one bulk TCP flow for so many seconds; its throughput in Mbit/s.
    ///
    /// Both ends stay on one processor. A virtual cable (veth) has a backlog for
    /// each, and what two of them pass on at once arrives in any order; a
    /// connection may then fall to a hundredth of its throughput, under netem as
    /// under the injector. Nor does the sender guess from the times of answers
    /// when to stop growing, as the default congestion control does: on a busy
    /// machine that is a matter of luck, for all of so short a flow.
    ///
    /// # Panics
    ///
    /// When iperf3 fails.
    #[must_use]
    #[track_caller]
    pub fn bulk(&self, direction: Direction, seconds: u32) -> f64 {
        let (far, seconds) = (Pair::far_address(Ip::V4).to_string(), seconds.to_string());
        let mut args = vec!["-J", "-A", "0,0", "-C", "reno", "-t", &seconds, "-c", &far];
        if direction == Direction::Ingress {
            args.push("-R");
        }
        let text = self.near().run("iperf3", &args);
        self.await_idle_server();
        let result: Value = serde_json::from_str(&text).expect("iperf3 speaks JSON");
        let rate = result.pointer("/end/sum_received/bits_per_second");
        match rate.and_then(Value::as_f64) {
            Some(rate) => rate / 1e6,
            None => panic!("iperf3 tells no throughput: {text}"),
        }
    }

    /// Waits until the server is done with its last client: it serves one at a
    /// time, and the client's farewell may still be under way in a delay.
    fn await_idle_server(&self) {
        let far = Place::netns(&self.pair.far);
        let args = [
            "-Htn",
            "state",
            "connected",
            "exclude",
            "time-wait",
            "sport",
            "=",
            PORT,
        ];
        wait::until("an idle server", || {
            far.run("ss", &args).trim().is_empty().then_some(())
        });
    }
}

impl Default for Comparison {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps connections from learning from those before them, which may have had
/// another fault to suffer.
///
/// # Panics
///
/// When the parameter cannot be set.
fn forget_connections(pair: &Pair) {
    for netns in [&pair.near, &pair.far] {
        netns.enter(|| {
            fs::write("/proc/sys/net/ipv4/tcp_no_metrics_save", "1").expect("set a parameter");
        });
    }
}

/// Waits until something listens on a TCP port.
///
/// # Panics
///
/// When nothing does.
#[track_caller]
pub fn await_listener(netns: &Netns, port: &str) {
    wait::until("a listener", || {
        let sockets = Place::netns(netns).run("ss", &["-Hltn", "sport", "=", port]);
        (!sockets.trim().is_empty()).then_some(())
    });
}
