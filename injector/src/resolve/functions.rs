//! Functions that rules name, and where their code is in the files that hold it.

use std::{collections::BTreeSet, fmt, io, ops::Range};

use injector_common::{Tgid, call_chain::FILE_FUNCTIONS};
use object::{
    LittleEndian, elf,
    read::elf::{FileHeader, ProgramHeader as _, Sym as _},
};

use super::{
    files::{Roots, cannot_be_found},
    host::Host,
};
use crate::{
    error::SpecError,
    model::{Choice, Function},
};

/// A function that a rule names, in one of the roots that its targets live in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionPlace {
    /// A process whose root directory the path starts at; `None` for the agent's own.
    pub process: Option<Tgid>,
    /// The function, and the path there of the file that holds its code.
    pub function: Function,
    /// Where in the file its code is: at least one part.
    pub parts: Vec<Range<u64>>,
    /// Whether the rule leaves out what it calls.
    pub left_out: bool,
}

impl fmt::Display for FunctionPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.left_out { "!" } else { "" })?;
        write!(f, "{}", self.function)?;
        match self.process {
            Some(process) => write!(f, " of process {process}"),
            None => Ok(()),
        }
    }
}

/// Why a function's code cannot be told from other code.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It is something else.
    #[error("it is no program or library of x86-64 (ELF)")]
    NoElf,
    /// It names no functions at all.
    #[error("it was stripped of the names of its functions")]
    Stripped,
    /// It names others.
    #[error("it has no function of this name{}", suggestion(.like))]
    NoSuch {
        /// Some whose names are like it.
        like: Vec<String>,
    },
    /// The name is that of a variable.
    #[error("it has data of this name, and no function")]
    Data,
    /// The function is another file's.
    #[error("it calls a function of this name, whose code is in another file")]
    Imported,
    /// Nobody knows where the function ends, or it is nowhere in the file.
    #[error("it does not tell where the code of this function begins and ends")]
    NoCode,
    /// It is in more parts than a table holds.
    #[error(
        "it has {0} functions, or parts of such, of this name, and at most {FILE_FUNCTIONS} can be named"
    )]
    TooMany(usize),
}

fn suggestion(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!(", but {}", names.join(", "))
}

impl FunctionError {
    /// What would have been right.
    const fn allowed(&self) -> &'static str {
        match self {
            Self::File(_) => {
                "FUNCTION@PATH, with a file that the target sees at this absolute path"
            }
            Self::NoElf => "the executable or the library that holds the function's code",
            Self::Stripped => {
                "a file with its symbols; of a library, functions that it exports are never stripped"
            }
            Self::NoSuch { .. } | Self::Data => {
                "the name of a function as nm(1) prints it, with or without -D"
            }
            Self::Imported => "the path of the file that holds its code, such as the C library's",
            Self::NoCode | Self::TooMany(_) => "another function, such as one that calls it",
        }
    }
}

/// Finds the functions in the root of each of these processes, and in the agent's own if targets are
/// yet to start there.
///
/// One that is in some of these roots only is named there.
///
/// # Errors
///
/// Where a function is nowhere.
pub(super) fn find(
    functions: &Choice<Function>,
    roots: &Roots,
    host: &impl Host,
) -> Result<Vec<FunctionPlace>, SpecError> {
    let mut places: Vec<FunctionPlace> = Vec::new();
    for (function, left_out) in functions.each() {
        let mut refused: Option<FunctionError> = None;
        let before = places.len();
        for process in roots.each() {
            match host.function(process, function) {
                Ok(parts) => places.push(FunctionPlace {
                    process,
                    function: function.clone(),
                    parts,
                    left_out,
                }),
                // A file that is there tells more than one that is not.
                Err(FunctionError::File(_)) if refused.is_some() => {}
                Err(error) => refused = Some(error),
            }
        }
        if let (true, Some(error)) = (places.len() == before, refused) {
            let problem = match &error {
                FunctionError::File(error) => cannot_be_found(&function.path, error),
                FunctionError::NoElf
                | FunctionError::Stripped
                | FunctionError::NoSuch { .. }
                | FunctionError::Data
                | FunctionError::Imported
                | FunctionError::NoCode
                | FunctionError::TooMany(_) => format!("{function} cannot be looked for: {error}"),
            };
            return Err(SpecError::new("called-by", problem, error.allowed()));
        }
    }
    check_count(&places)?;
    Ok(places)
}

