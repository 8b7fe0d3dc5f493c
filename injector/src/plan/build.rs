//! Building a plan.

mod calls;
mod functions;
mod sends;

use std::collections::BTreeMap;

use injector_common::{NetnsInode, kinds::Family, names::SecurityHook};

use super::{CallHook, Effect, Features, Hop, Plan, TwinHook, limits, sleepers};
use crate::{
    error::{Error, Unsupported},
    model::{
        Direction, Experiment, Fault, Manner, PacketFault, PacketFilter, Per, QueueMemory,
        ResourceFault, Rule, Syscall,
    },
    resolve::{FunctionPlace, Interface, Netns, RuleScope, Scope, Whom},
};

/// Plans how to put `experiment` in force, given what its targets are and what
/// the kernel can do.
///
/// # Errors
///
/// [`Error::Unsupported`] when a rule cannot be had here, with the reason;
/// [`Error::Spec`] when there is more of something than the tables and queues hold.
pub fn build(
    experiment: &Experiment,
    scopes: &[RuleScope],
    features: &Features,
) -> Result<Plan, Error> {
    limits::check(experiment, scopes)?;
    let mut parts = Parts::default();
    let mut backends = Vec::with_capacity(experiment.rules.len());
    for (index, (rule, scope)) in experiment.rules.iter().zip(scopes).enumerate() {
        let mask = 1u64 << index;
        parts.write.push(Effect::WriteRule {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            name: rule.name.clone(),
        });
        if rule.removed {
            backends.push("none");
            continue;
        }
        parts.by_caller |= rule.per.is_caller();
        parts.by_program |= rule.per == Per::Program;
        parts.notes.extend(scope.left_out.clone());
        if !scope.files.is_empty() {
            parts.write.push(Effect::NameFiles {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                files: scope.files.clone(),
            });
        }
        if !scope.chain.is_empty() {
            parts.write.push(Effect::NameChain {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                functions: scope.chain.clone(),
            });
        }
        for one in &scope.scopes {
            match &rule.fault {
                Fault::Resource(fault) => parts.hand_over(index, one, fault),
                Fault::Packet(..) | Fault::Call(..) | Fault::Refuse { .. } | Fault::Function(_) => {
                    parts.aim(one, mask, rule);
                }
            }
        }
        backends.push(match &rule.fault {
            Fault::Call(calls, _) => parts.calls(rule, calls, mask, features)?,
            Fault::Refuse { errno, .. } => parts.connects(rule, *errno, features)?,
            Fault::Function(_) => parts.function(rule, scope, mask, features)?,
            // That a namespace can be had was seen before.
            Fault::Resource(ResourceFault::Clock(_)) => "timens",
            // That the target has the control file was seen when it was looked up.
            Fault::Resource(_) => "guardian",
            Fault::Packet(filter, fault) => {
                let act = PacketAct {
                    rule,
                    filter,
                    fault,
                };
                parts.packets(&act, scope, mask, features)?
            }
        });
    }
    let uses_command = scopes
        .iter()
        .any(|scope| scope.scopes.contains(&Scope::Command));
    Ok(Plan {
        notes: std::mem::take(&mut parts.notes),
        effects: parts.into_effects(&experiment.id, uses_command || experiment.command.is_some()),
        backends,
        experiment: experiment.clone(),
    })
}

/// A rule on packets.
struct PacketAct<'a> {
    rule: &'a Rule,
    filter: &'a PacketFilter,
    fault: &'a PacketFault,
}

/// What one namespace needs.
struct Site {
    netns: Netns,
    interfaces: BTreeMap<u32, SiteInterface>,
    /// Packets have to wait for a time, as many as the most generous rule allows.
    holds: Option<QueueMemory>,
    fills_checksums: bool,
    pair: bool,
    ifb: bool,
    splits: bool,
}

impl Site {
    fn interface(&mut self, interface: &Interface) -> &mut SiteInterface {
        self.interfaces
            .entry(interface.index.0)
            .or_insert_with(|| SiteInterface {
                interface: interface.clone(),
                rules: 0,
                owner: 0,
                sends: 0,
                splits: 0,
                egress: false,
                ingress: false,
            })
    }
}

struct SiteInterface {
    interface: Interface,
    rules: u64,
    owner: u64,
    sends: u64,
    splits: u64,
    egress: bool,
    ingress: bool,
}

