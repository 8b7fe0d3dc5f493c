//! Whether calls can be failed, and how.

use std::collections::{BTreeSet, btree_map::Entry};

use aya::{
    Ebpf,
    programs::{KProbe, ProgramError},
};
use injector_common::names::{self, SecurityHook};

use super::{no, requests, security};
use crate::{
    error::Unsupported,
    kernel::{
        links,
        needs::Needs,
        object::{self, Programs, once, refusal},
        symbols, waker,
    },
    model::{Manner, Moment, Rung, Syscall, Way},
    plan::{
        Features, Support,
        entries::{entry_function, twin_functions, typed_functions},
        features::CallProbe,
        hooks::{call_hooks, can_return, hooks_by, returns, rungs, security_hooks, tells_file},
    },
};

/// A call that hardly anybody makes.
const TRIAL_CALL: &str = "getpgid";

/// Tries every way to fail each of these calls, the preferred one first.
///
/// # Errors
///
/// When nothing can be tried.
pub fn probe_calls(calls: &[Syscall]) -> Result<Vec<CallProbe>, Unsupported> {
    let mut programs = Programs::open(Needs::TRIAL)?;
    let mut features = programs.tried.features.clone();
    requests::probe(&mut features, calls.iter().copied());
    for rung in [Rung::Kprobe, Rung::Lsm] {
        try_rung(&mut programs, &mut features, rung, calls);
    }
    try_places(&mut programs, &mut features, calls);
    let probes = calls.iter().flat_map(|&call| {
        Rung::ALL.map(|rung| CallProbe {
            call,
            rung: rung.name(),
            state: match hooks_by(rung, call, &features) {
                Ok(_) => Support::Supported,
                Err(reason) => no(reason),
            },
        })
    });
    Ok(probes.collect())
}

/// Tries to take the place of each of these calls, and of the functions that ask at their hooks:
/// with one of our programs, which the verifier walks, at one place, and with one that does
/// nothing at the others. All of them would be the same program.
fn try_places(programs: &mut Programs, features: &mut Features, calls: &[Syscall]) {
    try_rung(programs, features, Rung::FmodRet, &[]);
    let Ok(trial) = TRIAL_CALL.parse() else {
        return;
    };
    if features.modify_return.is_supported() {
        load_entries(programs, features, &[trial]);
        let ours = features.modified_entries[&trial].clone();
        for &call in calls {
            features.modified_entries.entry(call).or_insert_with(|| {
                let taken = programs.try_modifying(&typed_functions(call.name));
                taken.map_or_else(|error| support(Err(error)), |()| ours.clone())
            });
        }
    }
    let first = SecurityHook::FileOpen;
    try_hooks(programs, features, &[first], true);
    let ours = features.modified_security[&first].clone();
    for hook in hooks_of(calls) {
        features.modified_security.entry(hook).or_insert_with(|| {
            let taken = programs.try_modifying(&[hook.function().to_owned()]);
            taken.map_or_else(|error| support(Err(error)), |()| ours.clone())
        });
    }
}

/// Whether programs find out which functions a call came through.
fn chains() -> Support {
    if object::finds_mappings() {
        Support::Supported
    } else {
        no("no helper that finds a mapping (bpf_find_vma, Linux 5.17)")
    }
}

/// Tries every way to fail calls, with the hooks of those that most programs make.
pub(super) fn try_common(programs: &mut Programs, features: &mut Features) {
    for rung in Rung::ALL {
        try_rung(programs, features, rung, &[]);
    }
    features.call_chain = chains();
    probe_seen(programs, features);
    try_hooks(programs, features, SecurityHook::COMMON, false);
    features.waker = waker::support();
    if features.waker.is_supported() {
        let hook = SecurityHook::FileOpen;
        // What one of these programs needs, they all do.
        let asleep = match features.security.get(&hook) {
            Some(Support::Supported) => support(programs.try_sleeping()),
            other => other.cloned().unwrap_or_else(|| no("it was not tried")),
        };
        features.sleeping_hooks.insert(hook, asleep);
        if let Ok(call) = TRIAL_CALL.parse() {
            try_asleep(programs, features, &[call], true);
        }
    }
    if let Ok(call) = TRIAL_CALL.parse() {
        try_return(programs, features, call, Manner::Asleep);
        // Of ours, which asks the rules as those above do, the verifier would make nothing else.
        let behind = support(programs.try_behind(&typed_functions(TRIAL_CALL)));
        features.busy_returns.insert(call, behind);
    }
    // One of our programs, which the verifier has walked at its hook already, and of the other
    // functions whether they take any.
    for (place, &hook) in SecurityHook::COMMON.iter().enumerate() {
        if place == 0 {
            try_hooks(programs, features, &[hook], true);
        } else if let Entry::Vacant(untried) = features.modified_security.entry(hook) {
            let function = hook.function().to_owned();
            untried.insert(support(programs.try_modifying(&[function])));
        }
    }
}

