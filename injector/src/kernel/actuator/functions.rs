//! The program at the entry of functions of programs and libraries.

use aya::programs::{UProbe, uprobe::UProbeScope};
use injector_common::{
    abi::call_slot,
    faults::user_return::Entry,
    names::{self, CALL_NUMBERS, FUNCTION_ENTRY},
};

use super::{Failure, KernelActuator};
use crate::{
    kernel::{links, object},
    plan::Effect,
    resolve::FunctionPlace,
};

impl KernelActuator {
    /// The number by which programs know a function; it keeps it as long as the agent runs.
    fn number_of(&mut self, place: &FunctionPlace) -> Result<u32, Failure> {
        let which = place.which();
        let known = self.functions.iter().position(|known| *known == which);
        let number = known.unwrap_or_else(|| {
            self.functions.push(which);
            self.functions.len() - 1
        });
        let number = u32::try_from(number)?;
        if number >= CALL_NUMBERS {
            return Err(format!("more than {CALL_NUMBERS} functions since the start").into());
        }
        Ok(number)
    }

    /// Where the rules on a function stand in the table of calls.
    pub(super) fn function_slot(&mut self, place: &FunctionPlace) -> Result<u32, Failure> {
        Ok(call_slot(FUNCTION_ENTRY, self.number_of(place)?))
    }

    pub(super) fn name_function(
        &mut self,
        place: &FunctionPlace,
        rules: u64,
    ) -> Result<(), Failure> {
        let slot = self.function_slot(place)?;
        self.named_calls.insert(slot);
        Ok(self.calls.set(slot, rules, 0)?)
    }

    pub(super) fn attach_function(
        &mut self,
        effect: &Effect,
        place: &FunctionPlace,
    ) -> Result<(), Failure> {
        let number = self.number_of(place)?;
        let entry = Entry::new(number, place.entry, place.back)
            .ok_or("the function and its `ret` are too far from each other")?;
        let file = place.open()?;
        let program: &mut UProbe = self.program(names::PROG_FUNCTION)?.try_into()?;
        object::once(program.load())?;
        let all = UProbeScope::AllProcesses;
        let link = links::attach_uprobe(program, &file, place.entry, entry.bits(), all)?;
        self.attached.push((effect.clone(), link));
        Ok(())
    }
}
