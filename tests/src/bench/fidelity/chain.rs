//! The model that losses are held against.

use crate::stats::{Fit, fit, float};

/// After so many packets nothing is left of where a chain began. The slowest here forget a
/// hundredth with each.
const PATIENCE: usize = 10_000;

/// How many states a chain has at most.
const STATES: usize = 4;

/// Something for each state.
type States = [f64; STATES];

/// A wire that is in one of several states, moves on with each packet, and loses packets in each
/// state with a chance of its own, independently of the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// The chances to go from one state to the others.
    moves: [States; STATES],
    /// Share of packets lost in each state.
    lost: States,
}

impl Chain {
    /// Every packet is lost with this chance, whatever happened before.
    pub(super) const fn independent(share: f64) -> Self {
        Self::good_or_bad(0.0, 1.0, share, share)
    }

    /// Everything is lost while the wire is bad, nothing while it is good.
    pub(super) const fn bursts(worsen: f64, recover: f64) -> Self {
        Self::good_or_bad(worsen, recover, 1.0, 0.0)
    }

    /// A wire that is good or bad (Gilbert and Elliott): the chances that it turns bad and good,
    /// and the shares that are lost while it is bad and good.
    pub(super) const fn good_or_bad(
        worsen: f64,
        recover: f64,
        lost_bad: f64,
        lost_good: f64,
    ) -> Self {
        let still = [0.0; STATES];
        Self {
            moves: [
                [1.0 - worsen, worsen, 0.0, 0.0],
                [recover, 1.0 - recover, 0.0, 0.0],
                still,
                still,
            ],
            lost: [lost_good, lost_bad, 0.0, 0.0],
        }
    }

    /// The four states of tc-netem(8): 1 keeps packets and 4 loses one among them, 3 loses
    /// bursts and 2 keeps packets within one. The chances are of the moves in their names.
    pub(super) const fn four_states(p13: f64, p31: f64, p32: f64, p23: f64, p14: f64) -> Self {
        Self {
            moves: [
                [1.0 - p13 - p14, 0.0, p13, p14],
                [0.0, 1.0 - p23, p23, 0.0],
                [p31, p32, 1.0 - p31 - p32, 0.0],
                [1.0, 0.0, 0.0, 0.0],
            ],
            lost: [0.0, 0.0, 1.0, 1.0],
        }
    }

    /// Where the wire is after a packet, from where it was before.
    fn next(&self, before: States) -> States {
        let mut after = [0.0; STATES];
        for (share, moves) in before.iter().zip(&self.moves) {
            for (to, chance) in after.iter_mut().zip(moves) {
                *to += share * chance;
            }
        }
        after
    }

    /// Share of the time in each state.
    fn stationary(&self) -> States {
        // Half a step of each move: a chain that goes round and round settles too.
        (0..PATIENCE).fold([1.0, 0.0, 0.0, 0.0], |before, _| {
            let after = self.next(before);
            std::array::from_fn(|state| f64::midpoint(before[state], after[state]))
        })
    }

    /// Share of all packets that are lost.
    pub(super) fn rate(&self) -> f64 {
        self.share_lost(self.stationary())
    }

    fn share_lost(&self, states: States) -> f64 {
        states.iter().zip(&self.lost).map(|(a, b)| a * b).sum()
    }

    /// Standard deviation of the share lost out of so many packets.
    pub(super) fn deviation(&self, packets: u64) -> f64 {
        let rate = self.rate();
        // Losses some packets apart have something in common, less with each packet.
        let mut state = self.step(self.stationary(), true);
        let mut common = 0.0;
        for _ in 0..PATIENCE {
            common += self.share_lost(state) - rate * rate;
            state = self.next(state);
        }
        ((rate * (1.0 - rate) + 2.0 * common) / float(packets)).sqrt()
    }

    /// One packet that is lost, or not, and the wire's next state.
    fn step(&self, mut states: States, lost: bool) -> States {
        for (state, share) in states.iter_mut().zip(self.lost) {
            *state *= if lost { share } else { 1.0 - share };
        }
        self.next(states)
    }

    /// How well the lengths of runs of lost, or of not lost, packets fit.
    pub(super) fn fit(&self, runs: &[u64], lost: bool) -> Option<Fit> {
        let longest = runs.iter().copied().max()?;
        let mut counts = vec![0; usize::try_from(longest).ok()? + 1];
        for &run in runs {
            counts[usize::try_from(run).ok()?] += 1;
        }
        // The state after a packet that does not belong to the run; then the run's
        // first packet, which is there by definition.
        let before = self.step(self.stationary(), !lost);
        let mut state = self.step(before, lost);
        let all: f64 = state.iter().sum();
        let mut bins = Vec::new();
        let (mut bin, mut at_least) = ((0, 0.0), 1.0);
        // Bins of some twentieth each: many lengths are hardly possible.
        for count in &counts[1..] {
            state = self.step(state, lost);
            let longer = state.iter().sum::<f64>() / all;
            bin.0 += count;
            bin.1 += at_least - longer;
            at_least = longer;
            if bin.1 >= 0.05 {
                bins.push(bin);
                bin = (0, 0.0);
            }
        }
        bin.1 += at_least;
        bins.push(bin);
        fit(bins)
    }
}

