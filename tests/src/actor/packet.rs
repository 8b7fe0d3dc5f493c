//! The numbered packets that UDP victims exchange.

use bytes::{Buf as _, BufMut as _};

/// Length of what precedes the filling: checksum, round, number, time.
pub const HEADER: usize = 4 + 4 + 8 + 8;

/// A packet's contents, apart from its filling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The round that it belongs to.
    pub round: u32,
    /// Its number in the round, from 0.
    pub number: u64,
    /// Monotonic time at which it was sent, in ns.
    pub sent_ns: u64,
}

impl Packet {
    /// Writes the packet into a buffer, filling it to `size` bytes. A size
    /// below [`HEADER`] is raised to it.
    pub fn encode(&self, buffer: &mut Vec<u8>, size: usize) {
        buffer.clear();
        buffer.put_u32(0);
        buffer.put_u32(self.round);
        buffer.put_u64(self.number);
        buffer.put_u64(self.sent_ns);
        buffer.extend((HEADER..size).map(filling));
        let checksum = crc32fast::hash(&buffer[4..]);
        buffer[..4].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Reads a packet; `None` when a single bit differs from what was sent.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER || bytes.get_u32() != crc32fast::hash(bytes) {
            return None;
        }
        Some(Self {
            round: bytes.get_u32(),
            number: bytes.get_u64(),
            sent_ns: bytes.get_u64(),
        })
    }
}

/// The byte that every packet has at this place behind its header.
const fn filling(place: usize) -> u8 {
    place.to_le_bytes()[0].wrapping_mul(31)
}

/// How many bytes behind the header differ from what every packet has there.
#[must_use]
pub fn bad_filling(bytes: &[u8]) -> usize {
    let filled = bytes.iter().enumerate().skip(HEADER);
    filled
        .filter(|&(place, &byte)| byte != filling(place))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let packet = Packet {
            round: 3,
            number: 70_000,
            sent_ns: 1,
        };
        let mut bytes = Vec::new();
        packet.encode(&mut bytes, 100);
        assert_eq!(bytes.len(), 100);
        assert_eq!(Packet::decode(&bytes), Some(packet));
        for place in 0..bytes.len() {
            bytes[place] ^= 0x40;
            assert_eq!(Packet::decode(&bytes), None);
            assert_eq!(bad_filling(&bytes), usize::from(place >= HEADER));
            bytes[place] ^= 0x40;
        }
    }
}
