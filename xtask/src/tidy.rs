//! The repository's conventions as checks.
//!
//! Each rule is a function from a file's text to findings, so that its tests need no files.

mod rules;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// Files that a reader expects.
const EXPECTED: &[&str] = &["README.md", "CHANGELOG.md", "ARCHITECTURE.md"];

/// Folders that hold nothing written by hand.
const GENERATED: &[&str] = &["target", ".tools", ".git"];

/// Something that breaks a convention.
pub(crate) struct Finding {
    file: String,
    line: usize,
    advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.advice)
    }
}

/// Checks the repository and prints what it finds.
pub(crate) fn check() -> Result<()> {
    let root = paths::root();
    let mut findings = Vec::new();
    for name in EXPECTED {
        if !root.join(name).exists() {
            findings.push(Finding {
                file: (*name).to_owned(),
                line: 1,
                advice: "is missing: write it".to_owned(),
            });
        }
    }
    for path in files(&root)? {
        let Ok(name) = path.strip_prefix(&root) else {
            continue;
        };
        let name = name.to_string_lossy();
        let is_rust = name.ends_with(".rs");
        if !is_rust && name != "ARCHITECTURE.md" {
            continue;
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if is_rust {
            findings.extend(rules::rust_file(&name, &text));
        } else {
            findings.extend(rules::paths_exist(&name, &text, |path| {
                root.join(path).exists()
            }));
        }
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => bail!("{count} places break the repository's conventions (listed above)"),
    }
}

/// All files below a folder, sorted, without what is generated.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read the folder {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            let kind = entry.file_type().context("cannot read a file's type")?;
            let generated = GENERATED.iter().any(|name| entry.file_name() == *name);
            if kind.is_dir() && !generated {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}
