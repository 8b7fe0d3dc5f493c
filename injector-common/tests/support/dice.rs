//! Chance that can be repeated, for what tests send.

use injector_common::random;

/// How many packets or messages a parser must survive.
pub(crate) const PACKETS: u64 = 1_000_000;

/// Variable that holds the seed of a run to repeat.
const SEED: &str = "INJECTOR_TEST_SEED";

/// The seed of this run, printed so that a failure can be repeated: that of the
/// variable, or always the same.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var(SEED).map_or(0x5eed, |seed| seed.parse().expect("a number"));
    println!("{SEED}={seed}");
    seed
}

/// Seeded chance.
pub(crate) struct Dice {
    seed: u64,
    rolled: u64,
}

impl Dice {
    /// That of packet `number` of a run.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        Self {
            seed: random::mix(seed ^ random::mix(number)),
            rolled: 0,
        }
    }

    fn bits(&mut self) -> u64 {
        self.rolled += 1;
        random::draw(self.seed, self.rolled)
    }

    /// A number in `0..count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.bits() % count.max(1) as u64).expect("an index")
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bits().to_le_bytes()[0]
    }

    pub(crate) fn noise(&mut self, bytes: &mut Vec<u8>, count: usize) {
        let end = bytes.len() + count;
        while bytes.len() < end {
            bytes.extend(self.bits().to_le_bytes());
        }
        bytes.truncate(end);
    }
}
