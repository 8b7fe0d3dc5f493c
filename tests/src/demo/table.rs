//! What both clients saw, for people.

use std::time::Duration;

use super::{
    client::{Seen, quantile},
    verdict::Story,
};

const HEADER: [&str; 7] = [
    "",
    "requests/s",
    "failed",
    "median",
    "p99",
    "retransmits",
    "reads with EIO",
];

/// Lays the table out: a row for each phase of each client.
pub(super) fn render(victim: &Story, bystander: &Story) -> String {
    let mut rows = vec![HEADER.map(String::from)];
    for (party, story) in [("victim", victim), ("bystander", bystander)] {
        for (phase, seen) in story.phases() {
            rows.push(row(&format!("{party} {phase}"), seen));
        }
    }
    align(&rows)
}

fn row(name: &str, seen: &Seen) -> [String; 7] {
    let answered = seen.answers_us.len() as u64;
    let rate = (answered * 1000).checked_div(seen.millis).unwrap_or(0);
    let time = |permille| quantile(&seen.answers_us, permille).map_or("-".into(), millis);
    [
        name.into(),
        rate.to_string(),
        format!("{} of {}", seen.failures, seen.failures + answered),
        time(500),
        time(990),
        seen.retransmits.to_string(),
        format!("{} of {}", seen.eio, seen.reads),
    ]
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Pads every cell to the width of its column; numbers end under each other.
fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_under_each_other() {
        let rows = [["", "b"], ["long", "12"]].map(|row| row.map(String::from));
        assert_eq!(align(&rows), "       b\nlong  12\n");
    }

    #[test]
    fn a_row_says_what_was_seen() {
        let seen = Seen {
            millis: 2000,
            answers_us: vec![1000, 1500, 90_000],
            failures: 1,
            retransmits: 2,
            reads: 10,
            eio: 3,
            other_errors: 0,
        };
        assert_eq!(
            row("x", &seen),
            ["x", "1", "1 of 4", "1.5 ms", "90.0 ms", "2", "3 of 10"]
        );
    }
}