/// Tries the way that is wanted for each of these calls, or else one after the other until one
/// works.
pub(super) fn try_wanted(
    programs: &mut Programs,
    features: &mut Features,
    calls: &[(Syscall, Way)],
) {
    requests::probe(features, calls.iter().map(|(call, _)| *call));
    if calls.iter().any(|(_, way)| way.by_chain) {
        features.call_chain = chains();
    }
    try_seen(programs, features, calls);
    try_waiting(programs, features, calls);
    for by_file in [false, true] {
        for &rung in rungs(by_file) {
            let alike = calls
                .iter()
                .filter(|(_, way)| way.by_file == by_file && !way.seen && way.waits.is_none())
                .filter(|(_, way)| can_return(rung, *way).is_ok());
            let left = alike.filter(|(call, way)| match way.rung {
                Some(wanted) => wanted == rung,
                None if call.as_request().is_some() => {
                    !rung.is_at_entry() && call_hooks(*call, *way, features).is_err()
                }
                None if by_file => {
                    tells_file(rung, *call, *way).is_ok()
                        && call_hooks(*call, *way, features).is_err()
                }
                None if rung == Rung::Kprobe => true,
                // Where it works, there is nothing else for a call that the kernel lacks.
                None if features.override_return.is_supported() => false,
                None => call_hooks(*call, *way, features).is_err(),
            });
            let left: Vec<Syscall> = left.map(|(call, _)| *call).collect();
            if !left.is_empty() {
                try_rung(programs, features, rung, &left);
            }
        }
    }
}

/// Tries where those of these calls can be met that need only be seen.
fn try_seen(programs: &mut Programs, features: &mut Features, calls: &[(Syscall, Way)]) {
    let mut left: Vec<(Syscall, Way)> = Vec::new();
    left.extend(calls.iter().filter(|(_, way)| way.seen));
    let here = |left: &[(Syscall, Way)], rung| -> Vec<Syscall> {
        let tells =
            |(call, way): &&(Syscall, Way)| way.by_file && tells_file(rung, *call, *way).is_ok();
        left.iter().filter(tells).map(|(call, _)| *call).collect()
    };
    for rung in [Rung::Lsm, Rung::FmodRetSecurity] {
        let by_file = here(&left, rung);
        if !by_file.is_empty() {
            try_rung(programs, features, rung, &by_file);
        }
        left.retain(|(call, way)| !way.by_file || call_hooks(*call, *way, features).is_err());
    }
    if left.is_empty() {
        return;
    }
    probe_seen(programs, features);
    if features.seen_entry.is_supported() {
        let calls: Vec<Syscall> = left.iter().map(|(call, _)| *call).collect();
        find_entries(features, &calls);
    }
}

/// Tries where those of these calls can wait that are to: all together, one place after the other.
fn try_waiting(programs: &mut Programs, features: &mut Features, calls: &[(Syscall, Way)]) {
    try_returns(programs, features, calls);
    let left = |features: &Features, but: Manner| -> Vec<Syscall> {
        let waiting = calls.iter().filter(|(call, way)| {
            way.waits
                .is_some_and(|waits| waits.at == Moment::Enter && waits.manner != Some(but))
                && call_hooks(*call, *way, features).is_err()
        });
        waiting.map(|(call, _)| *call).collect()
    };
    for at_entry in [false, true] {
        let calls = left(features, Manner::Busy);
        if !calls.is_empty() {
            try_asleep(programs, features, &calls, at_entry);
        }
    }
    let calls = left(features, Manner::Asleep);
    if !calls.is_empty() {
        probe_seen(programs, features);
        find_entries(features, &calls);
    }
}

