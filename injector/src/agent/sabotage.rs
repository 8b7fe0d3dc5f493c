//! Panics on purpose, for the tests that prove that one leaves nothing behind.
//!
//! `INJECTOR_TEST_PANIC=apply` panics before the last effect,
//! `INJECTOR_TEST_PANIC=run` once the rules are in force. Failures within an
//! effect are `kernel::parts`'s.

use std::env;

use crate::{
    actuate::Actuator,
    error::{ApplyError, CleanupError},
    kernel::KernelActuator,
    plan::{Effect, Plan},
};

/// The kernel, with a failure to come if the environment asks for one.
#[derive(Debug)]
pub(super) struct Sabotaged {
    inner: KernelActuator,
    performed: usize,
    panic_at_end: bool,
}

impl Sabotaged {
    pub(super) fn new(inner: KernelActuator) -> Self {
        Self {
            inner,
            performed: 0,
            panic_at_end: panic_wanted("apply"),
        }
    }

    pub(super) const fn inner(&mut self) -> &mut KernelActuator {
        &mut self.inner
    }
}

/// Whether the environment asks for a panic at this stage.
pub(super) fn panic_wanted(stage: &str) -> bool {
    env::var("INJECTOR_TEST_PANIC").is_ok_and(|wanted| wanted == stage)
}

impl Actuator for Sabotaged {
    fn perform(&mut self, plan: &Plan, effect: &Effect) -> Result<(), ApplyError> {
        self.performed += 1;
        if self.panic_at_end && self.performed == plan.effects.len() {
            panic!("INJECTOR_TEST_PANIC=apply");
        }
        self.inner.perform(plan, effect)
    }

    fn revert(&mut self, effect: &Effect) -> Vec<CleanupError> {
        self.inner.revert(effect)
    }

    fn forget(&mut self) {
        self.inner.forget();
    }
}
