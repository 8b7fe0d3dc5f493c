//! Failures on purpose, for the tests that prove that a failure half-way
//! leaves nothing behind.
//!
//! `INJECTOR_TEST_FAIL_EFFECT=N` makes effect N (from 1) fail after it was
//! performed, the hardest case to revert; `INJECTOR_TEST_PANIC=apply` panics
//! before the last effect, `INJECTOR_TEST_PANIC=run` once the rules are in
//! force.

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
    fail_at: Option<usize>,
    panic_at_end: bool,
}

impl Sabotaged {
    pub(super) fn new(inner: KernelActuator) -> Self {
        Self {
            inner,
            performed: 0,
            fail_at: env::var("INJECTOR_TEST_FAIL_EFFECT")
                .ok()
                .and_then(|n| n.parse().ok()),
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
        self.inner.perform(plan, effect)?;
        if self.fail_at == Some(self.performed) {
            return Err(ApplyError {
                effect: effect.to_string(),
                source: format!("INJECTOR_TEST_FAIL_EFFECT={}", self.performed).into(),
                detail: Vec::new(),
            });
        }
        Ok(())
    }

    fn revert(&mut self, effect: &Effect) -> Vec<CleanupError> {
        self.inner.revert(effect)
    }
}
