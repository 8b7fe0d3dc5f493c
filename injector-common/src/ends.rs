//! By what the receiver of a packet is looked up.

use network_types::eth::EtherType;

use crate::packet::{Facts, PROTO_TCP, PROTO_UDP, PacketBytes};

/// Words of an IPv4 header without options.
const V4_WORDS: usize = 5;
/// Words of an IPv6 header.
const V6_WORDS: usize = 10;

/// A packet's addresses and ports, as they lie in it: its first words from the network
/// header on, of which the last are the key of a socket.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    words: [u32; V6_WORDS + 1],
    is_tcp: bool,
}

impl Ends {
    /// Ends of no packet, to be overwritten.
    pub const NONE: Self = Self {
        words: [0; V6_WORDS + 1],
        is_tcp: false,
    };

    /// Reads them from a packet whose network header starts at `l2_len`, and whose protocol
    /// is `ether_type` as `skb->protocol` has it. 4 or 6 for the version of IP; 0 for a packet
    /// that is neither TCP nor UDP, a later fragment, or one with options or extension
    /// headers before its ports: such a one takes [`parse`](crate::packet::parse).
    ///
    /// Whether the packet is as long as it states is not looked at, so that this is enough to
    /// tell whose a packet is not, and not to tell whose it is.
    #[inline(always)]
    #[must_use]
    pub fn read<P: PacketBytes + ?Sized>(
        &mut self,
        packet: &P,
        ether_type: u16,
        l2_len: u32,
    ) -> u32 {
        let (family, number) = if ether_type == EtherType::Ipv4 as u16 {
            let Some(words) = self.words.first_chunk_mut::<{ V4_WORDS + 1 }>() else {
                return 0;
            };
            if !packet.fill(l2_len, words) {
                return 0;
            }
            let [first, second, third, ..] = words.map(u32::from_be);
            if first >> 24 != 0x45 || second & 0x1fff != 0 {
                return 0;
            }
            (4, third >> 16 & 0xff)
        } else if ether_type == EtherType::Ipv6 as u16 {
            if !packet.fill(l2_len, &mut self.words) {
                return 0;
            }
            let [first, second, ..] = self.words.map(u32::from_be);
            if first >> 28 != 6 {
                return 0;
            }
            (6, second >> 8 & 0xff)
        } else {
            return 0;
        };
        self.is_tcp = number == PROTO_TCP;
        if self.is_tcp || number == PROTO_UDP {
            family
        } else {
            0
        }
    }

    /// Takes them from what was read of the packet.
    #[inline(always)]
    pub fn write(&mut self, facts: &Facts) {
        let ports = (u32::from(facts.src_port) << 16 | u32::from(facts.dst_port)).to_be();
        self.is_tcp = facts.proto == PROTO_TCP;
        if facts.family == 4 {
            self.words[V4_WORDS - 2] = facts.src[3];
            self.words[V4_WORDS - 1] = facts.dst[3];
            self.words[V4_WORDS] = ports;
        } else {
            for word in 0..4 {
                self.words[V6_WORDS - 8 + word] = facts.src[word];
                self.words[V6_WORDS - 4 + word] = facts.dst[word];
            }
            self.words[V6_WORDS] = ports;
        }
    }

    /// Whether they are TCP's, and otherwise UDP's.
    #[inline(always)]
    #[must_use]
    pub const fn is_tcp(&self) -> bool {
        self.is_tcp
    }

    /// The key of the socket that receives the packet, of this version of IP: both
    /// addresses, that of the sender first, and both ports, in the order of the wire.
    #[inline(always)]
    #[must_use]
    pub fn key(&mut self, family: u32) -> &mut [u32] {
        if family == 4 {
            &mut self.words[V4_WORDS - 2..=V4_WORDS]
        } else {
            &mut self.words[V6_WORDS - 8..=V6_WORDS]
        }
    }
}
