//! What is not refused: help, tables and reports.

use std::process::Command;

use crate::support::{self, injector};

#[test]
fn help_and_tables() {
    for line in [
        &["--help"][..],
        &["inject", "--help"],
        &["inject", "net-delay", "--help"],
        &["plan", "sys-errno", "--help"],
        &["run", "--help"],
    ] {
        let output = injector(line);
        assert_eq!(output.code, Some(0), "{line:?}");
        assert!(
            output.stdout.contains("Examples:"),
            "{line:?}: {}",
            output.stdout
        );
    }
    let output = injector(&["inject", "net-loss", "--help"]);
    assert!(!output.stdout.contains("--jitter"), "{}", output.stdout);
    let output = injector(&["faults"]);
    for kind in ["net-loss", "net-delay", "net-corrupt", "sys-errno"] {
        assert!(output.stdout.contains(kind), "{}", output.stdout);
        let output = injector(&["faults", kind]);
        assert!(
            output.stdout.contains(&format!("injector inject {kind}")),
            "{}",
            output.stdout
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = injector(&["completions", shell]);
        assert!(output.stdout.contains("net-corrupt"), "{shell}");
    }
}

#[test]
fn the_doctor_answers_in_json() {
    let output = injector(&["doctor", "--output", "json"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let json: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    let count = injector_common::FaultKind::ALL.len();
    assert_eq!(
        json["kinds"].as_array().map(Vec::len),
        Some(count),
        "{json}"
    );
    assert!(
        json["kernel"].is_string() && json["capabilities_missing"].is_array(),
        "{json}"
    );
}

#[test]
fn a_closed_pipe_is_no_error() {
    let script = "\"$0\" faults | true; \"$0\" completions bash | true";
    let output = support::run(Command::new("sh").args(["-c", script, support::BINARY]));
    assert_eq!(output.stderr, "");
}
