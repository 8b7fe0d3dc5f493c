//! What the user wrote, read strictly and turned into the [`crate::model`].
//!
//! Nothing here looks at the host, apart from reading the spec file itself and the tables of
//! delays that it names.

pub mod build;
mod call_classes;
pub mod call_filter;
pub mod calls;
pub mod clock;
mod decimal;
pub mod distribution;
pub mod dns;
pub mod document;
pub mod duration;
pub mod function;
pub mod kind;
pub mod loss;
pub mod name;
pub mod net;
pub mod number;
pub mod packet;
pub mod per;
pub mod percent;
pub mod rate;
pub mod resource;
mod rule;
mod selection;
pub mod socket;
pub mod syscall;
pub mod target;
pub mod text;
mod walk;
pub mod when;

pub use build::{ExperimentInput, RuleInput};
