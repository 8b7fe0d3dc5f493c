//! What the actuator writes into the maps, and the programs that keep them up
//! to date.

use std::{
    collections::BTreeMap, fs::File, net::IpAddr, os::unix::fs::OpenOptionsExt as _,
    sync::atomic::Ordering,
};

use aya::{
    maps::{MapData, MapError, SkStorage},
    programs::{CgroupSkb, CgroupSock, CgroupSockAddr, RawTracePoint},
};
use injector_common::{
    ScopeKey, SiteEntry, Tgid,
    abi::{SCOPE_CGROUP, SCOPE_TGID, call_slot, hash_note},
    call_filter::FileKey,
    names,
};
use nix::libc;

use super::{Failure, KernelActuator};
use crate::{
    kernel::{cgroup, files as files_of_kernel, links, object, processes, sockets, wire},
    model::{Experiment, Syscall},
    plan::{CallHook, Effect, Plan},
    resolve::{ChainPlace, FilePlace, Interface, Netns, Scope, files, services},
};

impl KernelActuator {
    /// Adds an address to the peers of a rule in force, or to those that it
    /// leaves out.
    ///
    /// # Errors
    ///
    /// When the table is full.
    pub fn add_peer(&mut self, rule: u32, address: IpAddr, left_out: bool) -> Result<(), MapError> {
        self.rules.add_peer(rule, address, left_out)
    }

    /// Writes what the interfaces and calls of a plan are, and no more: the tables may
    /// still hold those of another plan.
    pub(super) fn write_tables(&mut self, plan: &Plan) -> Result<(), Failure> {
        let mut sites: BTreeMap<u32, SiteEntry> = BTreeMap::new();
        let mut calls: BTreeMap<u32, u64> = BTreeMap::new();
        for effect in &plan.effects {
            if let Effect::WriteSite {
                netns,
                interface,
                rules,
                owner,
                sends,
                splits,
            } = effect
            {
                let wanted = wire::site(*rules, *owner, *sends, *splits);
                let known = sites.entry(interface.index.0).or_default();
                *known = self.site(*known, netns, interface, wanted);
            } else if let Effect::WriteCall { hook, call, rules } = effect {
                for known in hook.known_as(*call) {
                    *calls.entry(call_slot(hook.number(), known)).or_default() |= rules;
                }
            } else if let Effect::NameFunction { place, rules } = effect {
                *calls.entry(self.function_slot(place)?).or_default() |= rules;
            }
        }
        self.sites.replace(&sites)?;
        for slot in std::mem::take(&mut self.named_calls) {
            if !calls.contains_key(&slot) {
                self.calls.set(slot, 0, 0)?;
            }
        }
        for (slot, rules) in calls {
            self.calls.set(slot, rules, 0)?;
            self.named_calls.insert(slot);
        }
        Ok(())
    }

    /// Forgets which cgroups no rule is aimed at. What programs find out from then on
    /// they find with the targets that are written by now.
    pub(super) fn forget_clear(&mut self) -> Result<(), Failure> {
        let other = names::CLEAR_SLOTS - self.settings.clear_from;
        // It was used before the last change: no program writes there any more.
        let words = self.clear.as_slice().iter().skip(usize::try_from(other)?);
        for word in words.take(usize::try_from(names::CLEAR_SLOTS)?) {
            word.store(0, Ordering::Relaxed);
        }
        self.settings.clear_from = other;
        Ok(self.renew_lease()?)
    }

    /// Names the executables of the services that are spared, those of now: some may have been
    /// replaced since the rules before.
    pub(super) fn spare_services(&mut self, experiment: &Experiment) -> Result<(), Failure> {
        let sparing = wire::sparing(experiment);
        if sparing == 0 {
            return Ok(());
        }
        for path in services::executables() {
            // A process may have ended meanwhile.
            let path_only = File::options()
                .read(true)
                .custom_flags(libc::O_PATH)
                .open(path);
            let Ok(file) = path_only else {
                continue;
            };
            let key = files_of_kernel::key_of(&mut self.programs, file)?;
            self.spared.insert(key, 0, 0)?;
            self.settings.spared |= FileKey::bit(key.inode);
        }
        // It holds at once of rules that are there already, and spares them more, not less.
        self.settings.sparing |= sparing;
        Ok(())
    }

