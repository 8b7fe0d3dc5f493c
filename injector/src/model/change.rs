//! Changing an experiment while it runs.

use std::time::Duration;

use injector_common::names::MAX_RULES;

use super::{Experiment, Rule};
use crate::error::SpecError;

impl Experiment {
    /// This experiment, changed to what is wanted now, while it runs.
    ///
    /// A rule is known by its name. What stays keeps its place, what is new comes behind
    /// all others, and what is gone keeps its place as [removed](Rule::removed): a rule's
    /// place decides about its counts, its draws and its turn.
    ///
    /// # Errors
    ///
    /// Where the change needs a new start: another seed, name or command; another kind or
    /// another target for a rule; another order; more rules than there are places.
    pub fn changed(&self, wanted: &Self) -> Result<Self, SpecError> {
        const ANEW: &str = "what it was, while the experiment runs; or stop it and start it anew";
        let whole = [
            ("name", self.name != wanted.name),
            ("seed", self.seed != wanted.seed),
            ("command", self.command != wanted.command),
        ];
        if let Some((field, _)) = whole.into_iter().find(|(_, differs)| *differs) {
            return Err(SpecError::new(field, "has changed", ANEW));
        }
        let mut rules: Vec<Rule> = self.rules.clone();
        for rule in &mut rules {
            rule.removed |= wanted.rules.iter().all(|one| one.name != rule.name);
        }
        // The place of the last rule that was found, and one more.
        let mut next = 0;
        for (number, rule) in wanted.rules.iter().enumerate() {
            let refused = |field: &str, problem: String, allowed: &str| {
                let error = SpecError::new(field.to_owned(), problem, allowed.to_owned());
                error.below(&format!("rules[{number}]"))
            };
            let Some(place) = self.rules.iter().position(|known| known.name == rule.name) else {
                next = rules.len() + 1;
                rules.push(rule.clone());
                continue;
            };
            let known = &self.rules[place];
            if known.removed {
                let problem = format!("`{}` is the name of a rule that was removed", rule.name);
                return Err(refused("name", problem, "a name that no rule had so far"));
            }
            if known.fault.kind() != rule.fault.kind() {
                let problem = format!("of `{}` has changed", rule.name);
                return Err(refused("kind", problem, "a rule of another name"));
            }
            if known.targets != rule.targets {
                let problem = format!("of `{}` has changed", rule.name);
                return Err(refused("target", problem, "a rule of another name"));
            }
            if place < next {
                let problem = format!(
                    "`{}` comes behind a rule that it was in front of",
                    rule.name
                );
                let allowed = "the order that the rules had, and new ones behind them";
                return Err(refused("name", problem, allowed));
            }
            next = place + 1;
            rules[place] = rule.clone();
        }
        if rules.len() > MAX_RULES as usize {
            let problem = format!("{} rules, with those that were removed", rules.len());
            return Err(SpecError::new(
                "rules",
                problem,
                format!("at most {MAX_RULES} while an experiment runs"),
            ));
        }
        let ends = rules.iter().filter(|rule| !rule.removed);
        let end = ends
            .map(|rule| rule.start.saturating_add(rule.duration))
            .max();
        Ok(Self {
            rules,
            duration: wanted.duration.max(end.unwrap_or(Duration::ZERO)),
            whole_host: wanted.whole_host,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use injector_common::Trigger;

    use super::*;
    use crate::model::{
        CallFault, Calls, Direction, Fault, PacketFault, PacketFilter, Per, Target,
    };

    fn rule(name: &str) -> Rule {
        Rule {
            name: name.to_owned(),
            targets: vec![Target::Process(7)],
            fault: Fault::Packet(PacketFilter::new(Direction::Egress), PacketFault::LOSS),
            trigger: Trigger::ALWAYS,
            per: Per::Rule,
            start: Duration::ZERO,
            duration: Duration::from_secs(60),
            shadow: false,
            removed: false,
        }
    }

    fn experiment(rules: Vec<Rule>) -> Experiment {
        Experiment {
            id: "1".to_owned(),
            name: "test".to_owned(),
            seed: 1,
            duration: Duration::from_secs(60),
            rules,
            command: None,
            whole_host: false,
        }
    }

    fn of(names: &[&str]) -> Experiment {
        experiment(names.iter().map(|name| rule(name)).collect())
    }

    fn names(experiment: &Experiment) -> Vec<String> {
        let mark = |rule: &Rule| if rule.removed { "-" } else { "" };
        let rules = experiment.rules.iter();
        rules
            .map(|rule| format!("{}{}", mark(rule), rule.name))
            .collect()
    }

    #[test]
    fn rules_keep_their_places() {
        let running = of(&["a", "b", "c"]);
        let changed = running.changed(&of(&["a", "c", "d"])).expect("a change");
        assert_eq!(names(&changed), ["a", "-b", "c", "d"]);
        let again = changed.changed(&of(&["d", "e"])).expect("a change");
        assert_eq!(names(&again), ["-a", "-b", "-c", "d", "e"]);
        assert_eq!(running.changed(&running), Ok(running.clone()));
    }

    #[test]
    fn values_and_times_change() {
        let mut wanted = of(&["a"]);
        wanted.rules[0].trigger.times = 7;
        wanted.duration = Duration::from_secs(90);
        let changed = of(&["a"]).changed(&wanted).expect("a change");
        assert_eq!(changed.rules[0].trigger.times, 7);
        assert_eq!(changed.duration, Duration::from_secs(90));
    }

    #[test]
    fn what_needs_a_new_start_is_refused_by_its_field() {
        let running = of(&["a", "b"]);
        let refused = |wanted: &Experiment| running.changed(wanted).expect_err("a refusal").field;
        let mut wanted = running.clone();
        wanted.seed = 2;
        assert_eq!(refused(&wanted), "seed");
        wanted = running.clone();
        wanted.command = Some(vec!["true".to_owned()]);
        assert_eq!(refused(&wanted), "command");
        wanted = running.clone();
        wanted.rules[1].targets = vec![Target::Process(8)];
        assert_eq!(refused(&wanted), "rules[1].target");
        wanted = running.clone();
        wanted.rules[0].fault = Fault::Call(
            Calls::default(),
            CallFault::Errno(vec!["EIO".parse().expect("an error")]),
        );
        assert_eq!(refused(&wanted), "rules[0].kind");
        assert_eq!(refused(&of(&["b", "a"])), "rules[1].name");
        assert_eq!(refused(&of(&["new", "a", "b"])), "rules[1].name");
        let without = running.changed(&of(&["b"])).expect("a change");
        let error = without.changed(&of(&["b", "a"])).expect_err("a refusal");
        assert_eq!(error.field, "rules[1].name");
        assert!(error.problem.contains("removed"), "{error}");
    }

    #[test]
    fn places_run_out() {
        let mut running = of(&["a"]);
        for number in 1..MAX_RULES {
            let wanted = of(&[&format!("r{number}")]);
            running = running.changed(&wanted).expect("a place");
        }
        let error = running.changed(&of(&["one more"])).expect_err("a refusal");
        assert_eq!(error.field, "rules");
    }
}
