//! What can go wrong, one type per boundary, and the exit code of each.
//!
//! The text of an error holds its causes: whoever prints one prints nothing else.

use std::{borrow::Cow, fmt, path::PathBuf};

/// Where in a spec file something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: PathBuf,
    /// Line and column, from 1, where known.
    pub line_column: Option<(u64, u64)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.line_column {
            write!(f, ":{line}:{column}")?;
        }
        Ok(())
    }
}

/// An input that cannot stand: which field, what is wrong, what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{field}: {problem}; allowed: {allowed}", display_place(.place))]
pub struct SpecError {
    /// Where in the spec file, if the input came from one.
    pub place: Option<Place>,
    /// The option or field, such as `--percent` or `rules[1].percent`.
    pub field: Cow<'static, str>,
    /// What is wrong with it.
    pub problem: Cow<'static, str>,
    /// What would have been right.
    pub allowed: Cow<'static, str>,
}

fn display_place(place: &Option<impl fmt::Display>) -> String {
    place
        .as_ref()
        .map(|place| format!("{place}: "))
        .unwrap_or_default()
}

impl SpecError {
    /// An error about a field, without a place.
    pub fn new(
        field: impl Into<Cow<'static, str>>,
        problem: impl Into<Cow<'static, str>>,
        allowed: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            place: None,
            field: field.into(),
            problem: problem.into(),
            allowed: allowed.into(),
        }
    }

    /// The same error about a field below `parent`, as in `rules[1].percent`.
    #[must_use]
    pub fn below(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field).into();
        self
    }

    /// The same error at a place in a file.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }
}

/// Two rules that cannot both be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}rules: `{first}` and `{second}` contradict each other: {reason}; allowed: {allowed}", display_place(.place))]
pub struct ConflictError {
    /// The spec file, if the rules came from one.
    pub place: Option<Box<Place>>,
    /// Name of the rule that comes first.
    pub first: String,
    /// Name of the other.
    pub second: String,
    /// Which one the other is, from 0, and of how many.
    pub number: (usize, usize),
    /// Why they cannot both be meant.
    pub reason: Cow<'static, str>,
    /// How to resolve it.
    pub allowed: &'static str,
}

/// Something that this host or kernel cannot do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: not supported here: needs {needs}; found {found}")]
pub struct Unsupported {
    /// What was asked for.
    pub what: Cow<'static, str>,
    /// What it needs.
    pub needs: Cow<'static, str>,
    /// What is there instead.
    pub found: Cow<'static, str>,
}

/// What a process needs to be, for all that the injector does.
pub const NEEDED_CAPABILITIES: &str = "run as root in the host's user namespace, with at least CAP_SYS_ADMIN (it includes CAP_BPF and CAP_PERFMON), CAP_NET_ADMIN and CAP_SYS_PTRACE";

/// A permission that this process lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("permission: missing {}; allowed: {NEEDED_CAPABILITIES}", .capabilities.join(", "))]
pub struct PermissionError {
    /// The missing capabilities, by name.
    pub capabilities: Vec<&'static str>,
}

/// A step of applying a plan that the kernel refused. Everything before it has
/// been reverted.
#[derive(Debug, thiserror::Error)]
#[error("{effect}: {}{}", describe(.source.as_ref()), display_detail(.detail))]
pub struct ApplyError {
    /// The effect that failed, as `plan` prints it.
    pub effect: String,
    /// What the kernel or the library under it said.
    pub source: Box<dyn std::error::Error + Send + Sync>,
    /// The telling last lines of the verifier's log, if it was the verifier.
    pub detail: Vec<String>,
}

fn display_detail(detail: &[String]) -> String {
    detail.iter().map(|line| format!("\n  {line}")).collect()
}

/// Something of ours that is still there.
#[derive(Debug, thiserror::Error)]
#[error("{what} remains: {}; to remove it: {remedy}", describe(.source.as_ref()))]
pub struct CleanupError {
    /// What remains, such as `qdisc clsact on eth0`.
    pub what: String,
    /// Why it could not be removed.
    pub source: Box<dyn std::error::Error + Send + Sync>,
    /// A command that removes it.
    pub remedy: String,
}

/// Everything of ours that is still there.
#[derive(Debug, thiserror::Error)]
#[error("clean-up incomplete:{}", display_remaining(.0))]
pub struct CleanupErrors(pub Vec<CleanupError>);

fn display_remaining(errors: &[CleanupError]) -> String {
    errors.iter().map(|error| format!("\n  {error}")).collect()
}

/// A file or a kernel interface that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", .path.display(), describe(.source))]
pub struct HostError {
    /// What was read.
    pub path: PathBuf,
    /// Why it failed.
    pub source: std::io::Error,
}

/// Any error of the library.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bad usage, a bad spec file or a target that is not there.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Rules that contradict each other.
    #[error(transparent)]
    Conflict(#[from] ConflictError),
    /// This host cannot do it.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// This process may not do it.
    #[error(transparent)]
    Permission(#[from] PermissionError),
    /// A fact about the host could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The kernel refused a step.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Something of ours is still there.
    #[error(transparent)]
    Cleanup(#[from] CleanupErrors),
}

impl Error {
    /// Changes what is said about an input; other errors stay as they are.
    #[must_use]
    pub fn map_spec(self, change: impl FnOnce(SpecError) -> SpecError) -> Self {
        if let Self::Spec(error) = self {
            Self::Spec(change(error))
        } else {
            self
        }
    }
}

/// An error of somebody else's with its causes, each said once.
#[must_use]
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Exit code: done, and nothing of ours is left.
pub const EXIT_DONE: u8 = 0;
/// Exit code: bad usage or spec; nothing was changed.
pub const EXIT_USAGE: u8 = 2;
/// Exit code: unsupported here or no permission; nothing is left changed.
pub const EXIT_UNSUPPORTED: u8 = 3;
/// Exit code: something of ours is still there; the message says what.
pub const EXIT_CLEANUP: u8 = 4;

/// The exit code of an error: the one place that decides it.
#[must_use]
pub const fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Spec(_) | Error::Conflict(_) => EXIT_USAGE,
        Error::Unsupported(_) | Error::Permission(_) | Error::Host(_) | Error::Apply(_) => {
            EXIT_UNSUPPORTED
        }
        Error::Cleanup(_) => EXIT_CLEANUP,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let host = HostError {
            path: "/proc/7/fd".into(),
            source: io::Error::from_raw_os_error(1),
        };
        assert_eq!(
            Error::from(host).to_string(),
            "/proc/7/fd: Operation not permitted (os error 1)"
        );
    }

    #[test]
    fn every_cause_is_said() {
        #[derive(Debug, thiserror::Error)]
        #[error("`bpf_link_create` failed")]
        struct Call(#[source] io::Error);

        let error = ApplyError {
            effect: "attach".to_owned(),
            source: Call(io::Error::from_raw_os_error(16)).into(),
            detail: vec!["last line of a log".to_owned()],
        };
        assert_eq!(
            Error::from(error).to_string(),
            "attach: `bpf_link_create` failed: Device or resource busy (os error 16)\n  \
             last line of a log"
        );
    }
}
