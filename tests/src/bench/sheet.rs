//! Tables in Markdown, and bars to hold against them.

/// A table on its way to the reader.
#[derive(Debug)]
pub(super) struct Sheet {
    rows: Vec<Vec<String>>,
    bars: Vec<(String, bool)>,
}

impl Sheet {
    /// An empty table.
    pub(super) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|&cell| cell.into()).collect()],
            bars: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Adds a bar and whether it is met.
    pub(super) fn bar(&mut self, text: String, met: bool) {
        self.bars.push((text, met));
    }

    /// Prints table and bars; whether all are met.
    pub(super) fn print(&self) -> bool {
        println!("{}", self.render());
        self.bars.iter().all(|&(_, met)| met)
    }

    /// Table and bars in Markdown.
    pub(super) fn render(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            text.push_str(&format!("| {} |\n", row.join(" | ")));
            if index == 0 {
                text.push_str(&format!("|---|{}\n", "---:|".repeat(columns - 1)));
            }
        }
        text.push('\n');
        for (bar, met) in &self.bars {
            let verdict = if *met { "met" } else { "**missed**" };
            text.push_str(&format!("- {bar}: {verdict}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_is_markdown() {
        let mut sheet = Sheet::new(&["", "ns"]);
        sheet.row(vec!["x".into(), "7".into()]);
        sheet.bar("x ≤ 5".into(), false);
        assert_eq!(
            sheet.render(),
            "|  | ns |\n|---|---:|\n| x | 7 |\n\n- x ≤ 5: **missed**\n"
        );
    }
}
