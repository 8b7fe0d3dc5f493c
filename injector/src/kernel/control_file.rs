//! A control file of a cgroup v2, and what may be written there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// A control file, or the line of one disk in `io.max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ControlFile {
    /// Its path.
    pub(super) path: PathBuf,
    /// The disk, as `MAJOR:MINOR`, for `io.max`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) device: Option<String>,
}

/// What `io.max` means by no line at all (Documentation/admin-guide/cgroup-v2.rst).
const UNLIMITED_DISK: &str = "rbps=max wbps=max riops=max wiops=max";

/// `ENODEV`: the cgroup was removed while its file was open.
const ENODEV: i32 = 19;

/// A page of memory, in bytes.
const PAGE: u64 = 4096;

/// How what was set is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undo {
    /// This is to be written.
    Write(String),
    /// This is to be written; other limits that were set somebody else has changed.
    WriteSome(String),
    /// What was there before is there.
    Nothing,
    /// Somebody else has changed it.
    Leave,
}

impl ControlFile {
    /// The value there now; of one disk, without its numbers.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(super) fn read(&self) -> io::Result<String> {
        let text = fs::read_to_string(&self.path)?;
        Ok(match &self.device {
            None => text.trim().to_owned(),
            Some(device) => of_disk(&text, device).to_owned(),
        })
    }

    /// Writes a value.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub(super) fn write(&self, value: &str) -> io::Result<()> {
        match &self.device {
            None => fs::write(&self.path, value),
            Some(device) => fs::write(&self.path, format!("{device} {value}")),
        }
    }

    /// Whether a value there is the one that was set, as the kernel may have rounded it.
    fn holds(&self, now: &str, set: &str) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str());
        let is_memory = name.is_some_and(|name| name.starts_with("memory."));
        let rounded = |bytes: u64| (bytes / PAGE * PAGE).to_string();
        now == set || is_memory && set.parse().is_ok_and(|bytes| rounded(bytes) == now)
    }

    /// What is to be done where `now` is found, `set` was set, and `before` was there before.
    pub(super) fn undo(&self, now: &str, before: &str, set: &str) -> Undo {
        if self.device.is_some() {
            undo_limits(now, before, set)
        } else if self.holds(now, set) {
            Undo::Write(before.to_owned())
        } else if now == before {
            // As when it was written down and not set yet.
            Undo::Nothing
        } else {
            Undo::Leave
        }
    }

    /// The directory of its cgroup.
    pub(super) fn cgroup(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// A command that writes a value.
    pub(super) fn command(&self, value: &str) -> String {
        let device = self.device.as_ref().map(|device| format!("{device} "));
        let device = device.unwrap_or_default();
        format!("echo '{device}{value}' >{}", self.path.display())
    }
}

/// Whether an error says that the cgroup is gone.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ENODEV)
}

/// The limits of a disk, in the text of `io.max`.
fn of_disk<'a>(text: &'a str, device: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(device)?.strip_prefix(' '))
        .map_or(UNLIMITED_DISK, str::trim)
}

/// The same of a disk, limit by limit: what was not set is not looked at.
fn undo_limits(now: &str, before: &str, set: &str) -> Undo {
    let limit = |text: &str, key: &str| {
        let mut words = text.split_whitespace().filter_map(|w| w.split_once('='));
        let found = words.find(|(other, _)| *other == key);
        found.map(|(_, limit)| limit.to_owned())
    };
    let (mut back, mut is_changed) = (Vec::new(), false);
    for (key, ours) in set.split_whitespace().filter_map(|w| w.split_once('=')) {
        let Some(old) = limit(before, key).filter(|old| old != ours) else {
            continue;
        };
        match limit(now, key) {
            Some(now) if now == ours => back.push(format!("{key}={old}")),
            Some(now) if now == old => {}
            Some(_) | None => is_changed = true,
        }
    }
    match (back.is_empty(), is_changed) {
        (true, false) => Undo::Nothing,
        (true, true) => Undo::Leave,
        (false, false) => Undo::Write(back.join(" ")),
        (false, true) => Undo::WriteSome(back.join(" ")),
    }
}

