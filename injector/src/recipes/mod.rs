//! Recipes: names for several rules that belong together. One module per
//! recipe, with the stem of its name.
//!
//! A recipe is written like a fault kind, and what it stands for is rules of
//! fault kinds: they are planned, counted and reported as such.

mod calls;

use clap::{Args, Subcommand};
use serde::{Deserialize, Deserializer};

use crate::{
    error::SpecError,
    faults::{FaultOption, manual_of, options_of},
    model::Fault,
    spec::percent::Percent,
};

/// All that a recipe must say of itself.
pub trait RecipeDef {
    /// What it does, in one line.
    const SUMMARY: &'static str;
    /// Command lines, for the help text.
    const EXAMPLES: &'static str;
    /// Its options, as written.
    type Raw: Args + serde::de::DeserializeOwned;

    /// What exactly the target sees, for `injector faults RECIPE`.
    fn manual() -> String;

    /// The rules that it stands for.
    ///
    /// # Errors
    ///
    /// Where the options do not fit together; the error's field is the option's
    /// bare name.
    fn expand(raw: &Self::Raw) -> Result<Vec<Part>, SpecError>;
}

/// One of the rules that a recipe stands for.
#[derive(Debug)]
pub struct Part {
    /// What the rule is called, behind the name of the whole; empty for a recipe that is always
    /// one rule.
    pub name: &'static str,
    /// What it does.
    pub fault: Fault,
    /// What share of the occurrences it selects; `None` for all.
    pub percent: Option<Percent>,
}

macro_rules! recipes {
    ($($module:ident::$recipe:ident, $name:literal);+ $(;)?) => {
        $(pub mod $module;)+

        /// A recipe.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Recipe {
            $(
                #[doc = concat!("[`", stringify!($module), "`].")]
                $recipe,
            )+
        }

        /// A recipe with its options, as written.
        #[derive(Debug)]
        pub enum RawRecipe {
            $(
                #[doc = concat!("[`", stringify!($module), "`].")]
                $recipe($module::Raw),
            )+
        }

        /// A recipe as a subcommand, with its own options and those of every rule.
        #[derive(Subcommand, Debug)]
        pub enum RecipeCommand<R: Args> {
            $(
                #[command(
                    name = $name,
                    about = $module::$recipe::SUMMARY,
                    long_about = None,
                    after_help = $module::$recipe::EXAMPLES
                )]
                #[doc = concat!("[`", stringify!($module), "`].")]
                $recipe(crate::faults::KindArgs<$module::Raw, R>),
            )+
        }

        impl<R: Args> RecipeCommand<R> {
            /// The rules' options.
            pub const fn rule(&self) -> &R {
                match self {
                    $(Self::$recipe(args) => &args.rule,)+
                }
            }

            /// The recipe's options and the rules'.
            pub fn split(self) -> (RawRecipe, R) {
                match self {
                    $(Self::$recipe(args) => (RawRecipe::$recipe(args.fault), args.rule),)+
                }
            }
        }

        impl Recipe {
            /// Every recipe.
            pub const ALL: &'static [Self] = &[$(Self::$recipe,)+];

            /// What it is called.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$recipe => $name,)+ }
            }

            /// What it does, in one line.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$recipe => $module::$recipe::SUMMARY,)+ }
            }

            /// Its options.
            #[must_use]
            pub fn options(self) -> Vec<FaultOption> {
                match self { $(Self::$recipe => options_of::<$module::Raw>(),)+ }
            }

            /// The full description: what it does, its options, examples.
            #[must_use]
            pub fn manual(self) -> String {
                match self {
                    $(Self::$recipe => manual_of(
                        self.name(),
                        self.summary(),
                        &$module::$recipe::manual(),
                        self.options(),
                        $module::$recipe::EXAMPLES,
                    ),)+
                }
            }
        }

        impl RawRecipe {
            /// The recipe.
            #[must_use]
            pub const fn recipe(&self) -> Recipe {
                match self { $(Self::$recipe(_) => Recipe::$recipe,)+ }
            }

            /// The rules that it stands for.
            ///
            /// # Errors
            ///
            /// As [`RecipeDef::expand`].
            pub fn expand(&self) -> Result<Vec<Part>, SpecError> {
                match self { $(Self::$recipe(raw) => $module::$recipe::expand(raw),)+ }
            }

            /// Reads the options of a recipe from a mapping of a spec file.
            ///
            /// # Errors
            ///
            /// Where the mapping does not fit the recipe.
            pub fn deserialize<'de, D>(recipe: Recipe, options: D) -> Result<Self, D::Error>
            where
                D: Deserializer<'de>,
            {
                match recipe {
                    $(Recipe::$recipe => $module::Raw::deserialize(options).map(Self::$recipe),)+
                }
            }
        }
    };
}