/// Lengths of the runs of lost and of not lost packets. The first and the last
/// run are left out: nobody saw how they began or ended.
pub(super) fn runs(lost: &[bool]) -> [Vec<u64>; 2] {
    let mut found = [Vec::new(), Vec::new()];
    let chunks: Vec<&[bool]> = lost.chunk_by(|a, b| a == b).collect();
    let inner = chunks.get(1..chunks.len().saturating_sub(1));
    for run in inner.unwrap_or_default() {
        found[usize::from(!run[0])].push(run.len() as u64);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws of a fixed sequence, evenly spread over 0 to 1.
    fn draws() -> impl FnMut() -> f64 {
        let mut state = 1_u64;
        move || {
            // SplitMix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            float((word ^ word >> 31) >> 11) / float(1 << 53)
        }
    }

    fn sample(chain: &Chain, packets: usize) -> Vec<bool> {
        let mut draw = draws();
        let mut state = 0;
        let mut next = |_| {
            let lost = draw() < chain.lost[state];
            let mut rest = draw();
            let moves = chain.moves[state].iter();
            let to = moves.take_while(|&&chance| {
                rest -= chance;
                rest >= 0.0
            });
            state = to.count().min(STATES - 1);
            lost
        };
        (0..packets).map(&mut next).collect()
    }

    /// Chances that runs of lost and not lost packets of `sampled` come from `model`.
    fn chances(sampled: &Chain, model: &Chain) -> [f64; 2] {
        let [lost, kept] = runs(&sample(sampled, 50_000));
        [model.fit(&lost, true), model.fit(&kept, false)].map(|fit| fit.unwrap().chance)
    }

    #[test]
    fn a_chain_fits_itself() {
        for chain in [
            Chain::independent(0.2),
            Chain::bursts(0.01, 0.25),
            Chain::good_or_bad(0.02, 0.2, 0.7, 0.01),
            Chain::four_states(0.02, 0.3, 0.1, 0.4, 0.01),
        ] {
            let chances = chances(&chain, &chain);
            assert!(chances.iter().all(|&chance| chance > 0.001), "{chances:?}");
            let lost = sample(&chain, 50_000).iter().filter(|&&lost| lost).count();
            let off = float(lost as u64) / 50_000.0 - chain.rate();
            assert!(off.abs() < 4.0 * chain.deviation(50_000), "{off}");
        }
    }

    #[test]
    fn bursts_are_not_taken_for_independent_losses() {
        let bursts = Chain::bursts(0.01, 0.25);
        let chances = chances(&bursts, &Chain::independent(bursts.rate()));
        assert!(chances[0] < 1e-6, "{chances:?}");
    }

    #[test]
    fn shares_are_those_of_the_formulas() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(Chain::independent(0.05).rate(), 0.05);
        near(
            Chain::independent(0.05).deviation(10_000),
            (0.05 * 0.95_f64 / 1e4).sqrt(),
        );
        near(Chain::bursts(0.01, 0.25).rate(), 0.01 / 0.26);
        // Decays by 1 - 0.01 - 0.25 with each packet.
        let bad = 0.01_f64 / 0.26;
        let spread: f64 = bad * (1.0 - bad) * (1.0 + 2.0 * 0.74 / 0.26);
        near(
            Chain::bursts(0.01, 0.25).deviation(10_000),
            (spread / 1e4).sqrt(),
        );
        // With 3 and 4 left at once, only the chance to enter them counts.
        near(
            Chain::four_states(0.1, 1.0, 0.0, 1.0, 0.1).rate(),
            0.2 / 1.2,
        );
    }

    #[test]
    fn a_slightly_different_share_is_found() {
        let chances = chances(&Chain::independent(0.2), &Chain::independent(0.23));
        assert!(chances[1] < 1e-6, "{chances:?}");
    }

    #[test]
    fn runs_at_the_ends_are_left_out() {
        let lost = [true, false, false, true, true, false, true, false];
        assert_eq!(runs(&lost), [vec![2, 1], vec![2, 1]]);
        let none: [Vec<u64>; 2] = Default::default();
        assert_eq!(runs(&[true, true]), none);
        assert_eq!(runs(&[]), none);
    }
}
