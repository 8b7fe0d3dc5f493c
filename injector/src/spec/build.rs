//! From inputs that are well formed each by itself to an experiment that makes
//! sense as a whole.

use std::{collections::BTreeSet, time::Duration};

use injector_common::{Trigger, names::MAX_RULES};

use crate::{
    error::{Error, SpecError},
    faults::calls::never,
    model::{Experiment, Fault, Per, Rule, Target, conflict},
    recipes::Part,
    spec::{
        duration::{self, Span},
        kind::RawKind,
        name::Name,
        number::{Seed, Times},
        per,
        percent::Percent,
        resource, selection,
        when::When,
    },
};

/// A rule as written, on the command line or in a spec file.
#[derive(Debug)]
pub struct RuleInput {
    /// How error messages name it: empty, or such as `rules[1]`.
    pub path: String,
    /// Its name.
    pub name: Option<Name>,
    /// Whom it hits.
    pub targets: Vec<Target>,
    /// What it does.
    pub what: RawKind,
    /// What share of the occurrences is selected.
    pub percent: Option<Percent>,
    /// Which occurrences are selected.
    pub when: Option<When>,
    /// How many injections it may make.
    pub times: Option<Times>,
    /// Whose occurrences are counted together.
    pub per: Option<Per>,
    /// Whether it only counts what it would hit.
    pub shadow: bool,
    /// When it starts.
    pub start: Option<Span>,
    /// How long it lasts.
    pub duration: Option<Span>,
}

/// An experiment as written.
#[derive(Debug)]
pub struct ExperimentInput {
    /// Its name.
    pub name: Option<Name>,
    /// The seed of its decisions.
    pub seed: Option<Seed>,
    /// How long it lasts.
    pub duration: Option<Span>,
    /// Whether a target may be the whole host.
    pub whole_host: bool,
    /// Its rules.
    pub rules: Vec<RuleInput>,
    /// The victim to start.
    pub command: Option<Vec<String>>,
}

/// Random numbers that an experiment starts from, drawn by the caller.
#[derive(Clone, Copy, Debug)]
pub struct Entropy {
    /// Becomes the experiment's id.
    pub id: u32,
    /// Becomes the seed, if the user gave none.
    pub seed: u64,
}

const FOR_ALLOWED: &str = "a duration above 0 and at most 365 days, such as 30s, 500ms or 5m";

/// Builds the experiment.
///
/// # Errors
///
/// Where inputs are missing, do not fit together, or rules contradict each
/// other. The field of an error is the bare name of the option, below the
/// rule's path.
pub fn build(input: ExperimentInput, entropy: Entropy) -> Result<Experiment, Error> {
    if input.rules.is_empty() {
        return Err(SpecError::new("rules", "is empty", "at least one rule").into());
    }
    if input.rules.len() > MAX_RULES as usize {
        return Err(too_many_rules(input.rules.len()).into());
    }
    if input.command.as_ref().is_some_and(Vec::is_empty) {
        return Err(SpecError::new("command", "is empty", "a command with its arguments").into());
    }
    let duration = experiment_duration(&input)?;
    let names = unique_names(&input.rules)?;
    let mut rules = Vec::with_capacity(input.rules.len());
    for (rule, name) in input.rules.into_iter().zip(names) {
        let path = rule.path.clone();
        rules.extend(
            build_rules(rule, name, duration, input.command.is_some()).map_err(|error| {
                if path.is_empty() {
                    error
                } else {
                    error.below(&path)
                }
            })?,
        );
    }
    if rules.len() > MAX_RULES as usize {
        return Err(too_many_rules(rules.len()).into());
    }
    let cover = |a: usize, b: usize| match (rules.get(a), rules.get(b)) {
        (Some(a), Some(b)) => conflict::targets_cover(a, b),
        (None, _) | (_, None) => false,
    };
    conflict::check(&rules, cover)?;
    let id = format!("{:08x}", entropy.id);
    Ok(Experiment {
        name: input.name.map_or_else(|| id.clone(), |Name(name)| name),
        id,
        seed: input.seed.map_or(entropy.seed, |seed| seed.0),
        duration,
        rules,
        command: input.command,
        whole_host: input.whole_host,
    })
}

