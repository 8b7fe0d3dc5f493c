//! Rules on functions of programs and libraries.

use super::{Parts, need};
use crate::{
    error::Error,
    model::Rule,
    plan::{Effect, Features},
    resolve::{FunctionPlace, RuleScope},
};

impl Parts {
    /// Has a function return. One program asks all rules on it: of several at one place, those that
    /// are asked later see where an earlier one has sent the thread.
    pub(super) fn function(
        &mut self,
        rule: &Rule,
        scope: &RuleScope,
        mask: u64,
        features: &Features,
    ) -> Result<&'static str, Error> {
        let needs = "programs at the entry of functions (uprobes) that may write the registers of \
                     whoever comes by";
        need(rule, needs, &features.function_return)?;
        if let Some(place) = &scope.function {
            let mut known = self.functions.iter_mut();
            match known.find(|(known, _)| known.which() == place.which()) {
                Some((_, rules)) => *rules |= mask,
                None => self.functions.push((place.clone(), mask)),
            }
        }
        Ok("uprobe")
    }
}

/// The effects that name these functions for the rules on them.
pub(super) fn names(functions: &[(FunctionPlace, u64)]) -> impl Iterator<Item = Effect> {
    functions.iter().map(|(place, rules)| Effect::NameFunction {
        place: place.clone(),
        rules: *rules,
    })
}
