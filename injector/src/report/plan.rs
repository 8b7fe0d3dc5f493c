//! A plan as JSON.

use serde::Serialize;

use crate::{
    faults,
    plan::{Plan, text},
};

#[derive(Serialize)]
struct PlanJson<'a> {
    experiment: &'a str,
    seed: u64,
    rules: Vec<RuleJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a [String]>,
    steps: Vec<String>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct RuleJson<'a> {
    name: &'a str,
    kind: &'static str,
    backend: &'static str,
    explanation: String,
    targets: Vec<String>,
    trigger: String,
    time: String,
}

/// One line of JSON, with the words of the plan as text.
///
/// # Errors
///
/// Never in practice: every key is text.
pub fn to_json(plan: &Plan) -> serde_json::Result<String> {
    let experiment = &plan.experiment;
    let rules = experiment.rules.iter().zip(&plan.backends);
    serde_json::to_string(&PlanJson {
        experiment: &experiment.name,
        seed: experiment.seed,
        rules: rules
            .map(|(rule, backend)| RuleJson {
                name: &rule.name,
                kind: rule.fault.kind().name(),
                backend,
                explanation: faults::explain(&rule.fault),
                targets: text::targets(rule),
                trigger: text::selection(rule),
                time: text::time(rule),
            })
            .collect(),
        command: experiment.command.as_deref(),
        steps: plan.effects.iter().map(ToString::to_string).collect(),
        notes: &plan.notes,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use injector_common::Trigger;

    use super::*;
    use crate::{
        model::{CallFault, Calls, Experiment, Fault, Per, Rule, Target},
        plan::Effect,
    };

    #[test]
    fn the_json_has_the_promised_shape() {
        let rule = Rule {
            name: "disk full".to_owned(),
            targets: vec![Target::Command],
            fault: Fault::Call(
                Calls {
                    wanted: vec!["write".parse().expect("a call")],
                    ..Calls::default()
                },
                CallFault::Errno(vec!["ENOSPC".parse().expect("an error")]),
            ),
            trigger: Trigger::ALWAYS,
            per: Per::Rule,
            start: Duration::ZERO,
            duration: Duration::from_secs(30),
            shadow: false,
            removed: false,
        };
        let mut plan = Plan {
            experiment: Experiment {
                id: "0badcafe".to_owned(),
                name: "lab".to_owned(),
                seed: 7,
                duration: Duration::from_secs(30),
                rules: vec![rule],
                command: Some(vec!["./app".to_owned()]),
                whole_host: false,
            },
            effects: vec![Effect::Enable],
            notes: vec!["so much".to_owned()],
            backends: vec!["lsm"],
        };
        assert_eq!(
            to_json(&plan).expect("text keys"),
            "{\"experiment\":\"lab\",\"seed\":7,\"rules\":[{\"name\":\"disk full\",\
             \"kind\":\"sys-errno\",\"backend\":\"lsm\",\"explanation\":\"fails write with ENOSPC\",\
             \"targets\":[\"command\"],\"trigger\":\"every occurrence\",\
             \"time\":\"from the start, for 30s\"}],\"command\":[\"./app\"],\
             \"steps\":[\"put the rules in force\"],\"notes\":[\"so much\"]}"
        );
        plan.experiment.command = None;
        assert!(!to_json(&plan).expect("text keys").contains("command\":["));
    }
}
