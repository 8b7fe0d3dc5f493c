//! One reversible change of the kernel's state.

mod words;

use std::fmt;

use injector_common::names::SecurityHook;

use super::{CallHook, TwinHook};
use crate::{
    model::{Direction, Manner, QueueMemory, ResourceFault, Syscall},
    resolve::{ChainPlace, FilePlace, FunctionPlace, Interface, Netns, Scope},
};
use words::{By, HookText, In, Mask, ScopeText};

/// Devices of ours that packets of one namespace wait in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The namespace.
    pub netns: Netns,
    /// End of a pair that packets enter, with its other end; `None` if none of
    /// an interface other than loopback have to wait.
    pub pair: Option<(String, String)>,
    /// End of a pair that packets enter to be split, with its other end; `None` if they
    /// need not be.
    pub splitter: Option<(String, String)>,
    /// Device that packets on loopback enter; `None` if none have to wait.
    pub ifb: Option<String>,
    /// How many packets wait there for a time (`fq`); `None` where they only pass.
    pub holds: Option<QueueMemory>,
    /// Whether the devices fill in checksums, so that a receiver on this host
    /// verifies them.
    pub fills_checksums: bool,
}

impl Hop {
    /// What a device in the namespace of this number is called.
    #[must_use]
    pub fn device(kind: char, number: usize, id: &str) -> String {
        // An interface's name has at most 15 bytes.
        format!("inj{kind}{number}-{id}").chars().take(15).collect()
    }

    /// Whether it serves as well where the other one is wanted. Its queue can be given
    /// more room.
    #[must_use]
    pub fn serves_for(&self, wanted: &Self) -> bool {
        let lacks = |has: bool, wants: bool| wants && !has;
        !(lacks(self.pair.is_some(), wanted.pair.is_some())
            || lacks(self.splitter.is_some(), wanted.splitter.is_some())
            || lacks(self.ifb.is_some(), wanted.ifb.is_some())
            || lacks(self.holds.is_some(), wanted.holds.is_some())
            || lacks(self.fills_checksums, wanted.fills_checksums))
    }
}

