//! The spec file of `injector run`: YAML, read strictly.
//!
//! The file is read twice. A rule's keys depend on its kind, which may be
//! written after them, so the first reading gathers the kinds; the second then
//! reads each rule as its kind wants it, without buffering, which keeps the
//! line of every error.

mod places;

use std::{fmt, fs::File, io::Read, path::Path};

use injector_common::names::MAX_RULES;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Error as YamlError, Spanned};

use crate::{
    error::{Error, HostError, Place, SpecError},
    spec::{
        ExperimentInput, RuleInput,
        build::too_many_rules,
        duration::Span,
        kind::Kind,
        name::Name,
        number::Seed,
        rule::{self, RuleSeed},
        text::{self, Text},
        walk::{Trail, unknown_key},
    },
};

pub use places::find;

/// Largest spec file that is read: 1 MiB, some hundred times what 64 rules need.
pub const MAX_BYTES: u64 = 1 << 20;

const TOP_KEYS: [&str; 7] = [
    "version",
    "name",
    "for",
    "seed",
    "whole-host",
    "rules",
    "command",
];

/// Reads a spec file's content.
///
/// # Errors
///
/// Where the file cannot be read, or is too large.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let host = |source| HostError {
        path: path.to_owned(),
        source,
    };
    let spec = |problem: String| {
        SpecError::new(
            "file",
            problem,
            format!("a readable file of at most {MAX_BYTES} bytes"),
        )
        .at(Place {
            file: path.to_owned(),
            line_column: None,
        })
    };
    let file = File::open(path).map_err(|error| spec(format!("cannot be opened ({error})")))?;
    if file.metadata().map_err(host)?.is_dir() {
        return Err(spec("is a directory".to_owned()).into());
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a full file from a larger one, without
    // trusting a size that a pipe or /proc file does not have.
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| spec(format!("cannot be read ({error})")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(spec("is too large".to_owned()).into());
    }
    Ok(bytes)
}

/// Reads a spec file's content; `file` is only named in errors.
///
/// # Errors
///
/// Where the content is no spec, with line and column where they are known.
pub fn parse(file: &Path, bytes: &[u8]) -> Result<ExperimentInput, SpecError> {
    let place = |line_column| Place {
        file: file.to_owned(),
        line_column,
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count() as u64;
        let line_start = valid
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let column = 1 + (valid.len() - line_start) as u64;
        SpecError::new("file", "is not UTF-8", "YAML in UTF-8").at(place(Some((line, column))))
    })?;
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        let allowed = format!("a mapping with the keys {}", TOP_KEYS.join(", "));
        return Err(SpecError::new("file", "is empty", allowed).at(place(None)));
    }
    let trail = Trail::default();
    let to_spec = |error: YamlError, trail: &Trail| {
        let location = error
            .location()
            .map(|location| (location.line(), location.column()));
        let known = location.filter(|(line, _)| *line > 0);
        explain(&error, trail).at(place(trail.marked().or(known)))
    };
    let kinds: Kinds = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| to_spec(error, &trail))?;
    let kinds = kinds.resolve(place)?;
    serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
        DocumentSeed {
            kinds: &kinds,
            trail: &trail,
        }
        .deserialize(deserializer)
    })
    .map_err(|error| to_spec(error, &trail))
}

/// Strict, and with budgets that a spec of [`MAX_BYTES`] cannot turn into work:
/// no legitimate one nests deeper than four levels or needs aliases.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 16,
            flow_nesting_limit: 16,
            max_aliases: 256,
            max_anchors: 256,
            max_nodes: 32_768,
            max_events: 65_536,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// What the parser says, in this program's terms.
fn explain(error: &YamlError, trail: &Trail) -> SpecError {
    use serde_saphyr::{MessageFormatter, UserMessageFormatter};
    let error = error.without_snippet();
    let mut field = trail.to_string();
    let keys = if field.starts_with("rules[") {
        format!(
            "{} and the options of the kind (see `injector faults KIND`)",
            rule::KEYS.join(", ")
        )
    } else {
        format!("YAML with the keys {}", TOP_KEYS.join(", "))
    };
    if let YamlError::SerdeMissingField { field: missing, .. } = error {
        let dot = if field.is_empty() { "" } else { "." };
        field = format!("{field}{dot}{missing}");
        return SpecError::new(field, "is missing", keys);
    }
    if let YamlError::DuplicateMappingKey { key: Some(key), .. } = error {
        let dot = if field.is_empty() { "" } else { "." };
        field = format!("{field}{dot}{}", key.escape_debug());
        return SpecError::new(field, "is given twice", "each key once");
    }
    if let YamlError::UnsupportedTag { tag, .. } = error {
        if field.is_empty() {
            field = "file".to_owned();
        }
        // To YAML, what begins with `!` is a tag of the value behind it.
        let problem = format!("`{}` is not a value", tag.escape_debug());
        let allowed = "a value that begins with ! in quotes, such as '!10.0.0.0/8'";
        return SpecError::new(field, problem, allowed);
    }
    if let YamlError::Unexpected { expected, .. } = error {
        // The only list that is read while the trail is still empty.
        if field.is_empty() && *expected == "sequence start" {
            field = "rules".to_owned();
        }
        let wanted = match *expected {
            "sequence start" => "a list",
            "mapping start" => "a mapping",
            "string scalar" | "scalar" => "a single value",
            other => other,
        };
        if !field.is_empty() {
            return SpecError::new(field, "is of another type", wanted);
        }
    }
    let message = UserMessageFormatter.format_message(error);
    let message: String = message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(400)
        .collect();
    if field.is_empty() {
        field = "file".to_owned();
    }
    // A value's own refusal comes through serde as text; see `ValueError`.
    match message.rsplit_once("; allowed: ") {
        Some((problem, allowed)) => SpecError::new(field, problem.to_owned(), allowed.to_owned()),
        None => SpecError::new(field, message, keys),
    }
}

