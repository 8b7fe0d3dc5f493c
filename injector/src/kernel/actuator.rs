//! The actuator that acts on the real kernel.

mod calls;
mod functions;
mod hops;
mod packets;
mod resources;
mod rules;
mod sleep;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io, mem,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use aya::{
    maps::{Array, HashMap, MapData},
    programs::ProgramError,
};
use injector_common::{
    Control, NetnsInode, RuleStats, ScopeKey, call_filter::FileKey, names, uses::Uses,
};

pub use self::{hops::Undelivered, packets::check_room};
use self::{
    hops::{HopIndexes, Made, drain},
    packets::Site,
    rules::Rules,
};
use super::{
    cgroup,
    chain::ChainTable,
    clock,
    clsact::Side,
    counters::Counters,
    delay_tables::DelayTables,
    files::Files,
    guardian::Guardian,
    hits::Hits,
    journal::{Journal, Leftover},
    leftovers,
    links::{self, Attached},
    log::ProgramLog,
    object::{self, Programs},
    parts::Parts,
    seen::Seen,
    sites::Sites,
    waker::Waker,
    wire,
    words::Words,
};
use crate::{
    actuate::Actuator,
    error::{ApplyError, CleanupError},
    model::Direction,
    plan::{Effect, PacketAttach, Plan},
    resolve::{FileId, Netns},
};

/// How far ahead the agent vouches for its rules, in ns. A stopped agent's
/// rules are inert after this long.
pub(super) const LEASE_NS: u64 = 2_000_000_000;

