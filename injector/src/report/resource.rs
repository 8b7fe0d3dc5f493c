//! What became of the values that rules on resources set.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What became of the value that a rule set in a control file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was never set: the rule's time did not come, or something was in the way.
    NotSet,
    /// It is set.
    Set,
    /// The value from before is back.
    Restored,
    /// Somebody else has changed it meanwhile, to this; it was left alone.
    Changed(String),
    /// Its cgroup is gone, and the value with it.
    Gone,
    /// It is still set, since it could not be put back.
    Remains(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSet => f.write_str("not set"),
            Self::Set => f.write_str("still set"),
            Self::Restored => f.write_str("restored"),
            Self::Changed(now) => {
                write!(f, "changed by somebody else to `{now}`, and left so")
            }
            Self::Gone => f.write_str("gone with its cgroup"),
            Self::Remains(why) => write!(f, "still set: {why}"),
        }
    }
}

/// A value that a rule set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueReport {
    /// The control file.
    pub path: PathBuf,
    /// Of which disk, for `io.max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The value before; `None` if it was never set.
    pub before: Option<String>,
    /// The value that was set, or was to be.
    pub set: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What is known of a rule on resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// The values that it set.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub values: Vec<ValueReport>,
    /// By how much counters of the kernel grew while it was in force, such as
    /// `throttled_usec`: of all its targets together.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub kernel: BTreeMap<String, u64>,
    /// What went wrong while it was in force.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub problems: Vec<String>,
}

impl ResourceReport {
    /// Adds what is known of another target.
    pub fn add(&mut self, more: Self) {
        self.values.extend(more.values);
        self.problems.extend(more.problems);
        for (counter, value) in more.kernel {
            *self.kernel.entry(counter).or_default() += value;
        }
    }

    /// Lines for people, each about the rule of this name.
    #[must_use]
    pub fn to_lines(&self, rule: &str) -> String {
        let mut text = String::new();
        for value in &self.values {
            let device = value
                .device
                .as_deref()
                .map(|device| format!(" for {device}"));
            let before = value.before.as_deref().unwrap_or("not looked at");
            text += &format!(
                "{rule}: {}{} was `{before}`, set to `{}`; {}\n",
                value.path.display(),
                device.unwrap_or_default(),
                value.set,
                value.outcome
            );
        }
        if !self.kernel.is_empty() {
            let counters: Vec<String> = self
                .kernel
                .iter()
                .map(|(counter, value)| format!("{counter} {value}"))
                .collect();
            text += &format!("{rule}: the kernel counted {}\n", counters.join(", "));
        }
        for problem in &self.problems {
            text += &format!("{rule}: {problem}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ResourceReport {
        ResourceReport {
            values: vec![ValueReport {
                path: "/cg/web/cpu.max".into(),
                device: None,
                before: Some("max 100000".to_owned()),
                set: "50000 100000".to_owned(),
                outcome: Outcome::Restored,
            }],
            kernel: [("nr_throttled".to_owned(), 7)].into(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn people_read_before_and_set() {
        let lines = report().to_lines("slow");
        let value = "slow: /cg/web/cpu.max was `max 100000`, set to `50000 100000`; restored\n";
        assert!(lines.starts_with(value), "{lines}");
        assert!(
            lines.ends_with("slow: the kernel counted nr_throttled 7\n"),
            "{lines}"
        );
    }

    #[test]
    fn targets_add_up() {
        let mut sum = report();
        sum.add(report());
        assert_eq!(sum.values.len(), 2);
        assert_eq!(sum.kernel["nr_throttled"], 14);
        let json = serde_json::to_string(&report()).expect("text keys");
        assert_eq!(
            json,
            "{\"values\":[{\"path\":\"/cg/web/cpu.max\",\"before\":\"max 100000\",\
             \"set\":\"50000 100000\",\"outcome\":\"restored\"}],\
             \"kernel\":{\"nr_throttled\":7}}"
        );
    }
}
