//! The actuator that acts on the real kernel.

mod hops;
mod tables;

use std::{
    collections::BTreeMap, fmt, fs::File, io, mem, path::Path, sync::Arc, thread, time::Duration,
};

use aya::{
    maps::{Array, HashMap, MapData},
    programs::{KProbe, ProgramError, SchedClassifier, tc::TcAttachType},
};
use injector_common::{Control, NetnsInode, RuleEntry, RuleStats, ScopeKey, SiteEntry, names};

use self::hops::HopIndexes;
use super::{
    cgroup, clock,
    counters::Counters,
    journal::{Journal, Leftover},
    links::{self, Attached},
    log::ProgramLog,
    netlink, netns,
    object::{self, Programs},
    wire,
};
use crate::{
    actuate::Actuator,
    error::{ApplyError, CleanupError},
    model::{Direction, Fault},
    plan::{Effect, Hop, PacketAttach, Plan, hooks::entry_function},
    resolve::Netns,
};

/// How far ahead the agent vouches for its rules, in ns. A stopped agent's
/// rules are inert after this long.
const LEASE_NS: u64 = 2_000_000_000;

/// Acts on the kernel, for one experiment.
pub struct KernelActuator {
    programs: Programs,
    attach: PacketAttach,
    control: Array<MapData, Control>,
    /// What the control block holds, but for the lease.
    settings: Control,
    rules: Array<MapData, RuleEntry>,
    scopes: HashMap<MapData, ScopeKey, u64>,
    seen: Array<MapData, u64>,
    sites: HashMap<MapData, u32, SiteEntry>,
    calls: Array<MapData, u64>,
    counters: Counters,
    journal: Journal,
    log: Option<ProgramLog>,
    attached: Vec<(Effect, Attached)>,
    hop_indexes: HopIndexes,
    hops: BTreeMap<NetnsInode, HopIndexes>,
    /// Held open so that a namespace outlives its last process until what we
    /// put there is gone.
    namespaces: BTreeMap<NetnsInode, Arc<File>>,
    cgroup: Option<cgroup::OwnCgroup>,
    /// How long packets may still wait once no more are sent to wait.
    drain: Duration,
}

