//! What `plan` refuses: all that `inject` and `run` would.

use crate::support::{injector, refused, skip_unless_root, spec_file};

#[test]
fn a_kind_and_a_file_together() {
    let kind = ["net-loss", "--target", "pid:1", "--for", "1s"];
    let line = [&["plan", "outage.yaml"], &kind[..]].concat();
    refused(&line, 2, &["error: plan: ", "together", "allowed: "]);
    // An option of `run` before the kind leaves its file missing.
    let line = [&["plan", "--seed", "7"], &kind[..]].concat();
    refused(&line, 2, &["file"]);
    refused(&["plan"], 2, &["FILE", "KIND"]);
    refused(&["plan", "net-los"], 2, &["net-los", "cannot be opened"]);
    let line = ["plan", "net-los", "--target", "pid:1", "--for", "1s"];
    refused(&line, 2, &["--target", "injector plan KIND"]);
}

#[test]
fn commands_that_cannot_be_started() {
    skip_unless_root!();
    let plain = tempfile::NamedTempFile::new().expect("a file");
    let plain = plain.path().to_str().expect("a path");
    for command in ["/no/such/program", "no-such-program", "/tmp", plain] {
        let problem = format!("no executable program {command}; allowed: ");
        for name in ["inject", "plan"] {
            let line = [name, "net-loss", "--for", "1s", "--", command];
            refused(&line, 2, &[&format!("error: -- CMD: {problem}")]);
        }
        let spec =
            format!("version: 1\nfor: 1s\nrules: [{{kind: net-loss}}]\ncommand: ['{command}']\n");
        let file = spec_file(spec.as_bytes());
        let path = file.path().to_str().expect("a path");
        for name in ["run", "plan"] {
            refused(
                &[name, path],
                2,
                &[&format!("error: {path}:4:10: command: {problem}")],
            );
            // Instead of one that is not there either.
            let line = [name, path, "--", "not-there"];
            refused(
                &line,
                2,
                &["error: -- CMD: no executable program not-there"],
            );
        }
    }
}

#[test]
fn files_are_read_as_by_run() {
    let file =
        spec_file(b"version: 1\nfor: 1s\nrules: [{kind: net-loss, target: pid:1, percnt: 5}]");
    let path = file.path().to_str().expect("a path");
    let answers = ["run", "plan"].map(|name| injector(&[name, path]));
    assert_eq!(answers[0].code, Some(2), "{answers:?}");
    assert_eq!(answers[0].stderr, answers[1].stderr);
    assert_eq!(answers[1].stdout, "");
}
