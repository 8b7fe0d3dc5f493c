//! The values of packet filters.

use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

use crate::{
    model::{Answer, Checksum, Cidr, Direction, End, HostName, Region, Unit, Unreachable},
    spec::text::{ValueError, is_digits, word},
};

impl FromStr for Direction {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let words = [
            ("egress", Self::Egress),
            ("ingress", Self::Ingress),
            ("both", Self::Both),
        ];
        word(text, &words, "egress, ingress or both")
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
            Self::Both => "both",
        })
    }
}

impl FromStr for Unit {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let words = [("packet", Self::Packet), ("segment", Self::Segment)];
        word(text, &words, "packet or segment")
    }
}

impl FromStr for Checksum {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        word(
            text,
            &[("valid", Self::Valid), ("broken", Self::Broken)],
            "valid or broken",
        )
    }
}

impl FromStr for Region {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        word(
            text,
            &[("payload", Self::Payload), ("headers", Self::Headers)],
            "payload or headers",
        )
    }
}

impl FromStr for Answer {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        word(
            text,
            &[("rst", Self::Reset), ("icmp", Self::Icmp)],
            "rst or icmp",
        )
    }
}

impl FromStr for End {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let words = [
            ("local", Self::Local),
            ("peer", Self::Peer),
            ("both", Self::Both),
        ];
        word(text, &words, "local, peer or both")
    }
}

/// Short words, and those of the targets REJECT of iptables and ip6tables.
const UNREACHABLE: [(&str, Unreachable); 17] = [
    ("net", Unreachable::Net),
    ("net-unreachable", Unreachable::Net),
    ("no-route", Unreachable::Net),
    ("host", Unreachable::Host),
    ("host-unreachable", Unreachable::Host),
    ("addr-unreachable", Unreachable::Host),
    ("proto", Unreachable::Proto),
    ("proto-unreachable", Unreachable::Proto),
    ("port", Unreachable::Port),
    ("port-unreachable", Unreachable::Port),
    ("net-prohibited", Unreachable::NetProhibited),
    ("host-prohibited", Unreachable::HostProhibited),
    ("admin", Unreachable::Admin),
    ("admin-prohibited", Unreachable::Admin),
    ("adm-prohibited", Unreachable::Admin),
    ("policy-fail", Unreachable::PolicyFail),
    ("reject-route", Unreachable::RejectRoute),
];

const UNREACHABLE_ALLOWED: &str = "net, host, proto, port or admin; or as iptables has them net-unreachable, \
     host-unreachable, proto-unreachable, port-unreachable, net-prohibited, host-prohibited, admin-prohibited, \
     no-route, addr-unreachable, adm-prohibited, policy-fail or reject-route";

impl FromStr for Unreachable {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        word(text, &UNREACHABLE, UNREACHABLE_ALLOWED)
    }
}

/// A peer: a network, or a host by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// A network.
    Network(Cidr),
    /// A host.
    Host(HostName),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Host(name) => name.fmt(f),
        }
    }
}

impl FromStr for Peer {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if is_host_name(text) {
            return Ok(Self::Host(HostName(text.to_owned())));
        }
        text.parse()
            .map(Self::Network)
            .map_err(|error: ValueError| ValueError {
                allowed: format!(
                    "{}; or the name of a host, such as db.example.net",
                    error.allowed
                )
                .into(),
                ..error
            })
    }
}

/// Whether this can only be the name of a host (RFC 1123 §2.1): the last part of
/// one is not a number.
fn is_host_name(text: &str) -> bool {
    const LONGEST: usize = 253;
    let is_label = |label: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len())
            && label.chars().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or(name);
    name.len() <= LONGEST && name.split('.').all(is_label) && !is_digits(last)
}

const CIDR_ALLOWED: &str = "an address with an optional prefix length, such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32 (at most /32 for IPv4, /128 for IPv6)";

/// Length of the prefix `::ffff:0:0/96`, under which IPv6 writes IPv4 addresses.
const MAPPED_PREFIX: u8 = 96;

