//! From targets to scopes and network namespaces.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::{Path, PathBuf},
};

use injector_common::{NetnsInode, Tgid, kinds::Family};

use super::{
    Netns, RuleScope, Scope, cgroup, chain, checks,
    files::{self, Roots},
    functions,
    host::{CgroupMount, Host, Link, Process},
    interfaces, process, resources, services,
};
use crate::{
    error::{Error, Unsupported},
    model::{Choice, Experiment, Rule, Target, conflict},
};

/// Checks the host and resolves the targets of every rule, in their order.
///
/// # Errors
///
/// Where the host lacks what the experiment needs, a target is not there or
/// must not be hit, an interface is not there, or two targets turn out to be
/// one and their rules contradict each other. The field of an error about a
/// rule is the bare name of the option, below `rules[INDEX]`.
pub fn resolve(experiment: &Experiment, host: &impl Host) -> Result<Vec<RuleScope>, Error> {
    let mounts = checks::check(experiment, host)?;
    let mut facts = Facts {
        experiment,
        host,
        mounts,
        processes: None,
        links: BTreeMap::new(),
        scopes: BTreeMap::new(),
        inside: BTreeMap::new(),
    };
    let mut scopes = Vec::with_capacity(experiment.rules.len());
    for (index, rule) in experiment.rules.iter().enumerate() {
        let scope = if rule.removed {
            Ok(RuleScope::default())
        } else {
            facts.rule(rule)
        };
        scopes
            .push(scope.map_err(|error| error.map_spec(|e| e.below(&format!("rules[{index}]"))))?);
    }
    // Only now is it known that `cgroup:web` and `cgroup:/sys/fs/cgroup/web`
    // are one.
    conflict::check(&experiment.rules, |a, b| {
        match (scopes.get(a), scopes.get(b)) {
            (Some(a), Some(b)) => a
                .scopes
                .iter()
                .any(|outer| b.scopes.iter().any(|inner| covers(outer, inner))),
            (None, _) | (_, None) => false,
        }
    })?;
    Ok(scopes)
}

fn covers(outer: &Scope, inner: &Scope) -> bool {
    match (outer, inner) {
        (Scope::Cgroup { path: outer, .. }, Scope::Cgroup { path: inner, .. }) => {
            inner.starts_with(outer)
        }
        (Scope::Processes { tgids, .. }, Scope::Processes { root, .. }) => tgids.contains(root),
        (Scope::Command, Scope::Command) => true,
        (Scope::Cgroup { .. } | Scope::Processes { .. } | Scope::Command, _) => false,
    }
}

/// Facts that are read at most once for all rules.
struct Facts<'a, H> {
    experiment: &'a Experiment,
    host: &'a H,
    mounts: Vec<CgroupMount>,
    processes: Option<Vec<Process>>,
    links: BTreeMap<NetnsInode, Vec<Link>>,
    /// Rules often share their targets, of which there may be a thousand.
    scopes: BTreeMap<&'a Target, Scope>,
    /// The processes below a cgroup.
    inside: BTreeMap<PathBuf, Vec<Tgid>>,
}

impl<'a, H: Host> Facts<'a, H> {
    fn rule(&mut self, rule: &'a Rule) -> Result<RuleScope, Error> {
        let mut scopes = Vec::with_capacity(rule.targets.len());
        for target in &rule.targets {
            scopes.push(self.scope(target)?);
        }
        let netns = match rule.fault.kind().family() {
            Family::Packet => self.netns(rule, &scopes)?,
            Family::Syscall | Family::Connect | Family::Function => Vec::new(),
            Family::Resource => {
                resources::check(rule, &scopes, &self.mounts, self.host)?;
                Vec::new()
            }
        };
        let (files, chain) = match rule.fault.calls().map(|calls| &calls.filter) {
            Some(filter) if !filter.paths.is_any() || filter.asks_for_chain() => {
                let (members, uses_own) = self.members(&scopes)?;
                let roots = Roots::of(&members, uses_own, self.host);
                let files = files::find(&filter.paths, &roots, self.host)?;
                (files, chain::find(&filter.functions, &roots, self.host)?)
            }
            Some(_) | None => (Vec::new(), Vec::new()),
        };
        let function = match rule.fault.function() {
            Some(function) => {
                let (members, uses_own) = self.members(&scopes)?;
                let roots = Roots::of(&members, uses_own, self.host);
                Some(functions::find(function, &roots, self.host)?)
            }
            None => None,
        };
        let left_out = self.left_out(rule, &scopes)?;
        Ok(RuleScope {
            scopes,
            netns,
            files,
            chain,
            function,
            left_out,
        })
    }

    /// Whom the rule spares of its targets, for a note.
    fn left_out(&mut self, rule: &Rule, scopes: &[Scope]) -> Result<Option<String>, Error> {
        if !services::spares(rule) {
            return Ok(None);
        }
        let mut members = Vec::with_capacity(scopes.len());
        for scope in scopes {
            members.push(match scope {
                Scope::Cgroup { path, .. } => self.inside(path)?.to_owned(),
                Scope::Processes { tgids, .. } => tgids.clone(),
                Scope::Command => Vec::new(),
            });
        }
        Ok(services::check(rule, scopes, &members, self.host)?)
    }