    /// Names the files of a rule that was written.
    pub(super) fn name_files(&mut self, index: u32, files: &[FilePlace]) -> Result<(), Failure> {
        for place in files {
            let open = files::open(place.process, &place.path);
            // What nobody named may have been unmounted meanwhile.
            if place.mounted && open.is_err() {
                continue;
            }
            let found = open.and_then(|file| files_of_kernel::key_of(&mut self.programs, file));
            let key = found.map_err(|error| format!("{place}: {error}"))?;
            self.rules.name_file(index, key, place.left_out)?;
        }
        Ok(())
    }

    /// Names the functions of a rule that was written.
    pub(super) fn name_functions(
        &mut self,
        index: u32,
        functions: &[ChainPlace],
    ) -> Result<(), Failure> {
        for place in functions {
            let open = files::open(place.process, &place.function.path);
            let open = open.and_then(|found| files::readable(&found));
            let found =
                open.and_then(|file| files_of_kernel::key_of_mapped(&mut self.programs, file));
            let key = found.map_err(|error| format!("{place}: {error}"))?;
            for part in &place.parts {
                let named = self.rules.name_function(index, key, part, place.left_out);
                named.map_err(|error| format!("{place}: {error}"))?;
            }
        }
        Ok(())
    }

    pub(super) fn write_scope(&mut self, scope: &Scope, rules: u64) -> Result<(), Failure> {
        match scope {
            Scope::Cgroup { id, level, .. } => self.aim_at_cgroup(id.0, *level, rules),
            Scope::Command => {
                let own = self
                    .cgroup
                    .as_ref()
                    .ok_or("the command has no cgroup yet")?;
                let (id, level) = (own.id.0, own.level);
                self.aim_at_cgroup(id, level, rules)
            }
            Scope::Processes { tgids, .. } => self.aim_at_processes(tgids, rules),
        }
    }

    /// Aims rules at processes and all their descendants.
    ///
    /// A process in the table hands its rules on to the children that it forks.
    /// Those forked before, also since the target was looked up, are looked for
    /// until every one of them is in the table.
    fn aim_at_processes(&mut self, tgids: &[Tgid], rules: u64) -> Result<(), Failure> {
        self.settings.by_process = 1;
        loop {
            let mut complete = true;
            for tgid in processes::trees(tgids)? {
                let key = process_key(tgid);
                let known = self.scopes.get(&key, 0).unwrap_or(0);
                if known & rules == rules {
                    continue;
                }
                complete = false;
                self.aim(key, known | rules)?;
                if !processes::is_running(tgid) {
                    // Its end may have been told before it was in the table,
                    // from where another process would inherit the number.
                    let _ = self.scopes.remove(&key);
                }
            }
            if complete {
                return Ok(());
            }
        }
    }

    pub(super) fn aim_at_cgroup(&mut self, id: u64, level: u32, rules: u64) -> Result<(), Failure> {
        let used = self.settings.level_count as usize;
        if !self.settings.levels[..used].contains(&level) {
            *self
                .settings
                .levels
                .get_mut(used)
                .ok_or("cgroups at too many depths")? = level;
            self.settings.level_count += 1;
        }
        let key = ScopeKey {
            id,
            kind: SCOPE_CGROUP,
            _pad: 0,
        };
        let all = rules | self.cgroups.get(&id).copied().unwrap_or(0);
        self.aim(key, all)?;
        self.cgroups.insert(id, all);
        Ok(())
    }

    fn aim(&mut self, key: ScopeKey, rules: u64) -> Result<(), Failure> {
        // First, since programs look here first.
        self.seen.set(key.id);
        Ok(self.scopes.insert(key, rules, 0)?)
    }

    pub(super) fn write_call(
        &mut self,
        hook: CallHook,
        call: Syscall,
        rules: u64,
    ) -> Result<(), Failure> {
        if call.number >= names::MAX_CALLS {
            return Err(format!("{} has number {}, past the table", call.name, call.number).into());
        }
        for known in hook.known_as(call) {
            let slot = call_slot(hook.number(), known);
            self.named_calls.insert(slot);
            self.calls.set(slot, rules, 0)?;
        }
        Ok(())
    }

    /// Names an interface for the rules in `site`, whose other fields are not read.
    pub(super) fn write_site(
        &mut self,
        netns: &Netns,
        interface: &Interface,
        site: SiteEntry,
    ) -> Result<(), Failure> {
        let known = self.sites.get(interface.index.0);
        let site = self.site(known, netns, interface, site);
        if interface.wireguard {
            self.settings.by_hash = hash_note(self.settings.agent_tgid);
        }
        self.sites.insert(interface.index.0, site)
    }

