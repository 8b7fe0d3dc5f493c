//! From one plan in force to the next.

use std::collections::BTreeMap;

use injector_common::{IfIndex, NetnsInode};

use super::{
    CallHook, Effect, Hop, Plan,
    sleepers::{MOST, programs},
};
use crate::{
    error::{Error, Unsupported},
    model::{Direction, Rule, Syscall},
    resolve::{FunctionPlace, Whom},
};

/// What has to be performed so that `next` can take the place of `now`, in this order and
/// before `next` is put in force: everything but what is there already, and but the
/// tables that putting it in force rewrites.
///
/// Nothing is taken back: a device or a program that no rule needs any more stays until
/// the end, when all is reverted. Taking it away would drop packets.
///
/// # Errors
///
/// Where devices that packets wait or are split in would have to be made anew, or more programs be
/// attached to a function than the kernel takes there.
pub fn change(now: &Plan, next: &Plan) -> Result<Vec<Effect>, Error> {
    check_handed(now, next)?;
    let mut steps = Vec::new();
    let aimed: BTreeMap<_, _> = now.effects.iter().filter_map(aim).fold(
        BTreeMap::new(),
        |mut aimed: BTreeMap<_, u64>, (whom, rules)| {
            *aimed.entry(whom).or_default() |= rules;
            aimed
        },
    );
    let hops = now.effects.iter().filter_map(hop).count();
    let mut more_hops = 0;
    for effect in &next.effects {
        match effect {
            // Both versions of a rule name their files.
            Effect::WriteRule { index, .. }
            | Effect::NameFiles { index, .. }
            | Effect::NameChain { index, .. } => {
                let at = *index as usize;
                if now.experiment.rules.get(at) != next.experiment.rules.get(at) {
                    steps.push(effect.clone());
                }
            }
            Effect::AddHop(wanted) => {
                let same_place = |known: &&Hop| known.netns.inode == wanted.netns.inode;
                match now.effects.iter().filter_map(hop).find(same_place) {
                    Some(known) if known.serves_for(wanted) => {}
                    Some(known) => {
                        return Err(anew(
                            "other devices for packets that wait or are split",
                            format!(
                                "the devices for that made at its start, in {}",
                                known.netns.path.display()
                            ),
                        )
                        .into());
                    }
                    None => {
                        let number = hops + more_hops;
                        more_hops += 1;
                        let id = &next.experiment.id;
                        let name = |kind| Hop::device(kind, number, id);
                        steps.push(Effect::AddHop(Hop {
                            pair: wanted.pair.as_ref().map(|_| (name('a'), name('b'))),
                            splitter: wanted.splitter.as_ref().map(|_| (name('c'), name('d'))),
                            ifb: wanted.ifb.as_ref().map(|_| name('i')),
                            ..wanted.clone()
                        }));
                    }
                }
            }
            Effect::WriteSite { .. }
            | Effect::WriteCall { .. }
            | Effect::NameFunction { .. }
            | Effect::StartGuardian
            | Effect::HandOver { .. }
            | Effect::Enable => {}
            Effect::WriteScope { .. } | Effect::TagSockets { .. } => {
                let Some((whom, wants)) = aim(effect) else {
                    continue;
                };
                let has = aimed.get(&whom).copied().unwrap_or(0);
                if has & wants != wants {
                    steps.push(effect.clone());
                }
            }
            Effect::AttachSend { hears } => {
                let attached = |known: &Effect| {
                    if let Effect::AttachSend { hears } = known {
                        Some(*hears)
                    } else {
                        None
                    }
                };
                match now.effects.iter().find_map(attached) {
                    // A second program where sockets send would count twice.
                    Some(false) if *hears => {
                        return Err(anew(
                            "programs where sockets both send and receive",
                            "one where they send".to_owned(),
                        )
                        .into());
                    }
                    Some(_) => {}
                    None => steps.push(effect.clone()),
                }
            }
            Effect::AttachSecurity { hook, modifies } => {
                let attached = |known: &Effect| {
                    if let Effect::AttachSecurity { hook, modifies } = known {
                        Some((*hook, *modifies))
                    } else {
                        None
                    }
                };
                let mut attached = now.effects.iter().filter_map(attached);
                match attached.find(|(known, _)| known == hook) {
                    // A second program there would count twice.
                    Some((_, by)) if by != *modifies => {
                        let hook = hook.attach();
                        return Err(anew(
                            &format!("another rung at security hook {hook}"),
                            "a program there".to_owned(),
                        )
                        .into());
                    }
                    Some(_) => {}
                    None => steps.push(effect.clone()),
                }
            }
            Effect::AttachEntry { .. }
            | Effect::AttachSleepingEntry { .. }
            | Effect::AttachReturn { .. } => {
                let same_place = |known: &Effect| at_function(known) == at_function(effect);
                if now.effects.iter().any(same_place) {
                    continue;
                }
                check_programs(now, &steps, effect)?;
                // What a removed rule has left there would have it count hits that are none.
                if let Some((call, hook)) = at_function(effect)
                    && now
                        .effects
                        .iter()
                        .filter_map(at_function)
                        .any(|(known, other)| known == call && hook.hides(other))
                {
                    let needs = format!(
                        "no program in the place of {}, or behind it, where a kprobe overrides \
                         its result",
                        call.name
                    );
                    return Err(anew(&needs, "one that is attached there".to_owned()).into());
                }
                steps.push(effect.clone());
            }
            // One program asks the rules of a function, old and new.
            Effect::AttachFunction { place } => {
                let mut attached = now.effects.iter().filter_map(function);
                if !attached.any(|known| known.which() == place.which()) {
                    steps.push(effect.clone());
                }
            }
            Effect::CreateCgroup { .. }
            | Effect::FollowProcesses
            | Effect::ForgetCallers
            | Effect::ForgetPrograms
            | Effect::FollowSockets
            | Effect::AttachPackets { .. }
            | Effect::AttachSeen { .. }
            | Effect::AttachTwin { .. }
            | Effect::StartWaker
            | Effect::AttachSleepingHook { .. }
            | Effect::AttachConnect { .. } => {
                if !now.effects.iter().any(|known| includes(known, effect)) {
                    steps.push(effect.clone());
                }
            }
        }
    }
    Ok(steps)
}

