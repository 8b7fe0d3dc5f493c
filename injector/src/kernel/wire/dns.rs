//! Rules on queries of DNS as they lie in the maps.

use aya::maps::lpm_trie::Key;
use injector_common::{
    dns::{NAME_IN, NAME_OUT, NXDOMAIN, NameKey, REFUSED, SERVFAIL},
    faults::{Params, dns},
};

use super::nanos;
use crate::model::{Dns, NamePattern, Reply};

pub(super) fn params(rule: &Dns) -> Params {
    let mut params = match rule.reply {
        Reply::Nxdomain => dns::params(NXDOMAIN),
        Reply::Servfail => dns::params(SERVFAIL),
        Reply::Refused => dns::params(REFUSED),
        Reply::Timeout => dns::params(dns::TIMEOUT),
        Reply::Truncated => dns::params(dns::TRUNCATED),
        Reply::Delay { delay, .. } => dns::delayed(nanos(delay)),
        Reply::Random { ttl } => dns::drawn(ttl),
        Reply::Addresses { v4, v6, ttl } => {
            dns::addresses(v4.map(|v4| v4.octets()), v6.map(|v6| v6.octets()), ttl)
        }
    };
    if !rule.types.is_empty() {
        let types: Vec<u16> = rule.types.iter().map(|kind| kind.0).collect();
        params = dns::of_types(params, &types);
    }
    if !rule.names.is_any() {
        params = dns::of_names(params);
    }
    params
}

/// What the table of names has to say for the rule with this key: nothing where the
/// rule means every name.
pub(in crate::kernel) fn queries(rule_key: u8, rule: &Dns) -> Vec<(Key<NameKey>, u32)> {
    let mut entries: Vec<(Key<NameKey>, u32)> = rule
        .names
        .each()
        .map(|(pattern, left_out)| {
            let value = if left_out { NAME_OUT } else { NAME_IN };
            (key(rule_key, pattern), value)
        })
        .collect();
    if rule.names.these.is_empty() && !rule.names.is_any() {
        // What is not left out.
        entries.push((prefix(rule_key, ""), NAME_IN));
    }
    entries
}

fn key(index: u8, pattern: &NamePattern) -> Key<NameKey> {
    match pattern {
        NamePattern::Exact(name) => prefix(index, &format!("\0{name}")),
        NamePattern::Below(name) => prefix(index, &format!(".{name}")),
    }
}

/// The key of all names that end like this, in which a 0 stands for a name's
/// beginning.
fn prefix(rule: u8, end: &str) -> Key<NameKey> {
    let mut name = [0; 255];
    for (place, byte) in name.iter_mut().zip(end.bytes().rev()) {
        *place = byte;
    }
    let len = u32::try_from(end.len()).unwrap_or(u32::MAX >> 4);
    Key::new(NameKey::bits(len), NameKey { rule, name })
}

#[cfg(test)]
mod tests {
    use injector_common::dns::{END, NameReader};
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::model::Choice;

    /// What a program finds in the table: the value of the longest prefix of a
    /// name, read as it reads it.
    fn found(entries: &[(Key<NameKey>, u32)], rule: u8, wire: &[u8]) -> Option<u32> {
        let mut reader = NameReader::new();
        let mut name = Vec::new();
        for byte in wire {
            match reader.take(*byte) {
                END => break,
                taken => name.extend(u8::try_from(taken)),
            }
        }
        name.push(0);
        name.rotate_right(1);
        name.push(rule);
        name.reverse();
        let matching = entries.iter().filter(|(key, _)| {
            let bytes = key.prefix_len() as usize / 8;
            let data = key.data();
            let prefix: Vec<u8> = [data.rule].iter().chain(&data.name).copied().collect();
            bytes <= name.len() && prefix[..bytes] == name[..bytes]
        });
        let longest = matching.max_by_key(|(key, _)| key.prefix_len());
        longest.map(|(_, value)| *value)
    }

    fn wire(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(u8::try_from(label.len()).expect("a short label"));
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        bytes
    }

    fn rule(these: &[&str], not: &[&str]) -> Dns {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().expect(text)).collect();
        Dns {
            names: Choice {
                these: parse(these),
                not: parse(not),
            },
            types: Vec::new(),
            reply: Reply::Nxdomain,
        }
    }

    #[test]
    fn names_find_their_patterns() {
        let entries = queries(
            7,
            &rule(&["*.example.com", "db.example.net"], &["www.example.com"]),
        );
        for (name, expected) in [
            ("a.example.com", Some(NAME_IN)),
            ("A.b.Example.COM", Some(NAME_IN)),
            ("www.example.com", Some(NAME_OUT)),
            ("x.www.example.com", Some(NAME_IN)),
            ("wwww.example.com", Some(NAME_IN)),
            ("example.com", None),
            ("xexample.com", None),
            ("com", None),
            ("", None),
            ("db.example.net", Some(NAME_IN)),
            ("a.db.example.net", None),
            ("b.example.net", None),
        ] {
            assert_eq!(found(&entries, 7, &wire(name)), expected, "{name}");
            assert_eq!(found(&entries, 8, &wire(name)), None, "{name}");
        }
        // Neither dots within a label nor zeros are what they look like.
        for strange in [
            &b"\x0da.example.com\x00"[..],
            b"\x02a\x00\x07example\x03com\x00",
        ] {
            let exact = queries(7, &rule(&["a.example.com"], &[]));
            assert_eq!(found(&exact, 7, strange), None);
        }
        let dotted = b"\x0bexample.com\x00";
        assert_eq!(found(&queries(7, &rule(&["*.com"], &[])), 7, dotted), None);
        let others = queries(7, &rule(&[], &["*.example.com"]));
        for (name, expected) in [("a.example.com", NAME_OUT), ("b", NAME_IN), ("", NAME_IN)] {
            assert_eq!(found(&others, 7, &wire(name)), Some(expected), "{name}");
        }
        assert!(queries(7, &rule(&[], &[])).is_empty());
    }

    proptest! {
        #[test]
        fn a_pattern_takes_in_what_its_text_says(
            labels in vec("[abA]{1,2}", 1..4), pattern in vec("[ab]{1,2}", 1..4), below in any::<bool>(),
        ) {
            let (name, end) = (labels.join("."), pattern.join("."));
            let written = if below { format!("*.{end}") } else { end.clone() };
            let entries = queries(0, &rule(&[&written], &[]));
            let lower = name.to_ascii_lowercase();
            let expected = if below { lower.ends_with(&format!(".{end}")) } else { lower == end };
            prop_assert_eq!(found(&entries, 0, &wire(&name)).is_some(), expected);
        }
    }
}
