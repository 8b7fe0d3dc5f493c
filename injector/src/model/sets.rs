//! Sets of numbers: exact, so that what is said of two filters is certain.

/// A set of numbers from 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers(pub [u64; 4]);

impl Numbers {
    /// All of them.
    pub const ALL: Self = Self([u64::MAX; 4]);

    fn combine(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|word| {
            with(self.0[word], other.0[word])
        }))
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & b)
    }

    /// Those that are not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & !b)
    }

    /// Whether a number is in the set.
    #[must_use]
    pub fn has(&self, number: u8) -> bool {
        self.0[usize::from(number >> 6)] >> (number & 63) & 1 != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

impl FromIterator<u8> for Numbers {
    fn from_iter<I: IntoIterator<Item = u8>>(numbers: I) -> Self {
        let mut set = Self([0; 4]);
        for number in numbers {
            set.0[usize::from(number >> 6)] |= 1 << (number & 63);
        }
        set
    }
}

/// A set of numbers as ranges, first and last, in their order and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// The set that networks leave of `0..=last`: of those that take a number
    /// in, the longest says whether it is in the set, and `otherwise` where
    /// there is none. Networks lie within one another or apart, none is there
    /// twice.
    #[must_use]
    pub fn of_longest(
        mut networks: Vec<((u128, u128), bool)>,
        last: u128,
        otherwise: bool,
    ) -> Self {
        // An outer network before those within it.
        networks.sort_unstable_by_key(|&((first, end), _)| (first, u128::MAX - end));
        let mut ranges = Self::default();
        // Those that `at` lies in, and before them the whole.
        let mut around = vec![(last, otherwise)];
        let mut at = 0;
        for ((first, end), taken) in networks {
            while let Some(&(inner_end, inner)) = around.last()
                && inner_end < first
            {
                ranges.add(at, inner_end, inner);
                at = inner_end + 1;
                around.pop();
            }
            if let Some(&(_, outer)) = around.last()
                && at < first
            {
                ranges.add(at, first - 1, outer);
            }
            at = first;
            around.push((end, taken));
        }
        while let Some((end, taken)) = around.pop() {
            ranges.add(at, end, taken);
            match end.checked_add(1) {
                Some(next) => at = at.max(next),
                // Those around it end here as well.
                None => break,
            }
        }
        ranges
    }

    /// Adds a range behind all others.
    fn add(&mut self, first: u128, last: u128, taken: bool) {
        if !taken || first > last {
            return;
        }
        match self.0.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => self.0.push((first, last)),
        }
    }

    /// Those that are not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for &(first, last) in &self.0 {
            // What is left of this range begins here.
            let mut at = Some(first);
            for &(hole, end) in other.0.iter().filter(|&&(hole, _)| hole <= last) {
                let Some(from) = at.filter(|from| end >= *from) else {
                    continue;
                };
                if hole > from {
                    rest.add(from, hole - 1, true);
                }
                at = end.checked_add(1);
            }
            if let Some(from) = at {
                rest.add(from, last, true);
            }
        }
        rest
    }

    /// Whether every number of the other is in this set.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|&(first, last)| {
            let behind = self.0.partition_point(|&(start, _)| start <= first);
            behind > 0 && self.0[behind - 1].1 >= last
        })
    }

    /// Whether some number is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        other.0.iter().any(|&(first, last)| {
            let behind = self.0.partition_point(|&(start, _)| start <= last);
            behind > 0 && self.0[behind - 1].1 >= first
        })
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// First and last number of each range.
    #[must_use]
    pub fn ends(&self) -> &[(u128, u128)] {
        &self.0
    }
}

