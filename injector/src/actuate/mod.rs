//! Applying a plan and taking it back, without knowing what an effect does.

use crate::{
    error::{ApplyError, CleanupError, CleanupErrors, Error},
    plan::{Effect, Plan},
};

/// Something that performs effects: the kernel, or a model of it in tests.
pub trait Actuator {
    /// Performs one effect of `plan`.
    ///
    /// # Errors
    ///
    /// What the kernel refused. The effect may be half done: [`apply`] reverts
    /// it like those before it.
    fn perform(&mut self, plan: &Plan, effect: &Effect) -> Result<(), ApplyError>;

    /// Takes back what [`Actuator::perform`] did or began, as far as there is
    /// anything. Returns what could not be taken back.
    fn revert(&mut self, effect: &Effect) -> Vec<CleanupError>;
}

/// A plan in force. Stopping or dropping it reverts every effect.
#[must_use = "dropping the injection ends it"]
#[derive(Debug)]
pub struct Injection<A: Actuator> {
    actuator: A,
    plan: Plan,
    /// How many effects, from the first, there are to revert.
    done: usize,
}

/// Performs every effect of `plan` in order. If one fails, those before it and
/// the half-done one are reverted in reverse.
///
/// # Errors
///
/// [`Error::Apply`] when an effect failed and nothing is left of the others;
/// [`Error::Cleanup`] when something is.
pub fn apply<A: Actuator>(plan: Plan, actuator: A) -> Result<Injection<A>, Error> {
    let mut injection = Injection {
        actuator,
        plan,
        done: 0,
    };
    for number in 0..injection.plan.effects.len() {
        // Counted before it is performed, so that a half-done effect, or one
        // that panics, is reverted too.
        injection.done = number + 1;
        let effect = &injection.plan.effects[number];
        tracing::debug!("{effect}");
        if let Err(error) = injection.actuator.perform(&injection.plan, effect) {
            let left = injection.revert_all();
            return if left.is_empty() {
                Err(error.into())
            } else {
                tracing::error!("{error}");
                Err(CleanupErrors(left).into())
            };
        }
    }
    Ok(injection)
}

impl<A: Actuator> Injection<A> {
    /// The plan in force.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whoever performs it.
    pub const fn actuator(&mut self) -> &mut A {
        &mut self.actuator
    }

    /// Reverts every effect, the last first, and goes on after errors.
    ///
    /// # Errors
    ///
    /// Everything that is still there.
    pub fn stop(mut self) -> Result<(), CleanupErrors> {
        let left = self.revert_all();
        if left.is_empty() {
            Ok(())
        } else {
            Err(CleanupErrors(left))
        }
    }

    fn revert_all(&mut self) -> Vec<CleanupError> {
        let mut left = Vec::new();
        while self.done > 0 {
            self.done -= 1;
            left.extend(self.actuator.revert(&self.plan.effects[self.done]));
        }
        left
    }
}

impl<A: Actuator> Drop for Injection<A> {
    fn drop(&mut self) {
        for error in self.revert_all() {
            tracing::error!("{error}");
        }
    }
}

#[cfg(test)]
mod tests;
