//! Calls that wait asleep.

use aya::maps::Map;
use injector_common::names;

use super::{Failure, KernelActuator};
use crate::{
    kernel::{links, waker::Waker},
    model::{Manner, Syscall},
    plan::{Effect, entries::typed_functions},
};

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
        effect: &Effect,
        call: Syscall,
        sleepers: u32,
    ) -> Result<(), Failure> {
        let functions = typed_functions(call.name);
        let sleeping = (0..sleepers).map(Some);
        // First those in which it sleeps, so that whoever lies down finds them.
        for program in sleeping.chain([None]) {
            let program = self.programs.load_sleeping_entry(&functions, program)?;
            let link = links::attach_direct(program)?;
            self.attached.push((effect.clone(), link));
        }
        Ok(())
    }

    pub(super) fn attach_return(
        &mut self,
        effect: &Effect,
        call: Syscall,
        manner: Manner,
        sleepers: u32,
    ) -> Result<(), Failure> {
        let functions = typed_functions(call.name);
        if manner == Manner::Busy {
            let link = links::attach_direct(self.programs.load_busy_return(&functions)?)?;
            self.attached.push((effect.clone(), link));
            return Ok(());
        }
        let sleeping = (0..sleepers).map(Some);
        // The one that decides comes last, since the kernel asks the last one attached first.
        for program in sleeping.chain([None]) {
            let program = self.programs.load_sleeping_return(&functions, program)?;
            let link = links::attach_direct(program)?;
            self.attached.push((effect.clone(), link));
        }
        Ok(())
    }
}
