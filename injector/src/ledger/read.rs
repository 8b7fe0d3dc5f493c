//! Reading a ledger, to do the same again.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _},
    path::Path,
};

use serde::Deserialize;

use super::{End, FlowLine, Header, HitLine, Line, Run, VERSION};
use crate::error::{Place, SpecError};

/// Most bytes of a line: more than a header with the largest spec file in it, of which
/// each character may take six.
const MAX_LINE: u64 = 8 << 20;

const ALLOWED: &str = "a ledger that `--ledger` has written, complete and as it was";

/// What became of a ledger without its end.
const CUT_OFF: &str = "its disk was full, or its injector was killed: it is cut off";

/// What a ledger tells.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What was run.
    pub header: Header,
    /// What it hit.
    pub run: Run,
}

/// The version of a header, whatever else is in it.
#[derive(Deserialize)]
struct AnyHeader {
    header: AnyVersion,
}

#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
}

impl Recorded {
    /// Reads a ledger to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is none, is of a newer version, or does not have
    /// everything that was hit. The error has a place, and `replay` as its field.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let refuse = |line: u64, problem: String, allowed: &'static str| {
            let place = Place {
                file: path.to_owned(),
                line_column: (line != 0).then_some((line, 1)),
            };
            SpecError::new("replay", problem, allowed).at(place)
        };
        let file = File::open(path).map_err(|error| {
            let problem = format!("cannot be opened ({error})");
            refuse(0, problem, "a readable file")
        })?;
        let mut file = BufReader::new(file);
        let mut text = Vec::new();
        let mut reading: Option<Reading> = None;
        for number in 1.. {
            text.clear();
            let got = (&mut file).take(MAX_LINE).read_until(b'\n', &mut text);
            got.map_err(|error| refuse(0, format!("cannot be read ({error})"), "a readable file"))?;
            if text.is_empty() {
                break;
            }
            let wrong = |problem: String| refuse(number, problem, ALLOWED);
            match &mut reading {
                None => reading = Some(Reading::new(header(&text).map_err(wrong)?)),
                Some(reading) => {
                    let line = serde_json::from_slice(&text)
                        .map_err(|error| wrong(unread(&text, &error, "is no line of a ledger")))?;
                    reading.take(line).map_err(wrong)?;
                }
            }
        }
        let reading = reading.ok_or_else(|| refuse(0, "is empty".to_owned(), ALLOWED))?;
        reading.end().map_err(|problem| refuse(0, problem, ALLOWED))
    }
}

/// Why a line cannot be read.
fn unread(text: &[u8], error: &serde_json::Error, what: &str) -> String {
    // All lines end, but one that could not be written to its end.
    let ends = text.last() == Some(&b'\n') || text.len() as u64 == MAX_LINE;
    if error.is_eof() && !ends {
        format!("{CUT_OFF} in this line")
    } else {
        format!("{what} ({error})")
    }
}

/// The first line.
fn header(text: &[u8]) -> Result<Header, String> {
    let no_ledger = |error| unread(text, &error, "is no ledger");
    let AnyHeader { header } = serde_json::from_slice(text).map_err(no_ledger)?;
    if header.version != VERSION {
        let version = header.version;
        return Err(format!(
            "is a ledger of version {version}, and this injector reads version {VERSION}"
        ));
    }
    match serde_json::from_slice(text).map_err(no_ledger)? {
        Line::Header(header) => Ok(header),
        Line::Hit(_) | Line::Flow(_) | Line::End(_) => Err("is no ledger".to_owned()),
    }
}

/// A ledger of which some lines were read.
struct Reading {
    header: Header,
    run: Run,
    end: Option<End>,
}

impl Reading {
    fn new(header: Header) -> Self {
        let per_flow = header.rules.iter().map(|rule| rule.per == "flow");
        Self {
            run: Run {
                per_flow: per_flow.collect(),
                ..Run::default()
            },
            header,
            end: None,
        }
    }

    fn rule(&self, name: &str) -> Result<usize, String> {
        let known = self.header.rules.iter().position(|rule| rule.name == name);
        known.ok_or_else(|| {
            format!(
                "names a rule `{}` that the header does not",
                name.escape_debug()
            )
        })
    }

