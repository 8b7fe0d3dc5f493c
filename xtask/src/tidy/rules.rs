//! The rules themselves.

use super::Finding;

/// A longer file does more than one thing.
const MAX_LINES: usize = 600;

/// Code below these folders decides and computes; reading files, clocks or chance would make
/// its results depend on more than its arguments.
const PURE: &[&str] = &["injector/src/plan", "injector-common/src"];
const IMPURE: &[&str] = &["std::fs", "Instant::now", "SystemTime", "rand"];

/// All rules for one Rust file.
pub(super) fn rust_file(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        let advice = format!("has {lines} lines, {MAX_LINES} are allowed: split it by topic");
        findings.push(finding(name, MAX_LINES + 1, advice));
    }
    let only_kernel_may =
        name.starts_with("injector/src/") && !name.starts_with("injector/src/kernel");
    let is_pure = PURE.iter().any(|folder| name.starts_with(folder));
    for (number, line) in code_lines(text) {
        if only_kernel_may && has_word(line, "aya") {
            let advice = "uses aya: move what needs it into injector/src/kernel/, behind a trait";
            findings.push(finding(name, number, advice.to_owned()));
        }
        let impure = IMPURE.iter().filter(|word| is_pure && has_word(line, word));
        findings.extend(impure.map(|word| {
            let advice = format!("uses {word}, but this code is pure: pass the value in");
            finding(name, number, advice)
        }));
    }
    findings
}

/// Each path in backticks that looks like one of the repository must exist.
pub(super) fn paths_exist(name: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        // Between an odd and an even backtick.
        for word in line.split('`').skip(1).step_by(2) {
            if looks_like_path(word, &exists) && !exists(word.trim_end_matches('/')) {
                let advice = format!("`{word}` does not exist: name the path from the root");
                findings.push(finding(name, index + 1, advice));
            }
        }
    }
    findings
}

fn looks_like_path(word: &str, exists: impl Fn(&str) -> bool) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    if !word.chars().all(plain) || word.starts_with(['/', '-']) {
        return false;
    }
    let generated = word.starts_with("target/") || word.starts_with(".tools");
    let Some((first, _)) = word.split_once('/').filter(|_| !generated) else {
        return false;
    };
    exists(first)
        || [".rs", ".md", ".toml"]
            .iter()
            .any(|end| word.ends_with(end))
}

/// The lines that are not comments, with their numbers.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Whether the word occurs and is not just a part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let continues = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(continues) && !line[at + word.len()..].starts_with(continues)
    })
}

fn finding(file: &str, line: usize, advice: String) -> Finding {
    Finding {
        file: file.to_owned(),
        line,
        advice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(findings: Vec<Finding>) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn aya_stays_in_its_module() {
        assert!(rust_file("injector/src/kernel/load.rs", "use aya::Ebpf;").is_empty());
        assert!(
            rust_file(
                "injector/src/main.rs",
                "// aya is elsewhere\nlet layaway = 1;"
            )
            .is_empty()
        );
        let found = shown(rust_file("injector/src/main.rs", "\nuse aya::Ebpf;"));
        assert!(
            found[0].starts_with("injector/src/main.rs:2: uses aya"),
            "{found:?}"
        );
    }

    #[test]
    fn pure_code_reads_no_clock() {
        let text = "let now = Instant::now();";
        assert_eq!(rust_file("injector/src/plan/build.rs", text).len(), 1);
        assert_eq!(
            rust_file("injector-common/src/lib.rs", "use rand::Rng;").len(),
            1
        );
        assert!(rust_file("injector-common/src/lib.rs", "let operand = prandom();").is_empty());
        assert!(rust_file("injector/src/clock.rs", text).is_empty());
    }

    #[test]
    fn long_files_are_found() {
        assert!(rust_file("a.rs", &"x\n".repeat(MAX_LINES)).is_empty());
        assert_eq!(rust_file("a.rs", &"x\n".repeat(MAX_LINES + 1)).len(), 1);
    }

    #[test]
    fn named_paths_exist() {
        let exists = |path: &str| ["docs", "docs/a.md", "xtask", "xtask/src"].contains(&path);
        let text = "`docs/a.md` `xtask/src/` `/sys/fs/bpf` `tcp/ip` `target/bpf` `plan -> apply`";
        assert!(paths_exist("A.md", text, exists).is_empty());
        let found = shown(paths_exist(
            "A.md",
            "ok\nsee `docs/b.md` and `kernel/load.rs`",
            exists,
        ));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("A.md:2: `docs/b.md` does not exist"),
            "{found:?}"
        );
    }
}