recipes! {
    net_link::NetLink, "net-link";
    io_errno::IoErrno, "io-errno";
    io_delay::IoDelay, "io-delay";
    disk_full::DiskFull, "disk-full";
    read_only::ReadOnly, "read-only";
    fd_exhaustion::FdExhaustion, "fd-exhaustion";
    oom::Oom, "oom";
    fork_fail::ForkFail, "fork-fail";
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;
    use crate::faults::calls::never;

    /// None of the options that every rule has.
    #[derive(clap::Args)]
    struct NoRule {}

    /// A value for each condition on calls, which some call of each recipe meets that has it.
    const CONDITIONS: [(&str, &str); 12] = [
        ("path", "/srv"),
        ("file-name", "*.wal"),
        ("file-type", "file"),
        ("access", "write"),
        ("arg", "2!=77"),
        ("fd", "3"),
        ("family", "inet"),
        ("peer", "10.0.0.1"),
        ("peer-target", "pid:7"),
        ("peer-port", "80"),
        ("uid", "1000"),
        ("comm", "app"),
    ];

    fn expand(line: &[&str]) -> Result<(), SpecError> {
        let command = RecipeCommand::<NoRule>::augment_subcommands(clap::Command::new(""));
        let command = command.no_binary_name(true);
        let matches = command.try_get_matches_from(line).expect("options");
        let command = RecipeCommand::<NoRule>::from_arg_matches(&matches).expect("options");
        let parts = command.split().0.expand()?;
        parts.iter().try_for_each(|part| never::check(&part.fault))
    }

    /// What is always refused is not offered.
    #[test]
    fn every_condition_of_a_recipe_on_calls_can_be_met() {
        for &recipe in Recipe::ALL
            .iter()
            .filter(|&&recipe| recipe != Recipe::NetLink)
        {
            let options: Vec<String> = recipe.options().into_iter().map(|o| o.name).collect();
            for (option, value) in CONDITIONS {
                if !options.iter().any(|known| known == option) {
                    continue;
                }
                let option = format!("--{option}");
                let mut line = vec![recipe.name(), &option, value];
                if option != "--path" && options.iter().any(|known| known == "path") {
                    line.extend(["--path", "/srv"]);
                }
                if recipe == Recipe::IoDelay {
                    line.extend(["--delay", "1ms"]);
                }
                expand(&line).expect(&option);
            }
        }
        let of = |recipe: Recipe| {
            let options = recipe.options().into_iter();
            let known = |name: &str| CONDITIONS.iter().any(|(known, _)| *known == name);
            options
                .map(|o| o.name)
                .filter(|name| known(name))
                .collect::<Vec<_>>()
        };
        let files = [
            "path",
            "file-name",
            "file-type",
            "access",
            "arg",
            "fd",
            "uid",
            "comm",
        ];
        assert_eq!(of(Recipe::IoErrno), files);
        assert_eq!(
            of(Recipe::DiskFull),
            ["path", "file-name", "arg", "uid", "comm"]
        );
        assert_eq!(of(Recipe::ForkFail), ["arg", "uid", "comm"]);
    }
}