/// What is to be written so that `wanted` holds, and nothing else changes: limits of a
/// disk that are not named stay.
///
/// # Errors
///
/// Why that would be no fault: what is there is as tight or tighter.
pub(super) fn tightened(before: &str, wanted: &str) -> Result<String, String> {
    let refuse = || format!("it is `{before}` already, which `{wanted}` would not tighten");
    if wanted.contains('=') {
        let mut words = Vec::new();
        for word in before.split_whitespace() {
            let (key, limit) = word.split_once('=').ok_or_else(refuse)?;
            let given = wanted
                .split_whitespace()
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            match given {
                None => words.push(word.to_owned()),
                Some(given) if number(given) < number(limit) => {
                    words.push(format!("{key}={given}"));
                }
                Some(_) => return Err(refuse()),
            }
        }
        return Ok(words.join(" "));
    }
    let tightens = match (pair(before), pair(wanted)) {
        // cpu.max: quota and period.
        (Some((quota, period)), Some((wanted, wanted_period))) => {
            // A quota has at most 54 bits, a period 20.
            u128::from(wanted) * u128::from(period) < u128::from(quota) * u128::from(wanted_period)
        }
        (None, None) => number(wanted) < number(before),
        (Some(_), None) | (None, Some(_)) => false,
    };
    // cgroup.freeze is 0 or 1, and 1 is the fault.
    let freezes = before == "0" && wanted == "1";
    if tightens && before != "1" || freezes {
        Ok(wanted.to_owned())
    } else {
        Err(refuse())
    }
}

/// A limit; `max` is above every other one.
fn number(text: &str) -> u64 {
    text.parse().unwrap_or(u64::MAX)
}

fn pair(text: &str) -> Option<(u64, u64)> {
    let (quota, period) = text.split_once(' ')?;
    Some((number(quota), number(period)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_tighter_is_set() {
        for (before, wanted, set) in [
            ("0", "1", "1"),
            ("max 100000", "50000 100000", "50000 100000"),
            ("50000 100000", "2000 10000", "2000 10000"),
            ("max", "4096", "4096"),
            ("8192", "4096", "4096"),
            ("max", "0", "0"),
            (
                UNLIMITED_DISK,
                "rbps=5",
                "rbps=5 wbps=max riops=max wiops=max",
            ),
            (
                "rbps=9 wbps=max riops=3 wiops=max",
                "rbps=5 wiops=2",
                "rbps=5 wbps=max riops=3 wiops=2",
            ),
        ] {
            assert_eq!(tightened(before, wanted).as_deref(), Ok(set), "{before}");
        }
        for (before, wanted) in [
            ("1", "1"),
            ("50000 100000", "50000 100000"),
            ("5000 10000", "60000 100000"),
            ("4096", "4096"),
            ("4096", "8192"),
            ("rbps=5 wbps=max riops=max wiops=max", "rbps=5"),
            ("rbps=5 wbps=max riops=max wiops=max", "wbps=1 rbps=6"),
        ] {
            assert!(tightened(before, wanted).is_err(), "{before}, {wanted}");
        }
    }

    #[test]
    fn only_what_is_ours_is_undone() {
        let file = |path: &str| ControlFile {
            path: path.into(),
            device: None,
        };
        let (memory, pids) = (file("/cg/memory.max"), file("/cg/pids.max"));
        let back = Undo::Write("max".to_owned());
        for (file, now, set, undo) in [
            (&pids, "5", "5", &back),
            (&pids, "max", "5", &Undo::Nothing),
            (&pids, "6", "5", &Undo::Leave),
            (&pids, "0", "5", &Undo::Leave),
            (&memory, "4096", "4096", &back),
            (&memory, "4096", "5000", &back),
            (&memory, "8192", "5000", &Undo::Leave),
            (&memory, "max", "5000", &Undo::Nothing),
        ] {
            let found = file.undo(now, "max", set);
            assert_eq!(&found, undo, "{now}, {set}");
        }
    }

    #[test]
    fn limits_of_a_disk_are_undone_one_by_one() {
        let file = ControlFile {
            path: "/cg/io.max".into(),
            device: Some("8:0".to_owned()),
        };
        let before = "rbps=9 wbps=max riops=max wiops=1000";
        let set = "rbps=5 wbps=6 riops=max wiops=1000";
        let write = |text: &str| Undo::Write(text.to_owned());
        for (now, undo) in [
            (set, write("rbps=9 wbps=max")),
            ("rbps=5 wbps=6 riops=3 wiops=1", write("rbps=9 wbps=max")),
            ("rbps=9 wbps=6 riops=3 wiops=1", write("wbps=max")),
            (before, Undo::Nothing),
            ("rbps=9 wbps=max riops=3 wiops=1", Undo::Nothing),
            (
                "rbps=7 wbps=6 riops=max wiops=1000",
                Undo::WriteSome("wbps=max".to_owned()),
            ),
            (UNLIMITED_DISK, Undo::Leave),
        ] {
            assert_eq!(file.undo(now, before, set), undo, "{now}");
        }
    }

    #[test]
    fn a_disk_without_a_line_is_unlimited() {
        let text = "8:16 rbps=1 wbps=max riops=max wiops=max\n8:1 rbps=2\n";
        assert_eq!(of_disk(text, "8:1"), "rbps=2");
        assert_eq!(of_disk(text, "8:0"), UNLIMITED_DISK);
        assert_eq!(of_disk("", "8:0"), UNLIMITED_DISK);
    }
}
