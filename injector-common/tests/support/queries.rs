//! Messages of DNS as an attacker or a broken client sends them: well made ones, cut
//! short, with counts and lengths that lie, names that have no end or refer to
//! themselves, and noise; and what is read in them.
//!
//! The test of the reading on the host and that in the kernel take the same ones.

use injector_common::{
    dns::{
        BAD, CLASS_IN, END, HEADER_LEN, MORE, NameReader, OPT_LEN, TYPE_AND_CLASS_LEN,
        has_additional, is_opt, is_query,
    },
    packet::PacketBytes as _,
};

use crate::dice::Dice;

/// Names of which some are asked for.
pub(crate) const NAMES: &[&str] = &[
    "example.net",
    "db.example.net",
    "a.b.low.example.net",
    "low.example.net",
    "spared.low.example.net",
    "xlow.example.net",
    "net",
    "",
];

/// One query, as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// Where its message begins.
    pub(crate) start: usize,
    /// Just past its question.
    pub(crate) question_end: usize,
    /// The type that it asks for.
    pub(crate) kind: u16,
    /// Whether a record of EDNS comes next.
    pub(crate) has_opt: bool,
    /// The name, in lower case, 0xff for characters that no pattern has.
    pub(crate) name: Vec<u8>,
}

/// The queries in what follows a header of UDP: one, or none.
pub(crate) fn over_udp(payload: &[u8]) -> Vec<Query> {
    query(payload).into_iter().collect()
}

/// The queries in what follows a header of TCP: one or two that fill it, or none.
pub(crate) fn over_tcp(payload: &[u8]) -> Vec<Query> {
    let mut queries = Vec::new();
    let mut start = 0;
    while start < payload.len() {
        let Some(len) = payload[start..].first_chunk() else {
            return Vec::new();
        };
        let message = payload[start + 2..].get(..u16::from_be_bytes(*len).into());
        let Some((message, mut query)) = message.and_then(|bytes| Some((bytes, query(bytes)?)))
        else {
            return Vec::new();
        };
        query.start += start + 2;
        query.question_end += start + 2;
        queries.push(query);
        start += 2 + message.len();
    }
    if queries.len() > 2 {
        queries.clear();
    }
    queries
}

/// The query that a message is, read as `injector-ebpf/src/dns.rs` does it.
pub(crate) fn query(message: &[u8]) -> Option<Query> {
    let header = message.load(0)?;
    if !is_query(header) {
        return None;
    }
    let (mut reader, mut name, mut at) = (NameReader::new(), Vec::new(), HEADER_LEN);
    loop {
        let [byte] = message.load(at)?;
        at += 1;
        match reader.take(byte) {
            MORE => {}
            END => break,
            BAD => return None,
            character => name.push(u8::try_from(character).expect("a character")),
        }
    }
    assert_eq!(reader.len as usize, name.len());
    let [k0, k1, c0, c1] = message.load(at)?;
    let question_end = at + TYPE_AND_CLASS_LEN;
    let opt = message.load::<{ OPT_LEN as usize }>(question_end);
    (u16::from_be_bytes([c0, c1]) == CLASS_IN).then_some(Query {
        start: 0,
        question_end: question_end as usize,
        kind: u16::from_be_bytes([k0, k1]),
        has_opt: has_additional(header) && opt.is_some_and(is_opt),
        name,
    })
}

/// What follows a header of TCP: messages, each with its length in front.
pub(crate) fn stream(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = dice.of(&[1, 1, 1, 1, 2, 2, 2, 3, 0]);
    let is_tame = dice.one_in(3);
    for _ in 0..count {
        let message = if is_tame {
            well_made(dice)
        } else {
            message(dice)
        };
        let len = u16::try_from(message.len()).expect("a short message");
        let lie = dice.of(&[0, 1, 11, 12, 16, len / 2, len + 1, 512, u16::MAX]);
        let stated = if dice.one_in(10) { lie } else { len };
        bytes.extend(stated.to_be_bytes());
        bytes.extend(message);
    }
    if dice.one_in(12) {
        bytes.truncate(dice.below(bytes.len() + 1));
    }
    if dice.one_in(12) {
        let count = dice.of(&[1, 2, 3, 12]);
        dice.noise(&mut bytes, count);
    }
    bytes
}