impl FromStr for Cidr {
    type Err = ValueError;

    /// Bits past the prefix are dropped, as by `ip` and `nft`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what: &str| ValueError::new(text, what, CIDR_ALLOWED);
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| refuse("does not start with an IP address"))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if !is_digits(digits) => {
                return Err(refuse("has a prefix length that is not a number"));
            }
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= longest)
                .ok_or_else(|| refuse("has too long a prefix"))?,
        };
        match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Ok(Self {
                    address: IpAddr::V4((v4.to_bits() & mask).into()),
                    prefix,
                })
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                let network = std::net::Ipv6Addr::from_bits(v6.to_bits() & mask);
                match network.to_ipv4_mapped() {
                    Some(v4) if prefix >= MAPPED_PREFIX => Ok(Self {
                        address: IpAddr::V4(v4),
                        prefix: prefix - MAPPED_PREFIX,
                    }),
                    _ => Ok(Self {
                        address: IpAddr::V6(network),
                        prefix,
                    }),
                }
            }
        }
    }
}

/// A range of ports, within `1..=65535`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl From<Ports> for RangeInclusive<u16> {
    fn from(ports: Ports) -> Self {
        ports.first..=ports.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ports(&(self.first..=self.last)).fmt(f)
    }
}

/// A range of ports, one port by itself.
pub(crate) fn ports(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

const PORTS_ALLOWED: &str =
    "a port or a range of ports A-B within 1 to 65535, such as 443 or 8000-8999";

impl FromStr for Ports {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what: &str| ValueError::new(text, what, PORTS_ALLOWED);
        let port = |digits: &str| -> Result<u16, ValueError> {
            if !is_digits(digits) {
                return Err(refuse("is not a port"));
            }
            match digits.parse() {
                Ok(0) | Err(_) => Err(refuse("is out of range")),
                Ok(port) => Ok(port),
            }
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(refuse("ends before it starts"));
        }
        Ok(Self { first, last })
    }
}

