//! One victim's flow and one bystander's, side by side in one namespace.

use std::net::SocketAddr;

use super::{Arrived, Load, UdpFlow};
use crate::{
    agent::{Finished, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::{Feature, Where},
    netns::{Ip, Netns, Pair},
};

/// How the rule names the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By its control group.
    Cgroup,
    /// By its process id.
    Process,
    /// The injector starts it.
    Command,
}

/// Which way the victim's packets go, seen from the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It sends.
    Egress,
    /// It receives.
    Ingress,
}

impl Direction {
    /// The word for it on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

/// One combination of what a packet fault must work with.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// How the rule names the victim.
    pub form: Form,
    /// IP version of the packets.
    pub ip: Ip,
    /// Which way they go.
    pub direction: Direction,
}

impl Case {
    /// The plainest case of this direction: a group's packets of IPv4.
    #[must_use]
    pub const fn plain(direction: Direction) -> Self {
        Self {
            form: Form::Cgroup,
            ip: Ip::V4,
            direction,
        }
    }
}

/// Ports of the flows' far ends; the near ends use the same plus 1000.
const VICTIM_PORT: u16 = 7001;
const BYSTANDER_PORT: u16 = 7002;

/// Two namespaces, a victim's flow and a bystander's flow between them. Both
/// near ends live in the same namespace, so only their owner tells them apart.
#[derive(Debug)]
pub struct Bed {
    case: Case,
    /// The victim's control group. In the command form it stays empty.
    pub cgroup: Cgroup,
    /// The flow that the fault must hit.
    pub victim: UdpFlow,
    /// The flow that it must not.
    pub bystander: UdpFlow,
    /// The namespaces.
    pub pair: Pair,
    /// Namespaces of the bystander's, if it does not share the victim's.
    _elsewhere: Option<Pair>,
}

impl Bed {
    /// Builds the bed and starts all ends, but the one that is the injector's.
    ///
    /// # Panics
    ///
    /// When something does not start.
    #[must_use]
    #[track_caller]
    pub fn new(case: Case) -> Self {
        Self::build(case, None)
    }

    /// The same, but the bystander lives elsewhere, so that every process in
    /// the near namespace is the victim's.
    ///
    /// # Panics
    ///
    /// When something does not start.
    #[must_use]
    #[track_caller]
    pub fn alone(case: Case) -> Self {
        Self::build(case, Some(Pair::new()))
    }

    #[track_caller]
    fn build(case: Case, elsewhere: Option<Pair>) -> Self {
        let pair = Pair::new();
        let cgroup = Cgroup::new("victim");
        let mut victim = flow(case, VICTIM_PORT);
        let mut bystander = flow(case, BYSTANDER_PORT);
        let beside = elsewhere.as_ref().unwrap_or(&pair);
        let (near, far) = (Place::netns(&beside.near), Place::netns(&beside.far));
        start_ends(case, &mut bystander, Some(near), far);
        let (near, far) = (Place::netns(&pair.near), Place::netns(&pair.far));
        let victims = (case.form != Form::Command).then(|| near.and_cgroup(&cgroup));
        start_ends(case, &mut victim, victims, far);
        Self {
            case,
            cgroup,
            victim,
            bystander,
            pair,
            _elsewhere: elsewhere,
        }
    }

    /// Puts a fault in force on the victim, in the flow's direction.
    ///
    /// # Panics
    ///
    /// When it does not come in force.
    #[must_use]
    #[track_caller]
    pub fn inject(&mut self, fault: &[&str]) -> Injection {
        let mut args = fault.to_vec();
        args.extend(["--direction", self.case.direction.word(), "--for", "80s"]);
        let (target, command) = match (self.case.form, self.case.direction) {
            (Form::Cgroup, _) => (Some(self.cgroup.target()), Vec::new()),
            (Form::Process, Direction::Egress) => (
                Some(format!("pid:{}", self.victim.sender().pid())),
                Vec::new(),
            ),
            (Form::Process, Direction::Ingress) => (
                Some(format!("pid:{}", self.victim.receiver().pid())),
                Vec::new(),
            ),
            (Form::Command, Direction::Egress) => (None, self.victim.sender_command()),
            (Form::Command, Direction::Ingress) => (None, self.victim.receiver_command()),
        };
        if let Some(target) = &target {
            args.extend(["--target", target]);
        }
        if command.is_empty() {
            return Injection::start(&args);
        }
        args.push("--");
        args.extend(command.iter().map(String::as_str));
        // The command lives where the agent does.
        let injection = Injection::start_in(Place::netns(&self.pair.near), &args, &[]);
        if self.case.direction == Direction::Ingress {
            self.victim.await_receiver();
        }
        injection
    }