/// A message.
pub(crate) fn message(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    if dice.one_in(20) {
        let count = dice.below(80);
        dice.noise(&mut bytes, count);
        return bytes;
    }
    if dice.one_in(3) {
        return well_made(dice);
    }
    // Of bytes that say how to go on.
    let mut places = vec![2, 4, 5, 6, 7, 8, 9, 10, 11];
    head(dice, &mut bytes);
    let questions = dice.of(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2, 40]);
    for _ in 0..questions {
        name(dice, &mut bytes, &mut places);
        question(dice, &mut bytes);
    }
    let records = dice.of(&[0, 0, 0, 1, 1, 1, 2]);
    for _ in 0..records {
        record(dice, &mut bytes, &mut places);
    }
    let damages = dice.of(&[0, 0, 0, 1, 1, 2]);
    for _ in 0..damages {
        damage(dice, &mut bytes, &places);
    }
    bytes
}

/// A query for a known name, of which everything is right.
fn well_made(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    dice.noise(&mut bytes, 2);
    let records = dice.of(&[0, 1]);
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, records]);
    known_name(dice, &mut bytes, &mut Vec::new());
    bytes.extend([0, 0, dice.of(&[1, 28, 15]), 0, 1]);
    if records == 1 {
        bytes.extend([0, 0, 41, 4, 208, 0, 0, dice.of(&[0, 0x80]), 0, 0, 0]);
    }
    bytes
}

fn head(dice: &mut Dice, bytes: &mut Vec<u8>) {
    dice.noise(bytes, 2);
    let asks = dice.of(&[[1, 0], [1, 0], [1, 0x20], [0, 0x10], [7, 0xff]]);
    let does_not = dice.of(&[[0x81, 0x80], [0x28, 0], [0x20, 0], [0x08, 0], [0x78, 0]]);
    bytes.extend(if dice.one_in(12) { does_not } else { asks });
    let lie = dice.of(&[0, 2, 0x0100, u16::MAX]);
    let questions = if dice.one_in(12) { lie } else { 1 };
    let lies = [1, 0x0100, u16::MAX];
    let [answers, authorities] = [0, 1].map(|_| if dice.one_in(20) { dice.of(&lies) } else { 0 });
    let additional = dice.of(&[0, 0, 1, 1, 2, 0x0100, u16::MAX]);
    for count in [questions, answers, authorities, additional] {
        bytes.extend(count.to_be_bytes());
    }
}

fn question(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let kind: u16 = dice.of(&[1, 1, 1, 28, 28, 15, 65, 0, 41, 251, 255, u16::MAX]);
    let class: u16 = dice.of(&[1, 1, 1, 1, 1, 1, 1, 1, 3, 255, 0, 0x8001]);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(class.to_be_bytes());
}

/// A record behind the question, which often is that of EDNS.
fn record(dice: &mut Dice, bytes: &mut Vec<u8>, places: &mut Vec<usize>) {
    if dice.one_in(4) {
        name(dice, bytes, places);
    } else {
        places.push(bytes.len());
        bytes.push(0);
    }
    let kind: u16 = dice.of(&[41, 41, 41, 41, 1, 0, 250]);
    places.extend([bytes.len(), bytes.len() + 1]);
    bytes.extend(kind.to_be_bytes());
    dice.noise(bytes, 6);
    let len = dice.below(20);
    let lie = dice.of(&[0, 1, 4, u16::MAX]);
    let stated = u16::try_from(len).expect("a short record");
    bytes.extend(if dice.one_in(6) { lie } else { stated }.to_be_bytes());
    dice.noise(bytes, len);
}

