//! `cargo xtask calls`: which system calls can be failed on which kernel, and how.
//!
//! Each kernel of the tests boots in a virtual machine, where `injector doctor` tries every call, and
//! every request of io_uring, on every rung. Calls for which all kernels give the same answer share
//! a row.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::exec::{say, step};
use crate::vm::qemu::Outcome;
use crate::vm::{self, Machine};
use crate::{build, kernel, paths, setup};

/// The file that has the table, between these lines.
const FILE: &str = "docs/kernels.md";
const BEGIN: &str = "<!-- calls -->";
const END: &str = "<!-- /calls -->";

/// Write the table of system calls, rungs and kernels in docs/kernels.md, by trying each
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Change nothing, and fail if the table would be another one
    #[arg(long)]
    check: bool,
    /// Seconds that one virtual machine may take
    #[arg(long, default_value_t = 1800)]
    timeout: u64,
}

/// What `injector doctor --call` says.
#[derive(Deserialize)]
struct Answer {
    kernel: String,
    calls: Vec<Call>,
}

#[derive(Deserialize)]
struct Call {
    call: String,
    rungs: Vec<Rung>,
}

#[derive(Deserialize)]
struct Rung {
    rung: String,
    state: String,
}

/// Runs the subcommand.
pub(crate) fn run_command(options: &Options) -> Result<ExitCode> {
    setup::vm()?;
    build::bpf()?;
    build::injector()?;
    let mut answers = Vec::new();
    for name in kernel::TESTED {
        let machine = Machine {
            limit: Duration::from_secs(options.timeout),
            ..Machine::new(kernel::ensure(name)?)
        };
        let words = ["doctor", "--call", "?all,?%io_uring", "--output", "json"].map(str::to_owned);
        let script = vm::program_script(name, &paths::injector(), &words);
        let mut printed = Vec::new();
        let tries = format!("trying all calls on {name}");
        let outcome = step(&tries, || {
            machine.run(&script, &mut |bytes| printed.extend_from_slice(bytes))
        })?;
        if !matches!(outcome, Outcome::Exited(0)) {
            eprintln!("{}", String::from_utf8_lossy(&printed));
            return Ok(ExitCode::from(outcome.report()));
        }
        let answer: Answer = serde_json::from_slice(&printed)
            .with_context(|| format!("what the doctor says on {name} is no JSON of ours"))?;
        answers.push((*name, answer));
    }
    let file = paths::root().join(FILE);
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {FILE}"))?;
    let changed = replaced(&text, &table(&answers))?;
    if changed == text {
        say(format!("{FILE} says so already"));
    } else if options.check {
        bail!("{FILE} says something else; run: cargo xtask calls");
    } else {
        std::fs::write(&file, changed).with_context(|| format!("cannot write {FILE}"))?;
        say(format!("{FILE} has the new table"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A row for all calls that are alike, those with the most calls first.
fn table(answers: &[(&str, Answer)]) -> String {
    let mut ways: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (place, (_, answer)) in answers.iter().enumerate() {
        for call in &answer.calls {
            let row = ways.entry(&call.call).or_default();
            row.resize(place, "–".to_owned());
            let supported = call.rungs.iter().filter(|rung| rung.state == "supported");
            let rungs: Vec<String> = supported.map(|rung| format!("`{}`", rung.rung)).collect();
            row.push(if rungs.is_empty() {
                "–".to_owned()
            } else {
                rungs.join(", ")
            });
        }
    }
    let mut rows: BTreeMap<Vec<String>, Vec<&str>> = BTreeMap::new();
    for (call, mut way) in ways {
        way.resize(answers.len(), "–".to_owned());
        rows.entry(way).or_default().push(call);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, calls)| std::cmp::Reverse(calls.len()));
    let kernels: Vec<String> = answers
        .iter()
        .map(|(name, answer)| format!("`{name}`, {}", version(&answer.kernel)))
        .collect();
    let mut table = format!("| {} | calls |\n", kernels.join(" | "));
    table += &format!("|{}\n", "---|".repeat(kernels.len() + 1));
    for (way, calls) in rows {
        table += &format!(
            "| {} | {}: {} |\n",
            way.join(" | "),
            calls.len(),
            calls.join(", ")
        );
    }
    table
}

/// The numbers that a release begins with.
fn version(release: &str) -> &str {
    let end = release.find(|c: char| c != '.' && !c.is_ascii_digit());
    &release[..end.unwrap_or(release.len())]
}

/// The text with this table in place of what is between the two lines.
fn replaced(text: &str, table: &str) -> Result<String> {
    let parts = text
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else {
        bail!("{FILE} lacks the lines {BEGIN} and {END}");
    };
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kernel: &str, calls: &[(&str, &[(&str, &str)])]) -> Answer {
        let call = |&(call, rungs): &(&str, &[(&str, &str)])| Call {
            call: call.to_owned(),
            rungs: rungs
                .iter()
                .map(|&(rung, state)| Rung {
                    rung: rung.to_owned(),
                    state: state.to_owned(),
                })
                .collect(),
        };
        Answer {
            kernel: kernel.to_owned(),
            calls: calls.iter().map(call).collect(),
        }
    }

    #[test]
    fn calls_that_are_alike_share_a_row() {
        let (yes, no) = ("supported", "unsupported");
        let old = answer(
            "6.1.0-57-amd64",
            &[
                ("close", &[("kprobe", no), ("lsm", no)]),
                ("open", &[("kprobe", no), ("lsm", yes)]),
                ("fsync", &[("kprobe", no), ("lsm", no)]),
                ("older", &[("lsm", yes)]),
            ],
        );
        let new = answer(
            "7.3.4+deb13-amd64",
            &[
                ("close", &[("kprobe", yes), ("lsm", no)]),
                ("open", &[("kprobe", yes), ("lsm", yes)]),
                ("fsync", &[("kprobe", yes), ("lsm", "inconclusive")]),
                ("newer", &[("kprobe", yes)]),
            ],
        );
        let expected = "| `old`, 6.1.0 | `new`, 7.3.4 | calls |\n|---|---|---|\n\
                        | – | `kprobe` | 3: close, fsync, newer |\n\
                        | `lsm` | `kprobe`, `lsm` | 1: open |\n\
                        | `lsm` | – | 1: older |\n";
        assert_eq!(table(&[("old", old), ("new", new)]), expected);
    }

    #[test]
    fn only_what_is_between_the_lines_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let expected = format!("before\n{BEGIN}\nnew\n{END}\nafter\n");
        assert_eq!(replaced(&text, "new\n").expect("has them"), expected);
        assert!(replaced("nothing", "new").is_err());
    }
}
