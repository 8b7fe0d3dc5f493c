//! While an experiment runs on a terminal: one line per rule.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use injector_common::FaultKind;

use super::RuleCounts;

/// The live lines on stderr. Dropping the view removes them.
#[derive(Debug)]
pub struct LiveView {
    lines: MultiProgress,
    bars: Vec<(ProgressBar, String)>,
}

impl LiveView {
    /// A line for each rule, given by name and kind. Draws nothing where
    /// stderr is not a terminal.
    #[must_use]
    pub fn new<'a>(rules: impl IntoIterator<Item = (&'a str, FaultKind)>) -> Self {
        // A few lines a second are as much as a reader can follow.
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        let rules: Vec<_> = rules.into_iter().collect();
        let name_width = rules
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        let bars = rules
            .into_iter()
            .map(|(name, kind)| {
                let bar = lines.add(ProgressBar::no_length());
                // The template is a constant of this file and well formed.
                if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                    bar.set_style(style);
                }
                (bar, format!("{name:name_width$}  {:11}", kind.name()))
            })
            .collect();
        Self { lines, bars }
    }

    /// Shows what each rule has counted, in the order of the rules, and how
    /// much time is left.
    pub fn update(&self, counts: &[RuleCounts], left: Duration) {
        for ((bar, prefix), counts) in self.bars.iter().zip(counts) {
            bar.set_message(line(prefix, counts, left));
        }
    }

    /// Prints a line above the live ones, without disturbing them.
    pub fn println(&self, text: &str) {
        // A terminal that went away shows nothing; the report is still to come.
        let _ = self.lines.println(text);
    }

    /// Removes the lines: the report takes their place.
    pub fn finish(self) {
        // As dropping does.
    }
}

impl Drop for LiveView {
    fn drop(&mut self) {
        for (bar, _) in &self.bars {
            bar.finish_and_clear();
        }
        let _ = self.lines.clear();
    }
}

fn line(prefix: &str, counts: &RuleCounts, left: Duration) -> String {
    let seconds = left.as_millis().div_ceil(1000);
    let mut text = format!(
        "{prefix}  {:>10} injected of {} matched  {seconds} s left",
        counts.injected, counts.matched
    );
    if counts.errors > 0 {
        text += &format!("  {} errors", counts.errors);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_hits_and_time() {
        let counts = RuleCounts {
            matched: 10,
            injected: 4,
            ..RuleCounts::default()
        };
        let text = line("loss  net-loss", &counts, Duration::from_millis(1500));
        assert!(
            text.contains("4 injected of 10 matched") && text.contains("2 s left"),
            "{text}"
        );
        assert!(!text.contains("errors"), "{text}");
    }

    #[test]
    fn without_a_terminal_nothing_is_drawn() {
        let view = LiveView::new([("loss", FaultKind::NetLoss)]);
        view.update(&[RuleCounts::default()], Duration::ZERO);
        view.println("said");
        view.finish();
    }
}
