//! What happened, as plain data, and its forms for people and programs.

pub mod doctor;
pub mod live;
pub mod plan;
pub mod resource;
pub mod table;

use injector_common::{FaultKind, RuleStats};
use serde::{Deserialize, Serialize, Serializer};

use crate::{ledger::Replayed, report::resource::ResourceReport};

/// What ended an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// Its time was up.
    Deadline,
    /// SIGINT or SIGTERM.
    Signal,
    /// The command ended.
    CommandExit,
    /// Every rule had spent its budget.
    Budget,
}

impl StoppedBy {
    /// In words, to follow "stopped by".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Deadline => "the deadline",
            Self::Signal => "a signal",
            Self::CommandExit => "the command's end",
            Self::Budget => "spent budgets",
        }
    }
}

/// What a rule has counted. `matched = injected + passed + exhausted + errors`, and what it would have
/// injected in shadow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleCounts {
    /// Operations that matched target, filter and time.
    pub matched: u64,
    /// Of those, operations that suffered the fault.
    pub injected: u64,
    /// Operations that the trigger did not select.
    pub passed: u64,
    /// Operations selected after the budget was spent.
    pub exhausted: u64,
    /// Operations that should have suffered, but the kernel refused the action.
    pub errors: u64,
    /// Operations that would have suffered, had the rule not been in shadow.
    #[serde(skip)]
    pub shadowed: u64,
}

impl From<RuleStats> for RuleCounts {
    fn from(stats: RuleStats) -> Self {
        Self {
            matched: stats.matched,
            injected: stats.injected,
            passed: stats.passed,
            exhausted: stats.exhausted,
            errors: stats.errors,
            shadowed: stats.shadowed,
        }
    }
}

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleReport {
    /// Its name.
    pub name: String,
    /// Its kind.
    #[serde(serialize_with = "kind_name")]
    pub kind: FaultKind,
    /// What served it, such as `tcx` or `lsm`.
    pub backend: &'static str,
    /// What it counted.
    #[serde(flatten)]
    pub counts: RuleCounts,
    /// Packets that had to wait and were lost, because the queue was too short or
    /// its memory taken; `None` for a rule that lets none wait. They are among the
    /// injected ones, with `net-reorder` among the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// Of the injected calls, those that waited for less than they should have; `None` for a rule
    /// that lets no call wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_short: Option<u64>,
    /// Operations that would have suffered; `None` for a rule that was not in shadow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadowed: Option<u64>,
    /// What is known of the values that it set; `None` for a rule that sets none.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceReport>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn kind_name<S: Serializer>(kind: &FaultKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

/// Packets on the rules' interfaces, and in their directions, that belong to nobody
/// who could be found, so that no rule could hit them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unattributed {
    /// Those that left.
    pub egress: u64,
    /// Those that arrived.
    pub ingress: u64,
}

/// Packets that rules made wait and that were lost afterwards. Of which rule, nobody
/// can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Undelivered {
    /// Those for which there was no room on the way from the queue to their interface.
    pub overrun: u64,
    /// Those that still waited when the experiment ended.
    pub cut_off: u64,
}

/// What became of an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The experiment's name; its id if the user gave none.
    pub experiment: String,
    /// The seed of its decisions.
    pub seed: u64,
    /// What ended it.
    pub stopped_by: StoppedBy,
    /// Its rules, in their order.
    pub rules: Vec<RuleReport>,
    /// Packets without an owner; `None` where no rule acts on packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unattributed: Option<Unattributed>,
    /// Packets that were lost where they waited; `None` where no rule has devices for
    /// packets to wait in or to pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undelivered: Option<Undelivered>,
    /// Calls that the kernel asked no rule about, since it was being asked about another one on the
    /// same processor; `None` where no rule goes by a program that this can happen to. They are
    /// anybody's, so that no more than so many are the targets'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_calls: Option<u64>,
    /// Hits that were not told one by one, for want of room; `None` where none was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_lost: Option<u64>,
    /// Why the ledger is cut off and has no last line; `None` where it has one, and where
    /// none was to be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_error: Option<String>,
    /// What was hit as it was in the run that this one repeats, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replayed>,
}