impl fmt::Debug for KernelActuator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelActuator")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl KernelActuator {
    /// Creates the maps. Nothing acts on anything yet.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a map, or this binary has no programs in it.
    pub fn new(programs: Programs, plan: &Plan, attach: PacketAttach) -> Result<Self, ApplyError> {
        Self::open(programs, plan, attach).map_err(|source| ApplyError {
            effect: "open maps".to_owned(),
            source,
            detail: Vec::new(),
        })
    }

    fn open(mut programs: Programs, plan: &Plan, attach: PacketAttach) -> Result<Self, Failure> {
        let mut take = |name: &'static str| {
            programs
                .ebpf
                .take_map(name)
                .ok_or_else(|| format!("no map {name} in the object"))
        };
        let control = Array::try_from(take(names::MAP_CONTROL)?)?;
        let rules = Array::try_from(take(names::MAP_RULES)?)?;
        let scopes = HashMap::try_from(take(names::MAP_SCOPES)?)?;
        let seen = Array::try_from(take(names::MAP_SEEN)?)?;
        let sites = HashMap::try_from(take(names::MAP_SITES)?)?;
        let calls = Array::try_from(take(names::MAP_CALLS)?)?;
        let counters = Counters::new(take(names::MAP_STATS)?)?;
        let settings = Control {
            rule_count: u32::try_from(plan.experiment.rules.len())?,
            agent_tgid: std::process::id(),
            ..Control::default()
        };
        let log = ProgramLog::new(&mut programs.ebpf);
        let mut journal = Journal::new(&plan.experiment.id);
        journal.open()?;
        Ok(Self {
            programs,
            attach,
            control,
            settings,
            rules,
            scopes,
            seen,
            sites,
            calls,
            counters,
            journal,
            log,
            attached: Vec::new(),
            hop_indexes: HopIndexes::new(&plan.experiment.id),
            hops: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            cgroup: None,
            drain: Duration::ZERO,
        })
    }

    /// Pushes the lease forward, and passes on what the programs logged.
    ///
    /// # Errors
    ///
    /// When the map cannot be written; the rules then expire by themselves.
    pub fn renew_lease(&mut self) -> io::Result<()> {
        if let Some(log) = &mut self.log {
            log.pass_on();
        }
        self.settings.lease_until_ns = clock::boot_ns() + LEASE_NS;
        self.control
            .set(0, self.settings, 0)
            .map_err(io::Error::other)
    }

    /// Ends all injection at once; what is attached stays until it is reverted.
    pub fn halt(&mut self) {
        if let Err(error) = self.disable() {
            tracing::error!("the rules cannot be switched off, they expire: {error}");
        }
    }

    /// What the rules have done so far, in their order.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn counters(&self) -> io::Result<Vec<RuleStats>> {
        self.counters
            .read(self.settings.rule_count)
            .map_err(io::Error::other)
    }

    /// The directory of the command's cgroup.
    #[must_use]
    pub fn command_cgroup(&self) -> Option<&Path> {
        self.cgroup.as_ref().map(|own| own.path.as_path())
    }

    fn act(&mut self, plan: &Plan, effect: &Effect) -> Result<(), Failure> {
        match effect {
            Effect::CreateCgroup { name } => {
                self.journal.add(Leftover::Cgroup {
                    path: cgroup::path_of(name)?,
                })?;
                self.cgroup = Some(cgroup::create(name)?);
                Ok(())
            }
            Effect::AddHop(hop) => self.add_hop(effect, hop),
            Effect::WriteRule { index, .. } => {
                let rule = &plan.experiment.rules[*index as usize];
                let entry = wire::entry(&plan.experiment, *index, rule, u64::MAX);
                Ok(self.rules.set(*index, entry, 0)?)
            }
            Effect::WriteScope { scope, rules } => self.write_scope(scope, *rules),
            Effect::WriteCall { hook, call, rules } => self.write_call(*hook, *call, *rules),
            Effect::WriteSite {
                netns,
                interface,
                rules,
                owner,
            } => self.write_site(netns, interface, *rules, *owner),
            Effect::FollowProcesses => {
                self.follow(effect, names::PROG_FORK, "sched_process_fork")?;
                self.follow(effect, names::PROG_EXIT, "sched_process_exit")
            }
            Effect::FollowSockets => self.follow_sockets(effect),
            Effect::TagSockets { scope, rules } => self.tag_sockets(scope, *rules),
            Effect::AttachPackets {
                netns,
                interface,
                direction,
            } => {
                let (program, side) = match direction {
                    Direction::Egress => (names::PROG_EGRESS, TcAttachType::Egress),
                    Direction::Ingress | Direction::Both => {
                        (names::PROG_INGRESS, TcAttachType::Ingress)
                    }
                };
                self.attach_packets(
                    effect,
                    netns,
                    interface.index.0,
                    &interface.name,
                    program,
                    side,
                )
            }
            Effect::AttachEntry { call } => {
                let function = format!("__x64_sys_{}", entry_function(call.name));
                let program: &mut KProbe = self.program(names::PROG_SYSCALL)?.try_into()?;
                object::once(program.load())?;
                let link = links::attach_kprobe(program, &function)?;
                self.attached.push((effect.clone(), link));
                Ok(())
            }
            Effect::AttachSecurity { hook } => {
                let program = self.programs.load_security(hook.program(), hook.attach())?;
                let link = links::attach_lsm(program)?;
                self.attached.push((effect.clone(), link));
                Ok(())
            }
            Effect::Enable => self.enable(plan),
        }
    }

    fn program(&mut self, name: &str) -> Result<&mut aya::programs::Program, Failure> {
        let program = self.programs.ebpf.program_mut(name);
        Ok(program.ok_or_else(|| format!("no program {name} in the object"))?)
    }

    /// The namespace's file, opened once.
    fn namespace(&mut self, netns: &Netns) -> io::Result<Arc<File>> {
        if let Some(file) = self.namespaces.get(&netns.inode) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(&netns.path)?);
        self.namespaces.insert(netns.inode, Arc::clone(&file));
        Ok(file)
    }

    fn attach_packets(
        &mut self,
        effect: &Effect,
        netns: &Netns,
        ifindex: u32,
        interface: &str,
        program: &str,
        side: TcAttachType,
    ) -> Result<(), Failure> {
        let file = self.namespace(netns)?;
        let by = self.attach;
        let mut qdisc = false;
        if by == PacketAttach::Clsact {
            qdisc = netns::inside(&file, || links::add_clsact(interface))??;
            // Written down at once: both sides of an interface share a qdisc.
            self.journal.add(Leftover::Filters {
                netns: netns.inode.0,
                ifindex,
                qdisc,
            })?;
        }
        let program: &mut SchedClassifier = self.program(program)?.try_into()?;
        object::once(program.load())?;
        let link = netns::inside(&file, || {
            links::attach_packets(program, interface, side, by)
        })??;
        let attached = match by {
            PacketAttach::Tcx => Attached::Owned(links::OwnedLink::Tcx(link)),
            PacketAttach::Clsact => Attached::Filter {
                link,
                netns: file,
                ifindex,
                qdisc,
            },
        };
        self.attached.push((effect.clone(), attached));
        Ok(())
    }

    fn enable(&mut self, plan: &Plan) -> Result<(), Failure> {
        let start = clock::boot_ns();
        for (index, rule) in (0u32..).zip(&plan.experiment.rules) {
            let entry = RuleEntry {
                enabled: 1,
                ..wire::entry(&plan.experiment, index, rule, start)
            };
            self.rules.set(index, entry, 0)?;
        }
        self.settings.deadline_ns = start.saturating_add(wire::nanos(plan.experiment.duration));
        self.drain = drain(plan);
        self.programs.release_types();
        // One write of the control block puts everything in force at once.
        Ok(self.renew_lease()?)
    }

    fn disable(&mut self) -> io::Result<()> {
        self.settings.lease_until_ns = 0;
        self.control
            .set(0, self.settings, 0)
            .map_err(io::Error::other)
    }
}