    fn take(&mut self, line: Line<'_>) -> Result<(), String> {
        if self.end.is_some() {
            return Err("comes behind the last line".to_owned());
        }
        match line {
            Line::Header(_) => return Err("is a second header".to_owned()),
            Line::Hit(HitLine { rule, flow, n, .. }) => {
                let rule = self.rule(&rule)?;
                self.run.note(rule, flow, n);
            }
            Line::Flow(FlowLine {
                rule,
                flow,
                packets,
            }) => {
                let rule = self.rule(&rule)?;
                self.run.packets.insert((rule, flow), packets);
            }
            Line::End(end) => self.end = Some(end),
        }
        Ok(())
    }

    /// The whole, if it is that.
    fn end(mut self) -> Result<Recorded, String> {
        let Some(end) = self.end else {
            let hits: usize = self.run.hits.values().map(Vec::len).sum();
            return Err(format!("has no last line ({CUT_OFF} after {hits} hits)"));
        };
        if end.lost != 0 {
            return Err(format!("lost {} hits, and does not know them", end.lost));
        }
        let injected: u64 = end.rules.iter().map(|rule| rule.injected).sum();
        let listed: usize = self.run.hits.values().map(Vec::len).sum();
        let names = self.header.rules.iter().map(|rule| &rule.name);
        if !names.eq(end.rules.iter().map(|rule| &rule.name)) || injected != listed as u64 {
            return Err(format!(
                "has {listed} hits, and its last line speaks of {injected}"
            ));
        }
        self.run.matched = end.rules.iter().map(|rule| rule.matched).collect();
        Ok(Recorded {
            header: self.header,
            run: self.run,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const HEADER: &str = r#"{"header":{"version":1,"experiment":"a","seed":7,"kernel":"6.1","spec":{"arguments":["inject"]},"rules":[{"name":"one","kind":"net-loss","per":"flow"}]}}"#;
    const HIT: &str = r#"{"hit":{"time_ns":5,"rule":"one","action":"net-loss","n":3,"flow":{"way":"egress","proto":17,"local":"10.0.0.1:80","peer":"10.0.0.2:9"}}}"#;
    const FLOW: &str = r#"{"flow":{"rule":"one","flow":{"way":"egress","proto":17,"local":"10.0.0.1:80","peer":"10.0.0.2:9"},"packets":4}}"#;
    const END: &str = r#"{"end":{"stopped_by":"signal","lost":0,"rules":[{"name":"one","matched":4,"injected":1,"lost":0}]}}"#;

    fn read(lines: &[&str]) -> Result<Recorded, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(lines.join("\n").as_bytes())
            .expect("written");
        Recorded::read(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_written_is_read() {
        let Recorded { header, run } = read(&[HEADER, HIT, FLOW, END]).expect("a ledger");
        assert_eq!((header.seed, run.matched.as_slice()), (7, [4].as_slice()));
        assert_eq!(run.hits.values().collect::<Vec<_>>(), [&[3]]);
        assert_eq!(run.packets.values().collect::<Vec<_>>(), [&4]);
        assert_eq!(run.compare(&run).same, 1);
    }

    #[test]
    fn what_is_no_complete_ledger_is_refused() {
        let newer = HEADER.replace("\"version\":1", "\"version\":2,\"more\":3");
        let lossy = END.replacen("\"lost\":0", "\"lost\":5", 1);
        let other = HIT.replace("\"one\"", "\"two\"");
        for (lines, problem) in [
            (vec![], "is empty"),
            (vec!["version: 1"], ":1:1: replay: is no ledger"),
            (vec![HIT], "is no ledger"),
            (
                vec![newer.as_str()],
                "version 2, and this injector reads version 1",
            ),
            (vec![HEADER, "{}"], ":2:1: replay: is no line"),
            (vec![HEADER, &other, FLOW, END], "a rule `two`"),
            (
                vec![HEADER, HIT, FLOW],
                "no last line (its disk was full, or its injector was killed: it is cut off \
                 after 1 hits)",
            ),
            (vec![HEADER, &HIT[..40]], ":2:1: replay: its disk was full"),
            (vec![HEADER, HIT, &END[..40]], "it is cut off in this line"),
            (vec![&HEADER[..40]], "it is cut off in this line"),
            (vec![HEADER, HIT, &lossy], "lost 5 hits"),
            (
                vec![HEADER, FLOW, END],
                "has 0 hits, and its last line speaks of 1",
            ),
            (vec![HEADER, HIT, END, HIT], "behind the last line"),
            (vec![HEADER, HEADER], "a second header"),
        ] {
            let told = read(&lines).expect_err(problem);
            assert!(told.contains(problem), "{problem}: {told}");
        }
        let error = Recorded::read(Path::new("/no/such/ledger")).expect_err("no file");
        assert!(error.to_string().contains("cannot be opened"), "{error}");
    }
}
