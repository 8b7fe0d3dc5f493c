//! Packets that programs make as answers.

const UDP: u8 = 17;

/// An answer over UDP or TCP.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    /// The protocol above IP.
    pub proto: u8,
    /// The sender's address.
    pub src: Vec<u8>,
    /// The receiver's.
    pub dst: Vec<u8>,
    /// Both ports.
    pub ports: [u8; 4],
    /// Of TCP: sequence number, acknowledgement, and flags.
    pub state: Option<([u8; 8], u8)>,
    /// What follows the transport header.
    pub payload: Vec<u8>,
}

/// Reads an answer, strictly: no options, no padding, and right checksums.
///
/// # Panics
///
/// When it is not as it should be.
#[must_use]
#[track_caller]
pub fn read(packet: &[u8]) -> Answer {
    let word = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let (network, proto, addresses) = if packet[0] == 0x45 {
        assert_eq!(word(2), packet.len(), "the length of {packet:02x?}");
        assert_eq!(
            sum(&[&packet[..20]]),
            0xffff,
            "the checksum of {packet:02x?}"
        );
        (20, packet[9], 12)
    } else {
        assert_eq!(packet[0], 0x60, "{packet:02x?}");
        assert_eq!(word(4) + 40, packet.len(), "the length of {packet:02x?}");
        (40, packet[6], 8)
    };
    let middle = addresses + (network - addresses) / 2;
    let transport = &packet[network..];
    let len = u16::try_from(transport.len()).expect("a short packet");
    let pseudo = [len.to_be_bytes(), [0, proto]].concat();
    let found = sum(&[&packet[addresses..network], &pseudo, transport]);
    assert_eq!(found, 0xffff, "the checksum of {packet:02x?}");
    let (head, state) = if proto == UDP {
        assert_eq!(word(network + 4), transport.len(), "{packet:02x?}");
        assert_ne!(transport[6..8], [0, 0], "{packet:02x?}");
        (8, None)
    } else {
        assert_eq!(transport[12], 0x50, "{packet:02x?}");
        let numbers = transport[4..12].try_into().expect("eight bytes");
        (20, Some((numbers, transport[13])))
    };
    Answer {
        proto,
        src: packet[addresses..middle].to_vec(),
        dst: packet[middle..network].to_vec(),
        ports: transport[..4].try_into().expect("four bytes"),
        state,
        payload: transport[head..].to_vec(),
    }
}

/// The sum of words modulo 0xffff, each part padded to whole ones (RFC 1071).
fn sum(parts: &[&[u8]]) -> u32 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    words.fold(0, |sum, word| {
        let low = word.get(1).copied().unwrap_or_default();
        let sum = sum + u32::from(u16::from_be_bytes([word[0], low]));
        (sum >> 16) + (sum & 0xffff)
    })
}
