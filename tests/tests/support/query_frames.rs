//! Frames that bring hostile queries of DNS.

use injector_tests::test_run::ETHERNET;

use crate::{dice::Dice, queries};

pub(crate) const UDP: u8 = 17;
pub(crate) const TCP: u8 = 6;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// A packet with hostile queries, of which most else is right.
pub(crate) fn frame(dice: &mut Dice) -> Vec<u8> {
    let (is_v4, is_tcp) = (dice.one_in(2), dice.one_in(2));
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    bytes.extend(if is_v4 { IPV4 } else { IPV6 }.to_be_bytes());
    let mut payload = if is_tcp {
        queries::stream(dice)
    } else {
        queries::message(dice)
    };
    // A packet that states less than is there ends amid a query, of which the rest follows
    // it in its frame. All lengths of it may agree on that.
    let less = if dice.one_in(6) {
        dice.below(payload.len().min(24))
    } else {
        0
    };
    let agreed = if dice.one_in(4) { 0 } else { less };
    if let Some(len) = payload.first_chunk().map(|len| u16::from_be_bytes(*len))
        && is_tcp
        && usize::from(len) + 2 == payload.len()
    {
        let stated = len.saturating_sub(u16::try_from(agreed).expect("a few"));
        payload[..2].copy_from_slice(&stated.to_be_bytes());
    }
    let proto = if is_tcp { TCP } else { UDP };
    let mut transport = Vec::new();
    let port: u16 = dice.of(&[53, 53, 53, 53, 53, 53, 54]);
    transport.extend([0x9c, 0x40]);
    transport.extend(port.to_be_bytes());
    if is_tcp {
        dice.noise(&mut transport, 8);
        let words = dice.of(&[5_u8, 5, 8, 15]);
        let flags = dice.of(&[0x10, 0x18, 0x18, 0x18, 0x19, 0x38, 0x12, 0x14, 0x08, 0xd8]);
        transport.extend([words << 4, flags]);
        dice.noise(&mut transport, usize::from(words) * 4 - 14);
    } else {
        let len = u16::try_from(8 + payload.len() - agreed).expect("a short packet");
        let lie = dice.of(&[0, 7, 8, len + 1, len.wrapping_sub(1), u16::MAX]);
        transport.extend(if dice.one_in(15) { lie } else { len }.to_be_bytes());
        dice.noise(&mut transport, 2);
    }
    transport.extend(payload);
    network(dice, &mut bytes, (is_v4, proto), transport.len() - less);
    bytes.extend(transport);
    let padding = dice.of(&[0, 0, 0, 1, 20]);
    dice.noise(&mut bytes, padding);
    if dice.one_in(15) {
        bytes.truncate(ETHERNET + 20 + dice.below(bytes.len() - ETHERNET - 20));
    }
    bytes
}

/// A network header that states so many bytes behind it.
fn network(dice: &mut Dice, bytes: &mut Vec<u8>, (is_v4, proto): (bool, u8), len: usize) {
    let len = u16::try_from(len).expect("a short packet");
    if is_v4 {
        let options = dice.of(&[0_u8, 0, 0, 1, 10]);
        let fragment = dice.of(&[0x4000_u16, 0x4000, 0, 0, 0, 0x2000, 0x0003]);
        bytes.extend([0x45 + options, 0]);
        bytes.extend((20 + u16::from(options) * 4 + len).to_be_bytes());
        bytes.extend([0, 7]);
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, proto, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        // Of no meaning.
        bytes.extend(vec![1; usize::from(options) * 4]);
        return;
    }
    let extended = dice.one_in(4);
    let first = if extended { 60 } else { proto };
    bytes.extend([0x60, 0, 0, 0]);
    bytes.extend((len + if extended { 8 } else { 0 }).to_be_bytes());
    bytes.extend([first, 64]);
    bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    if extended {
        bytes.extend([proto, 0, 1, 4, 0, 0, 0, 0]);
    }
}
