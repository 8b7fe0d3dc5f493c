//! The arguments that `inject` and `plan` have for every kind.

use std::path::PathBuf;

use clap::Args;

use crate::{
    cli::Output,
    model::{Per, Target},
    spec::{
        ExperimentInput, RuleInput,
        duration::Span,
        kind::RawKind,
        name::Name,
        number::{Seed, Times},
        percent::Percent,
        text::Text,
        when::When,
    },
};

/// Target, trigger and time of a rule, and the command to run.
#[derive(Args, Debug)]
pub struct RuleArgs {
    /// Whom to hit: cgroup:PATH or pid:N, each with all below it; may be repeated
    #[arg(
        short,
        long,
        value_name = "TARGET",
        required_unless_present = "command",
        help_heading = "Target"
    )]
    pub target: Vec<Text<Target>>,

    /// Allow a target that is the whole host (the root cgroup)
    #[arg(long, help_heading = "Target")]
    pub whole_host: bool,

    /// Hit this share of the matching operations, above 0 and at most 100; not together with --when [default: 100]
    #[arg(
        long,
        value_name = "P",
        allow_hyphen_values = true,
        help_heading = "Trigger"
    )]
    pub percent: Option<Text<Percent>>,

    /// Hit these matching operations, counted from 1 over all targets, or for each of what --per says: `FIRST[..LAST][+STEP]`; 3 is the third alone, 3+ every one from the third, 3..9+2 are 3, 5, 7 and 9
    #[arg(
        long,
        value_name = "WHEN",
        allow_hyphen_values = true,
        help_heading = "Trigger"
    )]
    pub when: Option<Text<When>>,

    /// Stop hitting after exactly this many hits
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Trigger"
    )]
    pub times: Option<Text<Times>>,

    /// What has a count and draws of its own, so that others do not change what is hit: rule (all operations that match, together), flow (each flow and direction, by protocol, addresses and ports), or of system calls process or thread. Of net-rate: what has a link of its own [default: rule]
    #[arg(long, value_name = "WHAT", help_heading = "Trigger")]
    pub per: Option<Text<Per>>,

    /// Count what would be hit, and hit nothing: the same decisions, on real operations
    #[arg(long, help_heading = "Trigger")]
    pub shadow: bool,

    /// Seed of the decisions; the same seed gives the same decisions [default: drawn and reported]
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Trigger"
    )]
    pub seed: Option<Text<Seed>>,

    /// How long, such as 30s, 500ms or 5m; everything is undone afterwards
    #[arg(long = "for", value_name = "DURATION", allow_hyphen_values = true)]
    pub duration: Text<Span>,

    /// Name of the rule in reports [default: the kind]
    #[arg(long, value_name = "NAME")]
    pub name: Option<Text<Name>>,

    /// How to print the report
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,

    /// Write each hit as a line of JSON into this file, which must not be there yet, or be empty; `injector run --replay FILE` does the same again
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,

    /// A command to start as a target, in a cgroup of its own, once the fault is on; the fault ends with it
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

impl RuleArgs {
    /// The one rule of this command line, its experiment aside.
    #[must_use]
    pub fn into_rule(self, what: RawKind) -> RuleInput {
        let mut targets: Vec<Target> = self.target.into_iter().map(|text| text.0).collect();
        if !self.command.is_empty() {
            targets.push(Target::Command);
        }
        RuleInput {
            path: String::new(),
            name: self.name.map(|text| text.0),
            targets,
            what,
            percent: self.percent.map(|text| text.0),
            when: self.when.map(|text| text.0),
            times: self.times.map(|text| text.0),
            per: self.per.map(|text| text.0),
            shadow: self.shadow,
            start: None,
            duration: Some(self.duration.0),
        }
    }

    /// The experiment of this command line.
    #[must_use]
    pub fn into_experiment(self, what: RawKind) -> ExperimentInput {
        let command = (!self.command.is_empty()).then(|| self.command.clone());
        ExperimentInput {
            name: self.name.as_ref().map(|text| text.0.clone()),
            seed: self.seed.as_ref().map(|text| text.0),
            duration: Some(self.duration.0),
            whole_host: self.whole_host,
            rules: vec![RuleInput {
                duration: None,
                ..self.into_rule(what)
            }],
            command,
        }
    }
}
