//! Where in a spec file stands what was refused when the file as a whole had been read.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_saphyr::Spanned;

/// Line and column, from 1.
type LineColumn = (u64, u64);

/// The keys of a file and of its rules, with where their values stand.
struct Places {
    keys: Vec<(String, LineColumn)>,
    rules: Vec<RulePlaces>,
}

/// Those of one rule, and where it begins.
struct RulePlaces {
    begin: LineColumn,
    keys: Vec<(String, LineColumn)>,
}

/// Finds a field such as `for`, `rules[1]` or `rules[1].percent` in the text of a file; a rule of
/// that number where it does not have the key. `rules` is how many there have to be for
/// their numbers to be those of the file, if that is known.
#[must_use]
pub fn find(text: &str, field: &str, rules: Option<usize>) -> Option<LineColumn> {
    let places: Places = serde_saphyr::from_str_with_options(text, super::options()).ok()?;
    let find = |keys: &[(String, LineColumn)], key: &str| {
        let known = keys.iter().find(|(known, _)| known == key);
        known.map(|(_, place)| *place)
    };
    let Some(rest) = field.strip_prefix("rules[") else {
        return find(&places.keys, field);
    };
    if rules.is_some_and(|rules| rules != places.rules.len()) {
        return None;
    }
    let (number, key) = rest.split_once(']')?;
    let rule = places.rules.get(number.parse::<usize>().ok()?)?;
    let key = key.strip_prefix('.').unwrap_or_default();
    Some(find(&rule.keys, key).unwrap_or(rule.begin))
}

fn place<T>(spanned: &Spanned<T>) -> LineColumn {
    (spanned.referenced.line(), spanned.referenced.column())
}

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PlacesVisitor)
    }
}

struct PlacesVisitor;

impl<'de> Visitor<'de> for PlacesVisitor {
    type Value = Places;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Places, A::Error> {
        let mut places = Places {
            keys: Vec::new(),
            rules: Vec::new(),
        };
        while let Some(key) = map.next_key::<String>()? {
            if key == "rules" {
                let rules = map.next_value::<Vec<Spanned<Keys>>>()?;
                places.rules = rules
                    .into_iter()
                    .map(|rule| RulePlaces {
                        begin: place(&rule),
                        keys: rule.value.0,
                    })
                    .collect();
            } else {
                let value = map.next_value::<Spanned<IgnoredAny>>()?;
                places.keys.push((key, place(&value)));
            }
        }
        Ok(places)
    }
}

struct Keys(Vec<(String, LineColumn)>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rule")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value::<Spanned<IgnoredAny>>()?;
            keys.push((key, place(&value)));
        }
        Ok(Keys(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
version: 1
for: 9s
rules:
- kind: clock-offset
  by: 1h
  start: 1s
- {kind: net-loss, target: [pid:7,
   pid:8], percent: 5}
";

    #[test]
    fn a_field_is_where_its_value_stands() {
        for (field, place) in [
            ("for", Some((2, 6))),
            ("rules[0].start", Some((6, 10))),
            ("rules[1].percent", Some((8, 21))),
            ("rules[1].target", Some((7, 28))),
            // What is missing is missing in the rule.
            ("rules[0].target", Some((4, 3))),
            ("rules[1]", Some((7, 3))),
            ("rules[2].target", None),
            ("seed", None),
            ("rules[", None),
            ("rules[x].for", None),
        ] {
            assert_eq!(find(TEXT, field, None), place, "{field}");
        }
        assert_eq!(find(TEXT, "rules[0].by", Some(2)), Some((5, 7)));
        // One of several that one in the file stands for.
        assert_eq!(find(TEXT, "rules[0].by", Some(3)), None);
        assert_eq!(find("rules: [5]", "rules[0]", None), None);
    }
}
