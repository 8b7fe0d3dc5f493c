//! `net-corrupt`: bits or bytes of the packet arrive changed.

use injector_common::{
    FaultKind,
    faults::net_corrupt::{MAX_CHANGES, MAX_HEADER_BYTES},
};

use super::{
    FaultKindDef,
    packet::{self, Needs, Transport},
};
use crate::{
    error::SpecError,
    model::{Checksum, Damage, Extent, Fault, PacketFault, PacketFilter, Region},
    spec::{loss::Share, number::Count, text::Text},
};

/// The kind.
#[derive(Debug)]
pub struct NetCorrupt;

packet::packet_kind! {
    /// Its options, as written.
    pub struct Raw {
        /// Who notices: with `valid` the application reads damaged bytes, with `broken` the receiver's stack drops the packet and counts it [default: valid]
        #[arg(long, value_name = "CHECKSUM")]
        #[serde(default)]
        pub checksum: Option<Text<Checksum>>,

        /// How many different bytes of a packet change, 1 to 8, of headers 1 to 4 [default: 1]
        #[arg(long, value_name = "N", allow_hyphen_values = true)]
        #[serde(default)]
        pub bytes: Option<Text<Count>>,

        /// How many different bits of a packet flip instead, 1 to 8; netem flips 1
        #[arg(long, value_name = "N", allow_hyphen_values = true)]
        #[serde(default)]
        pub bits: Option<Text<Count>>,

        /// Where: the payload behind the TCP, UDP or ICMP header, or in this header (headers) [default: payload]
        #[arg(long, value_name = "REGION")]
        #[serde(default)]
        pub region: Option<Text<Region>>,

        /// Correlation of neighbouring packets' damage in percent, with --percent; the rate stays what was asked
        #[arg(long, value_name = "P", allow_hyphen_values = true)]
        #[serde(default)]
        pub correlation: Option<Text<Share>>,
    }
}

impl FaultKindDef for NetCorrupt {
    const KIND: FaultKind = FaultKind::NetCorrupt;
    const SUMMARY: &'static str = "Bits or bytes of the packet arrive changed";
    const MANUAL: &'static str = "\
One byte of the payload is changed, or as many bytes or bits as --bytes or --bits says. With a valid
checksum, as after damage in a router's memory, nothing below the application notices. With a broken
one, as after damage on the wire, the receiver's stack drops the packet and counts a checksum error.
With --region headers it is the TCP, UDP or ICMP header that is damaged: ports, numbers, flags,
options; not the checksum itself, nor what says how long something is. A valid checksum then lets
the packet go astray: it belongs to another connection or to none. A packet with less in the region
than is to be changed, such as one without a payload, a later fragment and a packet of a protocol
other than TCP, UDP and ICMP do not match: they pass unharmed, and the rule does not count them.
With --correlation beside --percent, a packet is damaged more likely after one that was: they come
in runs.";
    const EXAMPLES: &'static str = "\
Examples:
  Damage one packet in a hundred of what a cgroup sends:
    injector inject net-corrupt --target cgroup:/web --percent 1 --for 1m

  Have the receiver's stack find the damage, a flipped bit:
    injector inject net-corrupt --target pid:4242 --checksum broken --bits 1 --proto tcp \\
      --percent 0.5 --for 30s

  Damage the headers of what arrives, unnoticed:
    injector inject net-corrupt --target cgroup:/web --direction ingress --region headers \\
      --bytes 2 --percent 1 --for 30s";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let filter = raw.filter()?;
        let region = raw.region.map_or(Region::Payload, |text| text.0);
        let most_bytes = match region {
            Region::Payload => MAX_CHANGES,
            Region::Headers => MAX_HEADER_BYTES,
        };
        let extent = match (raw.bits, raw.bytes) {
            (Some(_), Some(_)) => {
                let problem = "is given together with bytes";
                let allowed = "one of the two: bits or bytes";
                return Err(SpecError::new("bits", problem, allowed));
            }
            (Some(bits), None) => Extent::Bits(in_range("bits", bits, MAX_CHANGES)?),
            (None, Some(bytes)) => Extent::Bytes(in_range("bytes", bytes, most_bytes)?),
            (None, None) => Extent::Bytes(1),
        };
        let damage = Damage {
            checksum: raw.checksum.map_or(Checksum::Valid, |text| text.0),
            extent,
            region,
        };
        packet::check_possible(&filter, &needs(damage))?;
        Ok(Fault::Packet(filter, PacketFault::Corrupt(damage)))
    }
}

