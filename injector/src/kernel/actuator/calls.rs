//! Programs where system calls are entered, or behind that.

use std::io;

use aya::programs::KProbe;
use injector_common::names::{self, SecurityHook};

use super::{Failure, KernelActuator};
use crate::{
    kernel::{links, missed, object},
    model::Syscall,
    plan::{
        Effect, TwinHook,
        entries::{entry_function, typed_functions},
    },
};

impl KernelActuator {
    /// How many calls the kernel asked none of our programs about; `None` where no rule is on calls.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn missed_calls(&self) -> io::Result<Option<u64>> {
        let counts = self.programs.asking().map(missed::count);
        let counts = counts.collect::<io::Result<Vec<u64>>>()?;
        Ok((!counts.is_empty()).then(|| counts.into_iter().sum()))
    }

    pub(super) fn attach_entry(
        &mut self,
        effect: &Effect,
        call: Syscall,
        modifies: bool,
    ) -> Result<(), Failure> {
        if modifies {
            self.attach_in_place(effect, &typed_functions(call.name))
        } else {
            self.attach_kprobe(effect, names::PROG_SYSCALL, &entry_function(call.name))
        }
    }

    pub(super) fn attach_seen(&mut self, effect: &Effect, call: Syscall) -> Result<(), Failure> {
        self.attach_kprobe(effect, names::PROG_SEEN, &entry_function(call.name))
    }

    pub(super) fn attach_twin(
        &mut self,
        effect: &Effect,
        function: &str,
        at: TwinHook,
    ) -> Result<(), Failure> {
        match at {
            TwinHook::Overridden => self.attach_kprobe(effect, names::PROG_SYSCALL, function),
            TwinHook::Modified => self.attach_in_place(effect, &[function.to_owned()]),
            TwinHook::Seen => self.attach_kprobe(effect, names::PROG_SEEN, function),
        }
    }

    pub(super) fn attach_security(
        &mut self,
        effect: &Effect,
        hook: SecurityHook,
        modifies: bool,
    ) -> Result<(), Failure> {
        let link = if modifies {
            links::attach_direct(self.programs.load_modifying_security(hook)?)?
        } else {
            let program = self.programs.load_security(hook.program(), hook.attach())?;
            links::attach_lsm(program)?
        };
        self.attached.push((effect.clone(), link));
        Ok(())
    }

    fn attach_kprobe(
        &mut self,
        effect: &Effect,
        name: &str,
        function: &str,
    ) -> Result<(), Failure> {
        let program: &mut KProbe = self.program(name)?.try_into()?;
        object::once(program.load())?;
        let link = links::attach_kprobe(program, function)?;
        self.attached.push((effect.clone(), link));
        Ok(())
    }

    fn attach_in_place(&mut self, effect: &Effect, functions: &[String]) -> Result<(), Failure> {
        let name = names::PROG_FMOD_ENTRY;
        let program = self.programs.load_modifying(name, functions)?;
        let link = links::attach_direct(program)?;
        self.attached.push((effect.clone(), link));
        Ok(())
    }
}
