//! What `plan` refuses: all that `inject` and `run` would.

use crate::support::{refused, skip_unless_root, spec_file};

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
        for name in ["run"] {
            refused(
                &[name, path],
                2,
                &[&format!("error: {path}: command: {problem}")],
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
