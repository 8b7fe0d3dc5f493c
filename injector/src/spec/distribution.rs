//! Distributions of delays: built in, or from a table file of iproute2.

use std::{fs, path::Path, str::FromStr, sync::Arc};

use injector_common::faults::net_delay::{TABLE_SCALE, TABLE_SIZE, Table};
use statrs::distribution::{ContinuousCDF as _, Normal};

use crate::{
    error::SpecError,
    model::{DelayTable, Distribution},
    spec::text::ValueError,
};

/// Largest table file that is read; iproute2's own have 60 kB.
const MAX_BYTES: u64 = 1 << 20;

const ALLOWED: &str = "uniform, normal, pareto, paretonormal, or file:PATH with a table of \
     iproute2 (such as file:/usr/lib/tc/experimental.dist)";

/// A distribution as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Even.
    Uniform,
    /// The normal distribution; the jitter is its standard deviation.
    Normal,
    /// A Pareto distribution with shape 3, shifted to a mean of 0.
    Pareto,
    /// A quarter normal, three quarters Pareto.
    ParetoNormal,
    /// A table file.
    File(String),
}

impl FromStr for Written {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "uniform" => Ok(Self::Uniform),
            "normal" => Ok(Self::Normal),
            "pareto" => Ok(Self::Pareto),
            "paretonormal" => Ok(Self::ParetoNormal),
            _ => match text.strip_prefix("file:") {
                Some(path) if !path.is_empty() => Ok(Self::File(path.to_owned())),
                _ => Err(ValueError::new(text, "is not a distribution", ALLOWED)),
            },
        }
    }
}

impl Written {
    /// Its values; reads the file, if it is one.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or holds no table.
    pub fn load(&self) -> Result<Distribution, SpecError> {
        let normal = Normal::standard();
        let normal = |u: f64| normal.inverse_cdf(u);
        let (name, values) = match self {
            Self::Uniform => return Ok(Distribution::Uniform),
            Self::Normal => ("normal", tabulate(normal)),
            Self::Pareto => ("pareto", tabulate(pareto)),
            Self::ParetoNormal => (
                "paretonormal",
                tabulate(|u| 0.25 * normal(u) + 0.75 * pareto(u)),
            ),
            Self::File(path) => (path.as_str(), read(Path::new(path))?),
        };
        Ok(Distribution::Table(Arc::new(DelayTable {
            name: name.to_owned(),
            values,
        })))
    }
}

/// The Pareto distribution with shape 3, scaled as iproute2 scales it: its mean
/// of 1.5 becomes 0.
fn pareto(u: f64) -> f64 {
    ((1.0 - u).powf(-1.0 / 3.0) - 1.5) * 4.0 / 3.0
}

/// Values of an inverse distribution function in the middle of each step.
fn tabulate(inverse: impl Fn(f64) -> f64) -> Box<Table> {
    let mut table = Box::new([0; TABLE_SIZE]);
    for (slot, value) in table.iter_mut().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "both are small")]
        let (u, scale) = ((slot as f64 + 0.5) / TABLE_SIZE as f64, TABLE_SCALE as f64);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float that does not fit becomes the nearest that does, as in netem's tables"
        )]
        let scaled = (inverse(u) * scale).round() as i16;
        *value = scaled;
    }
    table
}

/// Reads a table of iproute2: numbers between blanks, and comments from `#` to
/// the end of a line.
fn read(path: &Path) -> Result<Box<Table>, SpecError> {
    let refuse = |problem: String| {
        SpecError::new(
            "distribution",
            format!("{} {problem}", path.display()),
            "a file of 2 to 65536 numbers from -32768 to 32767 that do not fall, as iproute2's \
             .dist files are",
        )
    };
    let size = fs::metadata(path).map_err(|error| refuse(format!("cannot be read ({error})")))?;
    if !size.is_file() || size.len() > MAX_BYTES {
        return Err(refuse("is no file, or too large".to_owned()));
    }
    let text =
        fs::read_to_string(path).map_err(|error| refuse(format!("cannot be read ({error})")))?;
    parse(&text).map_err(refuse)
}

fn parse(text: &str) -> Result<Box<Table>, String> {
    let words = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::split_whitespace);
    let mut numbers: Vec<i16> = Vec::new();
    for word in words {
        let number = word.parse();
        numbers.push(number.map_err(|_| format!("holds `{}`", word.escape_debug()))?);
    }
    if !(2..=65_536).contains(&numbers.len()) {
        return Err(format!("holds {} numbers", numbers.len()));
    }
    if !numbers.is_sorted() {
        return Err("holds numbers that fall".to_owned());
    }
    let mut table = Box::new([0; TABLE_SIZE]);
    for (slot, value) in table.iter_mut().enumerate() {
        // The middle of the slot, in the file's own steps.
        let at = (2 * slot + 1) * numbers.len() / (2 * TABLE_SIZE);
        *value = numbers.get(at).copied().unwrap_or_default();
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(written: &Written) -> Box<Table> {
        match written.load() {
            Ok(Distribution::Table(table)) => table.values.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn mean_and_deviation(table: &Table) -> (f64, f64) {
        let scaled = |value: &i16| f64::from(*value) / 8192.0;
        let count = 4096.0;
        let mean = table.iter().map(scaled).sum::<f64>() / count;
        let square = |value: &i16| (scaled(value) - mean).powi(2);
        (mean, (table.iter().map(square).sum::<f64>() / count).sqrt())
    }

    #[test]
    fn tables_rise_and_have_their_moments() {
        for (written, mean, deviation) in [
            (Written::Normal, 0.0, 1.0),
            (Written::Pareto, 0.0, 0.9),
            (Written::ParetoNormal, 0.0, 0.85),
        ] {
            let table = values(&written);
            assert!(table.is_sorted(), "{written:?}");
            let found = mean_and_deviation(&table);
            assert!(
                (found.0 - mean).abs() < 0.05 && (found.1 - deviation).abs() < 0.1,
                "{written:?}: {found:?}"
            );
        }
    }

    #[test]
    fn files_are_stretched_to_the_tables_size() {
        let table = parse("# two steps\n -8192\t0 # and\n8192 8192\n").expect("a table");
        assert_eq!(
            [table[0], table[1023], table[1024], table[2048], table[4095]],
            [-8192, -8192, 0, 8192, 8192]
        );
        for (text, why) in [
            ("", "holds 0 numbers"),
            ("1 x", "holds `x`"),
            ("1 40000", "holds `40000`"),
            ("2 1", "fall"),
        ] {
            assert!(parse(text).expect_err(text).contains(why), "{text}");
        }
    }

    #[test]
    fn names_and_files() {
        assert_eq!("normal".parse(), Ok(Written::Normal));
        assert_eq!("file:/a".parse(), Ok(Written::File("/a".to_owned())));
        for bad in ["", "file:", "gauss", "/usr/lib/tc/normal.dist"] {
            assert!(bad.parse::<Written>().is_err(), "{bad}");
        }
        let error = Written::File("/nonexistent".to_owned())
            .load()
            .expect_err("no file");
        assert_eq!(error.field, "distribution");
    }
}