/// The longest time that packets under clean-up are waited for. A longer delay
/// loses what is under way when it ends, as removing netem does.
const MAX_DRAIN: Duration = Duration::from_secs(1);

/// For what leaves its queue on time to get to its interface.
const LAST_STEPS: Duration = Duration::from_millis(20);

/// How long it takes until packets under way have passed our devices.
fn drain(plan: &Plan) -> Duration {
    let has_devices = |effect: &Effect| matches!(effect, Effect::AddHop(_));
    if plan.effects.iter().any(has_devices) {
        longest_wait(plan).min(MAX_DRAIN) + LAST_STEPS
    } else {
        Duration::ZERO
    }
}

/// The longest delay of any packet: those of all rules add up.
fn longest_wait(plan: &Plan) -> Duration {
    plan.experiment
        .rules
        .iter()
        .map(|rule| match &rule.fault {
            Fault::NetDelay { delay, jitter, .. } => *delay + *jitter,
            Fault::NetLoss(_) | Fault::NetCorrupt { .. } | Fault::SysErrno { .. } => Duration::ZERO,
        })
        .sum()
}

fn hop_devices(hop: &Hop) -> Vec<String> {
    hop.pair
        .iter()
        .map(|(near, _)| near.clone())
        .chain(hop.ifb.clone())
        .collect()
}

impl Actuator for KernelActuator {
    fn perform(&mut self, plan: &Plan, effect: &Effect) -> Result<(), ApplyError> {
        self.act(plan, effect).map_err(|source| {
            let (source, detail) = match source.downcast_ref::<ProgramError>() {
                Some(error) => (object::refusal(error).into(), object::verifier_tail(error)),
                None => (source, Vec::new()),
            };
            ApplyError {
                effect: effect.to_string(),
                source,
                detail,
            }
        })
    }

    fn revert(&mut self, effect: &Effect) -> Vec<CleanupError> {
        let mut left = Vec::new();
        let mut check = |what: String, result: io::Result<()>| {
            if let Err(source) = result {
                left.push(CleanupError {
                    what,
                    source: source.into(),
                    remedy: "injector stop --all".to_owned(),
                });
            }
        };
        while let Some(at) = self.attached.iter().rposition(|(of, _)| of == effect) {
            let (_, attached) = self.attached.remove(at);
            check(format!("a program ({effect})"), attached.detach());
        }
        match effect {
            Effect::Enable => {
                check("the rules".to_owned(), self.disable());
                // What waits in our devices still gets out through our programs.
                // Before anything else goes: taking a clsact qdisc away stops
                // the interface for a moment, and it drops what then leaves.
                thread::sleep(mem::take(&mut self.drain));
            }
            Effect::AddHop(hop) => {
                for name in hop_devices(hop) {
                    let result = self.remove_device(&hop.netns, &name);
                    if result.is_ok() {
                        let netns = hop.netns.inode.0;
                        self.journal.strike(&Leftover::Device { netns, name: name.clone() });
                    }
                    check(format!("device {name} in {}", hop.netns.path.display()), result);
                }
            }
            Effect::CreateCgroup { name } => {
                if let Ok(path) = cgroup::path_of(name) {
                    let result = cgroup::remove(&path);
                    if result.is_ok() {
                        self.journal.strike(&Leftover::Cgroup { path: path.clone() });
                    }
                    check(format!("cgroup {}", path.display()), result);
                }
            }
            // Maps go with their descriptors, and so does what is in them.
            Effect::WriteRule { .. }
            | Effect::WriteScope { .. }
            | Effect::WriteCall { .. }
            | Effect::WriteSite { .. }
            | Effect::TagSockets { .. }
            // Their programs are detached above.
            | Effect::FollowProcesses
            | Effect::FollowSockets
            | Effect::AttachPackets { .. }
            | Effect::AttachEntry { .. }
            | Effect::AttachSecurity { .. } => {}
        }
        if left.is_empty() && self.attached.is_empty() {
            self.journal.strike_filters();
            self.journal.close();
        }
        left
    }
}

impl KernelActuator {
    fn remove_device(&mut self, netns: &Netns, name: &str) -> io::Result<()> {
        let file = self.namespace(netns)?;
        netlink::run(&file, |handle| async move {
            netlink::remove(&handle, name).await
        })
    }
}
