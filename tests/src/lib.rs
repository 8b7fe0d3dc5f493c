//! Harness of the integration tests.
//!
//! Every test of a fault has three parties: the *victim*, which must suffer
//! exactly what the rule says; the *bystander*, which does the same work beside
//! it and must not notice; and the same victim *after the stop*. The victims are
//! real processes ([`actor`] holds what they do) in control groups and network
//! namespaces of their own, and report through memory shared with the test
//! ([`board`]), because a call that they would report with may be the one that
//! fails.
//!
//! Everything that a test makes is owned by a guard, so a failing test leaves
//! as little behind as a passing one.

pub mod actor;
pub mod agent;
pub mod bare;
pub mod bench;
pub mod board;
pub mod capture;
pub mod cgroup;
pub mod command;
pub mod counting;
pub mod demo;
pub mod device;
pub mod dialer;
pub mod kernel;
pub mod ledger;
pub mod netns;
pub mod postgres;
pub mod python;
pub mod replies;
pub mod residue;
pub mod resolver;
pub mod resources;
pub mod scene;
pub mod stats;
pub mod terminal;
pub mod test_run;
pub mod traffic;
pub mod victim;
pub mod vpn;
pub mod wait;