/// First reading: the kind of each rule, all else ignored.
#[derive(Deserialize)]
struct Kinds {
    #[serde(default)]
    rules: Vec<KindOfRule>,
}

#[derive(Deserialize)]
struct KindOfRule {
    kind: Option<Spanned<String>>,
}

impl Kinds {
    fn resolve(self, place: impl Fn(Option<(u64, u64)>) -> Place) -> Result<Vec<Kind>, SpecError> {
        let allowed = Kind::names();
        if self.rules.len() > MAX_RULES as usize {
            return Err(too_many_rules(self.rules.len()).at(place(None)));
        }
        let mut kinds = Vec::with_capacity(self.rules.len());
        for (index, rule) in self.rules.into_iter().enumerate() {
            let field = format!("rules[{index}].kind");
            let Some(kind) = rule.kind else {
                return Err(SpecError::new(field, "is missing", allowed).at(place(None)));
            };
            let Some(known) = Kind::from_name(&kind.value) else {
                let problem = text::ValueError::new(&kind.value, "is not a fault kind", "").problem;
                let location = kind.referenced;
                let line_column = Some((location.line(), location.column()));
                return Err(SpecError::new(field, problem, allowed).at(place(line_column)));
            };
            kinds.push(known);
        }
        Ok(kinds)
    }
}

struct DocumentSeed<'a> {
    kinds: &'a [Kind],
    trail: &'a Trail,
}

impl<'de> DeserializeSeed<'de> for DocumentSeed<'_> {
    type Value = ExperimentInput;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DocumentSeed<'_> {
    type Value = ExperimentInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self { kinds, trail } = self;
        let mut version: Option<Text<Version>> = None;
        let mut input = ExperimentInput {
            name: None,
            seed: None,
            duration: None,
            whole_host: false,
            rules: Vec::new(),
            command: None,
        };
        while let Some(spanned) = map.next_key::<Spanned<String>>()? {
            let key = &spanned.value;
            match key.as_str() {
                "version" => version = Some(trail.value(&mut map, key)?),
                "name" => input.name = Some(trail.value::<_, Text<Name>>(&mut map, key)?.0),
                "for" => input.duration = Some(trail.value::<_, Text<Span>>(&mut map, key)?.0),
                "seed" => input.seed = Some(trail.value::<_, Text<Seed>>(&mut map, key)?.0),
                "whole-host" => input.whole_host = trail.value(&mut map, key)?,
                "command" => input.command = Some(trail.value(&mut map, key)?),
                "rules" => {
                    let seed = RulesSeed { kinds, trail };
                    input.rules = trail.value_seed(&mut map, key, seed)?;
                }
                _ => return Err(unknown_key(trail, &spanned, &TOP_KEYS.join(", "))),
            }
        }
        if version.is_none() {
            trail.enter_key("version");
            return Err(A::Error::custom("is missing; allowed: 1"));
        }
        Ok(input)
    }
}

/// The version of the format; 1 is the only one.
#[derive(Clone, Copy)]
struct Version;

impl std::str::FromStr for Version {
    type Err = text::ValueError;

    fn from_str(text: &str) -> Result<Self, text::ValueError> {
        match text {
            "1" => Ok(Self),
            _ => Err(text::ValueError::new(text, "is not a known version", "1")),
        }
    }
}

struct RulesSeed<'a> {
    kinds: &'a [Kind],
    trail: &'a Trail,
}

impl<'de> DeserializeSeed<'de> for RulesSeed<'_> {
    type Value = Vec<RuleInput>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RulesSeed<'_> {
    type Value = Vec<RuleInput>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rules")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Self { kinds, trail } = self;
        let mut rules = Vec::with_capacity(kinds.len());
        for (index, &kind) in kinds.iter().enumerate() {
            trail.enter_index(index);
            let path = trail.to_string();
            match items.next_element_seed(RuleSeed { kind, path, trail })? {
                Some(rule) => rules.push(rule),
                None => break,
            }
            trail.leave();
        }
        // As many kinds as rules were found before, so this is the end.
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(rules)
    }
}

#[cfg(test)]
mod tests;