/// Acts on the kernel, for one experiment.
pub struct KernelActuator {
    programs: Programs,
    attach: PacketAttach,
    control: Array<MapData, Control>,
    /// What the control block holds, but for the lease.
    settings: Control,
    rules: Rules,
    scopes: HashMap<MapData, ScopeKey, u64>,
    seen: Seen,
    sites: Sites,
    calls: Array<MapData, u64>,
    /// Functions that rules name or named, each at its number.
    functions: Vec<(FileId, u64)>,
    /// Which entries of `calls` some rule is in.
    named_calls: BTreeSet<u32>,
    spared: HashMap<MapData, FileKey, u32>,
    clear: Words,
    /// The rules that are aimed at cgroups. Those aimed at processes change as these
    /// fork and end.
    cgroups: BTreeMap<u64, u64>,
    counters: Counters,
    /// Until somebody takes it.
    hits: Option<Hits>,
    journal: Journal,
    /// The plan's first effect, which is the last one to be reverted.
    first: Option<Effect>,
    log: Option<ProgramLog>,
    /// What each effect has attached, or was about to.
    attached: Vec<(Effect, Attached)>,
    parts: Parts,
    hop_indexes: HopIndexes,
    hops: BTreeMap<NetnsInode, Made>,
    /// Whether there were any, if only for a change that failed.
    had_hops: bool,
    /// What was lost in them; `None` if that could not be found out.
    undelivered: Option<Undelivered>,
    /// Held open so that a namespace outlives its last process until what we
    /// put there is gone.
    namespaces: BTreeMap<NetnsInode, Arc<File>>,
    /// Where the command's cgroup is, or was about to be.
    cgroup_path: Option<PathBuf>,
    cgroup: Option<cgroup::OwnCgroup>,
    /// Sets values, if any rule does.
    guardian: Option<Guardian>,
    /// The rules that shift the command's clocks, and whether it was started so.
    clocked: Vec<(usize, bool)>,
    /// Wakes calls, if any rule lets them wait asleep.
    waker: Option<Waker>,
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

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

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
        let uses = programs.uses;
        let mut take = |name: &'static str| {
            programs
                .ebpf
                .take_map(name)
                .ok_or_else(|| format!("no map {name} in the object"))
        };
        let control = Array::try_from(take(names::MAP_CONTROL)?)?;
        let rules = Rules::new(
            take(names::MAP_RULES)?,
            take(names::MAP_PEERS)?,
            take(names::MAP_QUERIES)?,
            take(names::MAP_CALL_FILTERS)?,
            take(names::MAP_ERRORS)?,
            (
                Files::new(take(names::MAP_FILES)?)?,
                ChainTable::new(take(names::MAP_FUNCTIONS)?)?,
            ),
            DelayTables::new(take(names::MAP_TABLES)?)?,
        )?;
        let scopes = HashMap::try_from(take(names::MAP_SCOPES)?)?;
        let seen = Seen::new(take(names::MAP_SEEN)?)?;
        let sites = Sites::new(
            take(names::MAP_SITES)?,
            take(names::MAP_SITE_SLOTS)?,
            take(names::MAP_SITES_NEAR)?,
        )?;
        let calls = Array::try_from(take(names::MAP_CALLS)?)?;
        let spared = HashMap::try_from(take(names::MAP_SPARED)?)?;
        let clear = Words::new(take(names::MAP_CLEAR)?, 2 * names::CLEAR_SLOTS)?;
        let counters = Counters::new(take(names::MAP_STATS)?, take(names::MAP_UNATTRIBUTED)?)?;
        let wants_hits = uses.any(Uses::LEDGER);
        let hits = wants_hits
            .then(|| -> Result<Hits, Failure> {
                Ok(Hits::new(
                    take(names::MAP_LEDGER)?,
                    take(names::MAP_TURNS)?,
                )?)
            })
            .transpose()?;
        let settings = Control {
            rule_count: u32::try_from(plan.experiment.rules.len())?,
            agent_tgid: std::process::id(),
            by_state: wire::by_state(&plan.experiment),
            by_query: wire::by_query(&plan.experiment),
            by_call: wire::by_call(&plan.experiment),
            by_place: wire::by_place(&plan.experiment),
            by_chain: wire::by_chain(&plan.experiment),
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
            functions: Vec::new(),
            named_calls: BTreeSet::new(),
            spared,
            clear,
            cgroups: BTreeMap::new(),
            counters,
            hits,
            journal,
            first: plan.effects.first().cloned(),
            log,
            attached: Vec::new(),
            parts: Parts::new(),
            hop_indexes: HopIndexes::new(&plan.experiment.id),
            hops: BTreeMap::new(),
            had_hops: false,
            undelivered: Some(Undelivered::default()),
            namespaces: BTreeMap::new(),
            cgroup_path: None,
            cgroup: None,
            guardian: None,
            clocked: Vec::new(),
            waker: None,
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
        if let Some(guardian) = &mut self.guardian {
            guardian.beat();
        }
        if let Some(waker) = &mut self.waker {
            waker.beat();
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
        let mut counters = self
            .counters
            .read(self.settings.rule_count)
            .map_err(io::Error::other)?;
        self.add_resources(&mut counters);
        Ok(counters)
    }

    /// What the programs tell of hits, if they do; once.
    pub const fn take_hits(&mut self) -> Option<Hits> {
        self.hits.take()
    }

    /// Boot time in ns at which the first rules were put in force.
    pub fn start_ns(&mut self) -> u64 {
        self.rules.start()
    }

    /// How many packets so far belonged to nobody who could be found: of those that
    /// left the rules' interfaces, and of those that arrived there.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn unattributed(&self) -> io::Result<[u64; 2]> {
        self.counters.unattributed().map_err(io::Error::other)
    }

    /// The programs, to try what rules need that come later.
    pub const fn programs(&mut self) -> &mut Programs {
        &mut self.programs
    }

    /// How programs are attached to interfaces.
    #[must_use]
    pub const fn attaches_by(&self) -> PacketAttach {
        self.attach
    }

    /// Attaches programs to interfaces this way from now on.
    pub const fn attach_by(&mut self, attach: PacketAttach) {
        self.attach = attach;
    }

    /// The directory of the command's cgroup.
    #[must_use]
    pub fn command_cgroup(&self) -> Option<&Path> {
        self.cgroup.as_ref().map(|own| own.path.as_path())
    }

    fn act(&mut self, plan: &Plan, effect: &Effect) -> Result<(), Failure> {
        match effect {
            Effect::CreateCgroup { name } => {
                let (path, level) = cgroup::place_for(name)?;
                self.journal.add(Leftover::Cgroup { path: path.clone() })?;
                // Kept, since the agent may live elsewhere by the end.
                self.cgroup_path = Some(path.clone());
                self.parts.done()?;
                self.cgroup = Some(cgroup::create(path, level)?);
                Ok(())
            }
            Effect::AddHop(hop) => self.add_hop(effect, hop),
            Effect::WriteRule { index, .. } => self.rules.write(&plan.experiment, *index),
            Effect::NameFiles { index, files } => self.name_files(*index, files),
            Effect::NameChain { index, functions } => self.name_functions(*index, functions),
            Effect::WriteScope { scope, rules } => self.write_scope(scope, *rules),
            Effect::WriteCall { hook, call, rules } => self.write_call(*hook, *call, *rules),
            Effect::WriteSite {
                netns,
                interface,
                rules,
                owner,
                sends,
                splits,
            } => self.write_site(
                netns,
                interface,
                wire::site(*rules, *owner, *sends, *splits),
            ),
            Effect::FollowProcesses => {
                self.follow(effect, names::PROG_FORK, "sched_process_fork")?;
                self.follow(effect, names::PROG_EXIT, "sched_process_exit")
            }
            Effect::ForgetCallers => self.follow(effect, names::PROG_FORGET, "sched_process_exit"),
            Effect::ForgetPrograms => {
                self.follow(effect, names::PROG_FORGET_PROGRAM, "sched_process_exec")
            }
            Effect::FollowSockets => self.follow_sockets(effect),
            Effect::TagSockets { scope, rules } => self.tag_sockets(scope, *rules),
            Effect::AttachPackets {
                netns,
                interface,
                direction,
            } => {
                let (program, side) = match direction {
                    Direction::Egress => (names::PROG_EGRESS, Side::Egress),
                    Direction::Ingress | Direction::Both => (names::PROG_INGRESS, Side::Ingress),
                };
                let site = Site {
                    netns,
                    ifindex: interface.index.0,
                    interface: &interface.name,
                    side,
                };
                self.attach_packets(effect, site, program)
            }
            Effect::AttachEntry { call, modifies } => self.attach_entry(effect, *call, *modifies),
            Effect::AttachSeen { call } => self.attach_seen(effect, *call),
            Effect::AttachTwin { function, at } => self.attach_twin(effect, function, *at),
            Effect::AttachSecurity { hook, modifies } => {
                self.attach_security(effect, *hook, *modifies)
            }
            Effect::StartWaker => self.start_waker(),
            Effect::AttachSleepingHook { hook } => {
                let link = links::attach_direct(self.programs.load_sleeping(*hook)?)?;
                self.attached.push((effect.clone(), link));
                Ok(())
            }
            Effect::AttachSleepingEntry { call, sleepers } => {
                self.attach_sleeping_entry(effect, *call, *sleepers)
            }
            Effect::AttachReturn {
                call,
                manner,
                sleepers,
            } => self.attach_return(effect, *call, *manner, *sleepers),
            Effect::NameFunction { place, rules } => self.name_function(place, *rules),
            Effect::AttachFunction { place } => self.attach_function(effect, place),
            Effect::AttachConnect { chooses } => self.attach_connect(effect, *chooses),
            Effect::AttachSend { hears } => self.attach_send(effect, *hears),
            Effect::StartGuardian => self.start_guardian(plan),
            Effect::HandOver {
                index,
                scope,
                fault,
            } => self.hand_over(plan, *index, scope, fault),
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

    /// Puts the rules in force that were written, and takes back what rules that were
    /// there before do no more.
    fn enable(&mut self, plan: &Plan) -> Result<(), Failure> {
        let experiment = &plan.experiment;
        let start = self.rules.start();
        let (by_state, by_query) = (wire::by_state(experiment), wire::by_query(experiment));
        self.settings.rule_count = u32::try_from(experiment.rules.len())?;
        self.settings.deadline_ns = start.saturating_add(wire::nanos(experiment.duration));
        self.drain = self.drain.max(drain(plan));
        self.spare_services(experiment)?;
        self.programs.release_types();
        // For both, the rules that are and those that are to be.
        self.settings.by_state |= by_state;
        self.settings.by_query |= by_query;
        let (by_call, by_place) = (wire::by_call(experiment), wire::by_place(experiment));
        self.settings.by_call |= by_call;
        self.settings.by_place |= by_place;
        let by_chain = wire::by_chain(experiment);
        self.settings.by_chain |= by_chain;
        let is_change = self.settings.lease_until_ns != 0;
        if let (Some(guardian), false) = (&mut self.guardian, is_change) {
            guardian.go(start)?;
        }
        if is_change {
            self.widen_queues(plan)?;
            // Before the rules are switched, and after the targets are written.
            self.renew_lease()?;
            self.forget_clear()?;
        }
        self.rules.switch(experiment)?;
        if is_change {
            self.write_tables(plan)?;
        }
        self.settings.by_state = by_state;
        self.settings.by_query = by_query;
        self.settings.by_call = by_call;
        self.settings.by_place = by_place;
        self.settings.by_chain = by_chain;
        self.settings.sparing = wire::sparing(experiment);
        // The first time, one write of the control block puts everything in force at once.
        Ok(self.renew_lease()?)
    }

    fn disable(&mut self) -> io::Result<()> {
        self.settings.lease_until_ns = 0;
        let disabled = self.control.set(0, self.settings, 0);
        if let Some(waker) = &mut self.waker {
            waker.end();
        }
        // Afterwards: it may take its time.
        if let Some(guardian) = &mut self.guardian {
            guardian.end();
        }
        disabled.map_err(io::Error::other)
    }
}

impl Actuator for KernelActuator {
    fn perform(&mut self, plan: &Plan, effect: &Effect) -> Result<(), ApplyError> {
        let acted = self.act(plan, effect).and_then(|()| Ok(self.parts.done()?));
        acted.map_err(|source| {
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

    fn forget(&mut self) {
        self.rules.forget();
    }

    fn revert(&mut self, effect: &Effect) -> Vec<CleanupError> {
        let mut left = Vec::new();
        let mut not_undone = Vec::new();
        while let Some(at) = self.attached.iter().rposition(|(of, _)| of == effect) {
            match self.attached.remove(at).1 {
                Attached::Owned(link) => drop(link),
                Attached::Filter(filter) => left.extend(self.detach_filter(&filter)),
            }
        }
        match effect {
            Effect::Enable => {
                if let Err(source) = self.disable() {
                    // They go with their maps, at the end of this process.
                    tracing::error!("the rules cannot be switched off: {source}");
                }
                // What waits in our devices still gets out through our programs.
                // Before anything else goes: taking a clsact qdisc away stops
                // the interface for a moment, and it drops what then leaves.
                thread::sleep(mem::take(&mut self.drain));
                self.end_waiting();
            }
            Effect::StartGuardian => not_undone = self.end_guardian(),
            Effect::StartWaker => self.end_waker(),
            Effect::AddHop(hop) => left.extend(self.remove_hop(hop)),
            Effect::CreateCgroup { .. } => {
                if let Some(path) = self.cgroup_path.take() {
                    let removed = cgroup::remove(&path);
                    left.extend(self.struck(Leftover::Cgroup { path }, removed));
                }
            }
            // Maps go with their descriptors, and so does what is in them.
            Effect::WriteRule { .. }
            | Effect::NameFiles { .. }
            | Effect::NameChain { .. }
            | Effect::WriteScope { .. }
            | Effect::WriteCall { .. }
            | Effect::WriteSite { .. }
            | Effect::NameFunction { .. }
            | Effect::TagSockets { .. }
            // Their programs are detached above.
            | Effect::FollowProcesses
            | Effect::ForgetCallers
            | Effect::ForgetPrograms
            | Effect::FollowSockets
            | Effect::AttachPackets { .. }
            | Effect::AttachEntry { .. }
            | Effect::AttachSeen { .. }
            | Effect::AttachTwin { .. }
            | Effect::AttachSecurity { .. }
            | Effect::AttachSleepingHook { .. }
            | Effect::AttachSleepingEntry { .. }
            | Effect::AttachReturn { .. }
            | Effect::AttachFunction { .. }
            | Effect::AttachConnect { .. }
            | Effect::AttachSend { .. }
            // The guardian's end is that of all it was handed over.
            | Effect::HandOver { .. } => {}
        }
        let mut left: Vec<CleanupError> = left
            .into_iter()
            .map(|(leftover, source)| leftovers::remaining(&leftover, source))
            .chain(not_undone)
            .collect();
        if self.first.as_ref() == Some(effect)
            && let Some(path) = self.journal.close()
        {
            left.push(leftovers::remaining_journal(path));
        }
        left
    }
}

impl KernelActuator {
    /// Strikes out what was removed; what was not stays in the journal, for
    /// `injector stop --all`.
    fn struck(
        &mut self,
        leftover: Leftover,
        removed: io::Result<()>,
    ) -> Option<(Leftover, io::Error)> {
        match removed {
            Ok(()) => {
                self.journal.strike(&leftover);
                None
            }
            Err(error) => Some((leftover, error)),
        }
    }
}
