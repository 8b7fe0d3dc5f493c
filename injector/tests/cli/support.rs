//! Running the binary and looking at its answer.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_injector");

/// A copy of the binary that every user can run, wherever the original lies.
pub(crate) struct BinaryForAll(tempfile::TempDir);

impl BinaryForAll {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), all).expect("permissions");
        // Not by this process: what another test's thread forks meanwhile would
        // hold the copy open for writing, and it could not be executed.
        let copied = Command::new("cp")
            .arg(BINARY)
            .arg(directory.path())
            .status();
        assert!(copied.expect("cp runs").success());
        Self(directory)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("injector")
    }
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Answer {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the command runs");
    Answer {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs the binary to its end.
pub(crate) fn injector(arguments: &[&str]) -> Answer {
    run(Command::new(BINARY).args(arguments))
}

/// Asserts that the binary refuses the arguments with this exit code and says
/// each of the words.
#[track_caller]
pub(crate) fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    check(&injector(arguments), &arguments.join(" "), code, words);
}

/// Asserts that an answer is a refusal.
#[track_caller]
pub(crate) fn check(answer: &Answer, what: &str, code: i32, words: &[&str]) {
    let Answer { stdout, stderr, .. } = answer;
    assert_eq!(answer.code, Some(code), "{what}: {stderr}");
    assert!(stderr.starts_with("error: "), "{what}: {stderr}");
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    assert_eq!(stdout, "", "{what}");
    for word in words {
        assert!(
            stderr.contains(word),
            "{what}: `{word}` is not in: {stderr}"
        );
    }
}

/// A file with this content, gone when dropped.
pub(crate) fn spec_file(content: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(content).expect("written");
    file
}

/// Where cgroup v2 is mounted.
pub(crate) fn cgroup2_mount() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc");
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, found) = (fields.next()?, fields.next()?);
        (found == "cgroup2").then(|| point.to_owned())
    })
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .expect("/proc")
        .lines()
        .any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"]))
}

/// Says that the running test does not run, past the capturing of what a
/// passing test prints.
pub(crate) fn report_skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test");
    // The test runner's own line is unfinished at this point.
    let line = format!("\nSKIP {test}: {reason}\n");
    std::io::stdout()
        .write_all(line.as_bytes())
        .expect("a skip is reported");
}

/// Returns from the test, saying so, unless this process is root.
macro_rules! skip_unless_root {
    () => {
        if !$crate::support::is_root() {
            $crate::support::report_skip("needs root");
            return;
        }
    };
}
pub(crate) use skip_unless_root;
