//! Which calls a rule means: by their arguments, by who makes them, and by the file or socket that
//! they are about.

/// Bytes of a process's name as the kernel keeps it, with the zero at its end
/// (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMMAND_BYTES: usize = 16;

/// How many tests of arguments a rule can have.
pub const MAX_ARGUMENT_TESTS: usize = 4;

/// How many bytes of a file's name a rule can name at its beginning, and as many at its end.
pub const NAME_BYTES: usize = 64;

/// One test of an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ArgumentTest {
    /// What the argument is compared with.
    pub value: u64,
    /// Which argument: 0 to 5.
    pub index: u32,
    /// One of the constants below; [`test::NONE`] in an unused place.
    pub test: u32,
}

/// How an argument is compared.
pub mod test {
    /// Not at all.
    pub const NONE: u32 = 0;
    /// It is the value.
    pub const EQUAL: u32 = 1;
    /// It is not.
    pub const DIFFERENT: u32 = 2;
    /// It is less.
    pub const LESS: u32 = 3;
    /// It is more.
    pub const MORE: u32 = 4;
    /// It has some of the value's bits.
    pub const SOME_BITS: u32 = 5;
    /// It has none of them.
    pub const NO_BITS: u32 = 6;
    /// It is one of the numbers below 64 whose bits the value has.
    pub const ONE_OF: u32 = 7;
    /// It is none of them.
    pub const NONE_OF: u32 = 8;
    /// Added for a value below 0: the lower half of the argument is compared as a signed number,
    /// since that is what a C `int` leaves certain.
    pub const SIGNED: u32 = 1 << 8;
}

impl ArgumentTest {
    /// Whether an argument passes.
    #[inline(always)]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a C int is the lower half of its register"
    )]
    pub const fn holds(&self, argument: u64) -> bool {
        let (value, mut argument, mut shift) = (self.value, argument, 0);
        if self.test & test::SIGNED != 0 {
            argument = (argument as i32 as i64).cast_unsigned();
            // What is compared is shifted into the unsigned range, so that one comparison serves both.
            shift = 1 << 63;
        }
        match self.test & !test::SIGNED {
            test::NONE => true,
            test::EQUAL => argument == value,
            test::DIFFERENT => argument != value,
            test::LESS => argument ^ shift < value ^ shift,
            test::MORE => argument ^ shift > value ^ shift,
            test::SOME_BITS => argument & value != 0,
            test::NO_BITS => argument & value == 0,
            test::ONE_OF => argument < 64 && value >> (argument & 63) & 1 != 0,
            test::NONE_OF => argument >= 64 || value >> (argument & 63) & 1 == 0,
            _ => false,
        }
    }
}

/// The conditions of a rule on calls, all of which must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CallFilter {
    /// Tests of arguments.
    pub arguments: [ArgumentTest; MAX_ARGUMENT_TESTS],
    /// What the file's name begins with, zeros behind it.
    pub name_head: [u64; NAME_BYTES / 8],
    /// What it ends with, likewise.
    pub name_tail: [u64; NAME_BYTES / 8],
    /// The name of the process, zeros behind it.
    pub command: [u64; COMMAND_BYTES / 8],
    /// Address families of sockets: bit n for that of number n.
    pub families: u64,
    /// First of the users whose calls match, by effective id.
    pub user_first: u32,
    /// Last of them.
    pub user_last: u32,
    /// Which conditions there are: bits of [`condition`].
    pub conditions: u32,
    /// Types of files: bit n for the type whose `S_IFMT` part is n << 12.
    pub file_types: u32,
    /// `f_mode` of an open file has some of these bits: 1 to read, 2 to write.
    pub access: u32,
    /// Bytes of `name_head`.
    pub head_length: u32,
    /// Bytes of `name_tail`.
    pub tail_length: u32,
    /// Zero.
    pub _pad: u32,
}

/// Bits of [`CallFilter::conditions`].
pub mod condition {
    /// The file is, or is below, one that the rule names.
    pub const BELOW: u32 = 1;
    /// It is none, and below none, of those that the rule leaves out.
    pub const NOT_BELOW: u32 = 1 << 1;
    /// The file's name begins with `name_head` and ends with `name_tail`.
    pub const NAME: u32 = 1 << 2;
    /// The file's name is `name_head`.
    pub const WHOLE_NAME: u32 = 1 << 3;
    /// Of the two conditions on names the opposite.
    pub const NOT_NAME: u32 = 1 << 4;
    /// The file's type is one of `file_types`.
    pub const TYPE: u32 = 1 << 5;
    /// The file is open in one of these ways.
    pub const ACCESS: u32 = 1 << 6;
    /// The caller's user is within `user_first..=user_last`.
    pub const USER: u32 = 1 << 7;
    /// It is not.
    pub const NOT_USER: u32 = 1 << 8;
    /// The caller's thread is called `command`.
    pub const COMMAND: u32 = 1 << 9;
    /// It is not.
    pub const NOT_COMMAND: u32 = 1 << 10;
    /// Some argument is tested.
    pub const ARGUMENTS: u32 = 1 << 11;
    /// The call is on a socket of one of `families`, or makes one.
    pub const FAMILY: u32 = 1 << 12;
    /// It is on a socket whose other end the rule's packet filter takes, or names such an end.
    pub const PEER: u32 = 1 << 13;
    /// The call came through a function that the rule names.
    pub const CALLED_BY: u32 = 1 << 14;
    /// It came through none of those that the rule leaves out.
    pub const NOT_CALLED_BY: u32 = 1 << 15;
    /// Conditions on the functions that it came through.
    pub const CHAIN: u32 = CALLED_BY | NOT_CALLED_BY;
    /// Conditions on the socket.
    pub const SOCKET: u32 = FAMILY | PEER;
    /// Conditions on the file.
    pub const FILE: u32 = BELOW | NOT_BELOW | NAME | WHOLE_NAME | TYPE | ACCESS;
}

