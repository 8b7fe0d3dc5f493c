//! Applying a plan and taking it back, without knowing what an effect does.

use std::mem;

use crate::{
    error::{ApplyError, CleanupError, CleanupErrors, Error},
    plan::{self, Effect, Plan},
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

    /// Forgets rules that were written and not put in force.
    fn forget(&mut self);
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

    /// Puts another plan in the place of this one, without a gap: what was in force stays
    /// so until all that the other one needs is there.
    ///
    /// # Errors
    ///
    /// When that cannot be had, or an effect fails. What was in force stays in force then,
    /// and what was performed of the other plan is reverted.
    pub fn change(&mut self, mut next: Plan) -> Result<(), Error> {
        let steps = plan::change(&self.plan, &next)?;
        // In front of the effect that puts all in force, which is reverted first.
        let from = self.plan.effects.len().saturating_sub(1);
        let steps = steps.into_iter().chain([Effect::Enable]);
        for effect in steps {
            // Rules are the table's; and the other one is there.
            let is_new = !matches!(effect, Effect::WriteRule { .. } | Effect::Enable);
            if is_new {
                let at = self.plan.effects.len().saturating_sub(1);
                self.plan.effects.insert(at, effect.clone());
                self.done += 1;
            }
            tracing::debug!("{effect}");
            if let Err(error) = self.actuator.perform(&next, &effect) {
                return Err(self.take_back(from, error));
            }
        }
        let now = mem::take(&mut self.plan.effects);
        next.effects = plan::merged(now, &next.effects);
        self.done = next.effects.len();
        self.plan = next;
        Ok(())
    }

    /// Reverts the effects of a change, which begin at `from`.
    fn take_back(&mut self, from: usize, error: ApplyError) -> Error {
        self.actuator.forget();
        while self.plan.effects.len() > from + 1 {
            let at = self.plan.effects.len() - 2;
            let effect = self.plan.effects.remove(at);
            self.done -= 1;
            for left in self.actuator.revert(&effect) {
                tracing::error!("{left}");
            }
        }
        error.into()
    }

    /// Reverts every effect, the last first, and goes on after errors.
    ///
    /// # Errors
    ///
    /// Everything that is still there.
    pub fn stop(&mut self) -> Result<(), CleanupErrors> {
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