/// Refuses changes of what the guardian has: it goes by what it was handed over at the start.
fn check_handed(now: &Plan, next: &Plan) -> Result<(), Unsupported> {
    let rules = |plan: &Plan| plan.experiment.rules.clone();
    let (old, new) = (rules(now), rules(next));
    let changed = (0..old.len().max(new.len())).find(|&at| {
        let (one, other) = (old.get(at), new.get(at));
        let is_resource =
            |rule: Option<&Rule>| rule.is_some_and(|rule| rule.fault.resource().is_some());
        one != other && (is_resource(one) || is_resource(other))
    });
    let Some(rule) = changed.and_then(|at| new.get(at).or_else(|| old.get(at))) else {
        return Ok(());
    };
    Err(anew(
        "the rules on resources as they were",
        format!("another rule `{}`", rule.name),
    ))
}

/// The effects of which what is in force consists once `next` is, in their order: `now`'s
/// and what was performed, and `next`'s tables.
#[must_use]
pub fn merged(now: Vec<Effect>, next: &[Effect]) -> Vec<Effect> {
    let is_table = |effect: &Effect| {
        matches!(
            effect,
            Effect::WriteSite { .. }
                | Effect::WriteCall { .. }
                | Effect::NameFunction { .. }
                | Effect::Enable
        )
    };
    let kept = now.into_iter().filter(|effect| !is_table(effect));
    let tables = next.iter().filter(|effect| is_table(effect)).cloned();
    kept.chain(tables).collect()
}

const fn hop(effect: &Effect) -> Option<&Hop> {
    if let Effect::AddHop(hop) = effect {
        Some(hop)
    } else {
        None
    }
}