/// More rules than the kernel side has slots for.
pub(super) fn too_many_rules(count: usize) -> SpecError {
    SpecError::new(
        "rules",
        format!("holds {count} rules"),
        format!("at most {MAX_RULES}"),
    )
}

/// The experiment's own duration, or the end of its last rule.
fn experiment_duration(input: &ExperimentInput) -> Result<Duration, SpecError> {
    if let Some(Span(duration)) = input.duration {
        if duration.is_zero() {
            return Err(SpecError::new("for", "is 0", FOR_ALLOWED));
        }
        return Ok(duration);
    }
    let mut last_end = Duration::ZERO;
    for rule in &input.rules {
        let Some(Span(duration)) = rule.duration else {
            let problem = format!("is missing, and {} has none of its own either", rule.path);
            return Err(SpecError::new("for", problem, FOR_ALLOWED));
        };
        last_end = last_end.max(start_of(rule).saturating_add(duration));
    }
    Ok(last_end)
}

fn start_of(rule: &RuleInput) -> Duration {
    rule.start.map_or(Duration::ZERO, |Span(start)| start)
}

/// The names that the user gave; for the other rules their kind's name, with
/// `-2`, `-3`, … where it is taken.
fn unique_names(rules: &[RuleInput]) -> Result<Vec<String>, SpecError> {
    let mut taken = BTreeSet::new();
    for rule in rules {
        let Some(Name(name)) = &rule.name else {
            continue;
        };
        if !taken.insert(name.clone()) {
            let problem = format!("two rules are called `{name}`");
            return Err(SpecError::new("name", problem, "names that differ").below(&rule.path));
        }
    }
    let mut names = Vec::with_capacity(rules.len());
    for rule in rules {
        if let Some(Name(name)) = &rule.name {
            names.push(name.clone());
            continue;
        }
        let kind = rule.what.kind().name();
        let mut name = kind.to_owned();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{kind}-{number}");
            number += 1;
        }
        names.push(name);
    }
    Ok(names)
}

