//! While an experiment runs on a terminal: one line per rule.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::RuleCounts;
use crate::model::Rule;

/// The live lines that are on the terminal now. Whoever logs knows nothing of
/// them, and a log line has to come above them.
static SHOWN: Mutex<Option<MultiProgress>> = Mutex::new(None);

fn shown() -> MutexGuard<'static, Option<MultiProgress>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard error for log lines, which keeps them whole and above the live
/// ones.
#[derive(Clone, Copy, Debug)]
pub struct LogWriter;

impl io::Write for LogWriter {
    /// Takes whole lines, as a logger writes them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let lines = shown().clone();
        match lines {
            Some(lines) => lines.println(String::from_utf8_lossy(bytes).trim_end_matches('\n'))?,
            None => io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The live lines on stderr. Dropping the view removes them.
#[derive(Debug)]
pub struct LiveView {
    lines: MultiProgress,
    bars: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    bar: ProgressBar,
    prefix: String,
    shadow: bool,
    start: Duration,
    end: Duration,
}

impl LiveView {
    /// A line for each rule. Draws nothing where stderr is not a terminal.
    #[must_use]
    pub fn new(rules: &[Rule]) -> Self {
        // A few lines a second are as much as a reader can follow.
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        let widths = rules.iter().map(|rule| rule.name.chars().count());
        let name_width = widths.max().unwrap_or(0);
        let bars = rules
            .iter()
            .map(|rule| {
                let bar = lines.add(ProgressBar::no_length());
                // The template is a constant of this file and well formed.
                if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                    bar.set_style(style);
                }
                let (name, kind) = (&rule.name, rule.fault.kind().name());
                Line {
                    bar,
                    prefix: format!("{name:name_width$}  {kind:11}"),
                    shadow: rule.shadow,
                    start: rule.start,
                    end: rule.start.saturating_add(rule.duration),
                }
            })
            .collect();
        if !lines.is_hidden() {
            *shown() = Some(lines.clone());
        }
        Self { lines, bars }
    }

    /// Shows what each rule has counted, in the order of the rules, and how
    /// much time it has left so long after the start.
    pub fn update(&self, counts: &[RuleCounts], elapsed: Duration) {
        for (line, counts) in self.bars.iter().zip(counts) {
            line.bar.set_message(line.text(counts, elapsed));
        }
    }

    /// Removes the lines: the report takes their place.
    pub fn finish(self) {
        // As dropping does.
    }
}

impl Drop for LiveView {
    fn drop(&mut self) {
        *shown() = None;
        for line in &self.bars {
            line.bar.finish_and_clear();
        }
        let _ = self.lines.clear();
    }
}

impl Line {
    fn text(&self, counts: &RuleCounts, elapsed: Duration) -> String {
        let seconds = |time: Duration| time.as_millis().div_ceil(1000);
        let time = if elapsed < self.start {
            format!("starts in {} s", seconds(self.start - elapsed))
        } else if elapsed < self.end {
            format!("{} s left", seconds(self.end - elapsed))
        } else {
            "over".to_owned()
        };
        let (hits, word) = if self.shadow {
            (counts.shadowed, "shadowed")
        } else {
            (counts.injected, "injected")
        };
        let mut text = format!(
            "{}  {hits:>10} {word} of {} matched  {time}",
            self.prefix, counts.matched
        );
        if counts.errors > 0 {
            text += &format!("  {} errors", counts.errors);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(start: u64, end: u64) -> Line {
        Line {
            bar: ProgressBar::hidden(),
            prefix: "loss  net-loss".to_owned(),
            shadow: false,
            start: Duration::from_secs(start),
            end: Duration::from_secs(end),
        }
    }

    #[test]
    fn a_line_tells_hits_and_time() {
        let counts = RuleCounts {
            matched: 10,
            injected: 4,
            ..RuleCounts::default()
        };
        let line = line(30, 90);
        let check = |elapsed_ms, time: &str| {
            let text = line.text(&counts, Duration::from_millis(elapsed_ms));
            let expected = format!("loss  net-loss           4 injected of 10 matched  {time}");
            assert_eq!(text, expected);
        };
        check(0, "starts in 30 s");
        check(29_001, "starts in 1 s");
        check(30_000, "60 s left");
        check(88_500, "2 s left");
        check(90_000, "over");
        let in_shadow = Line {
            shadow: true,
            ..line
        };
        let counts = RuleCounts {
            matched: 10,
            shadowed: 4,
            ..RuleCounts::default()
        };
        let text = in_shadow.text(&counts, Duration::from_secs(90));
        assert_eq!(
            text,
            "loss  net-loss           4 shadowed of 10 matched  over"
        );
    }

    #[test]
    fn errors_are_told_if_there_are_any() {
        let counts = RuleCounts {
            errors: 3,
            ..RuleCounts::default()
        };
        let text = line(0, 1).text(&counts, Duration::ZERO);
        assert!(text.ends_with("3 errors"), "{text}");
    }

    #[test]
    fn without_a_terminal_nothing_is_drawn() {
        let view = LiveView::new(&[]);
        view.update(&[RuleCounts::default()], Duration::ZERO);
        view.finish();
    }
}
