//! What the integration tests printed, read back and summed up.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// The line that the script prints before a binary; the binary's name follows.
pub(crate) const BEGIN: &str = "##xtask begin ";
/// The line that the script prints after a binary; its exit status follows.
pub(crate) const END: &str = "##xtask end ";

/// What a test prints when it cannot run here; the reason follows.
const SKIP: &str = "SKIP ";

/// The results of all binaries in all places.
#[derive(Default)]
pub(crate) struct Results {
    rows: Vec<Row>,
    place: String,
    /// The part of the last line that was printed so far.
    line: Vec<u8>,
    /// Machines that were started again, and why.
    restarts: Vec<String>,
    problems: Vec<String>,
}

/// The results of one binary in one place.
struct Row {
    place: String,
    binary: String,
    passed: u32,
    failed: u32,
    /// The tests that began, by name.
    tests: Vec<String>,
    skips: Vec<String>,
    /// The tests that failed, by name.
    failures: Vec<String>,
    /// `None` while it runs, and for ever when the machine died meanwhile.
    status: Option<i32>,
    start: Instant,
    seconds: f64,
}

impl Results {
    /// What follows was printed in this place.
    pub(crate) fn start_place(&mut self, place: &str) {
        self.place = place.to_owned();
        self.line.clear();
    }

    /// The binaries that have run to their end here.
    pub(crate) fn ended(&self) -> Vec<&str> {
        let rows = self.rows.iter().filter(|row| row.place == self.place);
        rows.filter(|row| row.status.is_some())
            .map(|row| row.binary.as_str())
            .collect()
    }

    /// The place is started again, because its machine ended in this way; the binary that was
    /// running then runs again from its beginning.
    pub(crate) fn start_again(&mut self, how: &str) {
        let place = std::mem::take(&mut self.place);
        let is_open = |row: &Row| row.place == place && row.status.is_none();
        let open = self.rows.iter().find(|row| is_open(row));
        let during = open.map_or(String::new(), |row| format!(" during {}", row.binary));
        self.restarts
            .push(format!("{place}: the emulator {how}{during}"));
        self.rows.retain(|row| !is_open(row));
        self.start_place(&place);
    }

    /// Reads what the tests print.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.line(String::from_utf8_lossy(&line).trim_end());
            } else {
                self.line.push(byte);
            }
        }
    }

    /// Nothing more comes from this place; `problem` says what went wrong with the whole of it.
    pub(crate) fn end_place(&mut self, problem: Option<String>) {
        let place = &self.place;
        self.problems
            .extend(problem.map(|problem| format!("{place}: {problem}")));
        for row in self.rows.iter().filter(|row| row.place == *place) {
            let binary = &row.binary;
            match row.status {
                Some(0) => {}
                Some(124) => self
                    .problems
                    .push(format!("{place}: {binary} took too long")),
                Some(101) if row.failed > 0 => {
                    let names = row.failures.join(", ");
                    self.problems
                        .push(format!("{place}: {binary}: {} failed: {names}", row.failed));
                }
                Some(status) => {
                    self.problems
                        .push(format!("{place}: {binary} ended with status {status}"));
                }
                None => self.problems.push(format!("{place}: {binary} did not end")),
            }
        }
    }

    /// That no test ran on a kernel, in any of its places, is a problem.
    pub(crate) fn expect_tests(&mut self, kernel: &str) {
        let is_here = |row: &&Row| row.place.split(" (").next() == Some(kernel);
        let rows = self.rows.iter().filter(is_here);
        if rows.map(|row| row.passed + row.failed).sum::<u32>() == 0 {
            self.problems.push(format!("{kernel}: no test ran at all"));
        }
    }

    /// That a test was skipped in every place where it began is a problem: what it is about was
    /// not tested.
    pub(crate) fn expect_each_test_somewhere(&mut self) {
        let mut ran: BTreeMap<(&str, &str), bool> = BTreeMap::new();
        for row in &self.rows {
            for test in &row.tests {
                *ran.entry((&row.binary, test)).or_default() |= !row.has_skipped(test);
            }
        }
        let nowhere = ran.into_iter().filter(|(_, ran)| !ran);
        let problem = |((binary, test), _)| format!("{binary}: {test} was skipped everywhere");
        let problems: Vec<String> = nowhere.map(problem).collect();
        self.problems.extend(problems);
    }

    /// Adds the results of other places.
    pub(crate) fn add(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.restarts.extend(other.restarts);
        self.problems.extend(other.problems);
    }

    /// Whether everything ran and nothing failed.
    pub(crate) fn are_good(&self) -> bool {
        self.problems.is_empty()
    }

    fn line(&mut self, line: &str) {
        if let Some(binary) = line.strip_prefix(BEGIN) {
            self.rows.push(Row {
                place: self.place.clone(),
                binary: binary.to_owned(),
                passed: 0,
                failed: 0,
                tests: Vec::new(),
                skips: Vec::new(),
                failures: Vec::new(),
                status: None,
                start: Instant::now(),
                seconds: 0.0,
            });
            return;
        }
        let Some(row) = self.rows.last_mut().filter(|row| row.status.is_none()) else {
            return;
        };
        if let Some(status) = line.strip_prefix(END) {
            row.status = Some(status.parse().unwrap_or(-1));
            row.seconds = row.start.elapsed().as_secs_f64();
        } else if let Some(reason) = line.strip_prefix(SKIP) {
            row.skips.push(reason.to_owned());
        } else if let Some(test) = begun_test(line) {
            row.tests.push(test.to_owned());
            if line.ends_with(" ... FAILED") {
                row.failures.push(test.to_owned());
            }
        } else if let Some((passed, failed)) = summary(line) {
            row.passed += passed;
            row.failed += failed;
        }
    }
}