/// The function that a program is attached to.
const fn function(effect: &Effect) -> Option<&FunctionPlace> {
    if let Effect::AttachFunction { place } = effect {
        Some(place)
    } else {
        None
    }
}

fn anew(needs: &str, found: String) -> Unsupported {
    Unsupported {
        what: "this change while the experiment runs".into(),
        needs: format!("{needs}; stop the experiment and start it anew").into(),
        found: found.into(),
    }
}

/// Refuses an effect for whose programs there would be no room at the function of a call, beside
/// those that stay there and those of other steps.
fn check_programs(now: &Plan, steps: &[Effect], effect: &Effect) -> Result<(), Unsupported> {
    let Some((call, _)) = at_function(effect) else {
        return Ok(());
    };
    let there = now.effects.iter().chain(steps);
    let there = there.filter(|known| at_function(known).is_some_and(|(known, _)| known == call));
    let (there, more) = (there.map(programs).sum::<u32>(), programs(effect));
    if more == 0 || there + more <= MOST {
        return Ok(());
    }
    Err(anew(
        &format!(
            "room for {more} programs more at {}, of {MOST} that the kernel takes at one function",
            call.name
        ),
        format!("{there} of this experiment there, which stay until its end"),
    ))
}

/// What is attached to the function of a call, and which.
const fn at_function(effect: &Effect) -> Option<(Syscall, CallHook)> {
    if let Effect::AttachEntry { call, modifies } = effect {
        let modifies = *modifies;
        Some((*call, CallHook::Entry { modifies }))
    } else if let Effect::AttachSleepingEntry { call, .. } = effect {
        Some((*call, CallHook::Asleep(None)))
    } else if let Effect::AttachReturn { call, manner, .. } = effect {
        Some((*call, CallHook::Returning(*manner)))
    } else {
        None
    }
}

/// Whether an effect that was performed did all that another one would.
fn includes(known: &Effect, wanted: &Effect) -> bool {
    if let (Some(known), Some(wanted)) = (attachment(known), attachment(wanted)) {
        return known == wanted;
    }
    known == wanted
}

/// What rules are aimed at, and which.
const fn aim(effect: &Effect) -> Option<((bool, Whom), u64)> {
    match effect {
        Effect::WriteScope { scope, rules } => Some(((false, scope.whom()), *rules)),
        Effect::TagSockets { scope, rules } => Some(((true, scope.whom()), *rules)),
        Effect::CreateCgroup { .. }
        | Effect::AddHop(_)
        | Effect::WriteRule { .. }
        | Effect::NameFiles { .. }
        | Effect::NameChain { .. }
        | Effect::FollowProcesses
        | Effect::ForgetCallers
        | Effect::ForgetPrograms
        | Effect::FollowSockets
        | Effect::WriteSite { .. }
        | Effect::WriteCall { .. }
        | Effect::AttachPackets { .. }
        | Effect::AttachEntry { .. }
        | Effect::AttachSeen { .. }
        | Effect::AttachTwin { .. }
        | Effect::AttachSecurity { .. }
        | Effect::StartWaker
        | Effect::AttachSleepingHook { .. }
        | Effect::AttachSleepingEntry { .. }
        | Effect::AttachReturn { .. }
        | Effect::NameFunction { .. }
        | Effect::AttachFunction { .. }
        | Effect::AttachConnect { .. }
        | Effect::AttachSend { .. }
        | Effect::StartGuardian
        | Effect::HandOver { .. }
        | Effect::Enable => None,
    }
}

/// Which packets a program is attached to. The path of a namespace may be another one
/// each time that it is looked for.
fn attachment(effect: &Effect) -> Option<(NetnsInode, IfIndex, Direction)> {
    if let Effect::AttachPackets {
        netns,
        interface,
        direction,
    } = effect
    {
        Some((netns.inode, interface.index, *direction))
    } else {
        None
    }
}
