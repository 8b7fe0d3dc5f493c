//! What the actuator writes into the maps, and the programs that keep them up
//! to date.

use std::fs::File;

use aya::{
    maps::{MapData, SkStorage},
    programs::{CgroupSock, RawTracePoint},
};
use injector_common::{
    ScopeKey, SiteEntry,
    abi::{SCOPE_CGROUP, SCOPE_TGID, call_slot},
    names,
};

use super::{Failure, KernelActuator};
use crate::{
    kernel::{cgroup, links, object, sockets},
    model::Syscall,
    plan::{CallHook, Effect},
    resolve::{Interface, Netns, Scope},
};

impl KernelActuator {
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
            Scope::Processes { tgids, .. } => {
                self.settings.by_process = 1;
                for tgid in tgids {
                    self.aim(
                        ScopeKey {
                            id: tgid.0.into(),
                            kind: SCOPE_TGID,
                            _pad: 0,
                        },
                        rules,
                    )?;
                }
                Ok(())
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
        self.aim(
            ScopeKey {
                id,
                kind: SCOPE_CGROUP,
                _pad: 0,
            },
            rules,
        )
    }

    pub(super) fn aim(&mut self, key: ScopeKey, rules: u64) -> Result<(), Failure> {
        let bit = u32::try_from(key.id % u64::from(names::SEEN_BITS))?;
        let word = self.seen.get(&(bit / 64), 0)?;
        self.seen.set(bit / 64, word | 1 << (bit % 64), 0)?;
        let known = self.scopes.get(&key, 0).unwrap_or(0);
        Ok(self.scopes.insert(key, known | rules, 0)?)
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
        Ok(self
            .calls
            .set(call_slot(hook.number(), call.number), rules, 0)?)
    }

    pub(super) fn write_site(
        &mut self,
        netns: &Netns,
        interface: &Interface,
        rules: u64,
        owner: u64,
    ) -> Result<(), Failure> {
        let hops = self.hops.get(&netns.inode).copied().unwrap_or_default();
        let loopback = interface.name == "lo";
        let known = self.sites.get(&interface.index.0, 0).unwrap_or_default();
        let site = SiteEntry {
            rules: known.rules | rules,
            owner,
            // An interface of the same index in another namespace may have none.
            hop: known
                .hop
                .max(if loopback { hops.loopback } else { hops.near }),
            hop_return: known.hop_return.max(if loopback { 0 } else { hops.far }),
            l2_len: interface.l2_len,
            loopback: u32::from(loopback),
        };
        Ok(self.sites.insert(interface.index.0, site, 0)?)
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

    pub(super) fn tag_sockets(&mut self, scope: &Scope, rules: u64) -> Result<(), Failure> {
        let tgids = match scope {
            Scope::Processes { tgids, .. } => tgids.clone(),
            Scope::Cgroup { path, .. } => cgroup::processes(path)?,
            // It has not started yet.
            Scope::Command => return Ok(()),
        };
        let map = self
            .programs
            .ebpf
            .map_mut(names::MAP_SOCKETS)
            .ok_or("no map of sockets")?;
        let mut map: SkStorage<&mut MapData, u64> = map.try_into()?;
        for tgid in tgids {
            let count = sockets::tag(&mut map, tgid, rules)?;
            tracing::debug!("{count} sockets of process {tgid}");
        }
        Ok(())
    }
}
