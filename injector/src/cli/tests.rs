//! What the help says is what is accepted.

use injector_common::FaultKind;

use super::*;

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
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
        let kinds: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names, kinds);
    }
}

#[test]
fn every_command_has_examples() {
    for command in Cli::command().get_subcommands() {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(help.contains("Examples:"), "{}", command.get_name());
    }
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
