//! The model that losses are held against.

use crate::stats::{Fit, fit, float};

/// A wire that is good or bad (Gilbert and Elliott), and loses packets in either
/// state, each independently of the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// Chance that a good wire turns bad with a packet.
    pub(super) worsen: f64,
    /// Chance that a bad one turns good.
    pub(super) recover: f64,
    /// Share of packets lost while bad.
    pub(super) lost_bad: f64,
    /// Share of packets lost while good.
    pub(super) lost_good: f64,
}

/// Something for each state: good, bad.
type States = [f64; 2];

impl Chain {
    /// Every packet is lost with this chance, whatever happened before.
    pub(super) const fn independent(share: f64) -> Self {
        Self {
            worsen: 0.0,
            recover: 1.0,
            lost_bad: share,
            lost_good: share,
        }
    }

    /// Everything is lost while the wire is bad, nothing while it is good.
    pub(super) const fn bursts(worsen: f64, recover: f64) -> Self {
        Self {
            worsen,
            recover,
            lost_bad: 1.0,
            lost_good: 0.0,
        }
    }

    /// Share of the time in each state.
    fn stationary(&self) -> States {
        let bad = self.worsen / (self.worsen + self.recover);
        [1.0 - bad, bad]
    }

    /// Share of all packets that are lost.
    pub(super) fn rate(&self) -> f64 {
        let [good, bad] = self.stationary();
        good * self.lost_good + bad * self.lost_bad
    }

    /// Standard deviation of the share lost out of so many packets.
    pub(super) fn deviation(&self, packets: u64) -> f64 {
        let [good, bad] = self.stationary();
        // Losses some packets apart have something in common that decays by this
        // factor with each packet.
        let decay = 1.0 - self.worsen - self.recover;
        let common = good * bad * (self.lost_bad - self.lost_good).powi(2);
        let own = self.rate() * (1.0 - self.rate());
        ((own + 2.0 * common * decay / (1.0 - decay)) / float(packets)).sqrt()
    }

    /// One packet that is lost, or not, and the wire's next state.
    fn step(&self, [good, bad]: States, lost: bool) -> States {
        let of = |share: f64| if lost { share } else { 1.0 - share };
        let (good, bad) = (good * of(self.lost_good), bad * of(self.lost_bad));
        [
            good * (1.0 - self.worsen) + bad * self.recover,
            good * self.worsen + bad * (1.0 - self.recover),
        ]
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
        let mut bad = false;
        let mut next = |_| {
            let (turn, lost) = match bad {
                false => (chain.worsen, chain.lost_good),
                true => (chain.recover, chain.lost_bad),
            };
            let lost = draw() < lost;
            bad ^= draw() < turn;
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
        let general = Chain {
            worsen: 0.02,
            recover: 0.2,
            lost_bad: 0.7,
            lost_good: 0.01,
        };
        for chain in [Chain::independent(0.2), Chain::bursts(0.01, 0.25), general] {
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
