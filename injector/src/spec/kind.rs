//! What a rule can be: of a fault kind, or a recipe for several of them.

use clap::{Args, Subcommand};
use injector_common::FaultKind;
use serde::Deserializer;

use crate::{
    faults::{self, FaultOption, KindCommand, RawFault},
    recipes::{RawRecipe, Recipe, RecipeCommand},
};

/// A fault kind or a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A fault kind.
    Fault(FaultKind),
    /// A recipe.
    Recipe(Recipe),
}

impl Kind {
    /// All fault kinds, then all recipes.
    pub fn all() -> impl Iterator<Item = Self> {
        let faults = FaultKind::ALL.iter().map(|&kind| Self::Fault(kind));
        faults.chain(Recipe::ALL.iter().map(|&recipe| Self::Recipe(recipe)))
    }

    /// All names, as a list.
    #[must_use]
    pub fn names() -> String {
        let names: Vec<&str> = Self::all().map(Self::name).collect();
        names.join(", ")
    }

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fault(kind) => kind.name(),
            Self::Recipe(recipe) => recipe.name(),
        }
    }

    /// The one of this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// What it does, in one line.
    #[must_use]
    pub const fn summary(self) -> &'static str {
        match self {
            Self::Fault(kind) => faults::summary(kind),
            Self::Recipe(recipe) => recipe.summary(),
        }
    }

    /// Its options.
    #[must_use]
    pub fn options(self) -> Vec<FaultOption> {
        match self {
            Self::Fault(kind) => faults::options(kind),
            Self::Recipe(recipe) => recipe.options(),
        }
    }

    /// The full description: what it does, its options, examples.
    #[must_use]
    pub fn manual(self) -> String {
        match self {
            Self::Fault(kind) => faults::manual(kind),
            Self::Recipe(recipe) => recipe.manual(),
        }
    }
}

/// A fault kind or a recipe with its options, as written.
#[derive(Debug)]
pub enum RawKind {
    /// A fault kind.
    Fault(RawFault),
    /// A recipe.
    Recipe(RawRecipe),
}

impl RawKind {
    /// Without its options.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Fault(raw) => Kind::Fault(raw.kind()),
            Self::Recipe(raw) => Kind::Recipe(raw.recipe()),
        }
    }

    /// Reads the options from a mapping of a spec file.
    ///
    /// # Errors
    ///
    /// Where the mapping does not fit.
    pub fn deserialize<'de, D>(kind: Kind, options: D) -> Result<Self, D::Error>
    where
        D: Deserializer<'de>,
    {
        match kind {
            Kind::Fault(kind) => RawFault::deserialize(kind, options).map(Self::Fault),
            Kind::Recipe(recipe) => RawRecipe::deserialize(recipe, options).map(Self::Recipe),
        }
    }
}

/// A fault kind or a recipe as a subcommand.
#[derive(Subcommand, Debug)]
pub enum RuleCommand<R: Args> {
    /// A fault kind.
    #[command(flatten)]
    Fault(KindCommand<R>),
    /// A recipe.
    #[command(flatten)]
    Recipe(RecipeCommand<R>),
}

impl<R: Args> RuleCommand<R> {
    /// Those of every rule.
    pub const fn rule(&self) -> &R {
        match self {
            Self::Fault(command) => command.rule(),
            Self::Recipe(command) => command.rule(),
        }
    }

    /// Its own options and those of every rule.
    pub fn split(self) -> (RawKind, R) {
        match self {
            Self::Fault(command) => {
                let (raw, rule) = command.split();
                (RawKind::Fault(raw), rule)
            }
            Self::Recipe(command) => {
                let (raw, rule) = command.split();
                (RawKind::Recipe(raw), rule)
            }
        }
    }
}
