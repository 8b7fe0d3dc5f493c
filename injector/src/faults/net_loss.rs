//! `net-loss`: packets vanish.

use injector_common::{FaultKind, faults::net_loss::CERTAIN};

use super::{FaultKindDef, packet};
use crate::{
    error::SpecError,
    model::{Direction, Fault, LossModel, PacketFault, PacketFilter, Visibility},
    spec::{
        loss::{Burst, Share, States},
        text::Text,
    },
};

/// The kind.
#[derive(Debug)]
pub struct NetLoss;

packet::packet_kind! {
    /// Its options, as written.
    pub struct Raw {
        /// Lose packets in bursts, by the Gilbert-Elliott model as tc-netem(8) has it: `p,r[,1-h[,1-k]]` in percent; p begins a burst and r ends it
        #[arg(long, value_name = "P,R", allow_hyphen_values = true)]
        #[serde(default)]
        pub burst: Option<Text<Burst>>,

        /// Lose packets by the chain of four states of tc-netem(8): `p13[,p31[,p32[,p23[,p14]]]]` in percent
        #[arg(long, value_name = "P13", allow_hyphen_values = true)]
        #[serde(default)]
        pub markov: Option<Text<States>>,

        /// Correlation of neighbouring packets' losses in percent, with --percent; the rate stays what was asked
        #[arg(long, value_name = "P", allow_hyphen_values = true)]
        #[serde(default)]
        pub correlation: Option<Text<Share>>,

        /// Who is told: silent (nobody, as on a wire), local (the sender's stack, as by a full queue) or errno=EPERM (the call that sends, as by a firewall); the latter two for egress only [default: silent]
        #[arg(long, value_name = "WHO")]
        #[serde(default)]
        pub visibility: Option<Text<Visibility>>,
    }
}

impl FaultKindDef for NetLoss {
    const KIND: FaultKind = FaultKind::NetLoss;
    const SUMMARY: &'static str = "Packets vanish, as on a lossy wire: neither end is told";
    const MANUAL: &'static str = "\
A lost packet was sent, as far as its sender knows: `sendto` succeeds, TCP learns of the loss
by duplicate acknowledgements and time-outs and retransmits. With --visibility local the sender's
stack is told, as by a full queue of its own: TCP sends the packet later, with nothing to retransmit,
and slows down as after congestion; a UDP socket with IP_RECVERR gets ENOBUFS. With --visibility
errno=EPERM the call fails that sends the packet, as where a local firewall drops it: sendto, sendmsg,
send and write of UDP, ICMP and raw sockets. The kernel has no other error for that. TCP keeps it to
itself, and sends again when its timers say so. What no call sends is left alone. Neighbour discovery
and DHCP are never lost, so that the host keeps its address.

Losses are independent with --percent, correlated with --correlation beside it, or come in bursts:
--burst is a link that is good or bad, --markov a chain of four states. Each direction is a link of
its own.";
    const EXAMPLES: &'static str = "\
Examples:
  Lose 5 % of what a cgroup sends, for a minute:
    injector inject net-loss --target cgroup:/web --percent 5 --for 1m

  The same packets of each flow are lost in every run, on any number of CPUs:
    injector inject net-loss --target cgroup:/web --percent 5 --per flow --seed 7 --for 1m

  Cut a process off from a database:
    injector inject net-loss --target pid:4242 --direction both --peer 10.1.2.3 \\
      --peer-port 5432 --for 30s

  Bursts of four packets on average, 3.8 % in all, as a fading radio link has them:
    injector inject net-loss --target cgroup:/web --burst 1,25 --for 1m

  A third of the datagrams of a process cannot be sent:
    injector inject net-loss --target pid:4242 --proto udp --percent 33 \\
      --visibility errno=EPERM --for 30s

  Run a command whose every third DNS query is lost:
    injector inject net-loss --proto udp --peer-port 53 --when 3+3 --for 1m -- ./app";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let filter = raw.filter()?;
        let models = [
            raw.burst.as_ref().map(|text| LossModel::Gilbert(text.0.0)),
            raw.markov.as_ref().map(|text| LossModel::Markov(text.0.0)),
        ];
        let correlation = raw.correlation.as_ref().map_or(0, |text| text.0.0);
        let mut given = models.into_iter().flatten();
        let model = given.next();
        if given.next().is_some() || model.is_some() && correlation != 0 {
            return Err(SpecError::new(
                "burst",
                "two models of loss are given",
                "one of the three: burst, markov or correlation",
            ));
        }
        let visibility = raw.visibility.map_or(Visibility::Silent, |text| text.0);
        if visibility != Visibility::Silent && filter.direction != Direction::Egress {
            return Err(SpecError::new(
                "visibility",
                "only `silent` tells no sender, who is not here for packets that arrive",
                "silent, or egress as direction",
            ));
        }
        if visibility != Visibility::Silent && filter.splits() {
            return Err(SpecError::new(
                "unit",
                "has packets split behind their sender's stack, which is told of no loss then",
                "packet, or segment with silent as visibility",
            ));
        }
        let model = model.unwrap_or(LossModel::Trigger);
        Ok(Fault::Packet(filter, PacketFault::Loss { model, visibility }))
    }
}

pub(super) fn explain(filter: &PacketFilter, model: LossModel, visibility: Visibility) -> String {
    let mut text = format!("loses {}", packet::describe(filter));
    match model {
        LossModel::Trigger => {}
        LossModel::Gilbert(model) => {
            let bad = f64::from(model.p) / (f64::from(model.p) + f64::from(model.r));
            let lost = bad * f64::from(model.bad) + (1.0 - bad) * f64::from(model.good);
            text += &format!(
                ", in bursts: {} of them begin one and {} end it, and {} are lost on average",
                Share(model.p),
                Share(model.r),
                rounded(lost)
            );
        }
        LossModel::Markov(model) => {
            text += &format!(
                ", by a chain of four states: p13 {}, p31 {}, p32 {}, p23 {}, p14 {}",
                Share(model.p13),
                Share(model.p31),
                Share(model.p32),
                Share(model.p23),
                Share(model.p14)
            );
        }
    }
    text + match visibility {
        Visibility::Silent => "",
        Visibility::Local => "; the sender's stack is told",
        Visibility::Call => "; the calls that send them fail with EPERM",
    }
}

/// A share out of 2^31, to two digits behind the point.
fn rounded(share: f64) -> String {
    format!("{:.2} %", share * 100.0 / f64::from(CERTAIN))
}
