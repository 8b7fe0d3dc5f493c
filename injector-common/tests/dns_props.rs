//! Laws of reading queries of DNS and of what answers them.

use injector_common::{
    dns::{
        self, BAD, END, MAX_NAME, MORE, NOERROR, NXDOMAIN, NameReader, TYPE_A, TYPE_AAAA,
        answer_header, answer_opt, is_opt, is_query, record_head,
    },
    faults::dns::{self as fault, MAX_TTL, MAX_TYPES},
};
use proptest::{collection::vec, prelude::*};

/// What a reader makes of bytes: the characters, and how it ended, if it did.
fn read(bytes: &[u8]) -> (Vec<u32>, Option<u32>) {
    let (mut reader, mut characters) = (NameReader::new(), Vec::new());
    for byte in bytes {
        match reader.take(*byte) {
            MORE => {}
            ended @ (END | BAD) => return (characters, Some(ended)),
            character => characters.push(character),
        }
    }
    (characters, None)
}

fn wire(labels: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in labels {
        bytes.push(u8::try_from(label.len()).expect("a short label"));
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

proptest! {
    #[test]
    fn a_name_is_read_as_it_is_written(labels in vec("[a-zA-Z0-9_-]{1,63}", 0..6)) {
        let text = labels.join(".").to_ascii_lowercase();
        let (characters, ended) = read(&wire(&labels));
        if text.len() <= MAX_NAME as usize {
            prop_assert_eq!(ended, Some(END));
            prop_assert_eq!(characters, text.bytes().map(u32::from).collect::<Vec<_>>());
        } else {
            prop_assert_eq!(ended, Some(BAD));
        }
    }

    #[test]
    fn any_bytes_are_read_to_an_end(bytes in vec(any::<u8>(), 256..300)) {
        let (characters, ended) = read(&bytes);
        prop_assert!(characters.len() <= MAX_NAME as usize);
        prop_assert!(ended.is_some(), "a name is never this long");
        // What separates labels and names is never one of their characters.
        let dots = characters.iter().filter(|one| **one == u32::from(b'.')).count();
        prop_assert!(dots <= MAX_NAME as usize / 2);
        prop_assert!(!characters.contains(&0));
    }

    #[test]
    fn a_reference_to_another_name_is_none(length in 64u8.., rest in any::<u8>()) {
        prop_assert_eq!(read(&[length, rest]).1, Some(BAD));
    }

    #[test]
    fn only_queries_with_one_question_are_queries(header in any::<[u8; 12]>()) {
        let response = header[2] & 0x80 != 0;
        let operation = header[2] >> 3 & 0x0f;
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let expected = !response && operation == 0 && count(4) == 1 && count(6) == 0 && count(8) == 0;
        prop_assert_eq!(is_query(header), expected);
    }

    #[test]
    fn an_answer_is_one_to_its_query(
        header in any::<[u8; 12]>(), rcode in 0..16u8, truncated in any::<bool>(),
        records in 0..2u8, additional in 0..2u8,
    ) {
        let answer = answer_header(header, rcode, truncated, records, additional);
        prop_assert_eq!(&answer[..2], &header[..2]);
        prop_assert!(!is_query(answer));
        prop_assert_eq!(answer[2] & 0xfe, 0x80 | u8::from(truncated) << 1);
        prop_assert_eq!(answer[2] & 1, header[2] & 1);
        prop_assert_eq!(answer[3] & 0x0f, rcode);
        prop_assert_eq!(&answer[4..], &[0, 1, 0, records, 0, 0, 0, additional]);
    }

    #[test]
    fn edns_is_answered_without_options(opt in any::<[u8; 11]>()) {
        let answer = answer_opt(opt);
        prop_assert_eq!(is_opt(answer), is_opt(opt));
        prop_assert_eq!(&answer[3..5], &opt[3..5]);
        prop_assert_eq!(answer[7], opt[7] & 0x80);
        prop_assert_eq!((answer[5], answer[6], answer[8], answer[9], answer[10]), (0, 0, 0, 0, 0));
    }

    #[test]
    fn types_are_those_that_were_named(types in vec(1..=u16::MAX, 0..=MAX_TYPES), asked in any::<u16>()) {
        let params = fault::params(NXDOMAIN);
        prop_assert!(fault::takes_type(params, asked));
        if !types.is_empty() {
            let params = fault::of_types(params, &types);
            prop_assert_eq!(fault::takes_type(params, asked), types.contains(&asked));
            prop_assert!(types.iter().all(|kind| fault::takes_type(params, *kind)));
            prop_assert_eq!(fault::code(params), NXDOMAIN);
        }
    }

    #[test]
    fn addresses_are_kept_beside_all_else(
        v4 in any::<Option<[u8; 4]>>(), v6 in any::<Option<[u8; 16]>>(), ttl in 0..=MAX_TTL,
        types in vec(1..=u16::MAX, 0..=MAX_TYPES), named in any::<bool>(), other in any::<u16>(),
        draw in any::<u64>(),
    ) {
        let mut params = fault::of_types(fault::addresses(v4, v6, ttl), &types);
        if named {
            params = fault::of_names(params);
        }
        prop_assert_eq!(fault::code(params), NOERROR);
        prop_assert_eq!(fault::ttl(params), ttl);
        prop_assert_eq!(fault::asks_table(params), named);
        prop_assert_eq!(fault::address_len(params, TYPE_A), if v4.is_some() { 4 } else { 0 });
        prop_assert_eq!(fault::address_len(params, TYPE_AAAA), if v6.is_some() { 16 } else { 0 });
        if let Some(v4) = v4 {
            prop_assert_eq!(&fault::address(params, TYPE_A, draw)[..4], &v4[..]);
        }
        if let Some(v6) = v6 {
            prop_assert_eq!(fault::address(params, TYPE_AAAA, draw), v6);
        }
        if other != TYPE_A && other != TYPE_AAAA {
            prop_assert_eq!(fault::address_len(params, other), 0);
        }
    }

    #[test]
    fn addresses_are_drawn_within_their_networks(
        ttl in 0..=MAX_TTL, types in vec(1..=u16::MAX, 0..=MAX_TYPES), draw in any::<u64>(),
    ) {
        let params = fault::of_types(fault::drawn(ttl), &types);
        prop_assert_eq!((fault::code(params), fault::ttl(params)), (NOERROR, ttl));
        let of = |kind| fault::address(params, kind, draw)[..fault::address_len(params, kind).into()].to_vec();
        let last = draw.to_be_bytes();
        prop_assert_eq!(of(TYPE_A), [&fault::DRAWN_V4[..3], &last[7..]].concat());
        prop_assert_eq!(of(TYPE_AAAA), [&fault::DRAWN_V6[..8], &last].concat());
    }

    #[test]
    fn a_delay_is_kept(delay in any::<u64>(), types in vec(1..=u16::MAX, 1..=MAX_TYPES)) {
        let params = fault::of_types(fault::of_names(fault::delayed(delay)), &types);
        prop_assert_eq!(fault::delay_ns(params), delay);
        prop_assert_eq!(fault::code(params), fault::DELAY);
    }
}

#[test]
fn a_record_names_the_question() {
    let head = record_head(TYPE_AAAA, 0x0102_0304, 16);
    assert_eq!(head, [0xc0, 12, 0, 28, 0, 1, 1, 2, 3, 4, 0, 16]);
    assert_eq!(
        dns::HEADER_LEN,
        12,
        "the reference is to what follows the header"
    );
}
