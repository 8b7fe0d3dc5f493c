//! The values of rules on queries of DNS.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use injector_common::dns::{MAX_LABEL, MAX_NAME};

use crate::{
    model::{NamePattern, RecordType},
    spec::text::{ValueError, is_digits},
};

const PATTERN_ALLOWED: &str = "a name such as db.example.net, or *.example.net for every name \
                               below it; labels of 1 to 63 letters, digits, - and _, 253 \
                               characters in all; other letters in the form xn--…";

impl FromStr for NamePattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what: &str| ValueError::new(text, what, PATTERN_ALLOWED);
        let (below, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if name.contains('*') {
            return Err(refuse("has a * that is not the whole of its first label"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(|c| plain(c) || c == '.') {
            return Err(refuse("is no name"));
        }
        let fits = |label: &str| (1..=MAX_LABEL as usize).contains(&label.len());
        if !name.split('.').all(fits) {
            return Err(refuse("has an empty label or one that is too long"));
        }
        // In front of the dot there is at least one character more.
        if name.len() + if below { 2 } else { 0 } > MAX_NAME as usize {
            return Err(refuse("is too long"));
        }
        Ok(if below {
            Self::Below(name)
        } else {
            Self::Exact(name)
        })
    }
}

impl FromStr for RecordType {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut named = Self::NAMED.iter();
        if let Some((_, kind)) = named.find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(*kind);
        }
        let number = is_digits(text).then(|| text.parse().ok()).flatten();
        number.filter(|kind| *kind != 0).map(Self).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMED.iter().map(|(name, _)| *name).collect();
            let allowed = format!("one of {}, or a number from 1 to 65535", names.join(", "));
            ValueError::new(text, "is no type of records", allowed)
        })
    }
}

/// One value of the option that says what a query is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is no such name.
    Nxdomain,
    /// The name server failed.
    Servfail,
    /// The name server does not want to answer.
    Refused,
    /// There is no answer.
    Timeout,
    /// The answer is too long for UDP.
    Truncated,
    /// It is late.
    Delay,
    /// An address that is drawn for each query.
    Random,
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
}

impl FromStr for Answer {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(match text {
            "nxdomain" => Self::Nxdomain,
            "servfail" => Self::Servfail,
            "refused" => Self::Refused,
            "timeout" => Self::Timeout,
            "truncated" => Self::Truncated,
            "delay" => Self::Delay,
            "random" => Self::Random,
            _ => {
                let v4 = text.parse().map(Self::V4);
                v4.or_else(|_| text.parse().map(Self::V6)).map_err(|_| {
                    let allowed = "nxdomain, servfail, refused, timeout, truncated, delay, random, \
                                   or an address such as 192.0.2.1 or 2001:db8::1";
                    ValueError::new(text, "is no answer", allowed)
                })?
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let exact = |text: &str| Ok(NamePattern::Exact(text.to_owned()));
        let below = |text: &str| Ok(NamePattern::Below(text.to_owned()));
        assert_eq!("Example.COM.".parse(), exact("example.com"));
        assert_eq!("*.Example.com".parse(), below("example.com"));
        assert_eq!("_ldap._tcp.x".parse(), exact("_ldap._tcp.x"));
        assert_eq!("7.in-addr.arpa".parse(), exact("7.in-addr.arpa"));
        let label = "a".repeat(63);
        let longest = [label.as_str(), &label, &label, &label[..61]].join(".");
        assert_eq!(longest.parse(), exact(&longest));
        let long = format!("{longest}a");
        let too_low = format!("*.{}", &longest[1..]);
        assert!(
            format!("*.{}", &longest[2..])
                .parse::<NamePattern>()
                .is_ok()
        );
        let label = format!("{label}a.com");
        for bad in [
            "",
            ".",
            "*",
            "*.",
            "a..b",
            ".a",
            "a*.b",
            "a.*.b",
            "**.b",
            "bücher.de",
            "a b",
            "a,b",
            &label,
            &long,
            &too_low,
        ] {
            assert!(bad.parse::<NamePattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn types_by_name_and_number() {
        for (text, number) in [
            ("a", 1),
            ("AAAA", 28),
            ("28", 28),
            ("Https", 65),
            ("65535", 65535),
        ] {
            assert_eq!(text.parse(), Ok(RecordType(number)), "{text}");
        }
        assert_eq!(RecordType(28).to_string(), "AAAA");
        assert_eq!(RecordType(99).to_string(), "99");
        for bad in ["", "0", "65536", "-1", "AAA", "1.5"] {
            assert!(bad.parse::<RecordType>().is_err(), "{bad}");
        }
    }
}