impl FromIterator<(u128, u128)> for Ranges {
    /// From ranges that may overlap, in any order.
    fn from_iter<I: IntoIterator<Item = (u128, u128)>>(ranges: I) -> Self {
        let mut sorted: Vec<(u128, u128)> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut set = Self::default();
        for (first, last) in sorted {
            match set.0.last_mut() {
                Some((_, end)) if *end >= first => *end = last.max(*end),
                _ => set.add(first, last, true),
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn any_ranges() -> impl Strategy<Value = (Ranges, Vec<bool>)> {
        vec((0..40u128, 0..40u128), 0..6).prop_map(|ends| {
            let ends: Vec<_> = ends.into_iter().filter(|(a, b)| a <= b).collect();
            let members = (0..40).map(|n| ends.iter().any(|&(a, b)| a <= n && n <= b));
            let members = members.collect();
            (ends.into_iter().collect(), members)
        })
    }

    fn members(ranges: &Ranges) -> Vec<bool> {
        let inside = |n: u128| ranges.0.iter().filter(|&&(a, b)| a <= n && n <= b).count();
        (0..40).map(|n| inside(n) == 1).collect()
    }

    /// That no two ranges could be one.
    fn is_tidy(ranges: &Ranges) -> bool {
        ranges.0.iter().all(|(first, last)| first <= last)
            && ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0)
    }

    proptest! {
        #[test]
        fn ranges_hold_what_they_were_made_of((a, in_a) in any_ranges(), (b, in_b) in any_ranges()) {
            prop_assert_eq!(&members(&a), &in_a);
            let rest = a.without(&b);
            prop_assert!(is_tidy(&a) && is_tidy(&rest));
            let both = || in_a.iter().zip(&in_b);
            let expected: Vec<bool> = both().map(|(a, b)| *a && !*b).collect();
            prop_assert_eq!(members(&rest), expected);
            prop_assert_eq!(a.covers(&b), both().all(|(a, b)| *a || !*b));
            prop_assert_eq!(a.overlaps(&b), both().any(|(a, b)| *a && *b));
            prop_assert_eq!(a.is_empty(), !in_a.contains(&true));
        }

        #[test]
        fn the_longest_network_decides(
            // Prefix lengths of 5-bit numbers.
            networks in proptest::collection::btree_map((0..=5u32, 0..32u128), any::<bool>(), 0..12),
            otherwise in any::<bool>(),
        ) {
            let ends = |bits: u32, at: u128| {
                let host = (1u128 << (5 - bits)) - 1;
                (at & !host, at | host)
            };
            let networks: std::collections::BTreeMap<_, _> = networks
                .into_iter()
                .map(|((bits, at), taken)| ((ends(bits, at)), taken))
                .collect();
            let set = Ranges::of_longest(networks.clone().into_iter().collect(), 31, otherwise);
            prop_assert!(is_tidy(&set));
            for number in 0..32 {
                let around = networks.iter().filter(|((a, b), _)| *a <= number && number <= *b);
                let longest = around.min_by_key(|((a, b), _)| b - a);
                let expected = longest.map_or(otherwise, |(_, taken)| *taken);
                prop_assert_eq!(members(&set)[usize::try_from(number).unwrap()], expected);
            }
        }
    }

    #[test]
    fn the_last_address_is_no_trouble() {
        let all = (0, u128::MAX);
        let top = (u128::MAX, u128::MAX);
        let set = Ranges::of_longest(vec![(all, true), (top, false)], u128::MAX, false);
        assert_eq!(set.ends(), [(0, u128::MAX - 1)]);
        let set = Ranges::of_longest(vec![(all, false), (top, true)], u128::MAX, true);
        assert_eq!(set.ends(), [top]);
        assert!(Ranges::from_iter([top]).without(&set).is_empty());
    }

    #[test]
    fn numbers() {
        let set = Numbers::from_iter([0, 6, 63, 64, 255]);
        for number in 0..=255 {
            assert_eq!(set.has(number), [0, 6, 63, 64, 255].contains(&number));
        }
        let without = set.without(&Numbers::from_iter([6, 7]));
        assert_eq!(without, Numbers::from_iter([0, 63, 64, 255]));
        assert!(without.and(&Numbers::from_iter([6])).is_empty());
    }
}
