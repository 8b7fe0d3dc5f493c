//! The tables in the documents.

use std::{fs, path::Path};

use anyhow::Context as _;

use super::results::Results;

/// Replaces a document's tables by those of these results. Tables that were not
/// measured stay as they are.
pub(super) fn update(path: &Path, results: &Results) -> anyhow::Result<()> {
    let shown = path.display();
    let mut text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    for part in &results.parts {
        let section = format!("{}\n({})\n", part.render(), results.machine);
        text = replaced(&text, &part.name, &section)
            .with_context(|| format!("{shown} has no place for the table `{}`", part.name))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {shown}"))
}

/// The text with something else between the two marks of this name.
fn replaced(text: &str, name: &str, section: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- fidelity:{name} -->\n"),
        format!("<!-- /fidelity:{name} -->"),
    );
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{section}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = "a\n<!-- fidelity:x -->\nold\n<!-- /fidelity:x -->\nb\n";
        let new = "a\n<!-- fidelity:x -->\nnew\n<!-- /fidelity:x -->\nb\n";
        assert_eq!(replaced(text, "x", "new\n").as_deref(), Some(new));
        assert_eq!(replaced(text, "y", "new\n"), None);
        assert_eq!(replaced("<!-- fidelity:x -->\n", "x", ""), None);
    }
}
