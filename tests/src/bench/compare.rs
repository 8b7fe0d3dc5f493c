//! What a packet pays for a loss of 1 %, by whoever makes it: the one that may be
//! lost, and a bystander's on the same interface. And what an exchange over TCP pays
//! for whoever could do it harm.

mod exchange;
mod obstacle;
mod proxy;
mod toxiproxy;

use std::path::PathBuf;

use super::{
    inject,
    path::{Cost, Road, VICTIM_PORT, Way},
    sheet::Sheet,
};
use crate::{
    agent::Injection,
    command::Place,
    kernel::Where,
    netns::{Netns, Pair},
};

pub(super) use exchange::{
    EchoOptions, Options as ExchangeOptions, echo, run as exchange_messages,
};

/// Share of what a packet costs anyway that a bystander may pay for a rule.
const BAR: f64 = 0.10;

/// Options of the comparison.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Measure only these tables
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Table>,
    /// Path of a `toxiproxy-server` to measure too
    #[arg(long, value_name = "PATH")]
    toxiproxy: Option<PathBuf>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Table {
    /// Packets that may be lost, in a guest
    Losses,
    /// A bystander's packets in both directions, in a guest
    Directions,
    /// Exchanges over TCP
    Exchanges,
}

/// Who loses packets.
enum Maker {
    Nobody,
    /// The injector, by a rule on what the victim sends.
    Injector,
    /// The same, also on what it receives.
    InjectorBothWays,
    /// The interface's queueing discipline.
    Netem,
    /// The same for packets to the victim's port, by a discipline above it.
    NetemByPort,
    /// A packet filter, for packets of the victim's cgroup.
    FilterByGroup,
    /// A packet filter, for packets to the victim's port.
    FilterByPort,
}

impl Maker {
    const fn name(&self) -> &'static str {
        match self {
            Self::Nobody => "nothing",
            Self::Injector => "injector: `net-loss` on a cgroup",
            Self::InjectorBothWays => "injector: the same, both directions",
            Self::Netem => "netem on the interface",
            Self::NetemByPort => "netem below `prio`, chosen by port (`u32`)",
            Self::FilterByGroup => "nftables: `socket cgroupv2` and `numgen`",
            Self::FilterByPort => "nftables: `udp dport` and `numgen`",
        }
    }

    #[track_caller]
    fn start<'a>(&self, road: &'a Road) -> Loss<'a> {
        let near = &road.pair.near;
        let link = Pair::NEAR_LINK;
        let tc = |line: &str| near.tc(&line.split_whitespace().collect::<Vec<_>>());
        match self {
            Self::Nobody => Loss::Nothing,
            Self::Injector => rule(road, "egress"),
            Self::InjectorBothWays => rule(road, "both"),
            Self::Netem => {
                tc(&format!("qdisc add dev {link} root netem loss 1%"));
                Loss::Discipline(near)
            }
            Self::NetemByPort => {
                tc(&format!("qdisc add dev {link} root handle 1: prio"));
                tc(&format!("qdisc add dev {link} parent 1:3 netem loss 1%"));
                tc(&format!(
                    "filter add dev {link} parent 1: protocol ip u32 match ip dport {VICTIM_PORT} \
                     0xffff flowid 1:3"
                ));
                Loss::Discipline(near)
            }
            Self::FilterByGroup => {
                let group = road.victim.relative().display();
                filter(near, &format!("socket cgroupv2 level 1 \"{group}\""))
            }
            Self::FilterByPort => filter(near, &format!("udp dport {VICTIM_PORT}")),
        }
    }
}

/// A loss in force, over when dropped.
enum Loss<'a> {
    Nothing,
    Rule(Injection),
    Discipline(&'a Netns),
    Filter(&'a Netns),
}

#[track_caller]
fn rule(road: &Road, direction: &str) -> Loss<'static> {
    Loss::Rule(inject(&format!(
        "net-loss --percent 1 --direction {direction} --target {} --for 10h",
        road.victim.target()
    )))
}

#[track_caller]
fn filter<'a>(near: &'a Netns, whose: &str) -> Loss<'a> {
    let table = format!(
        "table ip loss {{\n chain out {{\n type filter hook output priority 0\n \
         {whose} numgen random mod 100 < 1 drop\n }}\n}}\n"
    );
    Place::netns(near).run_with_input("nft", &["-f", "-"], &table);
    Loss::Filter(near)
}