/// Tries whether those of these calls can wait at their return that are to.
fn try_returns(programs: &mut Programs, features: &mut Features, calls: &[(Syscall, Way)]) {
    for (call, way) in calls {
        let Some(waits) = way.waits.filter(|waits| waits.at == Moment::Exit) else {
            continue;
        };
        if returns(*call).is_err() {
            continue;
        }
        for manner in [Manner::Asleep, Manner::Busy] {
            let wanted = waits.manner.is_none_or(|wanted| wanted == manner);
            if wanted
                && (manner == Manner::Asleep || waits.briefly)
                && call_hooks(*call, *way, features).is_err()
            {
                try_return(programs, features, *call, manner);
            }
        }
    }
}

fn try_return(programs: &mut Programs, features: &mut Features, call: Syscall, manner: Manner) {
    let known = match manner {
        Manner::Asleep => {
            if matches!(features.waker, Support::Inconclusive { .. }) {
                features.waker = waker::support();
            }
            if !features.waker.is_supported() {
                return;
            }
            &mut features.sleeping_returns
        }
        Manner::Busy => &mut features.busy_returns,
    };
    known
        .entry(call)
        .or_insert_with(|| support(programs.try_return(&typed_functions(call.name), manner)));
}

/// Tries whether these calls can wait asleep, at their security hooks or at their entry.
fn try_asleep(programs: &mut Programs, features: &mut Features, calls: &[Syscall], at_entry: bool) {
    if matches!(features.waker, Support::Inconclusive { .. }) {
        features.waker = waker::support();
    }
    if !features.waker.is_supported() {
        return;
    }
    if at_entry {
        for &call in calls {
            features.sleeping_entries.entry(call).or_insert_with(|| {
                let functions = typed_functions(call.name);
                support(programs.try_sleeping_entry(&functions))
            });
        }
        return;
    }
    let hooks = hooks_of(calls).into_iter();
    let hooks: Vec<_> = hooks
        .filter(|hook| hook.sleeping_program().is_some())
        .collect();
    try_sleeping_hooks(programs, features, &hooks);
}

/// Tries these security hooks with programs that sleep.
fn try_sleeping_hooks(programs: &mut Programs, features: &mut Features, hooks: &[SecurityHook]) {
    let runs = security::runs(programs);
    for &hook in hooks {
        features
            .sleeping_hooks
            .entry(hook)
            .or_insert_with(|| match &runs {
                Ok(()) => support(programs.load_sleeping(hook).map(drop)),
                Err(reason) => no(reason.clone()),
            });
    }
}

/// Tries to see a call, if that was not tried yet.
fn probe_seen(programs: &mut Programs, features: &mut Features) {
    if matches!(features.seen_entry, Support::Inconclusive { .. }) {
        features.seen_entry = probe_entry(&mut programs.ebpf, names::PROG_SEEN);
    }
}

/// Tries one way to fail these calls.
fn try_rung(programs: &mut Programs, features: &mut Features, rung: Rung, calls: &[Syscall]) {
    match rung {
        Rung::Kprobe => {
            if matches!(features.override_return, Support::Inconclusive { .. }) {
                features.override_return = probe_override(&mut programs.ebpf);
            }
            if features.override_return.is_supported() {
                find_entries(features, calls);
            }
        }
        Rung::FmodRet => {
            if matches!(features.modify_return, Support::Inconclusive { .. }) {
                features.modify_return =
                    support(programs.try_modifying(&typed_functions(TRIAL_CALL)));
            }
            if features.modify_return.is_supported() {
                load_entries(programs, features, calls);
                find_entries(features, calls);
                try_twins(programs, features);
            }
        }
        Rung::Lsm => try_hooks(programs, features, &hooks_of(calls), false),
        Rung::FmodRetSecurity => try_hooks(programs, features, &hooks_of(calls), true),
    }
}

/// All security hooks that could stand for these calls.
fn hooks_of(calls: &[Syscall]) -> Vec<SecurityHook> {
    let lists = calls.iter().flat_map(|call| security_hooks(call.name));
    let hooks: BTreeSet<_> = lists.copied().flatten().copied().collect();
    hooks.into_iter().collect()
}

