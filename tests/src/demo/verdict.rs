//! Whether the faults hit whom they should, and only then.

use std::time::Duration;

use super::client::{Seen, quantile};

/// What one client saw in all phases.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    pub(super) before: Seen,
    pub(super) during: Seen,
    pub(super) after: Seen,
}

impl Story {
    /// The phases with their names.
    pub(super) fn phases(&self) -> [(&'static str, &Seen); 3] {
        [
            ("before", &self.before),
            ("during", &self.during),
            ("after", &self.after),
        ]
    }
}

/// Everything that is not as it should be.
pub(super) fn complaints(victim: &Story, bystander: &Story, delay: Duration) -> Vec<String> {
    let mut complaints = Vec::new();
    for (party, story) in [("victim", victim), ("bystander", bystander)] {
        for (phase, seen) in story.phases() {
            let found = if (party, phase) == ("victim", "during") {
                unharmed(seen, delay)
            } else {
                harmed(seen, delay)
            };
            complaints.extend(found.iter().map(|what| format!("{party} {phase}: {what}")));
        }
    }
    complaints
}

/// What a client that faults are aimed at should have suffered and has not.
fn unharmed(seen: &Seen, delay: Duration) -> Vec<&'static str> {
    // The request follows the handshake, so each request waits at least twice.
    let late = median(seen).is_none_or(|median| median >= delay * 2);
    [
        (!late, "its requests were not delayed"),
        (seen.retransmits == 0, "it sent no segment again"),
        (seen.eio == 0, "none of its reads failed with EIO"),
        (seen.other_errors > 0, "reads failed with another error"),
    ]
    .into_iter()
    .filter_map(|(found, what)| found.then_some(what))
    .collect()
}

/// What a client that no fault is aimed at suffered all the same. A machine
/// that is busy with other things may hold single requests up.
fn harmed(seen: &Seen, delay: Duration) -> Vec<&'static str> {
    let requests = seen.answers_us.len() as u64 + seen.failures;
    let many = |count: u64| count * 100 > requests;
    let late = median(seen).is_none_or(|median| median >= delay);
    [
        (late, "its requests were late"),
        (many(seen.failures), "more than 1 % of its requests failed"),
        (
            many(seen.retransmits),
            "it sent segments again for more than 1 % of its requests",
        ),
        (seen.eio + seen.other_errors > 0, "reads failed"),
    ]
    .into_iter()
    .filter_map(|(found, what)| found.then_some(what))
    .collect()
}

fn median(seen: &Seen) -> Option<Duration> {
    quantile(&seen.answers_us, 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(40);

    fn well() -> Seen {
        Seen {
            millis: 1000,
            answers_us: vec![2000; 200],
            reads: 100,
            ..Seen::default()
        }
    }

    fn ill() -> Seen {
        Seen {
            answers_us: vec![85_000; 50],
            failures: 6,
            retransmits: 9,
            eio: 21,
            ..well()
        }
    }

    fn story(during: Seen) -> Story {
        Story {
            before: well(),
            during,
            after: well(),
        }
    }

    #[test]
    fn a_victim_suffers_alone() {
        assert_eq!(complaints(&story(ill()), &story(well()), DELAY), [""; 0]);
    }

    #[test]
    fn a_fault_that_misses_is_noticed() {
        let found = complaints(&story(well()), &story(well()), DELAY);
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_bystander_that_suffers_is_noticed() {
        let found = complaints(&story(ill()), &story(ill()), DELAY);
        assert_eq!(found.len(), 4, "{found:?}");
        let lasting = Story {
            after: ill(),
            ..story(ill())
        };
        assert!(!complaints(&lasting, &story(well()), DELAY).is_empty());
    }
}
