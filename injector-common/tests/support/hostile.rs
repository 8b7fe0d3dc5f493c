//! Packets as an attacker or a broken driver sends them: well made ones, cut short,
//! with lengths that lie and bytes that changed, and noise.
//!
//! The test of the parser on the host and that in the kernel take the same ones.

use crate::dice::Dice;

const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
const ARP: u16 = 0x0806_u16.to_be();

/// A packet, and what comes with it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ether_type: u16,
    pub(crate) l2_len: u32,
    /// Payload of one segment of a super-packet, or 0.
    pub(crate) gso_size: u32,
}

/// Where the fields of a packet lie that may lie.
#[derive(Default)]
struct Places {
    /// Of the first byte of each header, and of the payload.
    headers: Vec<usize>,
    /// Of bytes that state a length, a version or a next header.
    fields: Vec<usize>,
}

/// Packet `number` of a run.
pub(crate) fn packet(seed: u64, number: u64) -> Packet {
    let dice = &mut Dice::new(seed, number);
    let mut bytes = Vec::with_capacity(256);
    let l2_len = dice.of(&[0, 14, 14, 14, 18]);
    dice.noise(&mut bytes, l2_len);
    let mut ether_type = dice.of(&[IPV4, IPV6]);
    if dice.one_in(12) {
        let count = dice.below(160);
        dice.noise(&mut bytes, count);
    } else {
        let mut places = Places::default();
        let start = bytes.len();
        well_made(dice, &mut bytes, &mut places, ether_type == IPV4);
        let damages = dice.of(&[0, 1, 1, 2, 3]);
        for _ in 0..damages {
            damage(dice, &mut bytes, &places, start);
        }
    }
    if dice.one_in(50) {
        ether_type = dice.of(&[IPV4, IPV6, ARP, 0]);
    }
    Packet {
        bytes,
        ether_type,
        l2_len: u32::try_from(l2_len).expect("a short header"),
        gso_size: dice.of(&[0, 0, 0, 0, 0, 0, 0, 1, 1448]),
    }
}

/// A packet of which everything is right.
fn well_made(dice: &mut Dice, bytes: &mut Vec<u8>, places: &mut Places, is_v4: bool) {
    let transport = dice.of(&[6, 6, 6, 17, 17, 17, 1, 58, 132, 47, 59]);
    let start = bytes.len();
    places.headers.push(start);
    let mut later_fragment = false;
    if is_v4 {
        let words = dice.of(&[5_u8, 5, 5, 6, 8, 15]);
        let head = bytes.len();
        dice.noise(bytes, usize::from(words) * 4);
        bytes[head] = 0x40 | words;
        let fragment = dice.of(&[0x4000_u16, 0, 0, 0x2000, 0x2003, 0x0150]);
        bytes[head + 6..head + 8].copy_from_slice(&fragment.to_be_bytes());
        later_fragment = fragment & 0x1fff != 0;
        bytes[head + 9] = transport;
        places
            .fields
            .extend([head, head + 2, head + 3, head + 6, head + 9]);
    } else {
        let head = bytes.len();
        dice.noise(bytes, 40);
        bytes[head] = 0x60 | bytes[head] & 0x0f;
        places.fields.extend([head, head + 4, head + 5, head + 6]);
        let mut next = head + 6;
        let count = dice.of(&[0, 0, 0, 1, 1, 2, 3, 5, 6, 7]);
        for _ in 0..count {
            let number = dice.of(&[0, 43, 60, 44]);
            bytes[next] = number;
            next = bytes.len();
            places.headers.push(next);
            places.fields.extend([next, next + 1, next + 3]);
            if number == 44 {
                let offset = dice.of(&[0_u16, 1, 8, 0x1239]);
                later_fragment |= offset & 0xfff8 != 0;
                bytes.extend([0, 0]);
                bytes.extend(offset.to_be_bytes());
                dice.noise(bytes, 4);
            } else {
                let units = dice.of(&[0_u8, 0, 0, 1, 3]);
                dice.noise(bytes, 8 + usize::from(units) * 8);
                bytes[next + 1] = units;
            }
            if later_fragment {
                break;
            }
        }
        bytes[next] = transport;
    }
    if !later_fragment {
        places.headers.push(bytes.len());
        self::transport(dice, bytes, places, transport);
    }
    places.headers.push(bytes.len());
    let count = dice.below(64);
    dice.noise(bytes, count);
    state_length(bytes, start, is_v4);
    // What pads a short frame is nothing of the packet.
    if dice.one_in(3) {
        let count = dice.below(40);
        dice.noise(bytes, count);
    }
}

