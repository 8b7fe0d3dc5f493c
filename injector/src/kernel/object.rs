//! The embedded BPF object, loaded.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    env, fmt, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    panic,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Btf, BtfError, Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{KProbe, Lsm, ProgramError, ProgramType},
    sys::{BpfHelper, is_helper_supported},
};

use injector_common::{
    fields::{self, Fields},
    names::{self, SecurityHook},
    uses::{self, Uses},
};

use super::{
    btf,
    features::Tried,
    log,
    modify_return::{self, By, Linked, MapFds},
    needs::Needs,
};
pub(super) use crate::error::describe;
use crate::{error::Unsupported, model::Manner};

/// The compiled programs; empty in a build without the BPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/injector-ebpf.o"));

/// Bytes of a page of memory.
const PAGE: u32 = 4096;

/// Why the object could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectError {
    /// This binary has no programs in it.
    #[error("this binary was built without its BPF programs; build it with `cargo xtask build`")]
    Missing,
    /// The kernel's types could not be read.
    #[error("{}: {source}", btf::VMLINUX)]
    Btf {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a map, or the object does not fit.
    #[error(transparent)]
    Load(#[from] aya::EbpfError),
    /// Too many files are open.
    #[error(transparent)]
    Files(#[from] io::Error),
}

/// The maps, and the programs that are or are not in the kernel yet.
///
/// What was loaded to try it is there to be attached: loading twice would cost
/// a user the verifier's time twice.
pub struct Programs {
    pub(super) ebpf: Ebpf,
    /// What they were cut down to.
    pub(super) uses: Uses,
    types: Option<Btf>,
    /// The maps, for programs that aya does not load; they outlive being taken from it.
    maps: MapFds,
    linked: Option<Linked>,
    /// Programs for kernel functions, by their name, these functions' and a number.
    direct: BTreeMap<(&'static str, String, u32), OwnedFd>,
    /// What this kernel was found to do with them.
    pub(super) tried: Tried,
}

impl fmt::Debug for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Programs").finish_non_exhaustive()
    }
}

/// Whether the kernel has the helper that calls a function so many times. Tests want it to seem not
/// to: `INJECTOR_TEST_NO_LOOP`.
fn has_loop() -> bool {
    let hidden = env::var_os("INJECTOR_TEST_NO_LOOP").is_some();
    // Programs go on without it, so that one that cannot be found out about need not be there.
    !hidden
        && is_helper_supported(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_loop)
            .unwrap_or(false)
}

/// Whether the kernel has the helper that finds what is mapped at an address. Tests want it to seem
/// not to: `INJECTOR_TEST_NO_FIND_VMA`.
pub(super) fn finds_mappings() -> bool {
    env::var_os("INJECTOR_TEST_NO_FIND_VMA").is_none()
        && is_helper_supported(ProgramType::KProbe, BpfHelper::BPF_FUNC_find_vma).unwrap_or(false)
}

impl Programs {
    /// Creates the maps and readies the programs; none is in the kernel yet.
    ///
    /// # Errors
    ///
    /// When the kernel has no BTF or refuses a map, or this binary has no
    /// programs in it.
    pub fn open(needs: Needs) -> Result<Self, Unsupported> {
        Self::try_open(needs).map_err(|error| Unsupported {
            what: "any rule".into(),
            needs: "BPF maps, and programs with type information (BTF)".into(),
            found: describe(&error).into(),
        })
    }

    fn try_open(needs: Needs) -> Result<Self, ObjectError> {
        if OBJECT.is_empty() {
            return Err(ObjectError::Missing);
        }
        let fields = if needs.fields {
            btf::fields().map_err(|source| ObjectError::Btf { source })?
        } else {
            Fields::UNKNOWN
        };
        let uses = needs.uses.without(Uses::LOOP);
        let uses = uses.and_if(uses.any(Uses::CALLS) && has_loop(), Uses::LOOP);
        // No plan asks for what is left out then.
        let finds = uses.any(Uses::CHAINS) && finds_mappings();
        let uses = uses.without(Uses::CHAINS).and_if(finds, Uses::CHAINS);
        let log_level = log::level();
        // The kernel sets the memory of these maps aside when it makes them.
        let room = |needed, most| if needed { most } else { 1 };
        let conversations = room(needs.conversations, names::MAX_CONVERSATIONS);
        let streams = room(needs.streams, names::MAX_STREAMS);
        let flow_links = room(needs.flow_links, names::MAX_FLOWS);
        let turns = room(needs.turns, names::MAX_TURNS);
        let flows = room(needs.uses.any(Uses::DETOURS), names::MAX_FLOWS);
        // At least a page, as the kernel wants it.
        let ledger = if needs.ledger {
            names::LEDGER_BYTES
        } else {
            PAGE
        };
        let ebpf = EbpfLoader::new()
            .verifier_log_level(VerifierLogLevel::DEBUG)
            .btf(None)
            // Storage in tasks, which this process never looks into.
            .allow_unsupported_maps()
            .map_max_entries(names::MAP_CONVERSATIONS, conversations)
            .map_max_entries(names::MAP_STREAMS, streams)
            .map_max_entries(names::MAP_LINKS, flow_links)
            .map_max_entries(names::MAP_FLOWS, flows)
            .map_max_entries(names::MAP_TURNS, turns)
            .map_max_entries(names::MAP_LEDGER, ledger)
            .override_global(aya_log::LEVEL, &log_level, true)
            .override_global(uses::GLOBAL, &uses.bits(), true)
            .override_global(fields::GLOBAL, &fields, true)
            .load(OBJECT)?;
        let maps = modify_return::map_fds(&ebpf)?;
        Ok(Self {
            ebpf,
            maps,
            linked: None,
            direct: BTreeMap::new(),
            uses,
            types: None,
            tried: Tried::default(),
        })
    }

    /// Loads a security program; loading it again is no error.
    pub(super) fn load_security(
        &mut self,
        program: &str,
        hook: &str,
    ) -> Result<&mut Lsm, ProgramError> {
        let types = kernel_types(&mut self.types)?;
        let program = self
            .ebpf
            .program_mut(program)
            .ok_or(ProgramError::NotLoaded)?;
        let program: &mut Lsm = program.try_into()?;
        once(program.load(hook, types))?;
        Ok(program)
    }

    /// Loads the programs of these security hooks, each for itself, and says how that went.
    pub(super) fn load_each_security(
        &mut self,
        hooks: &[SecurityHook],
    ) -> Result<BTreeMap<SecurityHook, Result<(), ProgramError>>, ProgramError> {
        let types = kernel_types(&mut self.types)?;
        let programs = self.ebpf.programs_mut().filter_map(|(name, program)| {
            let hook = hooks.iter().find(|hook| hook.program() == name)?;
            Some((*hook, program))
        });
        let loaded = side_by_side(programs.collect(), |(hook, program)| {
            let program: Result<&mut Lsm, _> = program.try_into();
            let loaded = program.and_then(|program| once(program.load(hook.attach(), types)));
            (hook, loaded)
        });
        Ok(loaded.into_iter().collect())
    }

    /// Loads a program in the place of the first of these functions that the kernel has types
    /// of; loading it again is no error.
    pub(super) fn load_modifying(
        &mut self,
        program: &'static str,
        functions: &[String],
    ) -> Result<BorrowedFd<'_>, ProgramError> {
        self.load_direct(program, functions, By::ModifyReturn, 0)
    }

    /// Loads the program of a security hook that lets calls wait asleep there; loading it again
    /// is no error.
    pub(super) fn load_sleeping(
        &mut self,
        hook: SecurityHook,
    ) -> Result<BorrowedFd<'_>, ProgramError> {
        let program = hook.sleeping_program().ok_or(ProgramError::NotLoaded)?;
        let function = format!("bpf_lsm_{}", hook.attach());
        self.load_direct(program, &[function], By::SecurityAsleep, 0)
    }

    /// Tries whether programs may sleep at security hooks, as far as the kernel has to allow it.
    pub(super) fn try_sleeping(&mut self) -> Result<(), ProgramError> {
        let function = "bpf_lsm_file_open".to_owned();
        let by = By::SecurityAsleep;
        self.load_direct(names::PROG_TRIAL_SLEEP, &[function], by, 0)
            .map(drop)
    }

    /// Loads a program at the entry of a call, the one that decides that it waits asleep or, by
    /// its number from 0, one of those in which it does.
    pub(super) fn load_sleeping_entry(
        &mut self,
        functions: &[String],
        sleeps: Option<u32>,
    ) -> Result<BorrowedFd<'_>, ProgramError> {
        match sleeps {
            None => self.load_direct(names::PROG_LIE_DOWN, functions, By::Entry, 0),
            Some(number) => {
                let by = By::ModifyReturnAsleep;
                self.load_direct(names::PROG_ASLEEP, functions, by, number)
            }
        }
    }

    /// Loads a program at the return of a call: the one that decides that it waits asleep or, by
    /// its number from 0, one of those in which it does.
    pub(super) fn load_sleeping_return(
        &mut self,
        functions: &[String],
        sleeps: Option<u32>,
    ) -> Result<BorrowedFd<'_>, ProgramError> {
        match sleeps {
            None => self.load_direct(names::PROG_LIE_DOWN_LATE, functions, By::Return, 0),
            Some(number) => {
                let by = By::ReturnAsleep;
                self.load_direct(names::PROG_ASLEEP_LATE, functions, by, number)
            }
        }
    }

    /// Loads the program at the return of a call in which it waits busy.
    pub(super) fn load_busy_return(
        &mut self,
        functions: &[String],
    ) -> Result<BorrowedFd<'_>, ProgramError> {
        self.load_direct(names::PROG_BUSY_LATE, functions, By::Return, 0)
    }

    fn load_direct(
        &mut self,
        program: &'static str,
        functions: &[String],
        by: By,
        number: u32,
    ) -> Result<BorrowedFd<'_>, ProgramError> {
        let function = functions.first().cloned().unwrap_or_default();
        let loaded: &OwnedFd = match self.direct.entry((program, function, number)) {
            Entry::Occupied(loaded) => loaded.into_mut(),
            Entry::Vacant(place) => {
                let types = kernel_types(&mut self.types)?;
                let linked = match &mut self.linked {
                    Some(linked) => linked,
                    none => none.insert(Linked::new(OBJECT, &self.maps)?),
                };
                place.insert(linked.load(program, functions, by, types)?)
            }
        };
        Ok(loaded.as_fd())
    }

    /// Loads the program of a security hook in the place of the function that asks there;
    /// loading it again is no error.
    pub(super) fn load_modifying_security(
        &mut self,
        hook: SecurityHook,
    ) -> Result<BorrowedFd<'_>, ProgramError> {
        self.load_modifying(hook.modifying_program(), &[hook.function().to_owned()])
    }

    /// Tries whether a program can take the place of the first of these functions that the
    /// kernel has types of.
    pub(super) fn try_modifying(&mut self, functions: &[String]) -> Result<(), ProgramError> {
        let types = kernel_types(&mut self.types)?;
        modify_return::try_on(
            modify_return::function_id(types, functions)?,
            By::ModifyReturn,
        )
    }

    /// Tries whether a program can be attached behind the first of these functions that the kernel
    /// has types of.
    pub(super) fn try_behind(&mut self, functions: &[String]) -> Result<(), ProgramError> {
        let types = kernel_types(&mut self.types)?;
        modify_return::try_on(modify_return::function_id(types, functions)?, By::Return)
    }

    /// Tries whether a call can wait asleep at its entry.
    pub(super) fn try_sleeping_entry(&mut self, functions: &[String]) -> Result<(), ProgramError> {
        let asleep = self.load_sleeping_entry(functions, Some(0))?;
        modify_return::attach(asleep).map(drop)
    }

    /// Tries whether a call can wait at its return, asleep or busy.
    pub(super) fn try_return(
        &mut self,
        functions: &[String],
        manner: Manner,
    ) -> Result<(), ProgramError> {
        let program = match manner {
            Manner::Asleep => self.load_sleeping_return(functions, Some(0)),
            Manner::Busy => self.load_busy_return(functions),
        };
        modify_return::attach(program?).map(drop)
    }

    /// The programs that ask rules about calls and that the kernel may pass by. Those in which calls
    /// sleep are none of them: it is to pass them by, and there are as many as it takes.
    pub(super) fn asking(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let asleep = |name| [names::PROG_ASLEEP, names::PROG_ASLEEP_LATE].contains(&name);
        let direct = self.direct.iter();
        let direct = direct
            .filter(move |((name, ..), _)| !asleep(*name))
            .map(|(_, program)| program.as_fd());
        let kprobes = [names::PROG_SYSCALL, names::PROG_SEEN].into_iter();
        let kprobes = kprobes.filter_map(|name| {
            let program: &KProbe = self.ebpf.program(name)?.try_into().ok()?;
            Some(program.fd().ok()?.as_fd())
        });
        direct.chain(kprobes)
    }

    /// Gives back memory once everything is loaded: the kernel's types take
    /// more than all else together.
    pub(super) fn release_types(&mut self) {
        self.types = None;
        self.linked = None;
        // SAFETY: malloc_trim has no preconditions.
        unsafe { nix::libc::malloc_trim(0) };
    }
}

