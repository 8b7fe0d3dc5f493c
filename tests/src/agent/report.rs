//! What a run of the injector left to read.

use std::{collections::BTreeMap, path::PathBuf, process::ExitStatus, time::Duration};

use serde::Deserialize;

/// The report that `--output json` prints when an injection has ended.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Short name of the run.
    pub experiment: String,
    /// Seed of its decisions.
    pub seed: u64,
    /// Why it ended.
    pub stopped_by: String,
    /// What each rule did.
    pub rules: Vec<RuleReport>,
    /// Packets that belonged to nobody, where rules act on packets.
    #[serde(default)]
    pub unattributed: Option<Unattributed>,
    /// Packets that were lost where they waited, where rules have devices.
    #[serde(default)]
    pub undelivered: Option<Undelivered>,
    /// Calls that the kernel asked no rule about, where there are rules on calls.
    #[serde(default)]
    pub missed_calls: Option<u64>,
    /// Hits that the ledger does not have, where there is one.
    #[serde(default)]
    pub ledger_lost: Option<u64>,
    /// Why the ledger is cut off, if it is.
    #[serde(default)]
    pub ledger_error: Option<String>,
    /// What was hit as it was in the run that this one repeats.
    #[serde(default)]
    pub replayed: Option<Replayed>,
}

/// Packets that were lost where they waited, of whichever rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Undelivered {
    /// Those for which there was no room behind the queue.
    pub overrun: u64,
    /// Those that still waited at the end.
    pub cut_off: u64,
}

/// How many flows were hit again as they were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Replayed {
    /// The same.
    pub same: u64,
    /// Otherwise.
    pub different: u64,
    /// They did not come.
    pub not_seen: u64,
}

/// Packets on the rules' interfaces that belonged to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Unattributed {
    /// Those that left.
    pub egress: u64,
    /// Those that arrived.
    pub ingress: u64,
}

/// A value that a rule set in a control file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Value {
    /// The file.
    pub path: PathBuf,
    /// Its value before.
    pub before: Option<String>,
    /// The value that was set.
    pub set: String,
    /// What became of it, as JSON.
    pub outcome: serde_json::Value,
}

/// What one rule did.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RuleReport {
    /// Name of the rule.
    pub name: String,
    /// Name of its kind.
    pub kind: String,
    /// Rung that served it.
    pub backend: String,
    /// Operations that matched.
    pub matched: u64,
    /// Of those, operations that suffered.
    pub injected: u64,
    /// Of those, operations that the trigger let through.
    pub passed: u64,
    /// What a rule on resources set.
    #[serde(default)]
    pub values: Vec<Value>,
    /// By how much counters of the kernel grew, where a rule on resources has some.
    #[serde(default)]
    pub kernel: BTreeMap<String, u64>,
    /// What went wrong with a rule on resources.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Of those, operations let through because the budget was spent.
    pub exhausted: u64,
    /// Of those, operations that the kernel refused to harm.
    pub errors: u64,
    /// Operations that would have suffered, of a rule in shadow.
    #[serde(default)]
    pub shadowed: Option<u64>,
    /// Packets that would have had to wait and were lost.
    #[serde(default)]
    pub dropped: Option<u64>,
    /// Calls that waited for less than they should have.
    #[serde(default)]
    pub cut_short: Option<u64>,
}

impl Report {
    /// Of each rule its name, and how many operations matched and suffered.
    #[must_use]
    pub fn hits(&self) -> Vec<(&str, u64, u64)> {
        let rules = self.rules.iter();
        rules
            .map(|rule| (rule.name.as_str(), rule.matched, rule.injected))
            .collect()
    }

    /// The report of the only rule.
    ///
    /// # Panics
    ///
    /// When there are more or fewer.
    #[must_use]
    #[track_caller]
    pub fn only(&self) -> &RuleReport {
        match self.rules.as_slice() {
            [rule] => rule,
            rules => panic!("one rule expected: {rules:?}"),
        }
    }
}

/// What the program printed and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Finished {
    /// The exit code.
    ///
    /// # Panics
    ///
    /// When a signal ended the program.
    #[must_use]
    #[track_caller]
    pub fn code(&self) -> i32 {
        match self.status.code() {
            Some(code) => code,
            None => panic!("ended by a signal: {self:?}"),
        }
    }

    /// The JSON report, which is the last line of the standard output. Its
    /// counters must add up in every test, whatever it is about.
    ///
    /// # Panics
    ///
    /// When there is none or the counters do not add up.
    #[must_use]
    #[track_caller]
    pub fn report(&self) -> Report {
        let last = self.stdout.lines().next_back().unwrap_or_default();
        let report: Report = match serde_json::from_str(last) {
            Ok(report) => report,
            Err(error) => panic!("no report ({error}): {self:?}"),
        };
        for rule in &report.rules {
            let shadowed = rule.shadowed.unwrap_or_default();
            assert_eq!(
                rule.matched,
                rule.injected + shadowed + rule.passed + rule.exhausted + rule.errors,
                "the counters do not add up: {rule:?}"
            );
        }
        report
    }

    /// The report of an injection that ended well with only one rule, which met
    /// no error.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[must_use]
    #[track_caller]
    pub fn rule(&self) -> RuleReport {
        assert_eq!(self.code(), 0, "{}", self.stderr);
        let rule = self.report().only().clone();
        assert_eq!(rule.errors, 0, "{rule:?}\n{}", self.stderr);
        rule
    }
}
