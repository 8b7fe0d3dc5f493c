//! Laws of triggers and of seeded chance.

use std::collections::BTreeSet;

use injector_common::{
    RuleEntry, Trigger, Verdict,
    filter::PacketFilter,
    names::MAX_RULES,
    random::{amount, draw, mix, roll, rule_seed, scale},
    trigger::THRESHOLD_ALWAYS,
    waiting::UNLIMITED,
};
use proptest::prelude::*;

fn any_trigger() -> impl Strategy<Value = Trigger> {
    let occurrence = prop_oneof![0..20u64, any::<u64>()];
    (
        0..=THRESHOLD_ALWAYS,
        occurrence.clone(),
        occurrence.clone(),
        prop_oneof![0..5u64, any::<u64>()],
        occurrence,
        prop_oneof![Just(0), 0..=THRESHOLD_ALWAYS],
    )
        .prop_map(
            |(threshold, first, last, step, times, correlation)| Trigger {
                threshold,
                first,
                last,
                step,
                times,
                correlation,
            },
        )
}

/// Occurrences near the edges of a trigger, and any others.
fn any_occurrence() -> impl Strategy<Value = u64> {
    prop_oneof![1..40u64, any::<u64>()]
}

proptest! {
    #[test]
    fn a_higher_threshold_selects_no_less(
        trigger in any_trigger(),
        more in 0..=THRESHOLD_ALWAYS,
        n in any_occurrence(),
        roll in any::<u32>(),
    ) {
        let higher = Trigger { threshold: trigger.threshold.max(more), ..trigger };
        prop_assert!(!trigger.selects(n, roll) || higher.selects(n, roll));
    }

    #[test]
    fn the_threshold_divides_the_rolls_exactly(
        threshold in 0..=THRESHOLD_ALWAYS,
        roll in any::<u32>(),
        n in 1..u64::MAX,
    ) {
        let trigger = Trigger { threshold, ..Trigger::ALWAYS };
        prop_assert_eq!(trigger.selects(n, roll), u64::from(roll) < threshold);
        // The two rolls beside the threshold, which chance rarely meets.
        if let Ok(edge) = u32::try_from(threshold) {
            prop_assert!(!trigger.selects(n, edge));
        }
        if let Ok(last) = u32::try_from(threshold.wrapping_sub(1)) {
            prop_assert!(trigger.selects(n, last));
        }
    }

    #[test]
    fn threshold_zero_never_selects(trigger in any_trigger(), n in any_occurrence()) {
        let never = Trigger { threshold: 0, ..trigger };
        for roll in [0, 1, u32::MAX] {
            prop_assert!(!never.selects(n, roll));
        }
    }

    #[test]
    fn the_full_threshold_leaves_the_choice_to_the_positions(
        trigger in any_trigger(),
        n in any_occurrence(),
        roll in any::<u32>(),
    ) {
        let always = Trigger { threshold: THRESHOLD_ALWAYS, ..trigger };
        prop_assert_eq!(always.selects(n, roll), always.selects(n, 0));
        prop_assert!(Trigger::ALWAYS.selects(n.max(1), roll));
    }

    #[test]
    fn positions_form_the_arithmetic_progression(
        first in 1..60u64,
        length in 0..60u64,
        step in 1..12usize,
        roll in any::<u32>(),
    ) {
        let last = first + length;
        let trigger = Trigger { first, last, step: step as u64, ..Trigger::ALWAYS };
        let selected: Vec<u64> = (1..200).filter(|&n| trigger.selects(n, roll)).collect();
        let expected: Vec<u64> = (first..=last).step_by(step).collect();
        prop_assert_eq!(selected, expected);
    }

    #[test]
    fn positions_hold_far_out(
        first in 0..1u64 << 63,
        step in 1..1u64 << 32,
        k in 0..1u64 << 31,
    ) {
        let trigger = Trigger { first, step, ..Trigger::ALWAYS };
        let position = first + k * step;
        prop_assert!(trigger.selects(position, 0));
        if step > 1 {
            prop_assert!(!trigger.selects(position + 1, 0));
        }
    }

    #[test]
    fn an_empty_range_selects_nothing(
        trigger in any_trigger(),
        n in any_occurrence(),
        roll in any::<u32>(),
    ) {
        prop_assume!(trigger.last < trigger.first);
        prop_assert!(!trigger.selects(n, roll));
    }

    #[test]
    fn a_step_of_zero_is_a_step_of_one(
        trigger in any_trigger(),
        n in any_occurrence(),
        roll in any::<u32>(),
    ) {
        let zero = Trigger { step: 0, ..trigger };
        let one = Trigger { step: 1, ..trigger };
        prop_assert_eq!(zero.selects(n, roll), one.selects(n, roll));
    }

    #[test]
    fn a_budget_is_spent_exactly(times in 1..300u64) {
        let trigger = Trigger { times, ..Trigger::ALWAYS };
        let injected = (0..400).filter(|&spent| trigger.within_budget(spent) == Verdict::Inject);
        prop_assert_eq!(injected.collect::<Vec<_>>(), (0..times).collect::<Vec<_>>());
        prop_assert_eq!(trigger.within_budget(u64::MAX), Verdict::Exhausted);
    }

    #[test]
    fn no_budget_is_no_limit(trigger in any_trigger(), spent in any::<u64>()) {
        let unlimited = Trigger { times: 0, ..trigger };
        prop_assert_eq!(unlimited.within_budget(spent), Verdict::Inject);
    }

    #[test]
    fn a_rule_is_in_force_from_start_to_deadline(
        start_ns in any::<u64>(),
        length in any::<u64>(),
        now in any::<u64>(),
        enabled in prop_oneof![Just(1u32), any::<u32>()],
    ) {
        let deadline_ns = start_ns.saturating_add(length);
        let rule = RuleEntry {
            start_ns,
            deadline_ns,
            seed: 0,
            queue_memory: UNLIMITED,
            trigger: Trigger::ALWAYS,
            params: [0; 4],
            filter: PacketFilter::ANY,
            kind: 1,
            enabled,
            key: 0,
            per: 0,
            shadow: 0,
            _pad: 0,
        };
        let edges = [start_ns.wrapping_sub(1), start_ns, deadline_ns.wrapping_sub(1), deadline_ns];
        for now in edges.into_iter().chain([now, u64::MAX]) {
            let inside = (start_ns..deadline_ns).contains(&now);
            prop_assert_eq!(rule.in_force(now), enabled == 1 && inside, "at {}", now);
        }
    }

    #[test]
    fn scale_stays_in_its_span_and_keeps_order(
        values in any::<(u32, u32)>(),
        span in prop_oneof![0..1000u64, any::<u64>()],
    ) {
        let (low, high) = (values.0.min(values.1), values.0.max(values.1));
        prop_assert!(scale(high, span) <= span);
        prop_assert!(scale(low, span) <= scale(high, span));
        prop_assert_eq!(scale(0, span), 0);
    }

    #[test]
    fn scale_reaches_both_ends_of_spans_that_fit(span in 0..=u64::from(u32::MAX)) {
        prop_assert_eq!(scale(0, span), 0);
        prop_assert_eq!(scale(u32::MAX, span), span);
    }

    #[test]
    fn scale_gives_every_value_of_a_span_its_share(span in 0..2000u64) {
        // Value `k` begins at the first 32-bit number that is mapped to it.
        let count = span + 1;
        for k in 0..=span {
            let first = u32::try_from((k << 32).div_ceil(count)).unwrap();
            prop_assert_eq!(scale(first, span), k);
            if let Some(before) = first.checked_sub(1) {
                prop_assert_eq!(scale(before, span), k - 1);
            }
        }
    }

    #[test]
    fn rules_of_an_experiment_have_seeds_of_their_own(
        experiment in any::<u64>(),
        rules in any::<(u32, u32)>(),
    ) {
        prop_assume!(rules.0 != rules.1);
        prop_assert_ne!(rule_seed(experiment, rules.0), rule_seed(experiment, rules.1));
    }

    #[test]
    fn all_rules_that_fit_have_seeds_of_their_own(experiment in any::<u64>()) {
        let seeds: BTreeSet<u64> =
            (0..MAX_RULES).map(|rule| rule_seed(experiment, rule)).collect();
        prop_assert_eq!(seeds.len(), MAX_RULES as usize);
    }

    #[test]
    fn experiments_with_other_seeds_decide_otherwise(seeds in any::<(u64, u64)>(), rule: u32) {
        prop_assume!(seeds.0 != seeds.1);
        prop_assert_ne!(rule_seed(seeds.0, rule), rule_seed(seeds.1, rule));
    }

    #[test]
    fn a_seed_never_repeats_a_draw(seed in any::<u64>(), occurrences in any::<(u64, u64)>()) {
        prop_assume!(occurrences.0 != occurrences.1);
        prop_assert_ne!(draw(seed, occurrences.0), draw(seed, occurrences.1));
    }

    #[test]
    fn the_halves_of_a_draw_are_all_of_it(draw in any::<u64>()) {
        prop_assert_eq!(u64::from(roll(draw)) << 32 | u64::from(amount(draw)), draw);
    }
}

