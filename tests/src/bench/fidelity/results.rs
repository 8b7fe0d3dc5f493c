//! What was measured, for people and for programs.

use serde::{Deserialize, Serialize};

use crate::bench::sheet::Sheet;

/// Everything that one run found out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Results {
    /// The kernel and the kind of machine.
    pub(super) machine: String,
    /// One part per table.
    pub(super) parts: Vec<Part>,
}

/// What one table shows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    /// Its name on the command line.
    pub(super) name: String,
    /// What the table is about.
    pub(super) title: String,
    /// What the records' curves are of, or the figure to plot; empty for no plot.
    pub(super) plot: String,
    /// Its lines.
    pub(super) records: Vec<Record>,
    /// What the injector's lines had to meet.
    pub(super) bars: Vec<Bar>,
}

/// One measurement.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The row of the suite that it belongs to.
    pub(super) row: String,
    /// Which way the packets went, seen from the victim.
    pub(super) way: String,
    /// Who made the fault: `injector`, or a queueing discipline's name.
    pub(super) maker: String,
    /// The fault in the maker's words.
    pub(super) fault: String,
    /// What came out.
    pub(super) measured: Measured,
}

/// What one measurement found out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    /// In the order of the table's columns.
    pub(super) figures: Vec<Figure>,
    /// The 0th to 100th percentile of whatever is plotted, if anything is.
    pub(super) curve: Vec<f64>,
}

/// One number with its name.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figure {
    /// The column that it stands in.
    pub(super) name: String,
    /// The number; `None` when there was not enough to tell.
    pub(super) value: Option<f64>,
    /// Digits behind the point that mean something.
    pub(super) digits: usize,
}

/// Something that must hold.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bar {
    /// What was measured and what is allowed.
    pub(super) text: String,
    /// Whether it holds.
    pub(super) met: bool,
}

/// The name of records that the injector made.
pub(super) const INJECTOR: &str = "injector";

impl Part {
    /// The table and what became of the bars, in Markdown. Of those that are met
    /// only the number is told.
    pub(super) fn render(&self) -> String {
        let mut text = self.table();
        let missed: Vec<&Bar> = self.bars.iter().filter(|bar| !bar.met).collect();
        let met = self.bars.len() - missed.len();
        text.push_str(&format!("{met} of {} bars are met.\n", self.bars.len()));
        for bar in missed {
            text.push_str(&format!("- {}: **missed**\n", bar.text));
        }
        let alone = self.without_injector();
        if !alone.is_empty() {
            let alone = alone.join("; ");
            text.push_str(&format!("\nThe injector does not do this yet: {alone}.\n"));
        }
        text
    }

    fn table(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for figure in self
            .records
            .iter()
            .flat_map(|record| &record.measured.figures)
        {
            if !names.contains(&figure.name.as_str()) {
                names.push(&figure.name);
            }
        }
        let mut sheet = Sheet::new(&[&[self.title.as_str(), "by"], &names[..]].concat());
        for record in &self.records {
            let figures = &record.measured.figures;
            let cell = |name: &&str| {
                let figure = figures.iter().find(|figure| figure.name == *name);
                figure.map_or_else(|| "–".to_owned(), Figure::show)
            };
            let mut cells = vec![
                format!("{}, {}", record.row, record.way),
                record.maker.clone(),
            ];
            cells.extend(names.iter().map(cell));
            sheet.row(cells);
        }
        sheet.render()
    }

    /// Whether every bar is met.
    pub(super) fn good(&self) -> bool {
        self.bars.iter().all(|bar| bar.met)
    }

    /// Rows that the injector has no part in yet.
    fn without_injector(&self) -> Vec<&str> {
        let mut rows: Vec<&str> = Vec::new();
        for record in &self.records {
            let ours = |other: &&Record| other.row == record.row && other.maker == INJECTOR;
            let asked = !record.fault.is_empty();
            if asked && !self.records.iter().any(|other| ours(&other)) {
                rows.push(&record.row);
            }
        }
        // Its directions follow each other.
        rows.dedup();
        rows
    }
}

impl Figure {
    fn show(&self) -> String {
        let digits = self.digits;
        match self.value {
            Some(value) => format!("{value:.digits$}"),
            None => "–".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(row: &str, maker: &str, value: Option<f64>) -> Record {
        Record {
            row: row.to_owned(),
            way: "egress".to_owned(),
            maker: maker.to_owned(),
            fault: "some".to_owned(),
            measured: Measured {
                figures: vec![Figure {
                    name: "µs".to_owned(),
                    value,
                    digits: 1,
                }],
                curve: Vec::new(),
            },
        }
    }

    #[test]
    fn a_part_tells_what_was_missed_and_what_is_missing() {
        let bar = |text: &str, met| Bar {
            text: text.to_owned(),
            met,
        };
        let part = Part {
            name: "x".to_owned(),
            title: "y".to_owned(),
            plot: String::new(),
            records: vec![
                record("one", "netem", Some(1.26)),
                record("one", INJECTOR, None),
                record("two", "netem", Some(3.0)),
            ],
            bars: vec![bar("good", true), bar("bad", false)],
        };
        assert_eq!(
            part.render(),
            "| y | by | µs |\n|---|---:|---:|\n| one, egress | netem | 1.3 |\n\
             | one, egress | injector | – |\n| two, egress | netem | 3.0 |\n\n\
             1 of 2 bars are met.\n- bad: **missed**\n\n\
             The injector does not do this yet: two.\n"
        );
        assert!(!part.good());
    }
}
