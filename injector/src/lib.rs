//! The injector's agent and command line.
//!
//! An experiment travels through the modules in this order: `spec` reads and
//! checks what the user wrote, `model` holds the result, `resolve` finds the
//! targets on this host, `plan` decides what to change, `actuate` changes and
//! reverts it, and only `kernel` talks to the kernel's BPF side. `agent` runs
//! the whole and `report` says what happened.

pub mod actuate;
pub mod agent;
pub mod cli;
pub mod error;
pub mod faults;
pub mod kernel;
pub mod ledger;
pub mod model;
pub mod plan;
pub mod recipes;
pub mod report;
pub mod resolve;
pub mod spec;
