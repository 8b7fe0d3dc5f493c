//! The values of conditions on descriptors and sockets.

use std::{fmt, str::FromStr};

use nix::libc;

use crate::{
    model::AddressFamily,
    spec::text::{ValueError, is_digits},
};

/// A descriptor: 0 to 2147483647.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Descriptor(pub u32);

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Descriptor {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = is_digits(text).then(|| text.parse().ok()).flatten();
        let fits = number.filter(|number| i32::try_from(*number).is_ok());
        fits.map(Self).ok_or_else(|| {
            let allowed = "the number of a descriptor as in /proc/PID/fd, such as 3; each with a leading ! or without";
            ValueError::new(text, "is no descriptor", allowed)
        })
    }
}

macro_rules! families {
    ($($name:literal $family:ident;)+) => {
        /// Families by their names, which are those of the kernel's constants.
        const FAMILIES: &[(&str, i32)] = &[$(($name, libc::$family)),+];
        const FAMILY_ALLOWED: &str = concat!(
            "one of ", $($name, ", ",)+
            "or the number of an address family from 0 to 63; each with a leading ! or without"
        );
    };
}

// The first name of a number is the one that is told.
families! {
    "inet" AF_INET;
    "inet6" AF_INET6;
    "unix" AF_UNIX;
    "local" AF_LOCAL;
    "netlink" AF_NETLINK;
    "packet" AF_PACKET;
    "vsock" AF_VSOCK;
    "xdp" AF_XDP;
    "can" AF_CAN;
    "tipc" AF_TIPC;
    "bluetooth" AF_BLUETOOTH;
    "alg" AF_ALG;
    "key" AF_KEY;
}

impl FromStr for AddressFamily {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let named = FAMILIES.iter().find(|(name, _)| *name == text);
        let number = match named {
            Some((_, number)) => u32::try_from(*number).ok(),
            None => is_digits(text).then(|| text.parse().ok()).flatten(),
        };
        number
            .and_then(Self::new)
            .ok_or_else(|| ValueError::new(text, "is no address family", FAMILY_ALLOWED))
    }
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = FAMILIES
            .iter()
            .find(|(_, number)| u32::try_from(*number) == Ok(self.number()));
        match known {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "family {}", self.number()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn families_have_names_and_numbers() {
        for (text, number, told) in [
            ("inet", 2, "inet"),
            ("2", 2, "inet"),
            ("inet6", 10, "inet6"),
            ("local", 1, "unix"),
            ("0", 0, "family 0"),
            ("63", 63, "family 63"),
        ] {
            let family: AddressFamily = text.parse().expect(text);
            assert_eq!(
                (family.number(), family.to_string().as_str()),
                (number, told)
            );
        }
        for bad in ["", "64", "-1", "INET", "ipv4", "tcp", "4294967298"] {
            let error = bad.parse::<AddressFamily>().expect_err(bad);
            assert!(error.allowed.contains("netlink"), "{bad}: {error}");
        }
    }

    #[test]
    fn descriptors_are_numbers() {
        for good in ["0", "3", "2147483647"] {
            assert!(good.parse::<Descriptor>().is_ok(), "{good}");
        }
        for bad in ["", "-1", "0x3", "2147483648", "stdin", "3-5"] {
            let error = bad.parse::<Descriptor>().expect_err(bad);
            assert!(error.allowed.contains("/proc/PID/fd"), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<AddressFamily>();
            let _ = text.parse::<Descriptor>();
        }
    }
}
