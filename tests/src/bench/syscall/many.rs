//! What calls cost under many rules on many targets.

use super::Rung;
use crate::{
    agent::Injection,
    bench::{
        calls::{COUNT, Caller, Cost, ROUNDS},
        sheet::Sheet,
    },
    cgroup::Cgroup,
    command::Place,
};

/// How many groups the rules are aimed at, the victim's among them.
const GROUPS: usize = 1_000;

/// How many times what it costs under one rule a call may cost.
const BAR: f64 = 1.3;

/// How many rules stand beside the one that means the call.
const OTHERS: usize = 9;

/// Calls that are hooked on every rung, and not made here.
const OTHER_CALLS: [&str; OTHERS] = [
    "mkdir", "rmdir", "unlink", "symlink", "link", "rename", "chmod", "truncate", "chown",
];

/// Which of the rules mean the victim's call. Its trigger always lets it pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The only one.
    Only,
    /// The last one; each of nine others names another call.
    OfTheCall,
    /// All ten.
    All,
    /// The only one, by the caller's user.
    OnlyOfTheUser,
    /// The last one, by the caller's user; nine others name the same call and another user.
    OfTheUser,
}

/// What is in force.
struct Amount {
    name: &'static str,
    meaning: Meaning,
    /// What it is compared with.
    one: Option<usize>,
    /// Whether it is held against the bar.
    bar: bool,
}

const AMOUNTS: [Amount; 5] = [
    Amount {
        name: "one rule on one cgroup",
        meaning: Meaning::Only,
        one: None,
        bar: false,
    },
    Amount {
        name: "10 rules on each of 1,000 cgroups, of which one names the call",
        meaning: Meaning::OfTheCall,
        one: Some(0),
        bar: true,
    },
    Amount {
        name: "10 rules on each of 1,000 cgroups, which all name the call and let it pass",
        meaning: Meaning::All,
        one: Some(0),
        bar: false,
    },
    Amount {
        name: "one rule on one cgroup, by the caller's user",
        meaning: Meaning::OnlyOfTheUser,
        one: None,
        bar: false,
    },
    Amount {
        name: "10 rules on each of 1,000 cgroups, which all name the call, each by another user",
        meaning: Meaning::OfTheUser,
        one: Some(3),
        bar: false,
    },
];

impl Amount {
    /// How many rules match a call of the victim's.
    const fn matching(&self) -> u64 {
        match self.meaning {
            Meaning::All => OTHERS as u64 + 1,
            Meaning::Only | Meaning::OfTheCall | Meaning::OnlyOfTheUser | Meaning::OfTheUser => 1,
        }
    }

    #[track_caller]
    fn start(&self, rung: &Rung, bed: &Bed) -> Injection {
        let groups = if self.one.is_some() { GROUPS } else { 1 };
        let targets = [&bed.victim].into_iter().chain(&bed.others).take(groups);
        let targets: Vec<_> = targets
            .map(|group| format!("'{}'", group.target()))
            .collect();
        let named = if rung.getppid {
            "call: [openat, getppid]"
        } else {
            "call: openat"
        };
        let by = |user: usize| format!("{named}, uid: {user}");
        let mut filters: Vec<String> = match self.meaning {
            Meaning::OfTheCall => OTHER_CALLS.map(|call| format!("call: {call}")).into(),
            Meaning::OfTheUser => (1..=OTHERS).map(by).collect(),
            Meaning::All => vec![named.to_owned(); OTHERS],
            Meaning::Only | Meaning::OnlyOfTheUser => Vec::new(),
        };
        filters.push(match self.meaning {
            Meaning::OnlyOfTheUser | Meaning::OfTheUser => by(0),
            Meaning::Only | Meaning::OfTheCall | Meaning::All => named.to_owned(),
        });
        let targets = targets.join(", ");
        let rung = rung.name;
        let rule = |(number, filter): (usize, &String)| {
            format!(
                "  - {{name: rule {number}, kind: sys-errno, {filter}, errno: EIO, rung: {rung}, \
                 when: '1000000000', target: [{targets}]}}\n"
            )
        };
        let rules: String = filters.iter().enumerate().map(rule).collect();
        Injection::of_spec(&format!("version: 1\nfor: 10h\nrules:\n{rules}"))
    }
}

/// A victim's group beside many others, and a bystander's.
struct Bed {
    victim: Cgroup,
    others: Vec<Cgroup>,
    bystander: Cgroup,
    _parent: Cgroup,
}

/// Measures each of this kernel's rungs; whether every bar is met.
pub(super) fn run() -> bool {
    let parent = Cgroup::new("many");
    let bed = Bed {
        victim: parent.child("victim"),
        others: (1..GROUPS)
            .map(|number| parent.child(&number.to_string()))
            .collect(),
        bystander: Cgroup::new("bystander"),
        _parent: parent,
    };
    let mut callers = [&bed.victim, &bed.bystander].map(|group| {
        let mut caller = Caller::start(Place::cgroup(group));
        // The first time is not like the others: a process is still growing.
        caller.measure();
        caller
    });
    Rung::of_this_kernel().fold(true, |met, rung| table(&bed, &mut callers, rung) & met)
}

/// Whose calls are measured.
const WHOSE: [&str; 2] = ["a victim's", "a bystander's"];

fn table(bed: &Bed, callers: &mut [Caller; 2], rung: &Rung) -> bool {
    let calls = rung.calls();
    let mut header = vec![format!("instructions per call, {} rung", rung.name)];
    for whose in WHOSE {
        for (call, _) in calls {
            header.extend([format!("{whose} {call}"), "times one rule's".to_owned()]);
        }
    }
    let mut sheet = Sheet::new(&header.iter().map(String::as_str).collect::<Vec<_>>());
    let nothing = callers.each_mut().map(Caller::measure);
    let cells = nothing.iter().flat_map(|cost| {
        calls
            .iter()
            .flat_map(|(_, of)| [format!("{:.0}", of(cost)), "-".to_owned()])
    });
    sheet.row(["no rule".to_owned()].into_iter().chain(cells).collect());
    let mut measured: Vec<[Cost; 2]> = Vec::new();
    for amount in &AMOUNTS {
        let costs = under(bed, callers, rung, amount);
        measured.push(costs);
        let one = amount.one.map(|one| measured[one]);
        let mut cells = vec![amount.name.to_owned()];
        for (whose, name) in WHOSE.iter().enumerate() {
            for (call, of) in calls {
                let cost = of(&costs[whose]);
                let times = one.map(|one| cost / of(&one[whose]));
                cells.push(format!("{cost:.0}"));
                cells.push(times.map_or("-".to_owned(), |times| format!("{times:.2}")));
                if let Some(times) = times.filter(|_| amount.bar) {
                    sheet.bar(
                        format!("{name} {call} costs {times:.2} times one rule's (bar: {BAR})"),
                        times <= BAR,
                    );
                }
            }
        }
        sheet.row(cells);
    }
    sheet.print()
}

#[track_caller]
fn under(bed: &Bed, callers: &mut [Caller; 2], rung: &Rung, amount: &Amount) -> [Cost; 2] {
    let injection = amount.start(rung, bed);
    let costs = callers.each_mut().map(Caller::measure);
    let report = injection.stop().report();
    let matched: u64 = report.rules.iter().map(|rule| rule.matched).sum();
    let calls = 1 + u64::from(rung.getppid);
    let made = calls * u64::from(COUNT * ROUNDS);
    assert_eq!(matched, made * amount.matching(), "{}", amount.name);
    costs
}