fn kernel_types(known: &mut Option<Btf>) -> Result<&Btf, BtfError> {
    Ok(match known {
        Some(types) => types,
        none => none.insert(Btf::from_sys_fs()?),
    })
}

/// The programs at `connect`, for IPv4 and IPv6: those that choose its error, or
/// those that let it fail with `EPERM`.
pub(super) const fn connect_programs(chooses: bool) -> [&'static str; 2] {
    if chooses {
        [names::PROG_REFUSE4, names::PROG_REFUSE6]
    } else {
        [names::PROG_DENY4, names::PROG_DENY6]
    }
}

/// Acts on each of these, on as many at once as there are processors. Most of the time until the
/// first hit is the verifier's, which walks a program on one of them.
pub(super) fn side_by_side<T: Send, R: Send>(items: Vec<T>, act: impl Fn(T) -> R + Sync) -> Vec<R> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let workers = workers.min(items.len());
    let items = Mutex::new(items.into_iter());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        let work = || std::iter::from_fn(next).map(&act).collect::<Vec<_>>();
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        (workers.into_iter())
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|why| panic::resume_unwind(why))
            })
            .collect()
    })
}

/// Loading a program that is loaded already is no error.
pub(super) fn once(result: Result<(), ProgramError>) -> Result<(), ProgramError> {
    match result {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        other => other,
    }
}