impl Report {
    /// One line of JSON.
    ///
    /// # Errors
    ///
    /// Never in practice: every key is text.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// A table for people.
    #[must_use]
    pub fn to_table(&self) -> String {
        let has_queue = self.rules.iter().any(|rule| rule.dropped.is_some());
        let has_shadow = self.rules.iter().any(|rule| rule.shadowed.is_some());
        let has_waits = self.rules.iter().any(|rule| rule.cut_short.is_some());
        let cell = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
        let rows = self.rules.iter().map(|rule| {
            let counts = rule.counts;
            let mut row = vec![
                rule.name.clone(),
                rule.kind.name().to_owned(),
                rule.backend.to_owned(),
                counts.matched.to_string(),
                counts.injected.to_string(),
                counts.passed.to_string(),
                counts.exhausted.to_string(),
                counts.errors.to_string(),
            ];
            if has_queue {
                row.push(cell(rule.dropped));
            }
            if has_waits {
                row.push(cell(rule.cut_short));
            }
            if has_shadow {
                row.push(cell(rule.shadowed));
            }
            row
        });
        let mut header = vec![
            "RULE",
            "KIND",
            "BACKEND",
            "MATCHED",
            "INJECTED",
            "PASSED",
            "EXHAUSTED",
            "ERRORS",
        ];
        if has_queue {
            header.push("DROPPED");
        }
        if has_waits {
            header.push("CUT SHORT");
        }
        if has_shadow {
            header.push("SHADOWED");
        }
        let mut text = format!(
            "experiment {}, seed {}, stopped by {}\n{}",
            self.experiment,
            self.seed,
            self.stopped_by.words(),
            table::render(&header, rows)
        );
        for rule in &self.rules {
            if let Some(resource) = &rule.resource {
                text += &resource.to_lines(&rule.name);
            }
        }
        let nobodys = self.unattributed.unwrap_or_default();
        if nobodys != Unattributed::default() {
            text += &format!(
                "unattributed: {} packets that left and {} that arrived belong to no process\n",
                nobodys.egress, nobodys.ingress
            );
        }
        let lost = self.undelivered.unwrap_or_default();
        if lost != Undelivered::default() {
            text += &format!(
                "undelivered: {} packets found no room behind their queue, and {} still waited \
                 at the end\n",
                lost.overrun, lost.cut_off
            );
        }
        if let Some(missed @ 1..) = self.missed_calls {
            text += &format!(
                "missed: the kernel asked no rule about {missed} calls, which may be of the \
                 targets; --rung lsm is asked about all\n"
            );
        }
        match (&self.ledger_error, self.ledger_lost) {
            (Some(error), lost) => {
                text += &format!(
                    "ledger: cut off, {} hits and its last line are missing: {error}\n",
                    lost.unwrap_or_default()
                );
            }
            (None, Some(lost @ 1..)) => {
                text += &format!("ledger: {lost} hits are missing, there was no room for them\n");
            }
            (None, Some(0) | None) => {}
        }
        if let Some(Replayed {
            same,
            different,
            not_seen,
        }) = self.replayed
        {
            text += &format!(
                "replayed: {same} flows were hit the same, {different} otherwise, \
                 {not_seen} did not come\n"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            experiment: "0badcafe".to_owned(),
            seed: 7,
            stopped_by: StoppedBy::CommandExit,
            rules: vec![RuleReport {
                name: "loss".to_owned(),
                kind: FaultKind::NetLoss,
                backend: "tcx",
                counts: RuleCounts {
                    matched: 10,
                    injected: 4,
                    passed: 3,
                    exhausted: 2,
                    errors: 1,
                    shadowed: 0,
                },
                dropped: None,
                cut_short: None,
                shadowed: None,
                resource: None,
            }],
            unattributed: None,
            undelivered: None,
            missed_calls: None,
            ledger_lost: None,
            ledger_error: None,
            replayed: None,
        }
    }

    #[test]
    fn the_json_has_the_promised_shape() {
        let json = report().to_json().expect("text keys");
        assert_eq!(
            json,
            "{\"experiment\":\"0badcafe\",\"seed\":7,\"stopped_by\":\"command_exit\",\"rules\":[\
             {\"name\":\"loss\",\"kind\":\"net-loss\",\"backend\":\"tcx\",\"matched\":10,\
             \"injected\":4,\"passed\":3,\"exhausted\":2,\"errors\":1}]}"
        );
        for (stopped_by, word) in [
            (StoppedBy::Deadline, "deadline"),
            (StoppedBy::Signal, "signal"),
            (StoppedBy::Budget, "budget"),
        ] {
            let json = Report {
                stopped_by,
                ..report()
            }
            .to_json()
            .expect("text keys");
            assert!(
                json.contains(&format!("\"stopped_by\":\"{word}\"")),
                "{json}"
            );
        }
    }

    #[test]
    fn packets_without_an_owner_are_told() {
        let told = |egress, ingress| Report {
            unattributed: Some(Unattributed { egress, ingress }),
            ..report()
        };
        let json = told(3, 0).to_json().expect("text keys");
        let end = "],\"unattributed\":{\"egress\":3,\"ingress\":0}}";
        assert!(json.ends_with(end), "{json}");
        let table = told(3, 4).to_table();
        assert!(
            table.contains("3 packets that left and 4 that arrived"),
            "{table}"
        );
        let table = told(0, 0).to_table();
        assert!(!table.contains("unattributed"), "{table}");
    }

    #[test]
    fn packets_that_were_lost_where_they_waited_are_told() {
        let told = |overrun, cut_off| Report {
            undelivered: Some(Undelivered { overrun, cut_off }),
            ..report()
        };
        let json = told(0, 3).to_json().expect("text keys");
        let end = "],\"undelivered\":{\"overrun\":0,\"cut_off\":3}}";
        assert!(json.ends_with(end), "{json}");
        let table = told(3, 4).to_table();
        assert!(
            table.contains("3 packets found no room behind their queue, and 4 still waited"),
            "{table}"
        );
        let table = told(0, 0).to_table();
        assert!(!table.contains("undelivered"), "{table}");
    }

    #[test]
    fn what_was_replayed_is_told() {
        let report = Report {
            ledger_lost: Some(2),
            replayed: Some(Replayed {
                same: 3,
                different: 1,
                not_seen: 0,
            }),
            ..report()
        };
        let json = report.to_json().expect("text keys");
        let end = "],\"ledger_lost\":2,\"replayed\":{\"same\":3,\"different\":1,\"not_seen\":0}}";
        assert!(json.ends_with(end), "{json}");
        let table = report.to_table();
        for words in [
            "2 hits are missing",
            "3 flows were hit the same, 1 otherwise",
        ] {
            assert!(table.contains(words), "{table}");
        }
    }

    #[test]
    fn missed_calls_are_told_where_they_can_be() {
        let told = |missed_calls| Report {
            missed_calls,
            ..report()
        };
        let json = told(Some(0)).to_json().expect("text keys");
        assert!(json.ends_with("],\"missed_calls\":0}"), "{json}");
        let json = told(None).to_json().expect("text keys");
        assert!(!json.contains("missed"), "{json}");
        let table = told(Some(3)).to_table();
        assert!(table.contains("asked no rule about 3 calls"), "{table}");
        assert!(!told(Some(0)).to_table().contains("missed"));
    }

    #[test]
    fn a_ledger_that_is_cut_off_is_told() {
        let report = Report {
            ledger_lost: Some(0),
            ledger_error: Some("hits.jsonl: No space left".to_owned()),
            ..report()
        };
        let json = report.to_json().expect("text keys");
        let end = "],\"ledger_lost\":0,\"ledger_error\":\"hits.jsonl: No space left\"}";
        assert!(json.ends_with(end), "{json}");
        let table = report.to_table();
        let line = "cut off, 0 hits and its last line are missing: hits.jsonl: No space left";
        assert!(table.contains(line), "{table}");
    }

    #[test]
    fn the_table_shows_every_count() {
        let table = report().to_table();
        for word in [
            "0badcafe",
            "seed 7",
            "the command's end",
            "loss",
            "tcx",
            "10",
            "EXHAUSTED",
        ] {
            assert!(table.contains(word), "{table}");
        }
    }
}