    /// What is to be known of an interface, beside what is known of those that have the
    /// same index in other namespaces.
    fn site(
        &self,
        known: SiteEntry,
        netns: &Netns,
        interface: &Interface,
        site: SiteEntry,
    ) -> SiteEntry {
        let made = self.hops.get(&netns.inode).copied().unwrap_or_default();
        let hops = made.indexes;
        let loopback = interface.name == "lo";
        SiteEntry {
            rules: known.rules | site.rules,
            owner: site.owner,
            sends: known.sends | site.sends,
            splits: known.splits | site.splits,
            // An interface of the same index in another namespace may have none.
            hop: known
                .hop
                .max(if loopback { hops.loopback } else { hops.near }),
            hop_return: known.hop_return.max(if loopback { 0 } else { hops.far }),
            l2_len: interface.l2_len,
            loopback: u32::from(loopback),
            split: known.split.max(if loopback { 0 } else { hops.split }),
            split_return: known
                .split_return
                .max(if loopback { 0 } else { hops.split_return }),
        }
    }

    pub(super) fn follow(
        &mut self,
        effect: &Effect,
        program: &str,
        event: &str,
    ) -> Result<(), Failure> {
        let program: &mut RawTracePoint = self.program(program)?.try_into()?;
        object::once(program.load())?;
        let link = links::attach_tracepoint(program, event)?;
        self.attached.push((effect.clone(), link));
        Ok(())
    }

    pub(super) fn follow_sockets(&mut self, effect: &Effect) -> Result<(), Failure> {
        // The program goes by the cgroups in the control block; without a
        // lease it still injects nothing.
        self.control.set(0, self.settings, 0)?;
        let root = File::open(cgroup::mount_point()?)?;
        let program: &mut CgroupSock = self.program(names::PROG_SOCKET)?.try_into()?;
        object::once(program.load())?;
        let link = links::attach_sockets(program, &root)?;
        self.attached.push((effect.clone(), link));
        Ok(())
    }

    /// Attaches the programs for both families.
    pub(super) fn attach_connect(&mut self, effect: &Effect, chooses: bool) -> Result<(), Failure> {
        let root = File::open(cgroup::mount_point()?)?;
        for name in object::connect_programs(chooses) {
            let program: &mut CgroupSockAddr = self.program(name)?.try_into()?;
            object::once(program.load())?;
            let link = links::attach_connect(program, &root)?;
            self.attached.push((effect.clone(), link));
            self.parts.done()?;
        }
        Ok(())
    }

    /// Attaches the program where sockets send, and before it, if wanted, the one
    /// where they receive.
    pub(super) fn attach_send(&mut self, effect: &Effect, hears: bool) -> Result<(), Failure> {
        let root = File::open(cgroup::mount_point()?)?;
        let hear = hears.then_some(names::PROG_HEAR);
        for name in hear.into_iter().chain([names::PROG_SEND]) {
            let program: &mut CgroupSkb = self.program(name)?.try_into()?;
            object::once(program.load())?;
            let link = links::attach_packets_of_sockets(program, &root)?;
            self.attached.push((effect.clone(), link));
            self.parts.done()?;
        }
        Ok(())
    }

    pub(super) fn tag_sockets(&mut self, scope: &Scope, rules: u64) -> Result<(), Failure> {
        let owners: Vec<(Tgid, u64)> = match scope {
            // Also those that were forked since the target was looked up.
            Scope::Processes { .. } => self.targeted_processes(rules)?,
            Scope::Cgroup { path, .. } => {
                let inside = cgroup::processes(path)?.into_iter();
                inside.map(|tgid| (tgid, rules)).collect()
            }
            // It has not started yet.
            Scope::Command => return Ok(()),
        };
        let map = self
            .programs
            .ebpf
            .map_mut(names::MAP_SOCKETS)
            .ok_or("no map of sockets")?;
        let mut map: SkStorage<&mut MapData, u64> = map.try_into()?;
        for (tgid, rules) in owners {
            let count = sockets::tag(&mut map, tgid, rules)?;
            tracing::debug!("{count} sockets of process {tgid}");
        }
        Ok(())
    }

    /// The processes that some of these rules are aimed at, and which of them.
    fn targeted_processes(&self, rules: u64) -> Result<Vec<(Tgid, u64)>, Failure> {
        let mut found = Vec::new();
        for entry in self.scopes.iter() {
            let (key, known) = entry?;
            if key.kind == SCOPE_TGID && known & rules != 0 {
                found.push((Tgid(u32::try_from(key.id)?), known & rules));
            }
        }
        Ok(found)
    }
}

fn process_key(tgid: Tgid) -> ScopeKey {
    ScopeKey {
        id: tgid.0.into(),
        kind: SCOPE_TGID,
        _pad: 0,
    }
}
