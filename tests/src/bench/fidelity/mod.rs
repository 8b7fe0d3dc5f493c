//! Faults beside the same faults of the kernel's own queueing disciplines.
//!
//! Everything is measured in one run on one machine. In a guest whose clock counts
//! instructions, how busy its host is changes nothing.

mod bed;
mod chain;
mod correlated;
mod damage;
mod delay;
mod document;
mod loss;
mod measure;
mod order;
mod plot;
mod rate;
mod results;
mod rows;
mod tcp;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context as _;

use crate::demo::machine;
use bed::{Bed, Maker};
use results::{INJECTOR, Part, Record, Results};
use rows::{Row, TABLES, Table};

/// Options of the comparison.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Measure only these tables
    #[arg(long, value_delimiter = ',', value_parser = table_names())]
    only: Vec<String>,
    /// Of those, measure only rows whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "")]
    row: String,
    /// Write everything that was measured to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Options for bringing documents up to date.
#[derive(Debug, clap::Args)]
pub(super) struct DocumentOptions {
    /// What a run of the comparison wrote
    #[arg(long)]
    json: PathBuf,
    /// The document whose tables are replaced
    #[arg(long)]
    document: PathBuf,
    /// The folder of the plots
    #[arg(long)]
    plots: PathBuf,
}

fn table_names() -> Vec<&'static str> {
    TABLES.iter().map(|table| table.name).collect()
}

/// Runs the comparison; whether every bar is met.
///
/// # Errors
///
/// When the results cannot be written.
pub(super) fn run(options: &Options) -> anyhow::Result<bool> {
    let bed = Bed::new();
    let mut results = Results {
        machine: machine(),
        parts: Vec::new(),
    };
    let mut good = true;
    for table in TABLES {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == table.name) {
            continue;
        }
        let part = measure(&bed, table, &options.row);
        good &= part.good();
        println!("{}", part.render());
        results.parts.push(part);
        if let Some(path) = &options.json {
            write(path, &results)?;
        }
    }
    Ok(good)
}

fn write(path: &Path, results: &Results) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(results)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Replaces a document's tables, and its plots, by what was measured.
///
/// # Errors
///
/// When a file cannot be read or written, or the document lacks a place for a table.
pub(super) fn update_document(options: &DocumentOptions) -> anyhow::Result<()> {
    let path = &options.json;
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let results: Results = serde_json::from_str(&text)
        .with_context(|| format!("{} holds no results", path.display()))?;
    document::update(&options.document, &results)?;
    plot::draw_all(&options.plots, &results)
}

/// Measures rows of a table under either maker.
fn measure(bed: &Bed, table: &Table, only: &str) -> Part {
    let mut part = Part {
        name: table.name.to_owned(),
        title: table.title.to_owned(),
        plot: table.plot.to_owned(),
        records: Vec::new(),
        bars: Vec::new(),
    };
    let _others = table.shared.then(|| bed.other());
    for row in table.rows.iter().filter(|row| row.name.contains(only)) {
        let makers = Bed::makers(row);
        for &way in row.ways {
            let first = part.records.len();
            for &maker in &makers {
                let start = Instant::now();
                let measured = bed.under(maker, row, way, || row.measure.take(bed, way));
                let record = Record {
                    row: row.name.to_owned(),
                    way: way.word().to_owned(),
                    maker: name(row, maker).to_owned(),
                    fault: fault(row, maker).to_owned(),
                    measured,
                };
                eprintln!(
                    "{}: {}, {}, {}: {:.1} s of the guest's",
                    table.name,
                    record.row,
                    record.way,
                    record.maker,
                    start.elapsed().as_secs_f64()
                );
                part.records.push(record);
            }
            if let [reference, ours] = &part.records[first..] {
                let bars = row.measure.judge(&reference.measured, &ours.measured);
                part.bars.extend(bars.into_iter().map(|mut bar| {
                    bar.text = format!("{}, {}: {}", row.name, way.word(), bar.text);
                    bar
                }));
            }
        }
    }
    part
}

/// What a maker is called: a discipline by its name, nobody by a dash.
fn name(row: &Row, maker: Maker) -> &'static str {
    match maker {
        Maker::Injector => INJECTOR,
        Maker::Reference => row.tc.split_whitespace().next().unwrap_or("–"),
    }
}

/// A row's fault in the words of a maker.
const fn fault(row: &Row, maker: Maker) -> &'static str {
    match maker {
        Maker::Injector => row.injector,
        Maker::Reference => row.tc,
    }
}
