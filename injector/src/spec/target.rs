//! `cgroup:PATH`, `pid:N` and `command`.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::{model::Target, spec::text::ValueError};

const ALLOWED: &str = "cgroup:PATH (a cgroup v2, as a directory or as /proc/PID/cgroup names it), pid:N (a process id) or command (the one that is started)";

/// The kernel's own limit of `kernel.pid_max` on 64 bits.
const PID_MAX_LIMIT: u32 = 4_194_304;

impl FromStr for Target {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what: &str| ValueError::new(text, what, ALLOWED);
        if let Some(path) = text.strip_prefix("cgroup:") {
            if path.is_empty() {
                return Err(refuse("names no cgroup"));
            }
            if path.contains('\0') {
                return Err(refuse("holds a zero byte"));
            }
            if path.split('/').any(|part| part == "..") {
                return Err(refuse("holds `..`"));
            }
            return Ok(Self::Cgroup(PathBuf::from(path)));
        }
        if let Some(pid) = text.strip_prefix("pid:") {
            // `parse` alone would also take `+5`.
            let digits = pid.bytes().all(|b| b.is_ascii_digit());
            return match pid.parse() {
                Ok(pid @ 1..=PID_MAX_LIMIT) if digits => Ok(Self::Process(pid)),
                Ok(_) | Err(_) => Err(refuse("is not a process id")),
            };
        }
        if text == "command" {
            return Ok(Self::Command);
        }
        Err(refuse("is not a target"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(path) => write!(f, "cgroup:{}", path.display()),
            Self::Process(pid) => write!(f, "pid:{pid}"),
            Self::Command => f.write_str("command"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn targets() {
        assert_eq!("cgroup:/a/b".parse(), Ok(Target::Cgroup("/a/b".into())));
        assert_eq!("cgroup:a,b".parse(), Ok(Target::Cgroup("a,b".into())));
        assert_eq!("cgroup:/a..b".parse(), Ok(Target::Cgroup("/a..b".into())));
        assert_eq!("pid:42".parse(), Ok(Target::Process(42)));
        for bad in [
            "",
            "42",
            "cgroup:",
            "cgroup",
            "pid:",
            "pid:0",
            "pid:-1",
            "pid:+5",
            "pid:x",
            "pid:4194305",
            "pid:99999999999",
            "cgroup:/a/../b",
            "cgroup:..",
            "Pid:5",
            "container:x",
        ] {
            let error = bad.parse::<Target>().expect_err(bad);
            assert!(error.allowed.contains("cgroup:PATH"), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(cgroup:|pid:|)\\PC*") {
            let _ = text.parse::<Target>();
        }

        #[test]
        fn what_is_printed_is_read_back(pid in 1u32..=4_194_304, path in "[a-z/._-]{1,20}") {
            let target = Target::Process(pid);
            prop_assert_eq!(target.to_string().parse(), Ok(target));
            if let Ok(target) = format!("cgroup:{path}").parse::<Target>() {
                prop_assert_eq!(target.to_string().parse(), Ok(target));
            }
        }
    }
}
