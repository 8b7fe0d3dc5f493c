//! How long it takes to add a rule to those that run, by what the agent says.

use std::{fs, time::Duration};

use tempfile::NamedTempFile;

use super::{Amount, Bed, GROUPS, RULES};
use crate::{
    agent::{Agent, Injection},
    bench::sheet::Sheet,
    command::Place,
    stats::median,
    wait,
};

/// Longest that the kernel's state may take to change.
const BAR_MS: f64 = 5.0;

/// How often a rule is added, each time to an experiment that has just started.
const ROUNDS: usize = 7;

/// What the agent says of a change.
const CHANGED: &str = "changed: ";

/// The rule that is added is the last of these with a port.
const AMOUNTS: [Amount; 3] = [
    Amount {
        name: "a second rule, on one cgroup",
        groups: 1,
        ports: 2,
        networks: false,
    },
    Amount {
        name: "the tenth rule on each of 1,000 cgroups",
        groups: GROUPS,
        ports: RULES,
        networks: false,
    },
    Amount {
        name: "the same beside 10,000 networks",
        groups: GROUPS,
        ports: RULES,
        networks: true,
    },
];

/// How long the steps of a change took, in ms.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Took {
    /// The file was read and its targets were looked up.
    reading: f64,
    /// The kernel was tried and all steps were found.
    planning: f64,
    /// The steps were performed: from the first that changes anything until the rule is
    /// in force.
    changing: f64,
}

impl Took {
    /// Reads what the agent says.
    fn parse(line: &str) -> Option<Self> {
        let after = |words: &str| {
            let (_, rest) = line.split_once(words)?;
            let end = rest.find([' ', ',', ')']).unwrap_or(rest.len());
            milliseconds(&rest[..end])
        };
        Some(Self {
            reading: after("reading took ")?,
            planning: after("planning ")?,
            changing: after("in force, after ")?,
        })
    }
}

/// A time as Rust shows it, in ms.
fn milliseconds(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let factor = match unit {
        "s" => 1e3,
        "ms" => 1.0,
        "µs" => 1e-3,
        "ns" => 1e-6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// Measures it; whether every bar is met.
pub(super) fn run(bed: &Bed) -> bool {
    let mut sheet = Sheet::new(&[
        "adding a rule",
        "reading",
        "planning",
        "putting in force",
        "best",
        "worst",
    ]);
    let mut bars = Vec::new();
    for amount in &AMOUNTS {
        let rounds: Vec<_> = (0..ROUNDS).map(|_| add(bed, amount)).collect();
        let column = |of: fn(&Took) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
        let changing = column(|took| took.changing);
        let middle = median(&changing);
        let [best, worst] =
            [f64::min, f64::max].map(|pick| changing.iter().copied().reduce(pick).unwrap_or(0.0));
        let times = [
            median(&column(|took| took.reading)),
            median(&column(|took| took.planning)),
            middle,
            best,
            worst,
        ];
        let times = times.map(|time| format!("{time:.1} ms"));
        sheet.row([&[amount.name.to_owned()][..], &times].concat());
        bars.push((amount.name, middle));
    }
    for (name, middle) in bars {
        sheet.bar(
            format!("{name}: in force {middle:.1} ms after the first step (bar: {BAR_MS} ms)"),
            middle < BAR_MS,
        );
    }
    sheet.print()
}

/// Starts all rules but the last with a port, and adds that one.
#[track_caller]
fn add(bed: &Bed, amount: &Amount) -> Took {
    let file = NamedTempFile::new().expect("make a file");
    let spec = |ports| amount.spec_with(ports, bed, false);
    fs::write(file.path(), spec(amount.ports - 1)).expect("write a file");
    let path = file.path().to_str().expect("a path in UTF-8");
    let near = Place::netns(&bed.road.pair.near);
    let line = ["run", path, "--watch", "--output", "json"];
    let injection = Injection::from_agent(Agent::start(near, &line, &[]));
    let new = file.path().with_extension("new");
    fs::write(&new, spec(amount.ports)).expect("write a file");
    fs::rename(&new, file.path()).expect("replace a file");
    let agent = injection.agent();
    let said = wait::poll(Duration::from_secs(30), || {
        let text = agent.stderr();
        let line = text.lines().find(|line| line.contains(CHANGED))?;
        Took::parse(line)
    });
    let took = said.unwrap_or_else(|| panic!("no rule was added: {}", agent.stderr()));
    let report = injection.stop().report();
    let all = usize::from(amount.ports) + usize::from(amount.networks);
    assert_eq!(report.rules.len(), all, "{}", amount.name);
    took
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_says_is_understood() {
        let line = "INFO injector: changed: 10 rules in force, after 3.25ms \
                    (reading took 1.5s, planning 250µs)";
        let took = Took {
            reading: 1500.0,
            planning: 0.25,
            changing: 3.25,
        };
        assert_eq!(Took::parse(line), Some(took));
        assert_eq!(Took::parse("changed: 10 rules in force"), None);
    }
}
