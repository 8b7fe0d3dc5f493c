//! Programs where system calls are entered, or behind that.

use aya::programs::KProbe;
use injector_common::names::{self, SecurityHook};

use super::{Failure, KernelActuator};
use crate::{
    kernel::{links, object},
    model::Syscall,
    plan::{
        Effect,
        hooks::{entry_function, typed_functions},
    },
};

impl KernelActuator {
    pub(super) fn attach_entry(
        &mut self,
        effect: &Effect,
        call: Syscall,
        modifies: bool,
    ) -> Result<(), Failure> {
        let link = if modifies {
            let functions = typed_functions(call.name);
            let programs = &mut self.programs;
            let program = programs.load_modifying(names::PROG_FMOD_ENTRY, &functions)?;
            links::attach_direct(program)?
        } else {
            let program: &mut KProbe = self.program(names::PROG_SYSCALL)?.try_into()?;
            object::once(program.load())?;
            links::attach_kprobe(program, &entry_function(call.name))?
        };
        self.attached.push((effect.clone(), link));
        Ok(())
    }

    pub(super) fn attach_seen(&mut self, effect: &Effect, call: Syscall) -> Result<(), Failure> {
        let program: &mut KProbe = self.program(names::PROG_SEEN)?.try_into()?;
        object::once(program.load())?;
        let link = links::attach_kprobe(program, &entry_function(call.name))?;
        self.attached.push((effect.clone(), link));
        Ok(())
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
}
