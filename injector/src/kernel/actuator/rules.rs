//! The rule table, and the tables of peers and names that belong to rules.

use std::{collections::BTreeMap, net::IpAddr, ops::Range};

use aya::maps::{Array, LpmTrie, Map, MapData, MapError, lpm_trie::Key};
use injector_common::{
    RuleEntry, RuleSlot,
    call_filter::{CallFilter, FileKey},
    dns::NameKey,
    faults::sys_errno::ErrorList,
    filter::PeerName,
};

use super::Failure;
use crate::{
    kernel::{
        clock,
        delay_tables::DelayTables,
        files::Files,
        functions::{FunctionTable, FunctionTableError},
        wire,
    },
    model::Experiment,
};

/// Nothing, twice.
const EMPTY: RuleSlot = RuleSlot {
    versions: [wire::BLANK; 2],
    current: 0,
};

/// The rules, of which each is written aside before it is put in force.
pub(super) struct Rules {
    map: Array<MapData, RuleSlot>,
    peers: LpmTrie<MapData, PeerName, u32>,
    queries: LpmTrie<MapData, NameKey, u32>,
    call_filters: Array<MapData, CallFilter>,
    errors: Array<MapData, ErrorList>,
    files: Files,
    functions: FunctionTable,
    delays: DelayTables,
    slots: BTreeMap<u32, RuleSlot>,
    /// Rules that were written and are not in force, and from which table they draw.
    written: BTreeMap<u32, Option<u32>>,
    /// What lies in the tables for the versions of rules.
    listed: BTreeMap<u32, Listed>,
    /// Boot time in ns at which the first rules were put in force.
    start_ns: Option<u64>,
}

/// The entries of one version of a rule.
#[derive(Default)]
struct Listed {
    peers: Vec<Key<PeerName>>,
    queries: Vec<Key<NameKey>>,
    files: Vec<FileKey>,
    code: Vec<FileKey>,
}

impl Rules {
    pub(super) fn new(
        rules: Map,
        peers: Map,
        queries: Map,
        call_filters: Map,
        errors: Map,
        (files, functions): (Files, FunctionTable),
        delays: DelayTables,
    ) -> Result<Self, MapError> {
        Ok(Self {
            map: Array::try_from(rules)?,
            peers: LpmTrie::try_from(peers)?,
            queries: LpmTrie::try_from(queries)?,
            call_filters: Array::try_from(call_filters)?,
            errors: Array::try_from(errors)?,
            files,
            functions,
            delays,
            slots: BTreeMap::new(),
            written: BTreeMap::new(),
            listed: BTreeMap::new(),
            start_ns: None,
        })
    }

    /// When the first rules were put in force, which is now if none was.
    pub(super) fn start(&mut self) -> u64 {
        *self.start_ns.get_or_insert_with(clock::boot_ns)
    }

    /// Makes all ready for a rule that is not in force yet, or that is to take the place
    /// of the one there: the networks of its peers, and the names that it asks for.
    pub(super) fn write(&mut self, experiment: &Experiment, index: u32) -> Result<(), Failure> {
        let rule = &experiment.rules[index as usize];
        let key = self.next_key(index);
        self.clear(key)?;
        let listed = self.listed.entry(key).or_default();
        if let Some(filter) = rule.fault.conditions().filter(|_| !rule.removed) {
            for (network, value) in wire::peers(key, filter) {
                self.peers.insert(&network, value, 0)?;
                listed.peers.push(network);
            }
        }
        if let Some(dns) = rule.fault.queries().filter(|_| !rule.removed) {
            for (name, value) in wire::queries(u8::try_from(key)?, dns) {
                self.queries.insert(&name, value, 0)?;
                listed.queries.push(name);
            }
        }
        if let Some(calls) = rule.fault.calls().filter(|_| !rule.removed) {
            let filter = wire::call_filter(&calls.filter);
            self.call_filters.set(key, filter, 0)?;
            if rule.fault.is_plausible() {
                // A list is a call's own, whichever rule needs it.
                for call in calls.all() {
                    let list = wire::error_list(call);
                    for known in call.known_as() {
                        self.errors.set(known, list, 0)?;
                    }
                }
            }
        }
        let table = self.delays.index(rule)?;
        self.written.insert(index, table);
        Ok(())
    }

    /// Names a file for a rule that was written, so that it is in force with it.
    pub(super) fn name_file(
        &mut self,
        index: u32,
        file: FileKey,
        left_out: bool,
    ) -> Result<(), MapError> {
        let key = self.next_key(index);
        self.files.add(file, key, left_out)?;
        self.listed.entry(key).or_default().files.push(file);
        Ok(())
    }

    /// Names a part of a function's code for a rule that was written, so that it is in force with it.
    pub(super) fn name_function(
        &mut self,
        index: u32,
        file: FileKey,
        part: &Range<u64>,
        left_out: bool,
    ) -> Result<(), FunctionTableError> {
        let key = self.next_key(index);
        self.functions.add(file, part, key, left_out)?;
        self.listed.entry(key).or_default().code.push(file);
        Ok(())
    }

    /// The key of the version that is not in force.
    fn next_key(&self, index: u32) -> u32 {
        let current = self.slots.get(&index).map_or(0, |slot| slot.current);
        RuleEntry::key(index, current ^ 1)
    }

    /// Takes what a version had out of the tables.
    fn clear(&mut self, key: u32) -> Result<(), MapError> {
        let Some(listed) = self.listed.remove(&key) else {
            return Ok(());
        };
        for network in &listed.peers {
            gone(self.peers.remove(network))?;
        }
        for name in &listed.queries {
            gone(self.queries.remove(name))?;
        }
        for file in &listed.files {
            self.files.remove(*file, key)?;
        }
        for file in &listed.code {
            self.functions.remove(*file, key)?;
        }
        Ok(())
    }

    /// Puts in force what was written.
    pub(super) fn switch(&mut self, experiment: &Experiment) -> Result<(), Failure> {
        let start = self.start();
        let written = std::mem::take(&mut self.written);
        for (&index, &table) in &written {
            let rule = &experiment.rules[index as usize];
            let key = self.next_key(index);
            let slot = self.slots.entry(index).or_insert(EMPTY);
            slot.versions[((slot.current ^ 1) & 1) as usize] =
                wire::entry(experiment, index, rule, start, table, key);
            self.map.set(index, *slot, 0)?;
        }
        // All of them are there before the first one counts.
        for &index in written.keys() {
            if let Some(slot) = self.slots.get_mut(&index) {
                slot.current ^= 1;
                self.map.set(index, *slot, 0)?;
            }
        }
        Ok(())
    }

    /// Forgets what was written and not put in force. Its entries in the tables mean
    /// nothing, and are taken out before the next ones are written.
    pub(super) fn forget(&mut self) {
        self.written.clear();
    }

    pub(super) fn add_peer(
        &mut self,
        rule: u32,
        address: IpAddr,
        left_out: bool,
    ) -> Result<(), MapError> {
        let current = self.slots.get(&rule).map_or(0, |slot| slot.current);
        let key = RuleEntry::key(rule, current);
        let network = wire::peer_key(key, &address.into());
        self.peers.insert(&network, wire::peer_value(left_out), 0)?;
        self.listed.entry(key).or_default().peers.push(network);
        Ok(())
    }
}

/// What is not there need not be taken out.
fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        other => other,
    }
}
