//! Tables for a terminal.

use comfy_table::{ContentArrangement, Table, presets};

/// Width of a table that goes to no terminal.
const DEFAULT_WIDTH: u16 = 120;

/// Lays out rows under a header, without borders; cells wrap in a terminal too
/// narrow for them. Ends in a newline.
pub fn render(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    let width = console::Term::stdout()
        .size_checked()
        .map_or(DEFAULT_WIDTH, |(_, width)| width);
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(header.iter().copied())
        .add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["long".to_owned(), "2".to_owned()],
        ];
        assert_eq!(render(&["NAME", "N"], rows), "NAME  N\na     1\nlong  2\n");
    }
}
