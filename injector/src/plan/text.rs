//! What a rule does, in words: the same for plans as text and as JSON.

use injector_common::{Trigger, faults::net_loss::CERTAIN, trigger::THRESHOLD_ALWAYS};

use crate::{
    model::{Per, Rule},
    spec::{duration, loss::Share, percent, when::When},
};

/// Whom the rule hits, as the user named them.
#[must_use]
pub fn targets(rule: &Rule) -> Vec<String> {
    rule.targets
        .iter()
        .map(|target| printable(&target.to_string()))
        .collect()
}

/// Which of the operations that match are hit, and whose are counted together.
#[must_use]
pub fn selection(rule: &Rule) -> String {
    let mut text = trigger(&rule.trigger);
    match rule.per {
        Per::Rule => {}
        Per::Flow | Per::Process | Per::Thread | Per::Program => {
            text += &format!(", counted per {}", rule.per.name());
        }
    }
    if rule.shadow {
        text += "; in shadow: they are counted, and nothing is done to them";
    }
    text
}

/// Which of the operations that match are hit.
#[must_use]
pub fn trigger(trigger: &Trigger) -> String {
    let Trigger {
        threshold,
        first,
        last,
        step,
        times,
        correlation,
    } = *trigger;
    let every = (
        Trigger::ALWAYS.first,
        Trigger::ALWAYS.last,
        Trigger::ALWAYS.step,
    );
    let share = (threshold != THRESHOLD_ALWAYS).then(|| percent::format(threshold));
    let some = ((first, last, step) != every).then_some(When { first, last, step });
    let mut text = match (share, some) {
        (None, None) => "every occurrence".to_owned(),
        (Some(share), None) => format!("{share} of the occurrences"),
        (None, Some(some)) => format!("occurrences {some}"),
        (Some(share), Some(some)) => format!("{share} of the occurrences {some}"),
    };
    if correlation != 0 {
        // It was read as one of 31 bits.
        let share = Share(u32::try_from(correlation / 2).unwrap_or(CERTAIN));
        text += &format!(", correlated by {share}");
    }
    if times != 0 {
        let hits = if times == 1 { "hit" } else { "hits" };
        text += &format!(", at most {times} {hits}");
    }
    text
}

/// When the rule is in force.
#[must_use]
pub fn time(rule: &Rule) -> String {
    let lasts = duration::format(rule.duration);
    if rule.start.is_zero() {
        format!("from the start, for {lasts}")
    } else {
        format!("from {}, for {lasts}", duration::format(rule.start))
    }
}

/// A command line, with whatever is not plain in quotes.
#[must_use]
pub fn command(words: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=,+@%".contains(c);
    let words: Vec<String> = words
        .iter()
        .map(|word| {
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("{word:?}")
            }
        })
        .collect();
    words.join(" ")
}

/// Without control characters, which a path may hold.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}