#[derive(Default)]
struct Parts {
    write: Vec<Effect>,
    scopes: Aims,
    by_socket: Aims,
    by_process: bool,
    /// Calls are counted by who makes them.
    by_caller: bool,
    /// By the program that makes them, among others.
    by_program: bool,
    calls: Vec<(CallHook, Syscall, u64)>,
    /// Where 32-bit callers enter.
    twins: Vec<(TwinHook, String)>,
    /// Functions, and the rules on each.
    functions: Vec<(FunctionPlace, u64)>,
    /// Programs at `connect`, and whether they choose its error.
    connects: Option<bool>,
    /// A program where sockets send, and whether one hears what they receive.
    sends: Option<bool>,
    sites: BTreeMap<NetnsInode, Site>,
    /// What the guardian does.
    handed: Vec<Effect>,
    notes: Vec<String>,
}

impl Parts {
    fn aim(&mut self, scope: &Scope, mask: u64, rule: &Rule) {
        let by_process = matches!(scope, Scope::Processes { .. });
        self.by_process |= by_process;
        // A packet that leaves tells its sender's cgroup. Which process sent
        // it, and who will receive one that arrives at an interface, only its
        // socket tells.
        let arrives = match &rule.fault {
            Fault::Packet(filter, fault) => {
                filter.direction != Direction::Egress
                    || (filter.follows_conversations() && !fault.fails_calls())
            }
            Fault::Call(..) | Fault::Refuse { .. } | Fault::Function(_) | Fault::Resource(_) => {
                false
            }
        };
        if arrives || (by_process && rule.fault.kind().family() == Family::Packet) {
            self.by_socket.add(scope, mask);
        }
        self.scopes.add(scope, mask);
    }

    fn hand_over(&mut self, index: usize, scope: &Scope, fault: &ResourceFault) {
        self.handed.push(Effect::HandOver {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            scope: scope.clone(),
            fault: fault.clone(),
        });
    }