/// Whether a call meets conditions.
pub mod met {
    /// It does not.
    pub const NO: u32 = 0;
    /// It does.
    pub const YES: u32 = 1;
    /// That cannot be known of this call.
    pub const UNKNOWN: u32 = 2;
}

impl CallFilter {
    /// No condition at all.
    pub const ANY: Self = Self {
        arguments: [ArgumentTest {
            value: 0,
            index: 0,
            test: test::NONE,
        }; MAX_ARGUMENT_TESTS],
        name_head: [0; NAME_BYTES / 8],
        name_tail: [0; NAME_BYTES / 8],
        command: [0; COMMAND_BYTES / 8],
        families: 0,
        user_first: 0,
        user_last: 0,
        conditions: 0,
        file_types: 0,
        access: 0,
        head_length: 0,
        tail_length: 0,
        _pad: 0,
    };

    /// Whether some condition has one of these bits.
    #[inline(always)]
    #[must_use]
    pub const fn asks(&self, bits: u32) -> bool {
        self.conditions & bits != 0
    }

    /// Whether a user is one of those whose calls match.
    #[inline(always)]
    #[must_use]
    pub const fn user(&self, user: u32) -> bool {
        let within = user >= self.user_first && user <= self.user_last;
        !(self.asks(condition::USER) && !within || self.asks(condition::NOT_USER) && within)
    }

    /// Whether threads of this name are meant.
    #[inline(always)]
    #[must_use]
    pub const fn command(&self, command: [u64; COMMAND_BYTES / 8]) -> bool {
        let same = command[0] == self.command[0] && command[1] == self.command[1];
        !(self.asks(condition::COMMAND) && !same || self.asks(condition::NOT_COMMAND) && same)
    }

    /// Whether files with these mode bits (`i_mode`) are meant.
    #[inline(always)]
    #[must_use]
    pub const fn file_type(&self, mode: u32) -> bool {
        !self.asks(condition::TYPE) || self.file_types >> (mode >> 12 & 0xf) & 1 != 0
    }

    /// Whether files that are open in this way (`f_mode`) are meant; 0 for one that is not open.
    #[inline(always)]
    #[must_use]
    pub const fn open_for(&self, mode: u32) -> bool {
        !self.asks(condition::ACCESS) || self.access & mode != 0
    }

    /// Whether sockets of this family are meant.
    #[inline(always)]
    #[must_use]
    pub const fn family(&self, family: u32) -> bool {
        !self.asks(condition::FAMILY) || family < 64 && self.families >> (family & 63) & 1 != 0
    }

    /// Whether a call is meant that came through a function that the rule names (bit 0 of `by`), and
    /// through one that it leaves out (of `not`), as far as its chain is known: one of [`met`]. If
    /// something was `lost`, it may have come through more.
    ///
    /// Without a branch: each would be two ways to the verifier.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "it is of two bits")]
    pub const fn chain(&self, by: u64, not: u64, lost: u64) -> u32 {
        const { assert!(condition::CALLED_BY == 1 << 14 && condition::NOT_CALLED_BY == 1 << 15) }
        const { assert!(met::NO == 0 && met::YES == 1 && met::UNKNOWN == 2) }
        let (wants, leaves_out) = (self.conditions >> 14 & 1, self.conditions >> 15 & 1);
        let (wants, leaves_out) = (wants as u64, leaves_out as u64);
        let lost = (lost | lost.wrapping_neg()) >> 63;
        let missing = wants & !by;
        let kept = !(leaves_out & not) & 1;
        let unknown = lost & (missing | leaves_out) & kept;
        let yes = kept & !unknown & !missing;
        (unknown << 1 | yes & 1) as u32
    }

    /// What comes of the comparison of a file's name.
    #[inline(always)]
    #[must_use]
    pub const fn name(&self, same: bool) -> bool {
        !self.asks(condition::NAME | condition::WHOLE_NAME)
            || same != self.asks(condition::NOT_NAME)
    }
}