impl Loss<'_> {
    /// Ends it.
    #[track_caller]
    fn stop(self) {
        match self {
            Self::Nothing => {}
            Self::Rule(injection) => {
                assert!(injection.stop().rule().injected > 0, "the rule hit nothing");
            }
            Self::Discipline(netns) => {
                netns.tc(&["qdisc", "del", "dev", Pair::NEAR_LINK, "root"]);
            }
            Self::Filter(netns) => {
                Place::netns(netns).run("nft", &["flush", "ruleset"]);
            }
        }
    }
}

/// Runs the group; whether every bar is met.
pub(super) fn run(options: &Options) -> bool {
    let chosen = |table| options.only.is_empty() || options.only.contains(&table);
    // Single packets differ by so little that only a guest's count can tell.
    let guest = Where::current().is_virtual();
    if !guest && !chosen(Table::Exchanges) {
        println!("These tables are measured in a guest only.\n");
        return true;
    }
    let road = Road::new();
    let mut met = true;
    if guest && chosen(Table::Losses) {
        met &= makers(&road);
    }
    if guest && chosen(Table::Directions) {
        met &= directions(&road);
    }
    if chosen(Table::Exchanges) {
        met &= proxy::run(&road, options.toxiproxy.as_deref());
    }
    met
}

/// Everybody's packets, under each maker's loss.
fn makers(road: &Road) -> bool {
    let mut sheet = Sheet::new(&[
        "1 % loss; instructions per packet sent",
        "victim",
        "added",
        "lost",
        "bystander",
        "added",
        "lost",
    ]);
    let mut nothing: Option<[Cost; 2]> = None;
    for maker in [
        Maker::Nobody,
        Maker::Injector,
        Maker::Netem,
        Maker::NetemByPort,
        Maker::FilterByGroup,
        Maker::FilterByPort,
    ] {
        let loss = maker.start(road);
        let costs = [
            road.victims(Way::Out, VICTIM_PORT),
            road.bystanders(Way::Out),
        ];
        loss.stop();
        let base = nothing.get_or_insert(costs);
        let mut cells = vec![maker.name().to_owned()];
        for (cost, base) in costs.iter().zip(base) {
            cells.push(format!("{:.0}", cost.each));
            cells.push(format!("{:+.0}", cost.each - base.each));
            cells.push(format!("{:.1} %", cost.lost_percent()));
        }
        sheet.row(cells);
    }
    sheet.print()
}

/// A bystander's packets in both directions, beside a rule on one or on both.
fn directions(road: &Road) -> bool {
    let mut sheet = Sheet::new(&[
        "a bystander's packets; instructions each",
        "sent",
        "share",
        "received",
        "share",
    ]);
    let mut nothing: Option<[Cost; 2]> = None;
    for maker in [Maker::Nobody, Maker::Injector, Maker::InjectorBothWays] {
        let loss = maker.start(road);
        let costs = [Way::Out, Way::In].map(|way| road.bystanders(way));
        // Something must be hit, or the rule was not in force.
        road.victims(Way::Out, VICTIM_PORT);
        loss.stop();
        let base = *nothing.get_or_insert(costs);
        let mut cells = vec![maker.name().to_owned()];
        for (cost, base) in costs.iter().zip(&base) {
            cells.push(format!("{:.0}", cost.each));
            cells.push(format!("{:+.1} %", (cost.ratio(base) - 1.0) * 100.0));
        }
        sheet.row(cells);
        if !matches!(maker, Maker::Nobody) {
            for ((cost, base), way) in costs.iter().zip(&base).zip(["sent", "received"]) {
                assert_eq!(cost.lost_percent(), 0.0, "the bystander was hit");
                let share = cost.ratio(base) - 1.0;
                sheet.bar(
                    format!(
                        "{}: a bystander's packet that is {way} costs {:.1} % more (bar: {:.0} %)",
                        maker.name(),
                        share * 100.0,
                        BAR * 100.0
                    ),
                    share <= BAR,
                );
            }
        }
    }
    sheet.print()
}