fn name(dice: &mut Dice, bytes: &mut Vec<u8>, places: &mut Vec<usize>) {
    match dice.below(20) {
        0..10 => known_name(dice, bytes, places),
        10..14 => labels(dice, bytes, places, 5),
        // As long as a name may be, a byte more, and much more.
        14 | 15 => long(dice, bytes, places),
        // It goes on elsewhere, perhaps where it was.
        16 => {
            let start = bytes.len();
            labels(dice, bytes, places, 2);
            places.extend([bytes.len(), bytes.len() + 1]);
            let to = [0, 2, 4, 12, start, bytes.len(), bytes.len() + 2, 0x3fff];
            let to = u16::try_from(dice.of(&to)).expect("a short message");
            bytes.extend((0xc000 | to).to_be_bytes());
            if dice.one_in(2) {
                return;
            }
        }
        // A label of a length that none has, and which is there.
        17 => {
            labels(dice, bytes, places, 2);
            let len = dice.of(&[64, 65, 127, 128, 191]);
            places.push(bytes.len());
            bytes.push(len);
            dice.noise(bytes, len.into());
        }
        // It has no end of its own.
        18 => return labels(dice, bytes, places, 3),
        // What follows a dot that is none, or comes before an end that is none.
        _ => {
            let from = dice.of(&[&b"low.example"[..], b"\0example", b".", b"\0", b"\xff"]);
            put_label(bytes, places, from.iter().copied());
            put_label(bytes, places, *b"net");
        }
    }
    places.push(bytes.len());
    bytes.push(0);
}

/// One of [`NAMES`] in letters of either case, without its end.
fn known_name(dice: &mut Dice, bytes: &mut Vec<u8>, places: &mut Vec<usize>) {
    let name = dice.of(NAMES);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        put_label(bytes, places, label.bytes());
        let start = bytes.len() - label.len();
        for byte in &mut bytes[start..] {
            if dice.one_in(3) {
                *byte = byte.to_ascii_uppercase();
            }
        }
    }
}

fn put_label(bytes: &mut Vec<u8>, places: &mut Vec<usize>, of: impl IntoIterator<Item = u8>) {
    let start = bytes.len();
    places.push(start);
    bytes.push(0);
    bytes.extend(of);
    bytes[start] = u8::try_from(bytes.len() - start - 1).expect("a label");
}

/// Some labels of any bytes.
fn labels(dice: &mut Dice, bytes: &mut Vec<u8>, places: &mut Vec<usize>, most: usize) {
    let count = dice.below(most);
    for _ in 0..count {
        let len = dice.of(&[1, 2, 5, 62, 63]);
        let mut label = Vec::new();
        dice.noise(&mut label, len);
        put_label(bytes, places, label);
    }
}

fn long(dice: &mut Dice, bytes: &mut Vec<u8>, places: &mut Vec<usize>) {
    let most = dice.of(&[63, 63, 1, 30]);
    // Without the 0 at the end.
    let mut left: usize = dice.of(&[252, 253, 254, 254, 255, 256, 300, 1000]);
    while left > 1 {
        let mut label = Vec::new();
        let len = (left - 1).min(most);
        // One byte is no label.
        let len = if left - 1 - len == 1 { len - 1 } else { len };
        dice.noise(&mut label, len.max(1));
        left -= (label.len() + 1).min(left);
        put_label(bytes, places, label);
    }
}

/// Does one thing to a message that it should not survive, or that a reader must not
/// trip over.
fn damage(dice: &mut Dice, bytes: &mut Vec<u8>, places: &[usize]) {
    let len = bytes.len();
    match dice.below(7) {
        // Cut anywhere.
        0 => bytes.truncate(dice.below(len + 1)),
        // Cut close to where something ends.
        1 => bytes.truncate(dice.of(places) + dice.of(&[0, 1, 2, 4, 5, 10, 11, 12])),
        // A byte that says how to go on says something else.
        2 | 3 => {
            let (at, value) = (dice.of(places), dice.byte());
            let value = dice.of(&[value, 0, 1, 63, 64, 0xc0, 0xff]);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        // Any byte does.
        4 => {
            let (at, value) = (dice.below(len), dice.byte());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        // A bit does.
        5 => {
            let (at, bit) = (dice.below(len), dice.of(&[1, 2, 4, 8, 16, 32, 64, 128]));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
        }
        // More follows.
        _ => {
            let count = dice.of(&[1, 10, 11, 40]);
            dice.noise(bytes, count);
        }
    }
}
