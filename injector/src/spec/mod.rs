//! What the user wrote, read strictly and turned into the [`crate::model`].
//!
//! Nothing here looks at the host, apart from reading the spec file itself.

pub mod build;
pub mod document;
pub mod duration;
pub mod name;
pub mod net;
pub mod number;
pub mod percent;
mod rule;
pub mod syscall;
pub mod target;
pub mod text;
mod walk;
pub mod when;

pub use build::{ExperimentInput, RuleInput};