    /// The processes in a cgroup and below it.
    fn inside(&mut self, path: &Path) -> Result<&[Tgid], Error> {
        Ok(match self.inside.entry(path.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(self.host.cgroup_processes(path)?),
        })
    }

    fn scope(&mut self, target: &'a Target) -> Result<Scope, Error> {
        if let Some(known) = self.scopes.get(target) {
            return Ok(known.clone());
        }
        let scope = self.look_up(target)?;
        self.scopes.insert(target, scope.clone());
        Ok(scope)
    }

    fn look_up(&mut self, target: &Target) -> Result<Scope, Error> {
        match target {
            Target::Cgroup(path) => {
                let whole_host = self.experiment.whole_host;
                let found = cgroup::find(path, whole_host, &self.mounts, self.host)?;
                Ok(Scope::Cgroup {
                    id: found.id,
                    level: found.level,
                    path: found.path,
                })
            }
            Target::Process(pid) => {
                let root = process::find(*pid, self.host)?;
                let tgids = process::tree(root, self.processes()?);
                Ok(Scope::Processes { root, tgids })
            }
            Target::Command => Ok(Scope::Command),
        }
    }

    fn processes(&mut self) -> Result<&[Process], Error> {
        if self.processes.is_none() {
            self.processes = Some(self.host.processes()?);
        }
        Ok(self.processes.as_deref().unwrap_or_default())
    }

    fn links(&mut self, inode: NetnsInode, path: &Path) -> Result<&[Link], Error> {
        if !self.links.contains_key(&inode) {
            self.links.insert(inode, self.host.interfaces(path)?);
        }
        Ok(self
            .links
            .get(&inode)
            .map(Vec::as_slice)
            .unwrap_or_default())
    }

    /// The namespaces of a rule's targets, the agent's own first.
    fn netns(&mut self, rule: &Rule, scopes: &[Scope]) -> Result<Vec<Netns>, Error> {
        let own = self.host.own_netns()?;
        let (members, uses_own) = self.members(scopes)?;
        let processes = self.processes()?;
        // A way into each namespace: any process of a target that is in it.
        let mut found: BTreeMap<NetnsInode, PathBuf> = BTreeMap::new();
        let mut with_strangers: BTreeSet<NetnsInode> = BTreeSet::from([own]);
        for process in processes {
            let Some(inode) = process.netns else { continue };
            if members.contains(&process.tgid) {
                let path = || PathBuf::from(format!("/proc/{}/ns/net", process.tgid));
                found.entry(inode).or_insert_with(path);
            } else {
                with_strangers.insert(inode);
            }
        }
        if uses_own || found.contains_key(&own) || found.is_empty() {
            found.insert(own, PathBuf::from("/proc/self/ns/net"));
        }
        let any = Choice::ANY;
        let wanted = rule
            .fault
            .filter()
            .map_or(&any, |filter| &filter.interfaces);
        let mut all_links = Vec::new();
        let mut netns = Vec::with_capacity(found.len());
        for (inode, path) in found {
            let links = self.links(inode, &path)?;
            let interfaces = interfaces::selection(links, wanted)?;
            all_links.extend_from_slice(links);
            let exclusive = !with_strangers.contains(&inode);
            netns.push(Netns {
                inode,
                path,
                own: inode == own,
                exclusive,
                interfaces,
            });
        }
        netns.sort_by_key(|netns| !netns.own);
        interfaces::check_known(&all_links, wanted)?;
        // A rule without an interface could never hit anything.
        if netns.iter().all(|netns| netns.interfaces.is_empty()) {
            let needs = "an interface that is up in the target's network namespace";
            return Err(Unsupported {
                what: format!("rule `{}`", rule.name).into(),
                needs: needs.into(),
                found: match wanted.is_any() {
                    true => "none".into(),
                    false => "none that the rule's interface option leaves".into(),
                },
            }
            .into());
        }
        Ok(netns)
    }

    /// The processes of the targets now, and whether a target without any may
    /// get some in the agent's own namespace.
    fn members(&mut self, scopes: &[Scope]) -> Result<(BTreeSet<Tgid>, bool), Error> {
        let mut members = BTreeSet::new();
        let mut uses_own = false;
        for scope in scopes {
            match scope {
                Scope::Cgroup { path, .. } => {
                    let inside = self.inside(path)?;
                    uses_own |= inside.is_empty();
                    members.extend(inside.iter());
                }
                Scope::Processes { tgids, .. } => members.extend(tgids),
                Scope::Command => uses_own = true,
            }
        }
        // The agent is never hit, so its namespace is not entered for it.
        members.remove(&self.host.own_tgid());
        Ok((members, uses_own))
    }
}

#[cfg(test)]
pub(super) mod fake;
#[cfg(test)]
mod tests;