/// Why the kernel refused a program, in one line.
pub(super) fn refusal(error: &ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return describe(error);
    };
    match verdict(&verifier_log.to_string()) {
        Some(verdict) => format!("the verifier says: {verdict}"),
        None => io_error.to_string(),
    }
}

/// What a verifier's log says was not accepted.
fn verdict(log: &str) -> Option<String> {
    // Up to Linux 7.2 it is the last line but for figures. Later ones point at the instruction in
    // the midst of its neighbours, and add advice that is the same for many errors.
    const POINTED: &str = "^-- error: ";
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    let pointed = (lines.iter().enumerate().rev())
        .find_map(|(at, line)| Some((at, line.split_once(POINTED)?.1)));
    if let Some((at, error)) = pointed {
        // Broken where it is long, behind a bar.
        let more = lines[at + 1..].iter().map_while(|line| {
            let more = line.strip_prefix('|')?.trim();
            (!more.is_empty() && !more.contains("^-- ")).then_some(more)
        });
        let words: Vec<&str> = [error.trim()].into_iter().chain(more).collect();
        return Some(words.join(" "));
    }
    let figures = |line: &str| {
        line.is_empty() || line.starts_with("processed ") || line.starts_with("verification time")
    };
    let last = lines.iter().rev().find(|line| !figures(line))?;
    Some((*last).to_owned())
}