fn transport(dice: &mut Dice, bytes: &mut Vec<u8>, places: &mut Places, number: u8) {
    let head = bytes.len();
    match number {
        6 => {
            let words = dice.of(&[5_u8, 5, 6, 8, 15]);
            dice.noise(bytes, usize::from(words) * 4);
            bytes[head + 12] = words << 4;
            places.fields.push(head + 12);
        }
        17 => dice.noise(bytes, 8),
        1 | 58 => {
            dice.noise(bytes, 8);
            bytes[head] = dice.of(&[0, 8, 3, 128, 129, 133, 135, 143]);
        }
        _ => {}
    }
    if matches!(number, 6 | 17) && dice.one_in(4) {
        // The ports of address assignment.
        let [a, b] = dice.of(&[[67, 68], [68, 67], [67_u16, 67]]);
        bytes[head..head + 2].copy_from_slice(&a.to_be_bytes());
        bytes[head + 2..head + 4].copy_from_slice(&b.to_be_bytes());
    }
}

/// States the packet's length, from `start` to its end so far.
fn state_length(bytes: &mut [u8], start: usize, is_v4: bool) {
    let len = bytes.len() - start;
    let (at, len) = if is_v4 { (2, len) } else { (4, len - 40) };
    let len = u16::try_from(len).expect("a packet is short");
    bytes[start + at..start + at + 2].copy_from_slice(&len.to_be_bytes());
}

/// Does one thing to a packet that it should not survive, or that a parser must not
/// trip over.
fn damage(dice: &mut Dice, bytes: &mut Vec<u8>, places: &Places, start: usize) {
    let is_v4 = bytes.get(start).is_some_and(|byte| byte >> 4 == 4);
    let len = bytes.len();
    match dice.below(8) {
        // Cut anywhere.
        0 => bytes.truncate(start + dice.below(len - start + 1)),
        // Cut close to where a header begins, or well within it.
        1 => {
            let at = dice.of(&places.headers) + dice.of(&[0, 1, 2, 4, 6, 7, 8, 13, 14, 19]);
            bytes.truncate(at);
        }
        // The same, but the frame goes on: only the packet states to end there.
        2 => {
            let at = dice.of(&places.headers) + dice.of(&[0, 1, 2, 4, 6, 7, 8, 13, 14, 19]);
            let from = start + if is_v4 { 0 } else { 40 };
            let stated = u16::try_from(at.saturating_sub(from)).expect("a short packet");
            let field = start + if is_v4 { 2 } else { 4 };
            if let Some(field) = bytes.get_mut(field..field + 2) {
                field.copy_from_slice(&stated.to_be_bytes());
            }
        }
        // It states a length of its own.
        3 => {
            let right = u16::try_from(len - start).expect("a short packet");
            let stated = dice.of(&[0, 1, 19, 20, right.wrapping_add(1), 0x0fff, u16::MAX]);
            let field = start + if is_v4 { 2 } else { 4 };
            if let Some(field) = bytes.get_mut(field..field + 2) {
                field.copy_from_slice(&stated.to_be_bytes());
            }
        }
        // A byte that says where to go on says something else.
        4 | 5 => {
            let at = dice.of(&places.fields);
            let value = dice.byte();
            let nibble = dice.of(&[0x40, 0x4f, 0x44, 0x60, 0, 0xff, 44, 43, 51, 0x10, 0xf0]);
            let value = dice.of(&[value, nibble]);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        // Any byte does.
        6 => {
            let at = start + dice.below(len - start);
            let value = dice.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        // A bit does.
        _ => {
            let at = start + dice.below(len - start);
            let bit = dice.of(&[1, 2, 4, 8, 16, 32, 64, 128]);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
        }
    }
}