fn build_rules(
    rule: RuleInput,
    name: String,
    experiment: Duration,
    has_command: bool,
) -> Result<Vec<Rule>, SpecError> {
    let start = start_of(&rule);
    if start >= experiment {
        let problem = format!(
            "{} is not before the experiment's end",
            duration::format(start)
        );
        let allowed = format!("less than {}", duration::format(experiment));
        return Err(SpecError::new("start", problem, allowed));
    }
    let left = experiment.saturating_sub(start);
    let duration = match rule.duration {
        None => left,
        Some(Span(Duration::ZERO)) => return Err(SpecError::new("for", "is 0", FOR_ALLOWED)),
        Some(Span(duration)) if duration > left => {
            let problem = format!("{} ends after the experiment", duration::format(duration));
            let allowed = format!("at most {}", duration::format(left));
            return Err(SpecError::new("for", problem, allowed));
        }
        Some(Span(duration)) => duration,
    };
    let targets = targets(rule.targets, has_command)?;
    let shadow = rule.shadow;
    let built = |name: String, fault: Fault, trigger: Trigger, per: Per| Rule {
        shadow,
        name,
        targets: targets.clone(),
        fault,
        trigger,
        per,
        start,
        duration,
        removed: false,
    };
    match rule.what {
        RawKind::Fault(raw) => {
            let (has_percent, has_when) = (rule.percent.is_some(), rule.when.is_some());
            let mut trigger = trigger(rule.percent, rule.when, rule.times)?;
            let correlation = raw.correlation();
            let mut fault = raw.validate()?;
            never::check(&fault)?;
            check_shadow(shadow, &fault)?;
            if let Fault::Packet(_, fault) = &mut fault {
                selection::settle(fault, &mut trigger, has_percent, has_when)?;
            }
            resource::check_trigger(&fault, &trigger, has_percent, has_when)?;
            selection::correlate(&mut trigger, correlation)?;
            let per = per::settle(&mut fault, &trigger, rule.per.unwrap_or_default())?;
            let rule = built(name, fault, trigger, per);
            resource::check_targets(&rule)?;
            resource::check_time(&rule, experiment)?;
            Ok(vec![rule])
        }
        RawKind::Recipe(raw) => {
            let given = [
                ("percent", rule.percent.is_some()),
                ("when", rule.when.is_some()),
                ("times", rule.times.is_some()),
                ("per", rule.per.is_some_and(|per| per != Per::Rule)),
            ];
            let parts = raw.expand()?;
            for part in &parts {
                never::check(&part.fault)?;
                check_shadow(shadow, &part.fault)?;
            }
            if let [
                Part {
                    name: "", fault, ..
                },
            ] = &parts[..]
            {
                // As if the rule itself were written here.
                let mut fault = fault.clone();
                let trigger = trigger(rule.percent, rule.when, rule.times)?;
                let per = per::settle(&mut fault, &trigger, rule.per.unwrap_or_default())?;
                return Ok(vec![built(name, fault, trigger, per)]);
            }
            if let Some((field, _)) = given.iter().find(|(_, given)| *given) {
                let problem = format!("is not for {}, which is several rules", raw.recipe().name());
                let allowed =
                    "none of percent, when, times and per; or rules of your own in a file";
                return Err(SpecError::new(*field, problem, allowed));
            }
            parts
                .into_iter()
                .map(
                    |Part {
                         name: part,
                         fault,
                         percent,
                     }| {
                        let trigger = trigger(percent, None, None)?;
                        Ok(built(format!("{name}.{part}"), fault, trigger, Per::Rule))
                    },
                )
                .collect()
        }
    }
}

fn check_shadow(shadow: bool, fault: &Fault) -> Result<(), SpecError> {
    let why = fault.never_in_shadow().filter(|_| shadow);
    why.map_or(Ok(()), |why| {
        let problem = format!("is not for {}: {why}", fault.kind().name());
        Err(SpecError::new(
            "shadow",
            problem,
            "no shadow, or another kind",
        ))
    })
}

const TARGET_ALLOWED: &str = "cgroup:PATH, pid:N or a command to start (`-- CMD ARGS…`)";

fn targets(written: Vec<Target>, has_command: bool) -> Result<Vec<Target>, SpecError> {
    let mut targets: Vec<Target> = Vec::with_capacity(written.len());
    let mut known = BTreeSet::new();
    for target in written {
        if target == Target::Command && !has_command {
            return Err(SpecError::new(
                "target",
                "there is no command",
                TARGET_ALLOWED,
            ));
        }
        if known.insert(target.clone()) {
            targets.push(target);
        }
    }
    if targets.is_empty() {
        if !has_command {
            return Err(SpecError::new("target", "is missing", TARGET_ALLOWED));
        }
        targets.push(Target::Command);
    }
    Ok(targets)
}

fn trigger(
    percent: Option<Percent>,
    when: Option<When>,
    times: Option<Times>,
) -> Result<Trigger, SpecError> {
    let mut trigger = Trigger::ALWAYS;
    match (percent, when) {
        (Some(_), Some(_)) => {
            return Err(SpecError::new(
                "when",
                "is given together with percent",
                "one of the two: when or percent",
            ));
        }
        (Some(percent), None) => trigger.threshold = percent.threshold,
        (None, Some(When { first, last, step })) => {
            trigger = Trigger {
                first,
                last,
                step,
                ..trigger
            };
        }
        (None, None) => {}
    }
    if let Some(Times(times)) = times {
        trigger.times = times.get();
    }
    Ok(trigger)
}
