//! The shell script that runs test binaries one after the other and marks where each begins and
//! ends.

use super::binaries::{Part, TestBinary};
use super::{Options, cluster, results};
use crate::paths;
use crate::vm::initramfs::quote;

/// Test binaries and the shell lines that run them.
pub(crate) struct Script {
    place: String,
    programs: Vec<Program>,
}

/// One binary.
struct Program {
    name: String,
    lines: String,
}

impl Script {
    /// A script that runs these parts of these binaries in this place.
    pub(crate) fn new(options: &Options, place: &str, parts: &[(&TestBinary, Part)]) -> Self {
        let programs = parts.iter().map(|(binary, part)| Program {
            name: binary.name.clone(),
            lines: lines(options, binary, *part),
        });
        Self {
            place: place.to_owned(),
            programs: programs.collect(),
        }
    }

    /// The script's text, but for the binaries with these names.
    pub(crate) fn without(&self, names: &[&str]) -> String {
        let folder = quote(&paths::root().join("tests").display().to_string());
        let injector = quote(&paths::injector().display().to_string());
        let xtask = std::env::current_exe().unwrap_or_default();
        let xtask = quote(&xtask.display().to_string());
        let cluster = quote(&cluster::folder().display().to_string());
        let mut text = format!(
            "exec 2>&1\ncd {folder} || exit\n\
             export INJECTOR_XTASK={xtask} INJECTOR_TEST_CLUSTER={cluster}\n\
             export INJECTOR_BIN={injector} INJECTOR_TEST_WHERE={}\n\
             export INJECTOR_TEST_DOCTOR=$(mktemp) INJECTOR_TEST_EVIDENCE=$(mktemp)\n\
             \"$INJECTOR_BIN\" doctor --output json >\"$INJECTOR_TEST_DOCTOR\"\n",
            quote(&self.place)
        );
        for program in &self.programs {
            if !names.contains(&program.name.as_str()) {
                text.push_str(&program.lines);
            }
        }
        text.push_str("rm \"$INJECTOR_TEST_DOCTOR\" \"$INJECTOR_TEST_EVIDENCE\"\nexit 0\n");
        text
    }
}

fn lines(options: &Options, binary: &TestBinary, part: Part) -> String {
    // One test at a time: they act on the whole kernel.
    let arguments = "--test-threads=1 --show-output";
    // Filters of both would add up to more tests, not fewer.
    let (names, option) = match (&options.filter, part) {
        (Some(filter), _) => (vec![filter.as_str()], ""),
        (None, Part::Named(names)) => (names.to_vec(), ""),
        (None, Part::AllBut(names)) => (names.to_vec(), "--skip "),
        (None, Part::Everything | Part::Nothing) => (Vec::new(), ""),
    };
    let filters = names
        .into_iter()
        .map(|name| option.to_owned() + &quote(name));
    let filters: Vec<String> = filters.collect();
    format!(
        "echo '{begin}{name}'\n\
         timeout --foreground -k 10 {limit} {path} {arguments} {filters}\n\
         printf '\\n{end}%s\\n' $?\n",
        begin = results::BEGIN,
        end = results::END,
        name = binary.name,
        filters = filters.join(" "),
        limit = options.binary_timeout,
        path = quote(&binary.path.display().to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_run_does_not_run_again() {
        let program = |name: &str| Program {
            name: name.to_owned(),
            lines: format!("run-{name}\n"),
        };
        let script = Script {
            place: "here".to_owned(),
            programs: vec![program("a"), program("b"), program("c")],
        };
        let whole = script.without(&[]);
        assert!(whole.contains("run-a\nrun-b\nrun-c\n"), "{whole}");
        let rest = script.without(&["b", "a"]);
        assert!(!rest.contains("run-a") && !rest.contains("run-b"), "{rest}");
        assert!(rest.contains("run-c\n"), "{rest}");
    }
}