/// Looks for the functions behind those of these calls that were not looked for yet, and for those
/// by which 32-bit callers enter.
fn find_entries(features: &mut Features, calls: &[Syscall]) {
    let unknown = calls
        .iter()
        .copied()
        .filter(|call| !features.entries.contains_key(call));
    let unknown: Vec<Syscall> = unknown.collect();
    if unknown.is_empty() {
        return;
    }
    let twins: Vec<_> = unknown.iter().map(|&call| twin_functions(call)).collect();
    let entries = unknown.iter().map(|call| entry_function(call.name));
    let names: BTreeSet<String> = entries
        .chain(twins.iter().flatten().flatten().cloned())
        .collect();
    let found = match symbols::functions(&names) {
        Ok(found) => found,
        Err(error) => {
            let reason = format!("{}: {error}", symbols::SYMBOLS);
            let untold = |call| {
                (
                    call,
                    Support::Inconclusive {
                        reason: reason.clone(),
                    },
                )
            };
            features.entries.extend(unknown.into_iter().map(untold));
            return;
        }
    };
    for (call, twins) in unknown.into_iter().zip(twins) {
        let name = entry_function(call.name);
        let entry = if found.contains(&name) {
            Support::Supported
        } else {
            no(format!("no function {name} in this kernel"))
        };
        features.entries.insert(call, entry);
        let twins = twins.into_iter();
        let mut twins: Vec<String> = twins
            .filter_map(|names| names.into_iter().find(|name| found.contains(name)))
            .collect();
        // What i386 has twice may be one function.
        twins.sort_unstable();
        twins.dedup();
        features.twins.insert(call, twins);
    }
}

/// Tries to take the place of a function by which 32-bit callers enter, if that was not tried yet.
fn try_twins(programs: &mut Programs, features: &mut Features) {
    let mut twins = features.twins.values().flatten();
    if let (Support::Inconclusive { .. }, Some(one)) = (&features.modified_twins, twins.next()) {
        features.modified_twins = support(programs.try_modifying(std::slice::from_ref(one)));
    }
}

/// Loads a program in the place of each of these calls for which it was not tried yet.
fn load_entries(programs: &mut Programs, features: &mut Features, calls: &[Syscall]) {
    for &call in calls {
        features.modified_entries.entry(call).or_insert_with(|| {
            let functions = typed_functions(call.name);
            let loaded = programs.load_modifying(names::PROG_FMOD_ENTRY, &functions);
            support(loaded.map(drop))
        });
    }
}

/// Tries those of these hooks that were not tried yet: with programs of their own, or with such
/// that take the place of the function that asks there.
fn try_hooks(
    programs: &mut Programs,
    features: &mut Features,
    hooks: &[SecurityHook],
    modifies: bool,
) {
    let known = if modifies {
        &mut features.modified_security
    } else {
        &mut features.security
    };
    let untried = hooks
        .iter()
        .copied()
        .filter(|hook| !known.contains_key(hook));
    let untried: Vec<_> = untried.collect();
    if modifies {
        known.extend(untried.into_iter().map(|hook| {
            let loaded = programs.load_modifying_security(hook);
            (hook, support(loaded.map(drop)))
        }));
    } else {
        known.append(&mut security::probe(programs, &untried));
    }
}

/// Tries whether programs may override a result: first with one that does nothing else, since one
/// that is refused is walked several times, for the verifier's log.
fn probe_override(ebpf: &mut Ebpf) -> Support {
    let allowed = support(load(ebpf, names::PROG_TRIAL_OVERRIDE).map(drop));
    if allowed.is_supported() {
        probe_entry(ebpf, names::PROG_SYSCALL)
    } else {
        allowed
    }
}

/// Tries a program at the entry of a call that hardly anybody makes, without a rule that could
/// do anything there.
fn probe_entry(ebpf: &mut Ebpf, name: &str) -> Support {
    let attached = load(ebpf, name)
        .and_then(|program| links::attach_kprobe(program, &entry_function(TRIAL_CALL)));
    support(attached.map(drop))
}

/// A program at entries, loaded.
fn load<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut KProbe, ProgramError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    let program: &mut KProbe = program.try_into()?;
    once(program.load())?;
    Ok(program)
}

fn support(tried: Result<(), ProgramError>) -> Support {
    match tried {
        Ok(()) => Support::Supported,
        Err(error) => no(refusal(&error)),
    }
}