/// One entry of the table holds all functions of a file.
fn check_count(places: &[FunctionPlace]) -> Result<(), SpecError> {
    for place in places {
        let same = places
            .iter()
            .filter(|other| other.process == place.process)
            .filter(|other| other.function.path == place.function.path);
        let parts: BTreeSet<(u64, u64)> = same
            .flat_map(|other| &other.parts)
            .map(|part| (part.start, part.end))
            .collect();
        if parts.len() > FILE_FUNCTIONS {
            let problem = format!(
                "names {} functions, or parts of such, of {}",
                parts.len(),
                place.function.path.display()
            );
            let allowed = format!("at most {FILE_FUNCTIONS} of one file");
            return Err(SpecError::new("called-by", problem, allowed));
        }
    }
    Ok(())
}

/// No more of a file is read.
pub(super) const MAX_BYTES: u64 = 1 << 31;

/// Where in a file the code of the functions of this name is, and the parts that a compiler has
/// split off them, by the file's symbols.
///
/// # Errors
///
/// Where there is none.
pub(super) fn parts_of(file: &[u8], name: &str) -> Result<Vec<Range<u64>>, FunctionError> {
    const ENDIAN: LittleEndian = LittleEndian;
    let no_elf = |_: object::read::Error| FunctionError::NoElf;
    let header = elf::FileHeader64::<LittleEndian>::parse(file).map_err(no_elf)?;
    if header.e_machine(ENDIAN) != elf::EM_X86_64 {
        return Err(FunctionError::NoElf);
    }
    let sections = header.sections(ENDIAN, file).map_err(no_elf)?;
    let segments = header.program_headers(ENDIAN, file).map_err(no_elf)?;
    let place = |start: u64, size: u64| {
        let end = start.checked_add(size)?;
        segments.iter().find_map(|segment| {
            let (address, offset) = (segment.p_vaddr(ENDIAN), segment.p_offset(ENDIAN));
            let within = segment.p_type(ENDIAN) == elf::PT_LOAD
                && start >= address
                && end <= address.checked_add(segment.p_filesz(ENDIAN))?;
            let first = (start.wrapping_sub(address)).checked_add(offset)?;
            within.then_some(first..first.checked_add(size)?)
        })
    };
    let mut found = Found::default();
    for table in [elf::SHT_SYMTAB, elf::SHT_DYNSYM] {
        let symbols = sections.symbols(ENDIAN, file, table).map_err(no_elf)?;
        for symbol in symbols.iter() {
            let Ok(text) = symbol.name(ENDIAN, symbols.strings()) else {
                continue;
            };
            let text = String::from_utf8_lossy(text);
            let is_function = matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC);
            let is_here = symbol.st_shndx(ENDIAN) != elf::SHN_UNDEF;
            found.any |= is_function && is_here;
            if !is_of(&text, name) {
                found.note(&text, name, is_function && is_here);
                continue;
            }
            match symbol.st_type() {
                _ if !is_here => found.imported = true,
                elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_NOTYPE => {
                    let (start, size) = (symbol.st_value(ENDIAN), symbol.st_size(ENDIAN));
                    match place(start, size).filter(|part| !part.is_empty()) {
                        Some(part) => drop(found.parts.insert((part.start, part.end))),
                        None => found.no_code = true,
                    }
                }
                elf::STT_OBJECT | elf::STT_TLS | elf::STT_COMMON => found.data = true,
                _ => {}
            }
        }
    }
    found.parts()
}

/// What the symbols of a file say of a name.
#[derive(Default)]
struct Found {
    parts: BTreeSet<(u64, u64)>,
    any: bool,
    imported: bool,
    data: bool,
    no_code: bool,
    /// By their lengths: the shortest is the likest.
    like: BTreeSet<(usize, String)>,
}

impl Found {
    /// Remembers a name that may be what was meant.
    fn note(&mut self, text: &str, name: &str, is_function: bool) {
        const MOST: usize = 3;
        if is_function && is_like(text, name) {
            self.like.insert((text.len(), text.to_owned()));
            if self.like.len() > MOST {
                self.like.pop_last();
            }
        }
    }

