//! What a ledger tells, and doing it again.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    agent::{Agent, Injection, Replayed},
    command::Place,
};

/// The lines of a ledger.
#[derive(Debug)]
pub struct Ledger {
    header: Value,
    /// Each hit.
    pub hits: Vec<Value>,
    flows: Vec<Value>,
    end: Value,
}

impl Ledger {
    /// Reads a ledger that has an end.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a ledger");
        let mut lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect();
        let end = lines.pop().expect("a last line")["end"].take();
        let header = lines.remove(0)["header"].take();
        assert!(header.is_object() && end.is_object(), "{header} {end}");
        let mut of = |kind: &str| -> Vec<Value> {
            let lines = lines.iter_mut().filter(|line| line.get(kind).is_some());
            lines.map(|line| line[kind].take()).collect()
        };
        let (hits, flows) = (of("hit"), of("flow"));
        assert_eq!(hits.len() + flows.len(), lines.len(), "{text}");
        Self {
            header,
            hits,
            flows,
            end,
        }
    }

    /// The seed in its header.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.header["seed"].as_u64().expect("a seed")
    }

    /// The numbers of what was hit of the flows with this local port.
    #[must_use]
    pub fn of(&self, port: u16) -> Vec<u64> {
        let end = format!(":{port}");
        let hits = self.hits.iter().filter(|hit| {
            let local = hit["flow"]["local"].as_str();
            local.is_some_and(|local| local.ends_with(&end))
        });
        hits.filter_map(|hit| hit["n"].as_u64()).collect()
    }

    /// How many packets the flow with this local port had.
    #[must_use]
    pub fn packets(&self, port: u16) -> Option<u64> {
        let end = format!(":{port}");
        let mut flows = self.flows.iter().filter(|flow| {
            let local = flow["flow"]["local"].as_str();
            local.is_some_and(|local| local.ends_with(&end))
        });
        flows.next()?["packets"].as_u64()
    }

    /// How many packets all flows had that were hit.
    #[must_use]
    pub fn all_packets(&self) -> u64 {
        let packets = self.flows.iter().map(|flow| flow["packets"].as_u64());
        packets.flatten().sum()
    }

    /// Of each hit its rule, its number and how long it waits for it, in ns, sorted.
    #[must_use]
    pub fn waits(&self) -> Vec<(String, u64, u64)> {
        let number = |hit: &Value, key: &str| hit[key].as_u64().unwrap_or(0);
        let hits = self.hits.iter().map(|hit| {
            let rule = hit["rule"].as_str().unwrap_or_default().to_owned();
            (rule, number(hit, "n"), number(hit, "wait_ns"))
        });
        let mut hits: Vec<_> = hits.collect();
        hits.sort_unstable();
        hits
    }

    /// When each hit of this rule was, in ns since the rules came in force.
    #[must_use]
    pub fn times(&self, rule: &str) -> Vec<u64> {
        let hits = self.hits.iter().filter(|hit| hit["rule"] == rule);
        hits.filter_map(|hit| hit["time_ns"].as_u64()).collect()
    }

    /// How many hits of this rule there are.
    #[must_use]
    pub fn count(&self, rule: &str) -> u64 {
        let hits = self.hits.iter().filter(|hit| hit["rule"] == rule);
        u64::try_from(hits.count()).expect("few")
    }

    /// How many operations matched the only rule, and were hit, by its last line.
    ///
    /// # Panics
    ///
    /// When it does not say.
    #[must_use]
    pub fn end(&self) -> (u64, usize) {
        let rule = &self.end["rules"][0];
        let injected = rule["injected"].as_u64().expect("a number");
        (
            rule["matched"].as_u64().expect("a number"),
            usize::try_from(injected).expect("few"),
        )
    }

    /// How many hits are missing, by its last line.
    ///
    /// # Panics
    ///
    /// When it does not say.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.end["lost"].as_u64().expect("a number")
    }
}

/// Runs again what a ledger tells of, and waits until its rules are in force.
///
/// # Panics
///
/// When that does not happen.
#[must_use]
#[track_caller]
pub fn replay(path: &Path) -> Injection {
    replay_with(path, &[])
}

/// The same, telling of it in this ledger.
///
/// # Panics
///
/// When the rules do not come in force.
#[must_use]
#[track_caller]
pub fn replay_told(path: &Path, ledger: &Path) -> Injection {
    let ledger = ledger.to_str().expect("a path in UTF-8");
    replay_with(path, &["--ledger", ledger])
}

#[track_caller]
fn replay_with(path: &Path, options: &[&str]) -> Injection {
    let path = path.to_str().expect("a path in UTF-8");
    let line = [&["run", "--replay", path, "--output", "json"], options].concat();
    Injection::from_agent(Agent::start(Place::HERE, &line, &[]))
}

/// What a report says where so many flows were hit the same, otherwise, or not seen.
#[must_use]
pub const fn replayed(same: u64, different: u64, not_seen: u64) -> Option<Replayed> {
    Some(Replayed {
        same,
        different,
        not_seen,
    })
}