    fn packets(
        &mut self,
        act: &PacketAct<'_>,
        scope: &RuleScope,
        mask: u64,
        features: &Features,
    ) -> Result<&'static str, Error> {
        let &PacketAct {
            rule,
            filter,
            fault,
        } = act;
        if fault.fails_calls() {
            return self.sends(act, scope, mask, features);
        }
        let attach = features.packets.as_ref().map_err(|reason| Unsupported {
            what: format!("rule {} ({})", rule.name, rule.fault.kind().name()).into(),
            needs: "programs at the traffic-control hooks".into(),
            found: reason.clone().into(),
        })?;
        let direction = filter.direction;
        // In shadow nothing waits.
        let holds = fault.queue_memory().filter(|_| !rule.shadow);
        let detours = fault.detours() && !rule.shadow;
        let splits = filter.splits();
        if detours || splits {
            need(
                rule,
                "devices for packets to pass (veth)",
                &features.hop_devices,
            )?;
        }
        if holds.is_some() {
            need(
                rule,
                "the fq queueing discipline (sch_fq)",
                &features.fair_queue,
            )?;
        }
        let (pings, follows) = (filter.takes_icmp(), filter.follows_conversations());
        let mut notes = Vec::new();
        for netns in &scope.netns {
            if detours || splits {
                check_ethernet(rule, netns)?;
            }
            for interface in &netns.interfaces {
                self.check_index(rule, netns, interface)?;
            }
            let site = self.site(netns);
            site.holds = site.holds.max(holds);
            site.fills_checksums |= fault.fills_checksums() && !rule.shadow;
            for interface in &netns.interfaces {
                let by_name = filter.interfaces.these.contains(&interface.name);
                if detours && interface.name == "lo" && !features.loopback_hop.is_supported() {
                    let needs = "an ifb that gives back packets of programs (Linux 6.3)";
                    let alone = scope.netns.iter().all(|netns| netns.interfaces.len() == 1);
                    if by_name || alone {
                        need(rule, needs, &features.loopback_hop)?;
                    }
                    notes.push(format!(
                        "rule {} leaves loopback packets alone: that needs {needs}; found {}",
                        rule.name,
                        features.loopback_hop.reason()
                    ));
                    continue;
                }
                if splits && interface.name == "lo" {
                    if by_name || scope.netns.iter().all(|netns| netns.interfaces.len() == 1) {
                        return Err(unsplit(rule).into());
                    }
                    notes.push(format!(
                        "rule {} leaves loopback packets alone: {LOOPBACK_UNSPLIT}",
                        rule.name
                    ));
                    continue;
                }
                site.splits |= splits;
                let egress = direction != Direction::Ingress;
                let ingress = direction != Direction::Egress;
                let loopback = interface.name == "lo";
                site.pair |= detours && !loopback;
                site.ifb |= detours && loopback;
                let known = site.interface(interface);
                known.rules |= mask;
                if netns.exclusive {
                    known.owner |= mask;
                }
                if splits {
                    known.splits |= mask;
                }
                // An echo's reply belongs to whoever was seen to ask.
                known.egress |= egress || pings || follows;
                // On loopback, packets that leave wait where they arrive.
                known.ingress |= ingress || follows || (loopback && detours);
            }
        }
        self.notes.extend(notes);
        Ok(attach.name())
    }

    fn site(&mut self, netns: &Netns) -> &mut Site {
        self.sites.entry(netns.inode).or_insert_with(|| Site {
            netns: netns.clone(),
            interfaces: BTreeMap::new(),
            holds: None,
            fills_checksums: false,
            pair: false,
            ifb: false,
            splits: false,
        })
    }

    fn check_index(
        &self,
        rule: &Rule,
        netns: &Netns,
        interface: &Interface,
    ) -> Result<(), Unsupported> {
        let known = self.sites.values().flat_map(|site| {
            let interfaces = site.interfaces.values();
            interfaces.map(|known| (&site.netns, &known.interface))
        });
        limits::check_shared_indexes(rule, known, netns, interface)
    }

    fn into_effects(self, id: &str, with_cgroup: bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        if with_cgroup {
            effects.push(Effect::CreateCgroup {
                name: format!("injector-{id}"),
            });
        }
        for (number, site) in self.sites.values().enumerate() {
            if site.pair || site.ifb || site.splits {
                let name = |kind| Hop::device(kind, number, id);
                effects.push(Effect::AddHop(Hop {
                    netns: site.netns.clone(),
                    pair: site.pair.then(|| (name('a'), name('b'))),
                    splitter: site.splits.then(|| (name('c'), name('d'))),
                    ifb: site.ifb.then(|| name('i')),
                    holds: site.holds,
                    fills_checksums: site.fills_checksums,
                }));
            }
        }
        effects.extend(self.write);
        if self.by_process {
            // First, so that no child that is forked from then on is missed.
            effects.push(Effect::FollowProcesses);
        }
        if self.by_caller {
            effects.push(Effect::ForgetCallers);
        }
        if self.by_program {
            effects.push(Effect::ForgetPrograms);
        }
        for (scope, rules) in self.scopes.list {
            effects.push(Effect::WriteScope { scope, rules });
        }
        if !self.by_socket.list.is_empty() {
            effects.push(Effect::FollowSockets);
        }
        for (scope, rules) in self.by_socket.list {
            effects.push(Effect::TagSockets { scope, rules });
        }
        let owners = shared_indexes(&self.sites);
        for site in self.sites.values() {
            for known in site.interfaces.values() {
                let shared = owners.get(&known.interface.index.0).is_some_and(|&n| n > 1);
                effects.push(Effect::WriteSite {
                    netns: site.netns.clone(),
                    interface: known.interface.clone(),
                    rules: known.rules,
                    // Programs know an interface by its index alone. Where two
                    // namespaces use one index, packets go by their sockets.
                    owner: if shared { 0 } else { known.owner },
                    sends: known.sends,
                    splits: known.splits,
                });
            }
        }
        let mut hooks: Vec<(SecurityHook, bool)> = Vec::new();
        let mut entries: Vec<(Syscall, bool)> = Vec::new();
        let mut seen: Vec<Syscall> = Vec::new();
        let mut asleep: Vec<Effect> = Vec::new();
        let mut returning: Vec<(Syscall, Manner)> = Vec::new();
        let waiting: Vec<Syscall> = self
            .calls
            .iter()
            .filter(|(hook, ..)| hook.sleeps_at_call())
            .map(|(_, call, _)| *call)
            .collect();
        for (hook, call, rules) in self.calls {
            effects.push(Effect::WriteCall { hook, call, rules });
            match hook {
                CallHook::Entry { modifies } => entries.push((call, modifies)),
                CallHook::Seen => seen.push(call),
                CallHook::Returning(manner) => returning.push((call, manner)),
                CallHook::Asleep(hook) => {
                    let attach = match hook {
                        Some(hook) => Effect::AttachSleepingHook { hook },
                        None => Effect::AttachSleepingEntry {
                            call,
                            sleepers: sleepers::of(call, &waiting),
                        },
                    };
                    if !asleep.contains(&attach) {
                        asleep.push(attach);
                    }
                }
                CallHook::Security { hook, modifies } => {
                    if !hooks.contains(&(hook, modifies)) {
                        hooks.push((hook, modifies));
                    }
                }
            }
        }
        effects.extend(functions::names(&self.functions));
        for site in self.sites.into_values() {
            for known in site.interfaces.into_values() {
                for (wanted, direction) in [
                    (known.egress, Direction::Egress),
                    (known.ingress, Direction::Ingress),
                ] {
                    if wanted {
                        effects.push(Effect::AttachPackets {
                            netns: site.netns.clone(),
                            interface: known.interface.clone(),
                            direction,
                        });
                    }
                }
            }
        }
        effects.extend(
            entries
                .into_iter()
                .map(|(call, modifies)| Effect::AttachEntry { call, modifies }),
        );
        effects.extend(seen.into_iter().map(|call| Effect::AttachSeen { call }));
        let twins = self.twins.into_iter();
        effects.extend(twins.map(|(at, function)| Effect::AttachTwin { function, at }));
        effects.extend(
            hooks
                .into_iter()
                .map(|(hook, modifies)| Effect::AttachSecurity { hook, modifies }),
        );
        if !asleep.is_empty()
            || returning
                .iter()
                .any(|(_, manner)| *manner == Manner::Asleep)
        {
            effects.push(Effect::StartWaker);
            // Behind the others, since the kernel asks the last one attached first: a call that
            // is to wait and to fail waits, and then fails.
            effects.extend(asleep);
        }
        let attach = |(call, manner)| Effect::AttachReturn {
            call,
            manner,
            sleepers: sleepers::of(call, &waiting),
        };
        effects.extend(returning.into_iter().map(attach));
        let functions = self.functions.into_iter();
        effects.extend(functions.map(|(place, _)| Effect::AttachFunction { place }));
        if let Some(chooses) = self.connects {
            effects.push(Effect::AttachConnect { chooses });
        }
        if let Some(hears) = self.sends {
            effects.push(Effect::AttachSend { hears });
        }
        if !self.handed.is_empty() {
            effects.push(Effect::StartGuardian);
            effects.extend(self.handed);
        }
        effects.push(Effect::Enable);
        effects
    }
}

