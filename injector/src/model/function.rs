//! Functions of programs and libraries.

use std::{fmt, path::PathBuf};

/// A function that does nothing, and what it returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, as the file's table of symbols has it.
    pub name: String,
    /// The program or library that it is in, as the target sees it: an absolute path.
    pub file: PathBuf,
    /// What it returns, in the register for integers and addresses.
    pub value: FunctionValue,
}

impl Function {
    /// Whether it is the same function, as far as names tell.
    #[must_use]
    pub fn is_also(&self, other: &Self) -> bool {
        self.name == other.name && self.file == other.file
    }
}

/// 64 bits, as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionValue {
    /// The bits.
    pub bits: u64,
    /// Whether they were written as hexadecimal digits.
    pub hex: bool,
}

impl fmt::Display for FunctionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hex {
            write!(f, "{:#x}", self.bits)
        } else {
            self.bits.cast_signed().fmt(f)
        }
    }
}