#[test]
fn one_seed_gives_one_sequence() {
    // Recorded once: a report of an earlier version can still be replayed.
    let sequence: Vec<u64> = (1..=3).map(|n| draw(rule_seed(42, 0), n)).collect();
    assert_eq!(
        sequence,
        [
            0x3165_8192_85df_2854,
            0x599e_d3ca_2e25_16f2,
            0x2110_70d2_5df8_53a3,
        ]
    );
    // SplitMix64 with seed 0 (Steele, Lea and Flood; also Java's SplittableRandom).
    assert_eq!(draw(0, 1), 0xe220_a839_7b1d_cdaf);
    assert_eq!(mix(0), 0);
}

proptest! {
    #[test]
    fn what_is_drawn_first_or_by_itself_has_the_share_itself(
        trigger in any_trigger(), last in any::<u64>(),
    ) {
        prop_assert_eq!(trigger.threshold_after(0), trigger.threshold);
        let alone = Trigger { correlation: 0, ..trigger };
        prop_assert_eq!(alone.threshold_after(last), trigger.threshold);
    }

    /// Neighbours differ by the correlation, and so keep the share: t = t·a + (1 − t)·b.
    #[test]
    fn correlated_draws_keep_the_share(
        threshold in 0..THRESHOLD_ALWAYS, correlation in 0..=THRESHOLD_ALWAYS,
    ) {
        let trigger = Trigger { threshold, correlation, ..Trigger::ALWAYS };
        let [hit, missed] = [true, false].map(|hit| trigger.threshold_after(Trigger::after(hit)));
        prop_assert!(missed <= threshold && threshold <= hit && hit <= THRESHOLD_ALWAYS);
        prop_assert_eq!(hit - missed, correlation);
        let [t, a, b, all] = [threshold, hit, missed, THRESHOLD_ALWAYS].map(u128::from);
        let kept = (t * a + (all - t) * b) / all;
        prop_assert!(kept.abs_diff(t) <= 1, "{} of {}", kept, t);
    }

    #[test]
    fn a_full_correlation_does_the_same_again(
        threshold in 0..THRESHOLD_ALWAYS, roll in any::<u32>(), hit in any::<bool>(),
    ) {
        let trigger = Trigger { threshold, correlation: THRESHOLD_ALWAYS, ..Trigger::ALWAYS };
        prop_assert_eq!(u64::from(roll) < trigger.threshold_after(Trigger::after(hit)), hit);
    }

    #[test]
    fn any_memory_makes_a_threshold(trigger in any_trigger(), last in any::<u64>()) {
        let _ = trigger.threshold_after(last);
    }
}

