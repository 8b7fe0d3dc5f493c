//! What many rules, targets and networks cost each packet, and how long it takes to
//! put them in force.

mod adding;

use std::{
    fs,
    time::{Duration, Instant},
};

use tempfile::NamedTempFile;

use super::{
    path::{Cost, Road, VICTIM_PORT, Way},
    sheet::Sheet,
};
use crate::{
    agent::{Agent, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::Where,
    netns::{Ip, Pair},
    stats::median,
};

/// How many groups the rules are aimed at, the victim's among them.
const GROUPS: usize = 1_000;

/// How many rules are aimed at each.
const RULES: u16 = 10;

/// How many networks one rule names.
const NETWORKS: u32 = 10_000;

/// How many times what it costs under one rule a packet may cost.
const BAR: f64 = 1.3;

/// The first rule's port; each further rule has the next.
const FIRST_PORT: u16 = 9001;

/// Where the victim's packets go that the last rule means.
const MATCHING_PORT: u16 = FIRST_PORT + RULES - 1;

/// How often the start is measured.
const STARTS: usize = 5;

/// What is in force.
struct Amount {
    name: &'static str,
    /// At how many groups each rule is aimed.
    groups: usize,
    /// How many rules name a port.
    ports: u16,
    /// Whether one more names networks.
    networks: bool,
}

const ONE: Amount = Amount {
    name: "one rule on one cgroup",
    groups: 1,
    ports: 1,
    networks: false,
};

const MORE: [Amount; 3] = [
    Amount {
        name: "10 rules on each of 1,000 cgroups",
        groups: GROUPS,
        ports: RULES,
        networks: false,
    },
    Amount {
        name: "one rule with 10,000 networks",
        groups: 1,
        ports: 0,
        networks: true,
    },
    Amount {
        name: "all of these, 11 rules",
        groups: GROUPS,
        ports: RULES,
        networks: true,
    },
];

impl Amount {
    /// The experiment as a file. The last of its rules on ports means
    /// [`MATCHING_PORT`]; `there` is whether the far end lies in one of the networks.
    fn spec(&self, bed: &Bed, there: bool) -> String {
        self.spec_with(self.ports, bed, there)
    }

    /// The same with the first so many of the rules on ports. What can be added later
    /// comes behind the others.
    fn spec_with(&self, rules: u16, bed: &Bed, there: bool) -> String {
        let victim = [&bed.road.victim];
        let groups = victim.into_iter().chain(&bed.others).take(self.groups);
        let targets: Vec<_> = groups
            .map(|group| format!("'{}'", group.target()))
            .collect();
        let targets = targets.join(", ");
        let mut filters = Vec::new();
        if self.networks {
            let mut networks: Vec<_> = (u32::from(there)..NETWORKS).map(network).collect();
            if there {
                networks.push(Pair::far_address(Ip::V4).to_string());
            }
            filters.push((
                "networks".to_owned(),
                format!("peer: [{}]", networks.join(", ")),
            ));
        }
        let first = MATCHING_PORT + 1 - self.ports;
        let ports = first..first + rules;
        filters.extend(ports.map(|port| (format!("port {port}"), format!("peer-port: {port}"))));
        let rule = |(name, filter): &(String, String)| {
            format!(
                "  - {{name: {name}, kind: net-loss, percent: 1, {filter}, target: [{targets}]}}\n"
            )
        };
        let rules: String = filters.iter().map(rule).collect();
        format!("version: 1\nfor: 10h\nrules:\n{rules}")
    }

    /// Puts it in force; also how long that took.
    #[track_caller]
    fn start(&self, bed: &Bed, there: bool) -> (Injection, Duration) {
        let file = NamedTempFile::new().expect("make a file");
        fs::write(file.path(), self.spec(bed, there)).expect("write a file");
        let path = file.path().to_str().expect("a path in UTF-8");
        // A group without processes counts as one that will have some where the agent
        // is, which is to act on no interface but the cable.
        let near = Place::netns(&bed.road.pair.near);
        let start = Instant::now();
        let agent = Agent::start(near, &["run", path, "--output", "json"], &[]);
        (Injection::from_agent(agent), start.elapsed())
    }
}

/// One of many networks that are no neighbours.
fn network(number: u32) -> String {
    let [.., high, low] = number.to_be_bytes();
    format!("172.{high}.{low}.0/28")
}

/// A road, and groups beside the victim's. What is first goes first.
struct Bed {
    road: Road,
    others: Vec<Cgroup>,
    _parent: Cgroup,
}

impl Bed {
    #[track_caller]
    fn new() -> Self {
        let parent = Cgroup::new("many");
        let other = |number: usize| parent.child(&number.to_string());
        Self {
            road: Road::with_victim(parent.child("victim")),
            others: (1..GROUPS).map(other).collect(),
            _parent: parent,
        }
    }
}

/// Runs the group; whether every bar is met.
pub(super) fn run() -> bool {
    let bed = Bed::new();
    if Where::current().is_virtual() {
        packets(&bed)
    } else {
        starts(&bed) & adding::run(&bed)
    }
}

/// How long it takes until the rules are in force, and until they are gone.
fn starts(bed: &Bed) -> bool {
    let mut sheet = Sheet::new(&["", "until in force", "until over"]);
    for amount in [ONE].iter().chain(&MORE) {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..STARTS {
            let (injection, start) = amount.start(bed, false);
            let stop = Instant::now();
            assert_eq!(injection.stop().code(), 0, "{}", amount.name);
            let stop = stop.elapsed();
            for (times, time) in times.iter_mut().zip([start, stop]) {
                times.push(time.as_secs_f64() * 1e3);
            }
        }
        let times = times.map(|times| format!("{:.0} ms", median(&times)));
        sheet.row([&[amount.name.to_owned()][..], &times].concat());
    }
    sheet.print()
}

/// What packets cost: a victim's that no rule means, a victim's that one means, and a
/// bystander's.
type Costs = [Cost; 3];

/// Their names.
const WHOSE: [&str; 3] = [
    "a victim's packet that no rule means",
    "a victim's packet that one rule means",
    "a bystander's packet",
];

fn packets(bed: &Bed) -> bool {
    let mut header = vec!["instructions"];
    for whose in WHOSE {
        header.extend([whose, "times one rule's"]);
    }
    let mut sheet = Sheet::new(&header);
    let nothing = bed.road.victims(Way::Out, VICTIM_PORT).each;
    let bystanders = bed.road.bystanders(Way::Out).each;
    let cells = ["nothing".to_owned()].into_iter();
    let costs = [nothing, nothing, bystanders].map(|cost| [format!("{cost:.0}"), "-".to_owned()]);
    sheet.row(cells.chain(costs.concat()).collect());
    let one = costs_under(bed, &ONE);
    row(&mut sheet, &ONE, &one, &one);
    for amount in &MORE {
        let costs = costs_under(bed, amount);
        row(&mut sheet, amount, &costs, &one);
        for ((cost, one), whose) in costs.iter().zip(&one).zip(WHOSE) {
            let ratio = cost.ratio(one);
            sheet.bar(
                format!(
                    "{}: {whose} costs {ratio:.2} times one rule's (bar: {BAR})",
                    amount.name
                ),
                ratio <= BAR,
            );
        }
    }
    sheet.print()
}

#[track_caller]
fn costs_under(bed: &Bed, amount: &Amount) -> Costs {
    let out = |there: bool, port: u16| {
        let (injection, _) = amount.start(bed, there);
        let costs = [
            bed.road.victims(Way::Out, port),
            bed.road.bystanders(Way::Out),
        ];
        let report = injection.stop().report();
        let matched: u64 = report.rules.iter().map(|rule| rule.matched).sum();
        (costs, matched)
    };
    let ([missed, bystander], matched) = out(false, VICTIM_PORT);
    assert_eq!(matched, 0, "a rule means the packets: {}", amount.name);
    let port = if amount.ports > 0 {
        MATCHING_PORT
    } else {
        VICTIM_PORT
    };
    let ([hit, _], matched) = out(amount.ports == 0, port);
    assert_eq!(
        matched,
        hit.sent(),
        "not one rule means the packets: {}",
        amount.name
    );
    [missed, hit, bystander]
}

fn row(sheet: &mut Sheet, amount: &Amount, costs: &Costs, one: &Costs) {
    let mut cells = vec![amount.name.to_owned()];
    for (cost, one) in costs.iter().zip(one) {
        cells.push(format!("{:.0}", cost.each));
        cells.push(format!("{:.2}", cost.ratio(one)));
    }
    sheet.row(cells);
}
