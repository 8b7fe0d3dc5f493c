//! Sets of marks: exact, so that what is said of two filters is certain.

use super::{Choice, filter::Mark};

/// A condition that every mark meets.
const ANY: Mark = Mark { value: 0, mask: 0 };

impl Choice<Mark> {
    /// Whether some mark meets the condition.
    #[must_use]
    pub fn takes_some(&self) -> bool {
        self.asked().iter().any(|mark| some(&[*mark], &self.not))
    }

    /// Whether some mark meets both conditions.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let not = [&self.not[..], &other.not].concat();
        let (ours, theirs) = (self.asked(), other.asked());
        let mut pairs = ours
            .iter()
            .flat_map(|one| theirs.iter().map(move |other| [*one, *other]));
        pairs.any(|pair| some(&pair, &not))
    }

    /// Whether every mark that meets the other condition meets this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let not = [&other.not[..], &self.these].concat();
        let outside = |mark: &Mark| {
            (!self.these.is_empty() && some(&[*mark], &not))
                || self.not.iter().any(|out| some(&[*mark, *out], &other.not))
        };
        !other.asked().iter().any(outside)
    }

    /// Those of which one is enough.
    fn asked(&self) -> Vec<Mark> {
        if self.these.is_empty() {
            vec![ANY]
        } else {
            self.these.clone()
        }
    }
}

/// Whether a mark meets all of `within` and none of `without`.
fn some(within: &[Mark], without: &[Mark]) -> bool {
    let mut all = ANY;
    for mark in within {
        if (all.value ^ mark.value) & all.mask & mark.mask != 0 {
            return false;
        }
        all.value |= mark.value;
        all.mask |= mark.mask;
    }
    avoids(all, without)
}

/// Whether a mark that meets `all` meets none of `without`.
fn avoids(all: Mark, without: &[Mark]) -> bool {
    let free = |mark: &Mark| mark.mask & !all.mask;
    let left: Vec<Mark> = without
        .iter()
        .filter(|mark| (mark.value ^ all.value) & mark.mask & all.mask == 0)
        .copied()
        .collect();
    // The one that leaves the fewest choices, of which one must be taken.
    let Some(tightest) = left.iter().min_by_key(|mark| free(mark).count_ones()) else {
        return true;
    };
    let bits = (0..u32::BITS).map(|bit| 1 << bit);
    bits.filter(|bit| free(tightest) & bit != 0).any(|bit| {
        let other = Mark {
            value: all.value | (!tightest.value & bit),
            mask: all.mask | bit,
        };
        avoids(other, &left)
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn any_choice() -> impl Strategy<Value = Choice<Mark>> {
        let mark = (0..16u32, 1..16u32).prop_map(|(value, mask)| Mark {
            value: value & mask,
            mask,
        });
        (vec(mark.clone(), 0..4), vec(mark, 0..4)).prop_map(|(these, not)| Choice { these, not })
    }

    /// Which of the marks of four bits meet a condition.
    fn members(choice: &Choice<Mark>) -> Vec<bool> {
        let meets = |number: u32, mark: &Mark| number & mark.mask == mark.value;
        let within =
            |number| choice.these.is_empty() || choice.these.iter().any(|mark| meets(number, mark));
        let without = |number| choice.not.iter().any(|mark| meets(number, mark));
        (0..16)
            .map(|number| within(number) && !without(number))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn sets_of_marks_are_told_exactly(a in any_choice(), b in any_choice()) {
            let (in_a, in_b) = (members(&a), members(&b));
            let both = || in_a.iter().zip(&in_b);
            prop_assert_eq!(a.takes_some(), in_a.contains(&true));
            prop_assert_eq!(a.overlaps(&b), both().any(|(a, b)| *a && *b));
            prop_assert_eq!(a.covers(&b), both().all(|(a, b)| *a || !*b));
        }
    }
}