    fn parts(self) -> Result<Vec<Range<u64>>, FunctionError> {
        if self.parts.len() > FILE_FUNCTIONS {
            return Err(FunctionError::TooMany(self.parts.len()));
        }
        if !self.parts.is_empty() {
            let parts = self.parts.into_iter();
            return Ok(parts.map(|(start, end)| start..end).collect());
        }
        Err(if self.no_code {
            FunctionError::NoCode
        } else if self.data {
            FunctionError::Data
        } else if self.imported {
            FunctionError::Imported
        } else if !self.any {
            FunctionError::Stripped
        } else {
            let like = self.like.into_iter().map(|(_, text)| text).collect();
            FunctionError::NoSuch { like }
        })
    }
}

/// Whether a symbol is the function of this name, in one of its versions, or what a compiler has
/// split off it.
fn is_of(symbol: &str, name: &str) -> bool {
    let Some(rest) = symbol.strip_prefix(name) else {
        return false;
    };
    let Some(pieces) = rest.strip_prefix('.') else {
        return rest.is_empty() || rest.starts_with('@');
    };
    // GCC's and LLVM's words for them.
    const SPLIT: [&str; 7] = [
        "cold",
        "part",
        "isra",
        "constprop",
        "lto_priv",
        "llvm",
        "warm",
    ];
    let is_number = |piece: &str| piece.bytes().all(|byte| byte.is_ascii_digit());
    let mut pieces = pieces.split('.');
    pieces.next().is_some_and(|first| SPLIT.contains(&first))
        && pieces.all(|piece| SPLIT.contains(&piece) || is_number(piece))
}

/// Whether a symbol has the words of a name in it, in their order, as mangled names do.
fn is_like(symbol: &str, name: &str) -> bool {
    let mut rest = symbol;
    let mut words = name
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .peekable();
    words.peek().is_some()
        && words.all(|word| match rest.find(word) {
            Some(at) => {
                rest = &rest[at + word.len()..];
                true
            }
            None => false,
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn parts_that_a_compiler_splits_off_are_the_function() {
        for same in [
            "save",
            "save.cold",
            "save.isra.0",
            "save.part.0.constprop.1",
            "save.llvm.123",
            "save@@V_1.2",
        ] {
            assert!(is_of(same, "save"), "{same}");
        }
        for other in [
            "save2",
            "main.save",
            "save.func1",
            "save.1",
            "sav",
            "save.cold.func1",
        ] {
            assert!(!is_of(other, "save"), "{other}");
        }
        assert!(is_of("main.(*Store).save", "main.(*Store).save"));
    }

    #[test]
    fn mangled_names_are_like_what_they_stand_for() {
        assert!(is_like(
            "_ZN5store10write_page17h0123456789abcdefE",
            "store::write_page"
        ));
        assert!(is_like("writev", "write"));
        assert!(!is_like("page_write", "write_page"));
        assert!(!is_like("anything", "::"));
    }

    /// This test itself is such a file.
    #[test]
    fn functions_of_a_real_file() {
        let own = fs::read("/proc/self/exe").expect("this test");
        let main = parts_of(&own, "main").expect("every program has it");
        assert!(
            main.iter()
                .all(|part| part.end <= own.len() as u64 && !part.is_empty())
        );
        let refused = |name: &str| parts_of(&own, name).expect_err(name).to_string();
        assert!(refused("no_such_function_at_all").contains("has no function of this name"));
        assert!(refused("environ_no_such").contains("no function"));
        assert!(
            refused("malloc").contains("in another file"),
            "{}",
            refused("malloc")
        );
        assert!(matches!(
            parts_of(b"#!/bin/sh\n", "main"),
            Err(FunctionError::NoElf)
        ));
        assert!(matches!(
            parts_of(&own[..64], "main"),
            Err(FunctionError::NoElf)
        ));
        let near = refused("parts_of");
        assert!(near.contains("but _"), "{near}");
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), name in "\\PC{0,9}", damage in proptest::collection::vec((0..4000usize, proptest::prelude::any::<u8>()), 0..9)) {
            let _ = parts_of(&bytes, &name);
            let mut own = fs::read("/proc/self/exe").map(|own| own[..own.len().min(4000)].to_vec()).unwrap_or_default();
            for (at, byte) in damage {
                own[at] = byte;
            }
            let _ = parts_of(&own, "main");
        }
    }
}