    /// The namespace in which the victim's packets arrive.
    #[must_use]
    pub const fn receiver(&self) -> &Netns {
        match self.case.direction {
            Direction::Egress => &self.pair.far,
            Direction::Ingress => &self.pair.near,
        }
    }

    /// Sends a round of the victim's and one of the bystander's, at once where the
    /// fault outlasts both.
    ///
    /// # Panics
    ///
    /// When one does not come to its end, or the bystander's is not whole.
    #[track_caller]
    pub fn round(&self, victim: Load, bystander: Load) -> Arrived {
        if self.case.form == Form::Command {
            // The command ends with its round, and the fault with the command.
            // Before TCX, the kernel drops a bystander's packets at that moment.
            self.bystander.round(bystander).assert_untouched(bystander);
            return self.victim.round(victim);
        }
        self.bystander.begin(bystander);
        let arrived = self.victim.round(victim);
        self.bystander.finish().assert_untouched(bystander);
        arrived
    }

    /// Sends a round of the victim's, in which the rule spends its budget of the
    /// first `budget` packets and the agent ends. What the rule left alone arrives,
    /// but where an interface stops for a moment while its programs are detached:
    /// before TCX (docs/kernels.md).
    ///
    /// # Panics
    ///
    /// When something else was injured, or the run ended for another reason.
    #[track_caller]
    pub fn spend(&self, load: Load, injection: Injection, budget: u64) -> (Arrived, Finished) {
        let arrived = self.victim.round(load);
        let finished = injection.wait();
        assert_eq!(
            finished.report().stopped_by,
            "budget",
            "{}",
            finished.stderr
        );
        assert_eq!(finished.rule().injected, budget, "{arrived:?}");
        let injured = arrived.missing() + arrived.damaged;
        if Feature::Tcx.expected(Where::current()).is_ok() {
            assert_eq!(injured, budget, "{arrived:?}");
        } else {
            assert!(injured >= budget, "{arrived:?}");
        }
        (arrived, finished)
    }

    /// Sends a round of the victim's before the fault. There is none in the
    /// command form, where the victim does not exist without its fault.
    ///
    /// # Panics
    ///
    /// When it is not whole.
    #[track_caller]
    pub fn assert_untouched_before(&self, load: Load) {
        if self.case.form != Form::Command {
            self.round(load, load).assert_untouched(load);
        }
    }

    /// Ends the fault, by a signal or, in the command form, by the command's
    /// own end.
    ///
    /// # Panics
    ///
    /// When it does not end, or not for that reason.
    #[track_caller]
    pub fn stop(&self, injection: Injection) -> Finished {
        let (finished, reason) = if self.case.form == Form::Command {
            self.victim.quit();
            (injection.wait(), "command_exit")
        } else {
            (injection.stop(), "signal")
        };
        assert_eq!(finished.report().stopped_by, reason, "{}", finished.stderr);
        finished
    }

    /// Sends a round of the victim's after the fault. In the command form the
    /// victim ended with it, so another takes its place.
    ///
    /// # Panics
    ///
    /// When it is not whole.
    #[track_caller]
    pub fn assert_untouched_after(&self, load: Load) {
        if self.case.form != Form::Command {
            self.round(load, load).assert_untouched(load);
            return;
        }
        let mut again = flow(self.case, VICTIM_PORT + 2);
        let (near, far) = (Place::netns(&self.pair.near), Place::netns(&self.pair.far));
        start_ends(
            self.case,
            &mut again,
            Some(near.and_cgroup(&self.cgroup)),
            far,
        );
        again.round(load).assert_untouched(load);
    }
}

/// A flow between the two sides in the case's direction.
fn flow(case: Case, port: u16) -> UdpFlow {
    let near = SocketAddr::new(Pair::near_address(case.ip), port + 1000);
    let far = SocketAddr::new(Pair::far_address(case.ip), port);
    match case.direction {
        Direction::Egress => UdpFlow::new(near, far),
        Direction::Ingress => UdpFlow::new(far, near),
    }
}

/// Starts the ends of a flow; the near one only if it has a place.
#[track_caller]
fn start_ends(case: Case, flow: &mut UdpFlow, near: Option<Place<'_>>, far: Place<'_>) {
    let (sender, receiver) = match case.direction {
        Direction::Egress => (near, Some(far)),
        Direction::Ingress => (Some(far), near),
    };
    if let Some(receiver) = receiver {
        flow.start_receiver(receiver);
    }
    if let Some(sender) = sender {
        flow.start_sender(sender, "main");
    }
}