/// What a packet must have to be damaged so.
fn needs(damage: Damage) -> Needs {
    let bytes = match damage.extent {
        Extent::Bits(count) => count.div_ceil(4),
        Extent::Bytes(count) => count,
    };
    Needs {
        lacks: "have no payload and no header that is known here, and so nothing to damage",
        protocols: "tcp, udp, icmp or any",
        takes: |transport| transport != Transport::Other,
        payload: match damage.region {
            Region::Payload => bytes,
            // Every header has room for as much as may change in it.
            Region::Headers => 0,
        },
        ..Needs::NOTHING
    }
}

fn in_range(field: &'static str, Text(Count(count)): Text<Count>, most: u32) -> Result<u32, SpecError> {
    let small = u32::try_from(count).ok();
    small
        .filter(|count| (1..=most).contains(count))
        .ok_or_else(|| {
            let allowed = if most == MAX_HEADER_BYTES {
                format!("1 to {most} with region headers; a UDP header has no more that may change")
            } else {
                format!("1 to {most}")
            };
            SpecError::new(field, format!("{count} is out of range"), allowed)
        })
}

pub(super) fn explain(filter: &PacketFilter, damage: Damage) -> String {
    let packets = packet::describe(filter);
    let what = match damage.extent {
        Extent::Bits(1) => "flips a bit".to_owned(),
        Extent::Bits(count) => format!("flips {count} bits"),
        Extent::Bytes(1) => "changes a byte".to_owned(),
        Extent::Bytes(count) => format!("changes {count} bytes"),
    };
    let place = match damage.region {
        Region::Payload => "",
        Region::Headers => " the transport header of",
    };
    let notice = match (damage.checksum, damage.region) {
        (Checksum::Valid, Region::Payload) => {
            "with a valid checksum, so that the application reads the damage"
        }
        (Checksum::Valid, Region::Headers) => {
            "with a valid checksum, so that the receiver takes them for what they say"
        }
        (Checksum::Broken, _) => "with a broken checksum, so that the receiver's stack drops them",
    };
    format!("{what} in{place} {packets}, {notice}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::raw;

    #[test]
    fn damage_has_an_extent_and_a_place() {
        for (line, expected) in [
            ("", Ok((Extent::Bytes(1), Region::Payload))),
            ("--bits 1", Ok((Extent::Bits(1), Region::Payload))),
            ("--bits 8 --region headers", Ok((Extent::Bits(8), Region::Headers))),
            ("--bytes 8 --region payload", Ok((Extent::Bytes(8), Region::Payload))),
            ("--bytes 4 --region headers", Ok((Extent::Bytes(4), Region::Headers))),
            ("--bits 0", Err(("bits", "1 to 8"))),
            ("--bits 9", Err(("bits", "1 to 8"))),
            ("--bits 4294967297", Err(("bits", "1 to 8"))),
            ("--bytes 0", Err(("bytes", "1 to 8"))),
            ("--bytes 9", Err(("bytes", "1 to 8"))),
            ("--bytes 5 --region headers", Err(("bytes", "1 to 4"))),
            ("--bits 1 --bytes 1", Err(("bits", "bits or bytes"))),
        ] {
            match (NetCorrupt::validate(raw(line)), expected) {
                (Ok(Fault::Packet(_, PacketFault::Corrupt(damage))), Ok(expected)) => {
                    assert_eq!((damage.extent, damage.region), expected, "{line}");
                }
                (Err(error), Err((field, allowed))) => {
                    assert_eq!(error.field, field, "{line}");
                    assert!(error.allowed.contains(allowed), "{line}: {error}");
                }
                (found, expected) => panic!("{line}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn damage_in_words() {
        for (line, words) in [
            ("", "changes a byte in packets that"),
            ("--bits 1", "flips a bit in packets that"),
            ("--bytes 3 --region headers", "changes 3 bytes in the transport header of packets"),
            ("--bits 2 --checksum broken", "flips 2 bits in packets that"),
        ] {
            let Ok(Fault::Packet(filter, PacketFault::Corrupt(damage))) =
                NetCorrupt::validate(raw(line))
            else {
                panic!("{line} is refused");
            };
            let text = explain(&filter, damage);
            assert!(text.starts_with(words), "{text}");
        }
    }
}
