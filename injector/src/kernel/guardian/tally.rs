//! What the kernel counts of a control file's effect.

use std::{collections::BTreeMap, fs, path::Path};

use crate::kernel::control_file::ControlFile;

/// Counters by their names.
pub(super) type Counters = BTreeMap<String, u64>;

/// The counters that tell of a control file's effect, now. What the kernel does not have is
/// left out.
pub(super) fn read(file: &ControlFile) -> Counters {
    let name = file.path.file_name().and_then(|name| name.to_str());
    let name = name.unwrap_or_default();
    of_cgroup(file.cgroup(), name, file.device.as_deref())
}

/// The same of the control file of this name in a cgroup.
fn of_cgroup(cgroup: &Path, name: &str, device: Option<&str>) -> Counters {
    let from = |source: &str, keys: &[&str]| {
        let text = fs::read_to_string(cgroup.join(source)).unwrap_or_default();
        lines(&text, keys)
    };
    // What limits further down count is not the rule's.
    let local = |source: &str, keys: &[&str]| {
        let own = from(&format!("{source}.local"), keys);
        if own.is_empty() {
            from(source, keys)
        } else {
            own
        }
    };
    match name {
        "cpu.max" => from(
            "cpu.stat",
            &["nr_periods", "nr_throttled", "throttled_usec"],
        ),
        "memory.max" => {
            let mut counters = local("memory.events", &["max", "oom"]);
            // Counted where the process was.
            counters.extend(from("memory.events", &["oom_kill"]));
            counters
        }
        "memory.high" => local("memory.events", &["high"]),
        "pids.max" => local("pids.events", &["max"]),
        "io.max" => {
            let text = fs::read_to_string(cgroup.join("io.stat")).unwrap_or_default();
            of_disk(&text, device.unwrap_or_default())
        }
        _ => Counters::new(),
    }
}

/// By how much counters have grown.
pub(super) fn growth(before: &Counters, now: &Counters) -> Counters {
    let grown = |(name, value): (&String, &u64)| {
        let old = before.get(name).copied().unwrap_or(0);
        (name.clone(), value.saturating_sub(old))
    };
    now.iter().map(grown).collect()
}

/// What of these is the fault: operations that it could happen to, and that it happened to.
pub(super) fn hits(path: &Path, value: &str, counted: &Counters) -> (u64, u64) {
    let of = |name: &str| counted.get(name).copied().unwrap_or(0);
    match path.file_name().and_then(|name| name.to_str()) {
        Some("cpu.max") => (of("nr_periods"), of("nr_throttled")),
        Some("memory.high") => (of("high"), of("high")),
        Some("memory.max" | "pids.max") => (of("max"), of("max")),
        Some("io.max") => {
            let limits = |way: &str| {
                value
                    .split_whitespace()
                    .any(|word| word.starts_with(way) && !word.ends_with("=max"))
            };
            let reads = if limits("r") { of("rios") } else { 0 };
            let writes = if limits("w") { of("wios") } else { 0 };
            (reads + writes, reads + writes)
        }
        _ => (0, 0),
    }
}

/// Lines of a name and a number.
fn lines(text: &str, keys: &[&str]) -> Counters {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(key, _)| keys.contains(key))
        .filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

/// The line of a disk: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn of_disk(text: &str, device: &str) -> Counters {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(device)?.strip_prefix(' '));
    let words = line.unwrap_or_default().split_whitespace();
    words
        .filter_map(|word| word.split_once('='))
        .filter(|(key, _)| ["rbytes", "wbytes", "rios", "wios"].contains(key))
        .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let text = "usage_usec 5\nnr_periods 20\nnr_throttled 7\nthrottled_usec 900\n";
        let keys = ["nr_periods", "nr_throttled"];
        let now = lines(text, &keys);
        assert_eq!(now["nr_periods"], 20);
        assert_eq!(now.len(), 2);
        let before = [("nr_throttled".to_owned(), 3)].into();
        assert_eq!(growth(&before, &now)["nr_throttled"], 4);
        assert_eq!(hits("/cg/cpu.max".as_ref(), "1000 2000", &now), (20, 7));
    }

    #[test]
    fn limits_further_down_do_not_count() {
        let cgroup = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            fs::write(cgroup.path().join(name), text).expect("a file");
        };
        let of = |name: &str| of_cgroup(cgroup.path(), name, None);
        write("pids.events", "max 9\n");
        assert_eq!(of("pids.max")["max"], 9, "before Linux 6.11");
        write("pids.events.local", "max 4\n");
        assert_eq!(of("pids.max")["max"], 4);
        write("memory.events", "high 8\nmax 7\noom 6\noom_kill 5\n");
        write("memory.events.local", "high 4\nmax 3\noom 2\noom_kill 1\n");
        assert_eq!(of("memory.high")["high"], 4);
        let counters = of("memory.max");
        let counted = ["max", "oom", "oom_kill"].map(|name| counters[name]);
        assert_eq!(counted, [3, 2, 5]);
    }

    #[test]
    fn a_disk_has_a_line() {
        let text = "8:1 rbytes=9\n8:16 rbytes=4096 wbytes=0 rios=1 wios=2 dbytes=0 dios=0\n";
        let counted = of_disk(text, "8:16");
        assert_eq!((counted["rbytes"], counted["wios"]), (4096, 2));
        assert!(of_disk(text, "8:2").is_empty());
        let hits = |value| hits("/cg/io.max".as_ref(), value, &counted);
        assert_eq!(hits("rbps=max wbps=5 riops=max wiops=max"), (2, 2));
        assert_eq!(hits("rbps=1 wbps=5 riops=max wiops=max"), (3, 3));
    }
}