/// The last lines of a verifier's log, which say what it did not accept.
pub(super) fn verifier_tail(error: &ProgramError) -> Vec<String> {
    const LINES: usize = 12;
    let ProgramError::LoadError { verifier_log, .. } = error else {
        return Vec::new();
    };
    let text = verifier_log.to_string();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(LINES)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_acted_on_once() {
        for count in [0_u32, 1, 2, 100] {
            let mut acted = side_by_side((0..count).collect(), |item| item);
            acted.sort_unstable();
            assert_eq!(acted, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_last_line_but_for_figures_is_the_verdict() {
        let log = "463: (bf) r1 = r6\n464: (85) call bpf_override_return#58\n\
                   program of this type cannot use helper bpf_override_return#58\n\
                   verification time 12 usec\nprocessed 14571 insns (limit 1000000)\n\n";
        let verdict = verdict(log);
        let expected = "program of this type cannot use helper bpf_override_return#58";
        assert_eq!(verdict.as_deref(), Some(expected));
        assert_eq!(super::verdict("processed 2 insns\n"), None);
        assert_eq!(super::verdict(""), None);
    }

    /// As Linux 7.3 does.
    #[test]
    fn the_line_that_is_pointed_at_is_the_verdict() {
        let log = "      557 | fun(a, b)\n          |     ^-- update: R3 changed\n\
                   \u{20}         |     ^-- error: R3 pointer arithmetic on trusted_ptr_or_null_\n\
                   \u{20}         |         prohibited, null-check it first\n\
                   \u{20}     558 | ...\n  Instruction context:\n\
                   \u{20} >>>  464 | (85) call bpf_override_return#58\nSuggestion:\n\
                   \u{20} Make sure that a NULL check precedes.\nprocessed 418 insns\n";
        let expected =
            "R3 pointer arithmetic on trusted_ptr_or_null_ prohibited, null-check it first";
        assert_eq!(verdict(log).as_deref(), Some(expected));
    }
}
