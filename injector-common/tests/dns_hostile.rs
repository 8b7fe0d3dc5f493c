//! What is read in a million hostile messages of DNS, compared with what another parser
//! reads, which knows all of DNS.
//!
//! The kernel is asked the same in `tests/tests/hostile_queries.rs`.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/queries.rs"]
mod queries;

use std::collections::BTreeMap;

use dice::{Dice, PACKETS, seed};
use domain::base::{
    Message, Rtype,
    iana::{Class, Opcode},
};
use queries::{Query, message, over_tcp, over_udp, stream};

/// How often each outcome must at least occur for the comparison to mean something.
const AT_LEAST: u64 = PACKETS / 500;

#[test]
fn a_million_hostile_messages_are_read_as_another_parser_reads_them() {
    let seed = seed();
    let mut reference = Reference::new();
    let mut seen = Seen::default();
    for number in 0..PACKETS {
        let dice = &mut Dice::new(seed, number);
        let message = message(dice);
        let found = over_udp(&message);
        let expected = reference.query(&message);
        assert_eq!(
            found.first(),
            expected.as_ref(),
            "message {number} of seed {seed}: {message:02x?}"
        );
        seen.count(&message, expected.as_ref());
    }
    seen.assert_all();
}

/// How many segments are read.
const STREAMS: u64 = PACKETS / 4;

/// A segment that messages fill is read if each of them is a query, and there are no
/// more than two.
#[test]
fn hostile_streams_are_read_as_another_parser_reads_them() {
    let seed = !seed();
    let mut reference = Reference::new();
    let mut by_count = [0_u64; 3];
    for number in 0..STREAMS {
        let payload = stream(&mut Dice::new(seed, number));
        let found = over_tcp(&payload);
        let expected = reference.queries(&payload).unwrap_or_default();
        assert_eq!(
            found, expected,
            "stream {number} of seed {seed}: {payload:02x?}"
        );
        by_count[found.len()] += 1;
    }
    assert!(
        by_count.iter().all(|count| *count >= AT_LEAST),
        "{by_count:?}"
    );
}

/// What another parser finds, and what of it is meant to be taken for a query.
struct Reference {
    /// A message, and nothing but 0 behind it.
    padded: Vec<u8>,
}

impl Reference {
    fn new() -> Self {
        Self {
            padded: vec![0; 2 * (1 << 16)],
        }
    }

    fn queries(&mut self, payload: &[u8]) -> Option<Vec<Query>> {
        let (mut rest, mut queries) = (payload, Vec::new());
        while let Some((len, behind)) = rest.split_first_chunk() {
            let (message, behind) = behind.split_at_checked(u16::from_be_bytes(*len).into())?;
            let mut query = self.query(message)?;
            let start = payload.len() - rest.len() + 2;
            query.start = start;
            query.question_end += start;
            queries.push(query);
            rest = behind;
        }
        (rest.is_empty() && queries.len() <= 2).then_some(queries)
    }

    fn query(&mut self, bytes: &[u8]) -> Option<Query> {
        let message = Message::from_octets(bytes).ok()?;
        let (header, counts) = (message.header(), message.header_counts());
        let asks_one = counts.qdcount() == 1 && counts.ancount() == 0 && counts.nscount() == 0;
        if header.qr() || header.opcode() != Opcode::QUERY || !asks_one {
            return None;
        }
        let mut questions = message.question();
        let question = questions.next()?.ok()?;
        let name = question.qname();
        // There is nothing before a question that its name could refer to. The other parser
        // follows a reference into the header.
        if name.is_compressed() || bytes[12] >= 0xc0 || question.qclass() != Class::IN {
            return None;
        }
        let labels = name.iter().map(|label| label.as_slice().to_vec());
        let labels: Vec<Vec<u8>> = labels.filter(|label| !label.is_empty()).collect();
        // What a pattern would take for a dot or an end is neither.
        let text = |label: &Vec<u8>| -> Vec<u8> {
            let taken = |byte: &u8| match byte {
                0 | b'.' => 0xff,
                byte => byte.to_ascii_lowercase(),
            };
            label.iter().map(taken).collect()
        };
        let labels: Vec<Vec<u8>> = labels.iter().map(text).collect();
        let question_end = questions.pos();
        Some(Query {
            start: 0,
            question_end,
            kind: question.qtype().to_int(),
            has_opt: counts.arcount() != 0 && self.has_opt(bytes, question_end),
            name: labels.join(&b'.'),
        })
    }

    /// Whether a record of EDNS comes next, up to where its options would begin. These are
    /// not read, nor is what follows: a query is one however its records end, since it is the
    /// name server that reads them, and there is none.
    fn has_opt(&mut self, bytes: &[u8], question_end: usize) -> bool {
        self.padded[..bytes.len()].copy_from_slice(bytes);
        let is_opt = || {
            let message = Message::from_octets(&self.padded[..]).ok()?;
            let record = message.additional().ok()?.next()?.ok()?;
            // It is the root's by itself, and not by reference (RFC 6891 §6.1.2).
            let is_roots = bytes.get(question_end) == Some(&0);
            Some(is_roots && record.rtype() == Rtype::OPT)
        };
        let found = is_opt() == Some(true) && bytes.len() >= question_end + 11;
        self.padded[..bytes.len()].fill(0);
        found
    }
}

/// How often each outcome occurred.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, [u64; 2]>);

impl Seen {
    fn count(&mut self, message: &[u8], query: Option<&Query>) {
        let is = |what: &dyn Fn(&Query) -> bool| query.is_some_and(what);
        for (name, is) in [
            ("read", query.is_some()),
            ("EDNS", is(&|query| query.has_opt)),
            ("a known name", is(&|query| knows(&query.name))),
            ("the root", is(&|query| query.name.is_empty())),
            ("strange", is(&|query| query.name.contains(&0xff))),
            ("longest", is(&|query| query.name.len() == 253)),
            ("upper case", is(&|query| has_upper_case(message, query))),
            ("more", is(&|query| query.question_end < message.len())),
        ] {
            self.0.entry(name).or_default()[usize::from(is)] += 1;
        }
    }

    fn assert_all(&self) {
        for (name, [without, with]) in &self.0 {
            assert!(
                *without >= AT_LEAST && *with >= AT_LEAST,
                "{name}: {with} messages with and {without} without it test little"
            );
        }
    }
}

fn knows(name: &[u8]) -> bool {
    queries::NAMES.iter().any(|known| known.as_bytes() == name)
}

fn has_upper_case(message: &[u8], query: &Query) -> bool {
    let name = &message[12..query.question_end - 4];
    name.iter().any(u8::is_ascii_uppercase)
}
