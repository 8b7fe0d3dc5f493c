//! Whether security programs can be had, and run.

use std::{collections::BTreeMap, fs::File};

use aya::{maps::Array, programs::ProgramError};
use injector_common::{Control, names, names::SecurityHook};

use super::no;
use crate::{
    kernel::{
        links,
        object::{Programs, describe, refusal},
    },
    plan::Support,
};

/// Tries these hooks.
pub(super) fn probe(
    programs: &mut Programs,
    hooks: &[SecurityHook],
) -> BTreeMap<SecurityHook, Support> {
    if hooks.is_empty() {
        return BTreeMap::new();
    }
    if let Err(reason) = runs(programs) {
        return same_for(hooks, &no(reason));
    }
    let mut loaded = match programs.load_each_security(hooks) {
        Ok(loaded) => loaded,
        Err(error) => return same_for(hooks, &no(refusal(&error))),
    };
    hooks
        .iter()
        .map(|&hook| {
            let loaded = loaded.remove(&hook);
            let loaded = loaded.unwrap_or(Err(ProgramError::NotLoaded));
            let support = loaded.map_or_else(|error| no(refusal(&error)), |()| Support::Supported);
            (hook, support)
        })
        .collect()
}

/// Whether the kernel runs security programs.
///
/// # Errors
///
/// Why not.
pub(super) fn runs(programs: &mut Programs) -> Result<(), String> {
    if try_security(programs)? {
        Ok(())
    } else {
        Err(
            "security programs attach, but the kernel never runs them: `bpf` is not among the \
             active security modules (the lsm= boot parameter)"
                .to_owned(),
        )
    }
}

fn same_for(hooks: &[SecurityHook], support: &Support) -> BTreeMap<SecurityHook, Support> {
    hooks.iter().map(|&hook| (hook, support.clone())).collect()
}

/// Whether a security program that attaches is also called.
fn try_security(programs: &mut Programs) -> Result<bool, String> {
    let agent_tgid = std::process::id();
    // Not there any more once rules are in force; the control block names the agent then.
    if let Some(control) = programs.ebpf.map_mut(names::MAP_CONTROL) {
        let mut control: Array<_, Control> =
            Array::try_from(control).map_err(|error| describe(&error))?;
        control
            .set(
                0,
                Control {
                    agent_tgid,
                    ..Control::default()
                },
                0,
            )
            .map_err(|error| describe(&error))?;
    }
    let attached = programs
        .load_security(names::PROG_TRIAL, "file_open")
        .and_then(links::attach_lsm)
        .map_err(|error| refusal(&error))?;
    File::open("/proc/self/status").map_err(|error| describe(&error))?;
    let count = programs.ebpf.map(names::MAP_TRIAL).ok_or("no trial map")?;
    let count: Array<_, u64> = Array::try_from(count).map_err(|error| describe(&error))?;
    let ran = count.get(&0, 0).map_err(|error| describe(&error))? > 0;
    drop(attached);
    Ok(ran)
}
