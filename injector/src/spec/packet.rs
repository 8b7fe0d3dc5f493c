//! The values of packet filters that are about the packet itself.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use crate::{
    model::{Choice, Dscp, Mark, Protocol, State, TcpFlags},
    spec::text::{Text, ValueError, is_digits, sign, word},
};

/// A value, or with a leading `!` anything but it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    /// Whether the `!` is there.
    pub negated: bool,
    /// The value.
    pub value: T,
}

impl<T: FromStr<Err = ValueError>> FromStr for Signed<T> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (negated, text) = sign(text);
        Ok(Self {
            negated,
            value: text.parse()?,
        })
    }
}

/// What a repeated option says, each value once. The error is a value that is
/// there with and without `!`.
pub(crate) fn choice<T: Clone + Ord, U>(
    values: &[Text<Signed<T>>],
    convert: impl Fn(T) -> U,
) -> Result<Choice<U>, T> {
    let pick = |negated| -> std::collections::BTreeSet<T> {
        let wanted = values.iter().filter(|value| value.0.negated == negated);
        wanted.map(|value| value.0.value.clone()).collect()
    };
    let (these, not) = (pick(false), pick(true));
    if let Some(both) = these.intersection(&not).next() {
        return Err(both.clone());
    }
    // In the order in which they were written.
    let mut choice = Choice::ANY;
    let (mut these, mut not) = (these, not);
    for Text(Signed { negated, value }) in values {
        let (left, list) = if *negated {
            (&mut not, &mut choice.not)
        } else {
            (&mut these, &mut choice.these)
        };
        if left.remove(value) {
            list.push(convert(value.clone()));
        }
    }
    Ok(choice)
}

/// A protocol, or `any` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proto {
    /// Any.
    Any,
    /// This one.
    One(Protocol),
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::One(protocol) => protocol.fmt(f),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("TCP"),
            Self::Udp => f.write_str("UDP"),
            Self::Icmp => f.write_str("ICMP"),
            Self::Number(number) => write!(f, "protocol {number}"),
        }
    }
}

const PROTO_ALLOWED: &str =
    "tcp, udp, icmp, any, or the number of a protocol from 0 to 255, such as 132";

impl FromStr for Proto {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(Self::One(match text {
            "any" => return Ok(Self::Any),
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "icmp" => Protocol::Icmp,
            _ => match number(text) {
                Some(6) => Protocol::Tcp,
                Some(17) => Protocol::Udp,
                found => {
                    let byte = found.and_then(|number| u8::try_from(number).ok());
                    let refuse = || ValueError::new(text, "is no protocol", PROTO_ALLOWED);
                    Protocol::Number(byte.ok_or_else(refuse)?)
                }
            },
        }))
    }
}

/// A whole number in decimal digits.
fn number(text: &str) -> Option<u32> {
    is_digits(text).then(|| text.parse().ok()).flatten()
}

const DSCP_NAMES: [(&str, u8); 21] = [
    ("cs0", 0),
    ("cs1", 8),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("cs2", 16),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("cs3", 24),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("cs4", 32),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("cs5", 40),
    ("ef", 46),
    ("cs6", 48),
    ("cs7", 56),
];

impl FromStr for Dscp {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let named = DSCP_NAMES.iter().find(|(name, _)| *name == text);
        let numbered = || number(text).and_then(|number| u8::try_from(number).ok());
        named
            .map(|(_, point)| *point)
            .or_else(numbered)
            .filter(|point| *point < 64)
            .map(Self)
            .ok_or_else(|| {
                let allowed = "0 to 63, or one of ef, cs0 to cs7, af11 to af13, af21 to af23, \
                               af31 to af33 and af41 to af43";
                ValueError::new(text, "is no code point of differentiated services", allowed)
            })
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DSCP_NAMES.iter().find(|(_, point)| *point == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Mark {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what: &str| {
            let allowed = "VALUE or VALUE/MASK, each from 0 to 4294967295 or 0x0 to 0xffffffff, \
                           the value within the mask, such as 0x10/0xf0; each with a leading ! or without";
            ValueError::new(text, what, allowed)
        };
        let word = |text: &str| match text.strip_prefix("0x") {
            Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                u32::from_str_radix(hex, 16).ok()
            }
            Some(_) => None,
            None => number(text),
        };
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (word(value), word(mask)),
            None => (word(text), Some(u32::MAX)),
        };
        let (Some(value), Some(mask)) = (value, mask) else {
            return Err(refuse("is no mark"));
        };
        if mask == 0 {
            return Err(refuse("has a mask without bits"));
        }
        if value & !mask != 0 {
            return Err(refuse("has bits outside of its mask"));
        }
        Ok(Self { value, mask })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.value)?;
        if self.mask != u32::MAX {
            write!(f, "/{:#x}", self.mask)?;
        }
        Ok(())
    }
}

/// The shortest and the longest IP packet in bytes: an IPv4 header alone, and
/// an IPv6 header with the longest payload that it can state.
pub(crate) const SIZES: RangeInclusive<u32> = 20..=65_575;

/// A range of lengths of IP packets, in bytes, from 20 (an IPv4 header alone) to 65575 (an
/// IPv6 header with the longest payload that it can state).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sizes {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl From<Sizes> for RangeInclusive<u32> {
    fn from(sizes: Sizes) -> Self {
        sizes.first..=sizes.last
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for Sizes {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what: &str| {
            let allowed = "a length or a range of lengths A-B within 20 to 65575 bytes, such as \
                           1000-1500; each with a leading ! or without";
            ValueError::new(text, what, allowed)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        if !is_digits(first) || !is_digits(last) {
            return Err(refuse("is no length"));
        }
        let size = |text: &str| number(text).filter(|size| SIZES.contains(size));
        let (Some(first), Some(last)) = (size(first), size(last)) else {
            return Err(refuse("is out of range"));
        };
        if first > last {
            return Err(refuse("ends before it starts"));
        }
        Ok(Self { first, last })
    }
}

/// The flags of TCP, in the order of their bits.
const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

impl FromStr for TcpFlags {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut flags = Self { set: 0, clear: 0 };
        for item in text.split(',') {
            let item = item.trim();
            let name = item.strip_prefix('!').unwrap_or(item);
            let Some(bit) = FLAGS.iter().position(|flag| *flag == name) else {
                return Err(refuse_flags(text, "names no flag of TCP"));
            };
            if name == item {
                flags.set |= 1 << bit;
            } else {
                flags.clear |= 1 << bit;
            }
        }
        if flags.set & flags.clear != 0 {
            return Err(refuse_flags(text, "wants a flag set and not set"));
        }
        Ok(flags)
    }
}

fn refuse_flags(text: &str, what: &str) -> ValueError {
    let allowed = "flags that are set, and with a leading ! such as are not, out of fin, syn, rst, \
                   psh, ack, urg, ece and cwr, separated by commas, such as syn,!ack";
    ValueError::new(text, what, allowed)
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (bits, sign) in [(self.set, ""), (self.clear, "!")] {
            for (bit, name) in FLAGS.iter().enumerate() {
                if bits & 1 << bit != 0 {
                    write!(f, "{comma}{sign}{name}")?;
                    comma = ",";
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Established => "established",
        })
    }
}

impl FromStr for State {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let words = [("new", Self::New), ("established", Self::Established)];
        word(text, &words, "new or established")
    }
}

#[cfg(test)]
mod tests;