/// A reversible change. The order of the variants is the order in a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Makes the cgroup that the command will run in.
    CreateCgroup {
        /// Its directory's name, below the agent's own cgroup.
        name: String,
    },
    /// Makes the devices that packets wait in.
    AddHop(Hop),
    /// Writes a rule into the rule table, not yet in force.
    WriteRule {
        /// Its position.
        index: u32,
        /// Its name.
        name: String,
    },
    /// Names the files of a rule that was written.
    NameFiles {
        /// The rule's position.
        index: u32,
        /// The files, at least one.
        files: Vec<FilePlace>,
    },
    /// Names the functions of a rule that was written.
    NameChain {
        /// The rule's position.
        index: u32,
        /// The functions, at least one.
        functions: Vec<ChainPlace>,
    },
    /// Follows the children of targeted processes.
    FollowProcesses,
    /// Forgets the counts of processes and threads that end.
    ForgetCallers,
    /// Forgets the counts of programs for which a process executes another one.
    ForgetPrograms,
    /// Aims rules at a scope.
    WriteScope {
        /// Who.
        scope: Scope,
        /// Which rules, as a mask.
        rules: u64,
    },
    /// Leaves the rules in new sockets of whoever is targeted.
    FollowSockets,
    /// Leaves the rules in the sockets that a target has open.
    TagSockets {
        /// Whose.
        scope: Scope,
        /// Which rules, as a mask.
        rules: u64,
    },
    /// Tells the packet programs about an interface.
    WriteSite {
        /// The interface's namespace.
        netns: Netns,
        /// The interface.
        interface: Interface,
        /// Rules that act there, as a mask.
        rules: u64,
        /// Of those, rules whose target owns the namespace.
        owner: u64,
        /// Rules that act where sockets send by this interface, as a mask.
        sends: u64,
        /// Of `rules`, those that count what is one packet on the wire, as a mask.
        splits: u64,
    },
    /// Names a call for rules.
    WriteCall {
        /// Where it is caught.
        hook: CallHook,
        /// The call.
        call: Syscall,
        /// Which rules, as a mask.
        rules: u64,
    },
    /// Names a function for rules.
    NameFunction {
        /// The function.
        place: FunctionPlace,
        /// Which rules, as a mask.
        rules: u64,
    },
    /// Attaches a program to the packets of an interface.
    AttachPackets {
        /// The interface's namespace.
        netns: Netns,
        /// The interface.
        interface: Interface,
        /// One direction; never both.
        direction: Direction,
    },
    /// Attaches the program at a call's entry.
    AttachEntry {
        /// The call.
        call: Syscall,
        /// Whether the program takes the place of the call, rather than overriding its result.
        modifies: bool,
    },
    /// Attaches the program at a call's entry that only sees it.
    AttachSeen {
        /// The call.
        call: Syscall,
    },
    /// Attaches one of these programs where 32-bit callers enter.
    AttachTwin {
        /// The kernel's function.
        function: String,
        /// Which program.
        at: TwinHook,
    },
    /// Attaches the program at a security hook.
    AttachSecurity {
        /// The hook.
        hook: SecurityHook,
        /// Whether the program takes the place of the function that asks there.
        modifies: bool,
    },
    /// Starts the waker, which wakes calls that wait asleep.
    StartWaker,
    /// Attaches the program at a security hook that lets calls wait asleep.
    AttachSleepingHook {
        /// The hook.
        hook: SecurityHook,
    },
    /// Attaches the programs at a call's entry that let it wait asleep.
    AttachSleepingEntry {
        /// The call.
        call: Syscall,
        /// How many can sleep there at once on each processor.
        sleepers: u32,
    },
    /// Attaches what lets a call wait before it returns.
    AttachReturn {
        /// The call.
        call: Syscall,
        /// In which manner it waits.
        manner: Manner,
        /// How many can sleep there at once on each processor, if asleep.
        sleepers: u32,
    },
    /// Attaches the program at a function's entry.
    AttachFunction {
        /// The function.
        place: FunctionPlace,
    },
    /// Attaches programs at `connect`.
    AttachConnect {
        /// Whether they choose its error; otherwise it is `EPERM`.
        chooses: bool,
    },
    /// Attaches the program where sockets send.
    AttachSend {
        /// Whether another one notes what they receive.
        hears: bool,
    },
    /// Starts the guardian, which sets values and puts them back whatever becomes of the agent.
    StartGuardian,
    /// Hands a rule over to the guardian, for one of its targets.
    HandOver {
        /// The rule's position.
        index: u32,
        /// Whose cgroup.
        scope: Scope,
        /// What happens to it.
        fault: ResourceFault,
    },
    /// Puts all rules in force and starts the lease.
    Enable,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateCgroup { name } => write!(f, "create cgroup {name} for the command"),
            Self::AddHop(hop) => {
                let mut names: Vec<&str> = Vec::new();
                if let Some((near, far)) = &hop.pair {
                    names.extend([near.as_str(), far.as_str()]);
                }
                names.extend(hop.ifb.as_deref());
                if let Some((near, far)) = &hop.splitter {
                    names.extend([near.as_str(), far.as_str()]);
                }
                write!(
                    f,
                    "add devices {} in {}",
                    names.join(", "),
                    hop.netns.path.display()
                )?;
                f.write_str(if hop.holds.is_some() {
                    " to hold packets"
                } else {
                    " to pass packets"
                })?;
                f.write_str(if hop.fills_checksums {
                    " and fill in checksums"
                } else {
                    ""
                })?;
                f.write_str(if hop.splitter.is_some() {
                    " and split super-packets"
                } else {
                    ""
                })
            }
            Self::WriteRule { index, name } => write!(f, "write rule {name} at {index}, inactive"),
            Self::NameFiles { index, files } => {
                let names: Vec<String> = files.iter().map(ToString::to_string).collect();
                write!(f, "name {} for rule {index}", names.join(", "))
            }
            Self::NameChain { index, functions } => {
                let names: Vec<String> = functions.iter().map(ToString::to_string).collect();
                write!(f, "name {} for rule {index}", names.join(", "))
            }
            Self::WriteScope { scope, rules } => {
                write!(f, "aim rules {} at {}", Mask(*rules), ScopeText(scope))
            }
            Self::WriteCall { hook, call, rules } => {
                write!(
                    f,
                    "name {} at {} for rules {}",
                    call.name,
                    HookText(*hook),
                    Mask(*rules)
                )
            }
            Self::WriteSite {
                netns,
                interface,
                rules,
                owner,
                sends,
                // The device that splits says so.
                splits: _,
            } => {
                let verb = if *rules == 0 { "watch" } else { "act on" };
                write!(f, "{verb} {} in {}", interface.name, netns.path.display())?;
                if *rules != 0 {
                    write!(f, " for rules {}", Mask(*rules))?;
                }
                if *owner != 0 {
                    f.write_str(", which own what no process sends there")?;
                }
                if *sends != 0 {
                    let and = if *rules == 0 { "" } else { ", and" };
                    write!(f, "{and} for sends by rules {}", Mask(*sends))?;
                }
                Ok(())
            }
            Self::FollowProcesses => f.write_str("follow the children of targeted processes"),
            Self::ForgetCallers => {
                f.write_str("forget the counts of processes and threads that end")
            }
            Self::ForgetPrograms => {
                f.write_str("forget the counts of programs when a process executes another one")
            }
            Self::FollowSockets => f.write_str("follow the new sockets of targets"),
            Self::TagSockets { scope, rules } => {
                write!(
                    f,
                    "aim rules {} at the open sockets of {}",
                    Mask(*rules),
                    ScopeText(scope)
                )
            }
            Self::AttachPackets {
                netns,
                interface,
                direction,
            } => {
                let side = match direction {
                    Direction::Egress => "egress",
                    Direction::Ingress => "ingress",
                    Direction::Both => "both sides",
                };
                write!(
                    f,
                    "attach to {side} of {} in {}",
                    interface.name,
                    netns.path.display()
                )
            }
            Self::AttachEntry { call, modifies } => {
                write!(f, "attach to the entry of {}{}", call.name, By(*modifies))
            }
            Self::AttachSeen { call } => {
                write!(f, "attach to the entry of {}, to see it", call.name)
            }
            Self::AttachTwin { function, at } => {
                let by = By(*at == TwinHook::Modified);
                write!(f, "attach to {function}{by}, for 32-bit callers")?;
                f.write_str(if *at == TwinHook::Seen {
                    ", to see them"
                } else {
                    ""
                })
            }
            Self::AttachSecurity { hook, modifies } => {
                write!(
                    f,
                    "attach to security hook {}{}",
                    hook.attach(),
                    By(*modifies)
                )
            }
            Self::StartWaker => {
                f.write_str("start the process that wakes calls, which all go on if it ends")
            }
            Self::AttachSleepingHook { hook } => {
                write!(
                    f,
                    "attach to security hook {}, to wait asleep",
                    hook.attach()
                )
            }
            Self::AttachSleepingEntry { call, .. } => {
                write!(f, "attach to the entry of {}, to wait asleep", call.name)
            }
            Self::AttachReturn { call, manner, .. } => {
                let name = call.name;
                write!(f, "attach to the return of {name}, to wait {}", In(*manner))
            }
            Self::NameFunction { place, rules } => {
                write!(f, "name {place} for rules {}", Mask(*rules))
            }
            Self::AttachFunction { place } => write!(f, "attach to the entry of {place}"),
            Self::AttachConnect { chooses } => {
                f.write_str("attach to connect below the root cgroup, for IPv4 and IPv6")?;
                f.write_str(if *chooses { "" } else { ", to fail with EPERM" })
            }
            Self::AttachSend { hears } => {
                f.write_str(
                    "attach to sends of sockets below the root cgroup, to fail with EPERM",
                )?;
                f.write_str(if *hears {
                    ", and to what they receive"
                } else {
                    ""
                })
            }
            Self::StartGuardian => f.write_str(
                "start the guardian, which puts back what rules set, also if the agent is killed",
            ),
            Self::HandOver {
                index,
                scope,
                fault,
            } => {
                let Some(setting) = fault.setting() else {
                    if fault.clock().is_some() {
                        return write!(
                            f,
                            "have the guardian end what still runs in {} at the end of rule {index}, \
                             since clocks cannot be put back",
                            ScopeText(scope)
                        );
                    }
                    if !fault.is_for_processes() {
                        return write!(
                            f,
                            "have the guardian start workers in {} for rule {index}, and end them",
                            ScopeText(scope)
                        );
                    }
                    return write!(
                        f,
                        "have the guardian signal {} for rule {index}, which nothing undoes",
                        ScopeText(scope)
                    );
                };
                write!(
                    f,
                    "have the guardian set {} of {} to `{}` for rule {index}, and back to what it was",
                    setting.file,
                    ScopeText(scope),
                    setting.value
                )?;
                match fault.device() {
                    Some(device) => write!(f, ", for {device}"),
                    None => Ok(()),
                }
            }
            Self::Enable => f.write_str("put the rules in force"),
        }
    }
}
