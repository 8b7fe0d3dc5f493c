//! What the help says is what is accepted.

use std::path::Path;

use injector_common::FaultKind;

use super::*;
use crate::{
    model::Experiment,
    spec::{
        build::{Entropy, build},
        document,
        kind::Kind,
    },
};

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_examples() {
    // One that only the agent itself runs has none.
    let cli = Cli::command();
    for command in cli
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        let help = help_of(command);
        assert!(help.contains("Examples:"), "{}", command.get_name());
        assert!(!lines(&help).is_empty(), "{}", command.get_name());
    }
}

#[test]
fn every_kind_is_reachable_and_shows_an_example() {
    for command in ["inject", "plan"] {
        let mut cli = Cli::command();
        let command = cli.find_subcommand_mut(command).expect("a command");
        let names: Vec<&str> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        let kinds: Vec<&str> = Kind::all().map(Kind::name).collect();
        assert_eq!(names, kinds);
    }
    for kind in Kind::all() {
        let shown: Vec<FaultKind> = lines(&kind.manual())
            .iter()
            .filter_map(|line| accepted(line))
            .map(|experiment| experiment.rules[0].fault.kind())
            .collect();
        assert!(!shown.is_empty(), "{}", kind.name());
        if let Kind::Fault(kind) = kind {
            assert!(shown.iter().all(|shown| *shown == kind), "{shown:?}");
        }
    }
}

#[test]
fn every_example_of_the_help_is_accepted() {
    fn check(command: &clap::Command) {
        for line in lines(&help_of(command)) {
            accepted(&line);
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

#[test]
fn the_file_of_the_help_is_accepted() {
    let mut cli = Cli::command();
    let help = help_of(cli.find_subcommand_mut("run").expect("a command"));
    let (_, file) = help.split_once("A file:\n").expect("a file");
    let experiment = document::parse(Path::new("help"), file.as_bytes())
        .map_err(Into::into)
        .and_then(|input| build(input, Entropy { id: 1, seed: 1 }));
    assert_eq!(experiment.expect("a spec").rules.len(), 2);
}

#[test]
fn a_plan_is_of_a_kind_or_of_a_file() {
    let plan = |line: &str| -> Result<(bool, bool), String> {
        let line = format!("injector plan {line}");
        let words = line.split_whitespace();
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Plan(args) = cli.command else {
            panic!("{line} is no plan")
        };
        Ok((args.kind.is_some(), args.file.is_some()))
    };
    assert_eq!(plan("net-loss --target pid:7 --for 1s"), Ok((true, false)));
    assert_eq!(plan("-v net-loss --for 1s -- app"), Ok((true, false)));
    assert_eq!(plan("outage.yaml --seed 7 -- app"), Ok((false, true)));
    assert_eq!(plan("--output json outage.yaml"), Ok((false, true)));
    // A file may be called like a kind.
    assert_eq!(plan("./net-loss"), Ok((false, true)));
    for line in [
        "",
        "--seed 7",
        "-- app",
        "outage.yaml net-loss --target pid:7 --for 1s",
        "outage.yaml other.yaml",
        "--seed 7 net-loss --target pid:7 --for 1s",
        "--output json net-loss --target pid:7 --for 1s",
        "net-loss outage.yaml --target pid:7 --for 1s",
        "net-los --target pid:7 --for 1s",
    ] {
        // Of both at once clap sees nothing wrong; `plan` itself refuses that.
        let refused = matches!(plan(line), Err(_) | Ok((true, true)));
        assert!(refused, "{line}: {:?}", plan(line));
    }
}

fn help_of(command: &clap::Command) -> String {
    let help = command.get_after_help();
    help.map(ToString::to_string).unwrap_or_default()
}

/// The command lines of this program in a text, each as far as the shell hands
/// it over.
fn lines(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| line.starts_with("injector "))
        .map(|line| {
            line.split([';', '|', '>'])
                .next()
                .unwrap_or(line)
                .to_owned()
        })
        .collect()
}

/// Parses a command line as the program does; the experiment of one that names
/// it in full.
#[track_caller]
fn accepted(line: &str) -> Option<Experiment> {
    // As a shell hands them over: it takes quotes away.
    let words = line.split_whitespace().map(|word| word.trim_matches('\''));
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => panic!("{line}: {error}"),
    };
    let args = match cli.command {
        Command::Inject(args) => args,
        Command::Plan(plan::Args { kind, .. }) => inject::Args { kind: kind? },
        Command::Run(_)
        | Command::Doctor(_)
        | Command::Faults(_)
        | Command::Stop(_)
        | Command::Completions(_)
        | Command::Guardian { .. }
        | Command::Waker { .. }
        | Command::Worker { .. } => return None,
    };
    match args.experiment(Entropy { id: 1, seed: 1 }) {
        Ok(experiment) => Some(experiment),
        Err(error) => panic!("{line}: {error}"),
    }
}
