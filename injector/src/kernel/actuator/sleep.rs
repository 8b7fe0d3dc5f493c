//! Calls that wait asleep.

use aya::maps::Map;
use injector_common::names;

use super::{Failure, KernelActuator};
use crate::{
    kernel::{links, waker::Waker},
    model::Syscall,
    plan::{Effect, Plan, hooks::typed_functions},
};

/// How many calls of one name can wait asleep on one processor at their entry, if so many names
/// are to. The kernel lets no program of this kind run again on a processor while it sleeps there,
/// so there are as many of them; it takes 38 at most at one function (`BPF_MAX_TRAMP_LINKS`), and
/// some milliseconds for each that is attached.
fn sleepers(calls: usize) -> u32 {
    const ALL: usize = 64;
    u32::try_from(ALL / calls.max(1)).map_or(8, |share| share.clamp(8, 32))
}

impl KernelActuator {
    pub(super) fn start_waker(&mut self) -> Result<(), Failure> {
        let mut take = |name: &'static str| match self.programs.ebpf.take_map(name) {
            Some(Map::Array(map)) => Ok(map),
            _ => Err(format!("no array {name} in the object")),
        };
        let sleepers = take(names::MAP_SLEEPERS)?;
        let dormitory = take(names::MAP_DORMITORY)?;
        let waker = Waker::start(sleepers, dormitory)?;
        // Whoever serves is not to be served.
        self.settings.waker_tgid = waker.id();
        self.waker = Some(waker);
        Ok(())
    }

    pub(super) fn end_waker(&mut self) {
        if let Some(waker) = &mut self.waker {
            waker.end();
        }
    }

    pub(super) fn attach_sleeping_entry(
        &mut self,
        plan: &Plan,
        effect: &Effect,
        call: Syscall,
    ) -> Result<(), Failure> {
        let functions = typed_functions(call.name);
        let is_alike = |effect: &&Effect| matches!(effect, Effect::AttachSleepingEntry { .. });
        let calls = plan.effects.iter().filter(is_alike).count();
        let sleeping = (0..sleepers(calls)).map(Some);
        // First those in which it sleeps, so that whoever lies down finds them.
        for program in sleeping.chain([None]) {
            let program = self.programs.load_sleeping_entry(&functions, program)?;
            let link = links::attach_direct(program)?;
            self.attached.push((effect.clone(), link));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_calls_share_the_programs_in_which_they_sleep() {
        let counts = [0, 1, 2, 3, 4, 8, 14, 300].map(sleepers);
        assert_eq!(counts, [32, 32, 32, 21, 16, 8, 8, 8]);
    }
}
