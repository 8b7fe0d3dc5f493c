//! Whether a function can be had return, where it is entered.

use std::{ffi::c_void, fs::File, io::Write as _, num::NonZeroUsize, ptr::NonNull};

use aya::{
    Ebpf,
    programs::{ProgramError, UProbe, uprobe::UProbeScope},
};
use injector_common::{faults::user_return::Entry, names};
use nix::{
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
    },
};

use super::no;
use crate::{
    kernel::{
        links,
        object::{once, refusal},
    },
    plan::Support,
};

/// A function that returns 0: `mov eax, 0; ret`.
const CODE: [u8; 6] = [0xb8, 0, 0, 0, 0, 0xc3];
/// Where its `ret` is.
const BACK: u64 = 5;

/// Loads a program that writes registers, and lets it have a function of this process's own return 1.
pub(super) fn probe(ebpf: &mut Ebpf) -> Support {
    match load(ebpf) {
        Ok(program) => attempt(program),
        Err(error) => no(refusal(&error)),
    }
}

fn load(ebpf: &mut Ebpf) -> Result<&mut UProbe, ProgramError> {
    let program = ebpf.program_mut(names::PROG_TRIAL_FUNCTION);
    let program: &mut UProbe = program.ok_or(ProgramError::NotLoaded)?.try_into()?;
    once(program.load())?;
    Ok(program)
}

fn attempt(program: &mut UProbe) -> Support {
    let trial = match Trial::new() {
        Ok(trial) => trial,
        Err(error) => {
            let reason = format!("no function to try it with: {error}");
            return Support::Inconclusive { reason };
        }
    };
    let entry = Entry::new(0, 0, BACK).map_or(0, Entry::bits);
    let link = links::attach_uprobe(program, &trial.file, 0, entry, UProbeScope::CallingProcess);
    match link {
        Err(error) => no(refusal(&error)),
        Ok(_link) => match trial.call() {
            1 => Support::Supported,
            _ => no("a function that a program sends back runs all the same"),
        },
    }
}

/// The function, in a file that nobody else has.
struct Trial {
    file: File,
    code: NonNull<c_void>,
}

/// How much of the file is mapped.
const LENGTH: NonZeroUsize = NonZeroUsize::new(CODE.len()).expect("some code");

impl Trial {
    fn new() -> std::io::Result<Self> {
        // Whoever takes the program knows the second flag (Linux 6.3), and would warn without it.
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::from_bits_retain(libc::MFD_EXEC);
        let mut file = File::from(memfd_create(c"inj_trial_func", flags)?);
        file.write_all(&CODE)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
        // Private, as code is mapped that has breakpoints put in.
        let flags = MapFlags::MAP_PRIVATE;
        // SAFETY: the kernel chooses a free range of addresses.
        let code = unsafe { mmap(None, LENGTH, protection, flags, &file, 0) }?;
        Ok(Self { file, code })
    }

    fn call(&self) -> u64 {
        // SAFETY: the mapping begins with the code of a function that takes nothing, changes nothing
        // but its result, and returns; and it lives as long as `self`.
        let function: extern "C" fn() -> u64 = unsafe { std::mem::transmute(self.code.as_ptr()) };
        function()
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // SAFETY: the range that was mapped, and nobody is in it any more.
        if let Err(error) = unsafe { munmap(self.code, LENGTH.get()) } {
            tracing::debug!("a trial's code cannot be unmapped: {error}");
        }
    }
}