/// The name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceName(pub String);

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for InterfaceName {
    type Err = ValueError;

    /// The rules are the kernel's, `dev_valid_name` in `net/core/dev.c`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let valid = (1..=15).contains(&text.len())
            && text != "."
            && text != ".."
            && !text
                .chars()
                .any(|c| c == '/' || c == ':' || c.is_whitespace() || c == '\0');
        if !valid {
            let allowed = "1 to 15 bytes without `/`, `:` or blanks, such as eth0";
            return Err(ValueError::new(
                text,
                "cannot be an interface's name",
                allowed,
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn cidr(text: &str, address: &str, prefix: u8) {
        let address = address.parse().expect("an address");
        assert_eq!(text.parse(), Ok(Cidr { address, prefix }), "{text}");
    }

    #[track_caller]
    fn no_cidr(text: &str, why: &str) {
        let error = text.parse::<Cidr>().expect_err(text);
        assert!(error.problem.contains(why), "{text}: {error}");
    }

    #[test]
    fn peers_are_networks_or_names() {
        let name = |text: &str| Ok(Peer::Host(HostName(text.to_owned())));
        for text in [
            "db",
            "db.example.net",
            "db.example.net.",
            "cafe",
            "a-b_c.x",
            "1.1.b",
        ] {
            assert_eq!(text.parse::<Peer>(), name(text));
        }
        for text in ["10.0.0.0/8", "192.0.2.7", "::1", "cafe::1"] {
            let network = text.parse().expect(text);
            assert_eq!(text.parse(), Ok(Peer::Network(network)), "{text}");
        }
        let long = "a".repeat(64);
        for text in [
            "",
            ".",
            "a..b",
            "-a",
            "a-.b",
            "10.0.0",
            "300.1.1.1",
            "a.7",
            "a b",
            "db/24",
            "ü",
            &long,
        ] {
            let error = text.parse::<Peer>().expect_err(text);
            assert!(error.allowed.contains("name of a host"), "{text}: {error}");
        }
    }

    #[test]
    fn codes_have_the_words_of_iptables() {
        for (words, code) in [
            ("net net-unreachable no-route", Unreachable::Net),
            ("host host-unreachable addr-unreachable", Unreachable::Host),
            ("proto proto-unreachable", Unreachable::Proto),
            ("port port-unreachable", Unreachable::Port),
            ("net-prohibited", Unreachable::NetProhibited),
            ("host-prohibited", Unreachable::HostProhibited),
            ("admin admin-prohibited adm-prohibited", Unreachable::Admin),
            ("policy-fail", Unreachable::PolicyFail),
            ("reject-route", Unreachable::RejectRoute),
        ] {
            for word in words.split(' ') {
                assert_eq!(word.parse(), Ok(code), "{word}");
            }
        }
        for (word, _) in UNREACHABLE {
            assert!(UNREACHABLE_ALLOWED.contains(word), "{word}");
        }
        for text in ["", "3", "icmp-net-unreachable", "tcp-reset"] {
            assert!(text.parse::<Unreachable>().is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        cidr("10.0.0.0/8", "10.0.0.0", 8);
        cidr("10.1.2.3/8", "10.0.0.0", 8);
        cidr("192.0.2.7", "192.0.2.7", 32);
        cidr("0.0.0.0/0", "0.0.0.0", 0);
        cidr("2001:db8::1/32", "2001:db8::", 32);
        cidr("::1", "::1", 128);
        cidr("2000::/3", "2000::", 3);
        cidr("::ffff:10.0.0.0/104", "10.0.0.0", 8);
        cidr("::ffff:0:0/96", "0.0.0.0", 0);
        // These hold the form in which IPv6 writes IPv4 addresses, and mean
        // IPv6 all the same.
        cidr("::/0", "::", 0);
        cidr("::/64", "::", 64);
        cidr("::ffff:0:0/95", "::fffe:0:0", 95);
        no_cidr("10.0.0.0/33", "too long");
        no_cidr("2001:db8::/129", "too long");
        no_cidr("10.0.0.0/", "not a number");
        no_cidr("10.0.0.0/-1", "not a number");
        no_cidr("10.0.0/8", "IP address");
        no_cidr("300.0.0.1", "IP address");
        no_cidr("example.org", "IP address");
        no_cidr("", "IP address");
    }

    #[test]
    fn ports() {
        assert_eq!(
            "443".parse(),
            Ok(Ports {
                first: 443,
                last: 443
            })
        );
        assert_eq!(
            "1-65535".parse(),
            Ok(Ports {
                first: 1,
                last: 65535
            })
        );
        for bad in [
            "0", "70000", "65536", "1-70000", "0-5", "9-3", "-5", "5-", "http", "", "1-2-3",
        ] {
            let error = bad.parse::<Ports>().expect_err(bad);
            assert!(error.allowed.contains("1 to 65535"), "{bad}: {error}");
        }
    }

    #[test]
    fn interface_names() {
        for good in ["eth0", "lo", "br-0a1b2c3d4e5f", "eth0.100"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "eth0:1", "0123456789abcdef"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Cidr>();
            let _ = text.parse::<Ports>();
            let _ = text.parse::<InterfaceName>();
        }

        #[test]
        fn no_likely_text_panics(text in "[0-9a-f:./-]{0,45}") {
            let _ = text.parse::<Cidr>();
            let _ = text.parse::<Ports>();
        }

        #[test]
        fn ipv4_networks_contain_their_address(bits in any::<u32>(), prefix in 0u8..=32) {
            let address = std::net::Ipv4Addr::from_bits(bits);
            let network: Cidr = format!("{address}/{prefix}").parse().expect("a network");
            let same: Cidr = format!("{}/{prefix}", network.address).parse().expect("a network");
            prop_assert_eq!(network, same);
            prop_assert_eq!(network.prefix, prefix);
        }

        #[test]
        fn ranges_of_ports(first in 1u16.., last in 1u16..) {
            let ports = format!("{first}-{last}").parse::<Ports>();
            prop_assert_eq!(ports.is_ok(), first <= last);
        }
    }
}
