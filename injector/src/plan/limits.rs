//! What the tables and queues of the kernel side hold, and no more.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use injector_common::names::{
    MAX_FILES, MAX_LEVELS, MAX_PEERS, MAX_QUERIES, MAX_RULES, MAX_TABLES,
};

use crate::{
    error::{SpecError, Unsupported},
    model::{DelayTable, Experiment, Rule},
    resolve::{Interface, Netns, RuleScope, Scope},
};

/// The longest that a packet may have to wait for all rules together. The queue
/// can hold one somewhat longer (`TCA_FQ_HORIZON`, 2^32 µs) and would drop it
/// beyond that.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Checks what does not depend on the kernel.
///
/// # Errors
///
/// When there is too much of something.
pub(super) fn check(experiment: &Experiment, scopes: &[RuleScope]) -> Result<(), SpecError> {
    check_count(experiment.rules.len())?;
    check_levels(scopes)?;
    check_peers(&experiment.rules)?;
    check_queries(&experiment.rules)?;
    check_tables(&experiment.rules)?;
    check_files(scopes)?;
    check_wait(&experiment.rules)
}

fn check_count(count: usize) -> Result<(), SpecError> {
    if count <= MAX_RULES as usize {
        return Ok(());
    }
    let allowed = format!("at most {MAX_RULES}");
    Err(SpecError::new("rules", format!("{count} rules"), allowed))
}

fn check_levels(scopes: &[RuleScope]) -> Result<(), SpecError> {
    let levels: BTreeSet<u32> = scopes
        .iter()
        .flat_map(|scope| &scope.scopes)
        .filter_map(|scope| match scope {
            Scope::Cgroup { level, .. } => Some(*level),
            Scope::Processes { .. } | Scope::Command => None,
        })
        .collect();
    // One level is kept for the command's own cgroup.
    if levels.len() < MAX_LEVELS {
        return Ok(());
    }
    Err(SpecError::new(
        "target",
        format!("cgroups at {} different depths", levels.len()),
        format!("at most {} depths", MAX_LEVELS - 1),
    ))
}

/// One table holds the files of all rules.
fn check_files(scopes: &[RuleScope]) -> Result<(), SpecError> {
    let count: usize = scopes.iter().map(|scope| scope.files.len()).sum();
    if count <= MAX_FILES as usize {
        return Ok(());
    }
    let problem =
        format!("{count} files, with what is mounted below them in each root of the targets");
    Err(SpecError::new(
        "path",
        problem,
        format!("at most {MAX_FILES}"),
    ))
}

/// One table holds the networks of all rules.
fn check_peers(rules: &[Rule]) -> Result<(), SpecError> {
    let filters = rules.iter().filter_map(|rule| rule.fault.filter());
    let networks = filters.map(|filter| filter.peers.each().chain(filter.locals.each()).count());
    let total: usize = networks.sum();
    if total <= MAX_PEERS as usize {
        return Ok(());
    }
    let problem = format!("{total} networks");
    let allowed = format!("at most {MAX_PEERS} for all rules together");
    Err(SpecError::new("peer", problem, allowed))
}

/// One table holds the names of all rules, and for each that only leaves some out
/// that all others are meant.
fn check_queries(rules: &[Rule]) -> Result<(), SpecError> {
    let queries = rules.iter().filter_map(|rule| rule.fault.queries());
    let total: usize = queries
        .map(|dns| dns.names.each().count() + usize::from(dns.names.these.is_empty()))
        .sum();
    if total <= MAX_QUERIES as usize {
        return Ok(());
    }
    let problem = format!("{total} patterns of names");
    let allowed = format!("at most {MAX_QUERIES} for all rules together");
    Err(SpecError::new("query", problem, allowed))
}

/// Rules with the same distribution share a table.
fn check_tables(rules: &[Rule]) -> Result<(), SpecError> {
    let mut tables: Vec<&Arc<DelayTable>> = Vec::new();
    for table in rules.iter().filter_map(|rule| rule.fault.delay_table()) {
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    if tables.len() <= MAX_TABLES as usize {
        return Ok(());
    }
    let problem = format!("{} tables of delays", tables.len());
    let allowed = format!("at most {MAX_TABLES} different ones for all rules together");
    Err(SpecError::new("distribution", problem, allowed))
}

/// Delays of several rules add up, and on loopback those of a packet that
/// leaves and of the same one that arrives.
fn check_wait(rules: &[Rule]) -> Result<(), SpecError> {
    let total: Duration = rules.iter().map(|rule| rule.fault.longest_wait()).sum();
    if total <= MAX_WAIT / 2 {
        return Ok(());
    }
    Err(SpecError::new(
        "delay",
        format!("delays that add up to {} s", total.as_secs()),
        format!(
            "at most {} s for all rules together",
            (MAX_WAIT / 2).as_secs()
        ),
    ))
}

/// Checks that interfaces of one index agree on what lies before a packet's
/// IP header: a program sees the index, and not whose namespace it is in.
///
/// # Errors
///
/// When two do not, naming both.
pub(super) fn check_shared_indexes<'a>(
    rule: &Rule,
    known: impl Iterator<Item = (&'a Netns, &'a Interface)>,
    netns: &Netns,
    interface: &Interface,
) -> Result<(), Unsupported> {
    let mut others = known.filter(|(other, _)| other.inode != netns.inode);
    let clash = others
        .find(|(_, other)| other.index == interface.index && other.l2_len != interface.l2_len);
    let Some((other_netns, other)) = clash else {
        return Ok(());
    };
    Err(Unsupported {
        what: format!("rule {} ({})", rule.name, rule.fault.kind().name()).into(),
        needs: "interfaces of the same kind where two namespaces use one index; \
                name one with --interface, or run two injectors"
            .into(),
        found: format!(
            "{} in {} and {} in {}, both with index {}",
            other.name,
            other_netns.path.display(),
            interface.name,
            netns.path.display(),
            interface.index.0
        )
        .into(),
    })
}