/// The name in libtest's line `test NAME ... ok`, whose end comes later, on a line of its own, if
/// the test has printed something past the capturing.
fn begun_test(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("test ")?.split_once(" ...")?;
    (!name.contains(' ')).then_some(name)
}

/// Reads the line that libtest ends with:
/// `test result: ok. 3 passed; 0 failed; 0 ignored; ...`.
fn summary(line: &str) -> Option<(u32, u32)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |unit: &str| {
        let number = counts
            .split("; ")
            .find_map(|part| part.strip_suffix(unit))?;
        number.trim().parse().ok()
    };
    Some((count(" passed")?, count(" failed")?))
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<24} {:<14} {:>6} {:>6} {:>7} {:>8}",
            "where", "tests", "passed", "failed", "skipped", "seconds"
        )?;
        for row in self.rows.iter().filter(|row| !row.is_empty()) {
            // libtest knows no skipping: a test that skips has passed.
            let skipped = u32::try_from(row.skips.len()).unwrap_or(u32::MAX);
            let passed = row.passed.saturating_sub(skipped);
            let (failed, seconds) = (row.failed, row.seconds);
            writeln!(
                f,
                "{:<24} {:<14} {passed:>6} {failed:>6} {skipped:>7} {seconds:>8.1}",
                row.place, row.binary
            )?;
        }
        for row in &self.rows {
            for reason in &row.skips {
                writeln!(f, "skipped  {}: {}: {reason}", row.place, row.binary)?;
            }
        }
        for restart in &self.restarts {
            writeln!(f, "started again  {restart}")?;
        }
        for problem in &self.problems {
            writeln!(f, "PROBLEM  {problem}")?;
        }
        writeln!(
            f,
            "{}",
            if self.are_good() {
                "all tests passed"
            } else {
                "NOT all tests passed"
            }
        )
    }
}

impl Row {
    /// Whether the binary has no tests, as most programs have none of their own.
    fn is_empty(&self) -> bool {
        self.status == Some(0) && self.passed + self.failed == 0
    }

    /// Whether this test said that it cannot run here.
    fn has_skipped(&self, test: &str) -> bool {
        let names = self.skips.iter().filter_map(|skip| skip.split_once(": "));
        names.into_iter().any(|(name, _)| name == test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(output: &str) -> Results {
        let mut results = Results::default();
        results.start_place("here");
        // One byte at a time, because output comes in pieces of any size.
        output.bytes().for_each(|byte| results.feed(&[byte]));
        results.end_place(None);
        results.expect_tests("here");
        results
    }

    #[test]
    fn counts_what_libtest_reports() {
        let results = results(
            "##xtask begin net\nSKIP net_delay: no netem\n\
             test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\n\
             ##xtask end 0\n",
        );
        assert!(results.are_good(), "{results}");
        assert_eq!(
            (results.rows[0].passed, results.rows[0].skips.len()),
            (3, 1)
        );
    }

    #[test]
    fn a_failed_test_is_a_problem() {
        let results = results(
            "##xtask begin net\ntest a ... FAILED\ntest b ... ok\ntest c ... FAILED\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored\n##xtask end 101\n",
        );
        assert_eq!(results.problems, ["here: net: 2 failed: a, c"]);
    }

    #[test]
    fn a_test_that_every_place_skips_is_a_problem() {
        let mut results = results(
            "##xtask begin net\ntest delay ... \nSKIP delay: no queue\nok\n\
             test devices::tun ... \nSKIP devices::tun: no device\nok\ntest loss ... ok\n\
             test result: ok. 3 passed; 0 failed\n##xtask end 0\n",
        );
        results.start_place("there");
        results.feed(
            b"##xtask begin net\ntest devices::tun ... \nSKIP devices::tun: no device\nok\n\
              test delay ... ok\ntest result: ok. 2 passed; 0 failed\n##xtask end 0\n\
              ##xtask begin dns\ntest loss ... \nSKIP loss: no queue\nok\n\
              test result: ok. 1 passed; 0 failed\n##xtask end 0\n",
        );
        results.end_place(None);
        assert!(results.are_good(), "{results}");
        results.expect_each_test_somewhere();
        assert_eq!(
            results.problems,
            [
                "dns: loss was skipped everywhere",
                "net: devices::tun was skipped everywhere"
            ]
        );
    }

    #[test]
    fn a_binary_that_does_not_end_is_a_problem() {
        let results = results(
            "##xtask begin a\ntest result: ok. 1 passed; 0 failed\n##xtask end 0\n\
             ##xtask begin b\ntest x ... ",
        );
        assert_eq!(results.problems, ["here: b did not end"]);
    }

    #[test]
    fn what_a_broken_emulator_cut_off_runs_again_and_is_told() {
        let mut results = Results::default();
        results.start_place("here");
        let ended = "##xtask begin a\ntest result: ok. 1 passed; 0 failed\n##xtask end 0\n";
        let begun = "##xtask begin b\ntest x ... FAILED\n";
        results.feed(format!("{ended}{begun}half a li").as_bytes());
        assert_eq!(results.ended(), ["a"]);
        results.start_again("broke");
        results.feed(begun.replace("FAILED", "ok").as_bytes());
        results.feed(b"test result: ok. 1 passed; 0 failed\n##xtask end 0\n");
        results.end_place(None);
        assert_eq!(results.ended(), ["a", "b"]);
        assert!(results.are_good(), "{results}");
        let told = "started again  here: the emulator broke during b";
        assert!(results.to_string().contains(told), "{results}");
    }

    #[test]
    fn no_test_at_all_is_a_problem() {
        let results =
            results("##xtask begin a\ntest result: ok. 0 passed; 0 failed\n##xtask end 0\n");
        assert_eq!(results.problems, ["here: no test ran at all"]);
    }
}
