//! One rule of a spec file.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, IgnoredAny, IntoDeserializer, MapAccess, Visitor,
        value::MapAccessDeserializer,
    },
};
use serde_saphyr::Spanned;

use crate::{
    model::{Per, Target},
    spec::{
        RuleInput,
        duration::Span,
        kind::{Kind, RawKind},
        name::Name,
        number::Times,
        percent::Percent,
        text::{self, Text},
        walk::{Trail, unknown_key},
        when::When,
    },
};

/// The keys that rules of every kind have.
pub(super) const KEYS: [&str; 10] = [
    "name", "kind", "target", "start", "for", "percent", "when", "times", "per", "shadow",
];

/// Reads a rule of a known kind.
pub(super) struct RuleSeed<'a> {
    pub(super) kind: Kind,
    /// How error messages name the rule.
    pub(super) path: String,
    pub(super) trail: &'a Trail,
}

impl<'de> DeserializeSeed<'de> for RuleSeed<'_> {
    type Value = RuleInput;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// The keys that rules of every kind have.
#[derive(Default)]
struct CommonKeys {
    name: Option<Text<Name>>,
    targets: Vec<Text<Target>>,
    start: Option<Text<Span>>,
    duration: Option<Text<Span>>,
    percent: Option<Text<Percent>>,
    when: Option<Text<When>>,
    times: Option<Text<Times>>,
    per: Option<Text<Per>>,
    shadow: bool,
}

impl<'de> Visitor<'de> for RuleSeed<'_> {
    type Value = RuleInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rule")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RuleInput, A::Error> {
        let mut common = CommonKeys::default();
        let options: Vec<String> = self
            .kind
            .options()
            .into_iter()
            .map(|option| option.name)
            .collect();
        let split = Split {
            map,
            trail: self.trail,
            common: &mut common,
            options: &options,
        };
        let what = RawKind::deserialize(self.kind, MapAccessDeserializer::new(split))?;
        Ok(RuleInput {
            path: self.path,
            name: common.name.map(|text| text.0),
            targets: common.targets.into_iter().map(|text| text.0).collect(),
            what,
            percent: common.percent.map(|text| text.0),
            when: common.when.map(|text| text.0),
            times: common.times.map(|text| text.0),
            per: common.per.map(|text| text.0),
            shadow: common.shadow,
            start: common.start.map(|text| text.0),
            duration: common.duration.map(|text| text.0),
        })
    }
}

/// Reads the common keys of a rule itself and hands the others to the kind.
struct Split<'a, A> {
    map: A,
    trail: &'a Trail,
    common: &'a mut CommonKeys,
    options: &'a [String],
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Split<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Self {
            map,
            trail,
            common,
            options,
        } = self;
        while let Some(spanned) = map.next_key::<Spanned<String>>()? {
            let key = &spanned.value;
            match key.as_str() {
                "kind" => drop(trail.value::<_, IgnoredAny>(map, key)?),
                "name" => common.name = Some(trail.value(map, key)?),
                "target" => common.targets = trail.value::<_, Targets>(map, key)?.0,
                "start" => common.start = Some(trail.value(map, key)?),
                "for" => common.duration = Some(trail.value(map, key)?),
                "percent" => common.percent = Some(trail.value(map, key)?),
                "when" => common.when = Some(trail.value(map, key)?),
                "per" => common.per = Some(trail.value(map, key)?),
                "shadow" => common.shadow = trail.value(map, key)?,
                "times" => common.times = Some(trail.value(map, key)?),
                _ if options.contains(key) => {
                    trail.enter_key(key);
                    return seed.deserialize(key.as_str().into_deserializer()).map(Some);
                }
                _ => {
                    let allowed = format!("{}, {}", KEYS.join(", "), options.join(", "));
                    return Err(unknown_key(trail, &spanned, &allowed));
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        let value = self.map.next_value_seed(seed)?;
        self.trail.leave();
        Ok(value)
    }
}

struct Targets(Vec<Text<Target>>);

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::list(deserializer).map(Self)
    }
}
