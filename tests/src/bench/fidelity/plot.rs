//! The plots in the documents, as SVG.

use std::{fs, path::Path};

use anyhow::Context as _;
use plotters::{
    coord::{CoordTranslate, Shift},
    prelude::{
        ChartBuilder, ChartContext, Circle, DrawingArea, IntoDrawingArea as _, IntoLogRange as _,
        LineSeries, PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
    },
    style::Color as _,
};

use super::{
    results::{INJECTOR, Part, Record, Results},
    tcp::RATE,
};

/// Size of one panel.
const PANEL: (u32, u32) = (420, 260);

const OURS: RGBColor = RGBColor(200, 60, 30);
const THEIRS: RGBColor = RGBColor(40, 90, 160);
/// Where there is no fault.
const NOBODYS: RGBColor = RGBColor(130, 130, 130);

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws whatever there is something to draw of into a folder.
pub(super) fn draw_all(folder: &Path, results: &Results) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for part in &results.parts {
        for way in ["egress", "ingress"] {
            let path = folder.join(format!("{}-{way}.svg", part.name));
            let drawn = match part.plot.as_str() {
                "" => Ok(()),
                RATE => throughput(&path, part, way),
                what => distributions(&path, part, way, what),
            };
            drawn.with_context(|| format!("cannot draw {}", path.display()))?;
        }
    }
    Ok(())
}

/// One panel for each row, with the distribution of something under each maker.
fn distributions(path: &Path, part: &Part, way: &str, what: &str) -> anyhow::Result<()> {
    let shown = |record: &&Record| record.way == way && !record.measured.curve.is_empty();
    let records: Vec<&Record> = part.records.iter().filter(shown).collect();
    let panels: Vec<&[&Record]> = records.chunk_by(|a, b| a.row == b.row).collect();
    let columns = panels.len().min(2);
    let rows = panels.len().div_ceil(2);
    if panels.is_empty() {
        return Ok(());
    }
    let size = (
        PANEL.0 * u32::try_from(columns)?,
        PANEL.1 * u32::try_from(rows)?,
    );
    let canvas = SVGBackend::new(path, size).into_drawing_area();
    canvas.fill(&WHITE)?;
    for (area, panel) in canvas.split_evenly((rows, columns)).iter().zip(panels) {
        distribution(area, panel, what)?;
    }
    canvas.present()?;
    Ok(())
}

fn distribution(area: &Canvas<'_>, panel: &[&Record], what: &str) -> anyhow::Result<()> {
    let curves = panel.iter().flat_map(|record| &record.measured.curve);
    let low = curves.clone().copied().fold(f64::INFINITY, f64::min);
    let high = curves.copied().fold(f64::NEG_INFINITY, f64::max);
    // A curve that is one value throughout still needs room around it.
    let margin = ((high - low) * 0.05).max(0.5);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel[0].row, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(low - margin..high + margin, 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_labels(6)
        .y_labels(5)
        .light_line_style(WHITE)
        .x_desc(what)
        .y_desc("% of the packets")
        .draw()?;
    for record in panel {
        let color = color(record);
        let points = (0..=100).map(f64::from);
        let points = record.measured.curve.iter().copied().zip(points);
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(record.maker.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2)));
    }
    // A distribution rises to the right: nothing of it is below its own end.
    legend(&mut chart, SeriesLabelPosition::LowerRight)
}

/// The throughput of each row, beside each other.
fn throughput(path: &Path, part: &Part, way: &str) -> anyhow::Result<()> {
    let records: Vec<&Record> = part
        .records
        .iter()
        .filter(|record| record.way == way)
        .collect();
    let panels: Vec<&[&Record]> = records.chunk_by(|a, b| a.row == b.row).collect();
    let Some(last) = panels.len().checked_sub(1) else {
        return Ok(());
    };
    let canvas = SVGBackend::new(path, (PANEL.0 * 2, PANEL.1 * 3 / 2)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let rates: Vec<f64> = records
        .iter()
        .map(|record| record.measured.get(RATE))
        .collect();
    let [low, high] = [
        rates.iter().copied().fold(f64::INFINITY, f64::min) / 2.0,
        rates.iter().copied().fold(0.0, f64::max) * 2.0,
    ];
    let last = u32::try_from(last)?;
    let mut chart = ChartBuilder::on(&canvas)
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(-0.5..f64::from(last) + 0.5, (low..high).log_scale())?;
    let name = |place: &f64| {
        let whole = (place.round() - place).abs() < 0.01 && *place > -0.01;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the place of a row"
        )]
        let panel = panels.get(place.round() as usize);
        panel
            .filter(|_| whole)
            .map_or_else(String::new, |panel| panel[0].row.clone())
    };
    chart
        .configure_mesh()
        .x_labels(panels.len())
        .x_label_formatter(&name)
        .light_line_style(WHITE)
        .disable_x_mesh()
        .y_desc(RATE)
        .draw()?;
    for (label, color, aside) in [("reference", THEIRS, -0.08), (INJECTOR, OURS, 0.08)] {
        let points = panels.iter().zip(0_u32..).filter_map(|(panel, place)| {
            let ours = label == INJECTOR;
            let record = panel
                .iter()
                .find(|record| (record.maker == INJECTOR) == ours)?;
            Some((f64::from(place) + aside, record.measured.get(RATE)))
        });
        let points: Vec<(f64, f64)> = points.collect();
        chart
            .draw_series(
                points
                    .into_iter()
                    .map(|at| Circle::new(at, 5, color.filled())),
            )?
            .label(label)
            .legend(move |at| Circle::new(at, 5, color.filled()));
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
    canvas.present()?;
    Ok(())
}

/// Tells which colour is whose.
fn legend<'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, C>,
    position: SeriesLabelPosition,
) -> anyhow::Result<()> {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

/// The colour of a record's curve.
fn color(record: &Record) -> RGBColor {
    match record.maker.as_str() {
        INJECTOR => OURS,
        _ if record.fault.is_empty() => NOBODYS,
        _ => THEIRS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::fidelity::results::{Figure, Measured};

    fn record(row: &str, maker: &str, offset: f64) -> Record {
        Record {
            row: row.to_owned(),
            way: "egress".to_owned(),
            maker: maker.to_owned(),
            fault: "some".to_owned(),
            measured: Measured {
                figures: vec![Figure::new(RATE, offset + 1.0, 0)],
                curve: (0..=100)
                    .map(|percent| f64::from(percent) + offset)
                    .collect(),
            },
        }
    }

    #[test]
    fn every_row_gets_a_panel_and_every_maker_a_curve() {
        let part = |name: &str, plot: &str| Part {
            name: name.to_owned(),
            title: String::new(),
            plot: plot.to_owned(),
            records: vec![
                record("one", "netem", 0.0),
                record("one", INJECTOR, 5.0),
                record("two", "netem", 7.0),
            ],
            bars: Vec::new(),
        };
        let results = Results {
            machine: String::new(),
            parts: vec![part("curves", "ms"), part("rates", RATE), part("none", "")],
        };
        let folder = tempfile::tempdir().unwrap();
        draw_all(folder.path(), &results).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let curves = read("curves-egress.svg");
        assert!(curves.contains("one") && curves.contains("two"), "{curves}");
        // Two curves and their legends in one panel, one in the other.
        assert_eq!(curves.matches("#C83C1E").count(), 2);
        assert!(read("rates-egress.svg").contains("<circle"));
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["curves-egress.svg", "rates-egress.svg"]);
    }
}