/// Rules by whom they are aimed at, in the order in which they were named.
#[derive(Default)]
struct Aims {
    list: Vec<(Scope, u64)>,
    places: BTreeMap<Whom, usize>,
}

impl Aims {
    fn add(&mut self, scope: &Scope, mask: u64) {
        let place = *self.places.entry(scope.whom()).or_insert(self.list.len());
        match self.list.get_mut(place) {
            Some((_, rules)) => *rules |= mask,
            None => self.list.push((scope.clone(), mask)),
        }
    }
}

/// How many namespaces use an interface index.
fn shared_indexes(sites: &BTreeMap<NetnsInode, Site>) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for index in sites.values().flat_map(|site| site.interfaces.keys()) {
        *counts.entry(*index).or_insert(0) += 1;
    }
    counts
}

fn need(rule: &Rule, what: &'static str, support: &super::Support) -> Result<(), Unsupported> {
    if support.is_supported() {
        return Ok(());
    }
    Err(Unsupported {
        what: format!("rule {} ({})", rule.name, rule.fault.kind().name()).into(),
        needs: what.into(),
        found: support.reason().to_owned().into(),
    })
}

/// Why super-packets on loopback stay whole.
const LOOPBACK_UNSPLIT: &str = "its super-packets cannot be split, since they keep their way \
                                through the stack only on loopback itself";

fn unsplit(rule: &Rule) -> Unsupported {
    Unsupported {
        what: format!("rule {} ({})", rule.name, rule.fault.kind().name()).into(),
        needs: "an interface other than loopback, or packet as unit".into(),
        found: format!("loopback alone: {LOOPBACK_UNSPLIT}").into(),
    }
}

/// A packet without a link-layer header cannot enter an Ethernet device.
fn check_ethernet(rule: &Rule, netns: &Netns) -> Result<(), Unsupported> {
    let Some(bare) = netns
        .interfaces
        .iter()
        .find(|interface| interface.l2_len == 0)
    else {
        return Ok(());
    };
    Err(Unsupported {
        what: format!("rule {} ({})", rule.name, rule.fault.kind().name()).into(),
        needs: "interfaces with an Ethernet header; name one with --interface".into(),
        found: format!("{} in {}, which has none", bare.name, netns.path.display()).into(),
    })
}