/// Seeds of the statistical tests: fixed, so that they pass always or never.
const SEEDS: [u64; 4] = [0, 1, 0xdead_beef, u64::MAX];
const DRAWS: u64 = 200_000;
/// The normal deviate that 99.9 % of samples lie within, both sides.
const DEVIATE: f64 = 3.2905;

#[test]
fn rates_lie_in_the_binomial_interval() {
    for seed in SEEDS {
        for percent in [0.1, 1.0, 5.0, 20.0, 50.0, 80.0, 99.5] {
            let share = percent / 100.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of 2^32 is a whole number between 0 and 2^32"
            )]
            let threshold = (THRESHOLD_ALWAYS as f64 * share).round() as u64;
            let trigger = Trigger {
                threshold,
                ..Trigger::ALWAYS
            };
            let selected = (1..=DRAWS).filter(|&n| trigger.selects(n, roll(draw(seed, n))));
            let selected = selected.count() as f64;
            let draws = DRAWS as f64;
            let bound = DEVIATE * (draws * share * (1.0 - share)).sqrt();
            assert!(
                (selected - draws * share).abs() <= bound,
                "seed {seed}: {selected} of {DRAWS} at {percent} %, more than {bound:.0} off"
            );
        }
    }
}

/// Share and correlation are those asked for: after a hit and after a miss, as many are
/// hit as a binomial count allows, and as many in all as the correlation leaves to chance.
#[test]
fn correlated_draws_have_their_share_and_their_runs() {
    for seed in SEEDS {
        for (share, correlation) in [(0.05, 0.25), (0.2, 0.75), (0.5, 0.5), (0.9, 0.95)] {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of 2^32 is a whole number between 0 and 2^32"
            )]
            let [threshold, correlated] =
                [share, correlation].map(|part| (THRESHOLD_ALWAYS as f64 * part).round() as u64);
            let trigger = Trigger {
                threshold,
                correlation: correlated,
                ..Trigger::ALWAYS
            };
            let mut last = 0;
            let hits: Vec<bool> = (1..=DRAWS)
                .map(|n| {
                    let hit = u64::from(roll(draw(seed, n))) < trigger.threshold_after(last);
                    last = Trigger::after(hit);
                    hit
                })
                .collect();
            let check = |what: &str, found: usize, of: usize, share: f64, spread: f64| {
                let (found, of) = (found as f64, of as f64);
                let bound = DEVIATE * (of * share * (1.0 - share) * spread).sqrt();
                assert!(
                    (found - of * share).abs() <= bound,
                    "seed {seed}, {share} by {correlation}, {what}: {found} of {of}"
                );
            };
            // Hits some draws apart have something in common that decays by the
            // correlation with each.
            let spread = (1.0 + correlation) / (1.0 - correlation);
            let all = hits.iter().filter(|&&hit| hit).count();
            check("in all", all, hits.len(), share, spread);
            for (what, before, share) in [
                ("after a hit", true, share + correlation * (1.0 - share)),
                ("after a miss", false, share - correlation * share),
            ] {
                let pairs = hits.windows(2).filter(|pair| pair[0] == before);
                let found = pairs.clone().filter(|pair| pair[1]).count();
                check(what, found, pairs.count(), share, 1.0);
            }
        }
    }
}