/// A file as the kernel tells it from others: by the device of its superblock and its inode
/// number there, which need not be those that stat(2) tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct FileKey {
    /// `inode.i_ino`.
    pub inode: u64,
    /// `super_block.s_dev`.
    pub device: u32,
    /// Zero: map keys are compared byte by byte.
    pub _pad: u32,
}

impl FileKey {
    /// One of 64 bits for each inode number, so that few files share one.
    #[inline(always)]
    #[must_use]
    pub const fn bit(inode: u64) -> u64 {
        1 << (inode & 63)
    }
}

/// The rules that name a file, by the version of the rule (the lowest bit of its key).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FileRules {
    /// Rules that mean it and what is below it.
    pub below: [u64; 2],
    /// Rules that leave it and what is below it out.
    pub not: [u64; 2],
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn holds(test: u32, value: u64, argument: u64) -> bool {
        let test = ArgumentTest {
            value,
            index: 0,
            test,
        };
        test.holds(argument)
    }

    #[test]
    fn an_int_below_zero_is_known_by_its_lower_half() {
        let minus_100 = (-100_i64).cast_unsigned();
        for argument in [minus_100, 0xffff_ff9c] {
            assert!(holds(test::EQUAL | test::SIGNED, minus_100, argument));
            assert!(!holds(test::DIFFERENT | test::SIGNED, minus_100, argument));
        }
        assert!(!holds(test::EQUAL, minus_100, 0xffff_ff9c));
        assert!(holds(test::MORE | test::SIGNED, minus_100, 3));
        assert!(holds(test::LESS | test::SIGNED, minus_100, 0xffff_ff00));
        assert!(holds(
            test::ONE_OF | test::SIGNED,
            1 << 3,
            0xff00_0000_0000_0003
        ));
        assert!(holds(test::NONE_OF | test::SIGNED, u64::MAX, minus_100));
    }

    #[test]
    fn an_unknown_test_is_never_passed() {
        assert!(!holds(9, 0, 0) && !holds(u32::MAX, 0, 0));
        assert!(holds(test::NONE, 5, 9));
    }

    proptest! {
        #[test]
        fn tests_come_in_opposites(value: u64, argument: u64) {
            for (one, other) in [
                (test::EQUAL, test::DIFFERENT),
                (test::SOME_BITS, test::NO_BITS),
                (test::ONE_OF, test::NONE_OF),
            ] {
                for argument in [argument, argument % 70] {
                    prop_assert_ne!(holds(one, value, argument), holds(other, value, argument));
                }
            }
            let order = [test::LESS, test::EQUAL, test::MORE];
            prop_assert_eq!(order.iter().filter(|&&test| holds(test, value, argument)).count(), 1);
        }

        #[test]
        fn a_set_holds_the_numbers_of_its_bits(numbers in proptest::collection::btree_set(0..64u64, 0..9), argument in 0..80u64) {
            let bits = numbers.iter().fold(0, |bits, number| bits | 1 << number);
            prop_assert_eq!(holds(test::ONE_OF, bits, argument), numbers.contains(&argument));
            let filter = CallFilter { families: bits, conditions: condition::FAMILY, ..CallFilter::ANY };
            let family = u32::try_from(argument).unwrap();
            prop_assert_eq!(filter.family(family), numbers.contains(&argument));
            prop_assert!(CallFilter::ANY.family(family));
        }

        /// What more of a chain would tell never contradicts what is said of it.
        #[test]
        fn an_unknown_chain_is_never_a_match_that_more_could_undo(conditions: u32, by: bool, not: bool, more_by: bool, more_not: bool, known: bool, place in 0..64u32) {
            let filter = CallFilter { conditions: conditions & condition::CHAIN, ..CallFilter::ANY };
            let lost = u64::from(!known);
            let now = filter.chain(u64::from(by), u64::from(not), lost << place);
            let then = filter.chain(u64::from(by | more_by), u64::from(not | more_not), 0);
            let wanted = !filter.asks(condition::CALLED_BY) || by | more_by;
            let left = !filter.asks(condition::NOT_CALLED_BY) || !(not | more_not);
            prop_assert_eq!(then, if wanted && left { met::YES } else { met::NO });
            prop_assert!(now == met::UNKNOWN && !known || now == then || known && (more_by || more_not));
            prop_assert_eq!(CallFilter::ANY.chain(u64::from(by), u64::from(not), lost), met::YES);
        }

        #[test]
        fn a_condition_and_its_opposite_share_nothing(user: u32, first: u32, last: u32, same: bool) {
            let of = |conditions| CallFilter {
                user_first: first,
                user_last: last,
                conditions,
                ..CallFilter::ANY
            };
            prop_assert_ne!(of(condition::USER).user(user), of(condition::NOT_USER).user(user));
            prop_assert!(of(0).user(user) && of(0).name(same));
            let named = of(condition::NAME);
            let others = of(condition::NAME | condition::NOT_NAME);
            prop_assert_ne!(named.name(same), others.name(same));
        }
    }
}
