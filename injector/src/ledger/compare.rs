//! What a run did again of what another one did.

use std::collections::BTreeMap;

use serde::Serialize;

use super::FlowKey;

/// What was hit by one rule: a flow, or calls, which belong to none.
pub(super) type Key = (usize, Option<FlowKey>);

/// The hits of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// How many operations matched each rule.
    pub matched: Vec<u64>,
    /// Whether each rule counts per flow.
    pub per_flow: Vec<bool>,
    /// The numbers of what was hit.
    pub hits: BTreeMap<(usize, Option<FlowKey>), Vec<u64>>,
    /// How many packets a flow had, for rules that count per flow.
    pub packets: BTreeMap<(usize, FlowKey), u64>,
}

/// How many flows were hit again as they were before. The calls that a rule hits count as
/// one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Of as many packets as came both times, the same were hit.
    pub same: u64,
    /// Others were hit.
    pub different: u64,
    /// The flow did not come.
    pub not_seen: u64,
}

impl Run {
    /// Notes a hit.
    pub fn note(&mut self, rule: usize, flow: Option<FlowKey>, n: u64) {
        self.hits.entry((rule, flow)).or_default().push(n);
    }

    /// Which rules do not count per flow and hit packets of several.
    #[must_use]
    pub fn mixed(&self) -> Vec<usize> {
        let flows = |rule: usize| {
            let keys = self.hits.keys();
            keys.filter(|(of, flow)| *of == rule && flow.is_some())
                .count()
        };
        (0..self.per_flow.len())
            .filter(|&rule| !self.per_flow[rule] && flows(rule) > 1)
            .collect()
    }

    /// How many operations of a flow there were, or of the rule where it counts them
    /// together.
    fn length(&self, key: &Key) -> u64 {
        let (rule, flow) = *key;
        match flow {
            Some(flow) if self.per_flow.get(rule) == Some(&true) => {
                self.packets.get(&(rule, flow)).copied().unwrap_or(0)
            }
            Some(_) | None => self.matched.get(rule).copied().unwrap_or(0),
        }
    }

    /// The numbers of what was hit of the first so many, in their order.
    fn first(&self, key: &Key, length: u64) -> Vec<u64> {
        let hits = self.hits.get(key).into_iter().flatten().copied();
        let mut first: Vec<u64> = hits.filter(|&n| n <= length).collect();
        first.sort_unstable();
        first
    }

    /// Compares a run with one that did the same before.
    #[must_use]
    pub fn compare(&self, before: &Self) -> Replayed {
        let mut replayed = Replayed::default();
        for key in before.hits.keys() {
            let is_counted = key.1.is_none() || self.per_flow.get(key.0) == Some(&true);
            let length = self.length(key).min(before.length(key));
            // Of a flow that is not counted nothing is known but its hits.
            if length == 0 || !is_counted && !self.hits.contains_key(key) {
                replayed.not_seen += 1;
            } else if self.first(key, length) == before.first(key, length) {
                replayed.same += 1;
            } else {
                replayed.different += 1;
            }
        }
        replayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Way;

    fn flow(port: u16) -> FlowKey {
        FlowKey {
            way: Way::Egress,
            proto: 17,
            local: ([10, 0, 0, 1], port).into(),
            peer: ([10, 0, 0, 2], 53).into(),
        }
    }

    /// A run of one rule that counts per flow: of each flow its port, how many packets
    /// it had, and which were hit.
    fn run(flows: &[(u16, u64, &[u64])]) -> Run {
        let mut run = Run {
            matched: vec![flows.iter().map(|flow| flow.1).sum()],
            per_flow: vec![true],
            ..Run::default()
        };
        for &(port, packets, hits) in flows {
            run.packets.insert((0, flow(port)), packets);
            hits.iter().for_each(|&n| run.note(0, Some(flow(port)), n));
        }
        run
    }

    #[test]
    fn flows_are_compared_as_far_as_both_came() {
        let before = run(&[(1, 9, &[2, 5, 8]), (2, 9, &[1]), (3, 9, &[4]), (4, 9, &[7])]);
        // The first came longer, the second shorter, the third otherwise, the fourth not.
        let again = run(&[(1, 20, &[2, 8, 5, 13]), (2, 3, &[1]), (3, 9, &[4, 5])]);
        let expected = Replayed {
            same: 2,
            different: 1,
            not_seen: 1,
        };
        assert_eq!(again.compare(&before), expected);
        assert_eq!(before.compare(&before).same, 4);
        // One of which too few came for a hit is the same.
        assert_eq!(run(&[(4, 6, &[])]).compare(&before).same, 1);
    }

    #[test]
    fn a_rule_that_counts_all_together() {
        let mut before = run(&[(1, 9, &[2]), (2, 9, &[3])]);
        before.per_flow = vec![false];
        assert_eq!(before.mixed(), [0]);
        let mut again = run(&[(1, 9, &[3]), (2, 9, &[2])]);
        again.per_flow = vec![false];
        assert_eq!(again.compare(&before).different, 2);
        assert_eq!(run(&[(1, 9, &[2])]).mixed(), [0; 0]);
        let mut one = run(&[(1, 9, &[2])]);
        one.per_flow = vec![false];
        assert_eq!(
            (one.compare(&before).same, one.compare(&before).not_seen),
            (1, 1)
        );
    }

    #[test]
    fn calls_are_compared_by_their_numbers() {
        let run = |hits: &[u64]| {
            let mut run = Run {
                matched: vec![10],
                per_flow: vec![false],
                ..Run::default()
            };
            hits.iter().for_each(|&n| run.note(0, None, n));
            run
        };
        assert_eq!(run(&[1, 4]).compare(&run(&[1, 4])).same, 1);
        assert_eq!(run(&[]).compare(&run(&[1, 4])).different, 1);
        assert_eq!(run(&[1, 4]).mixed(), [0; 0]);
    }
}