/// Sorts draws into 256 bins and compares with even bins by chi-square.
#[track_caller]
fn assert_even(name: &str, bin: impl Fn(u64, u64) -> u64) {
    // 99.9 % of even samples lie below this, with 255 degrees of freedom.
    const CRITICAL: f64 = 330.52;
    for seed in SEEDS {
        let mut bins = [0u32; 256];
        for n in 1..=DRAWS {
            bins[usize::try_from(bin(seed, n)).expect("one of 256")] += 1;
        }
        let even = DRAWS as f64 / 256.0;
        let chi_square: f64 = bins
            .iter()
            .map(|&count| (f64::from(count) - even).powi(2) / even)
            .sum();
        assert!(
            chi_square < CRITICAL,
            "{name}, seed {seed}: {chi_square:.1}"
        );
    }
}

#[test]
fn draws_are_spread_evenly() {
    assert_even("rolls", |seed, n| u64::from(roll(draw(seed, n)) >> 24));
    assert_even("amounts", |seed, n| scale(amount(draw(seed, n)), 255));
    assert_even("low bits of amounts", |seed, n| draw(seed, n) & 0xff);
}

#[test]
fn the_two_halves_of_a_draw_are_independent() {
    assert_even("halves", |seed, n| {
        let draw = draw(seed, n);
        u64::from(roll(draw) >> 28) << 4 | u64::from(amount(draw) >> 28)
    });
}

#[test]
fn neighbours_are_independent() {
    let high = |seed, n| draw(seed, n) >> 60;
    assert_even("occurrences", |seed, n| {
        high(seed, 2 * n) << 4 | high(seed, 2 * n + 1)
    });
    assert_even("rules", |seed, n| {
        high(rule_seed(seed, 0), n) << 4 | high(rule_seed(seed, 1), n)
    });
}
