//! Where a function lies in a program or library, and where one can return from it.
//!
//! Whatever is in the file, it is read only, and nothing in it is believed further than to be refused.

use std::collections::BTreeSet;

use injector_common::faults::user_return::Entry;
use object::{
    LittleEndian, ReadRef, SectionIndex, SymbolIndex,
    elf::{
        EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PF_X, PT_LOAD, SHN_ABS, SHN_UNDEF, SHT_DYNSYM,
        SHT_SYMTAB, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, STT_OBJECT, STT_TLS, Sym64,
    },
    read::elf::{
        FileHeader as _, ProgramHeader as _, SectionHeader as _, Sym as _, SymbolTable,
        VersionTable,
    },
};

use crate::error::SpecError;

type Header = FileHeader64<LittleEndian>;
const ENDIAN: LittleEndian = LittleEndian;

/// Offsets in a file: of a function, and of a `ret` in what is mapped with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) entry: u64,
    pub(super) back: u64,
}

/// The instruction that returns: no other byte belongs to it, so that any byte of this value that
/// can be executed is one for whoever jumps there.
pub(super) const RET: u8 = 0xc3;

/// Finds a function by its name.
///
/// # Errors
///
/// Where the file is no program or library for this processor, or has no such function, or none that
/// can be had return.
pub(super) fn find<'data>(file: impl ReadRef<'data>, name: &str) -> Result<Place, SpecError> {
    let image = Image::read(file)?;
    let symbol = image.symbol(name)?;
    image.place(name, symbol)
}

struct Image<'data, R: ReadRef<'data>> {
    file: R,
    code: Vec<Code>,
    tables: [Table<'data, R>; 2],
    versions: VersionTable<'data, Header>,
}

/// Symbols, and the text that has their names.
struct Table<'data, R: ReadRef<'data>> {
    symbols: SymbolTable<'data, Header, R>,
    names: &'data [u8],
}

/// What is mapped to be executed, as one.
struct Code {
    address: u64,
    offset: u64,
    length: u64,
}

/// A function's address and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Symbol {
    address: u64,
    length: u64,
}

impl<'data, R: ReadRef<'data>> Image<'data, R> {
    fn read(file: R) -> Result<Self, SpecError> {
        let refuse = |problem: String| {
            let allowed = "a program or shared library for x86-64 (ELF)";
            Err(SpecError::new("file", problem, allowed))
        };
        if file.read_bytes_at(0, 4) != Ok(b"\x7fELF") {
            return refuse("is no ELF file".to_owned());
        }
        let Ok(header) = Header::parse(file) else {
            return refuse("is no ELF file of 64 bits".to_owned());
        };
        let (machine, kind) = (header.e_machine(ENDIAN), header.e_type(ENDIAN));
        if !header.is_little_endian() || machine != EM_X86_64 {
            return refuse(format!("is for another processor (ELF machine {machine})"));
        }
        if kind != ET_EXEC && kind != ET_DYN {
            return refuse(format!("cannot be executed (ELF type {kind})"));
        }
        let damaged = |error: object::Error| {
            let allowed = "a whole program or shared library";
            SpecError::new("file", format!("is damaged: {error}"), allowed)
        };
        let parts = header.program_headers(ENDIAN, file).map_err(damaged)?;
        let code = parts
            .iter()
            .filter(|part| part.p_type(ENDIAN) == PT_LOAD && part.p_flags(ENDIAN) & PF_X != 0);
        let code = code.map(|part| Code {
            address: part.p_vaddr(ENDIAN),
            offset: part.p_offset(ENDIAN),
            length: part.p_filesz(ENDIAN),
        });
        let sections = header.sections(ENDIAN, file).map_err(damaged)?;
        let table = |kind| {
            let symbols = sections.symbols(ENDIAN, file, kind).map_err(damaged)?;
            // As a whole: they are many.
            let names = match symbols.string_section() {
                SectionIndex(0) => Ok(&[][..]),
                section => sections
                    .section(section)
                    .and_then(|section| section.data(ENDIAN, file)),
            };
            let names = names.map_err(damaged)?;
            Ok(Table { symbols, names })
        };
        let versions = sections.versions(ENDIAN, file).map_err(damaged)?;
        Ok(Self {
            file,
            code: code.collect(),
            tables: [table(SHT_DYNSYM)?, table(SHT_SYMTAB)?],
            versions: versions.unwrap_or_default(),
        })
    }

    /// All symbols with a name; whether they are of the first table, and the default of what the
    /// loader binds to their names.
    fn symbols(&self) -> impl Iterator<Item = (&'data [u8], &'data Sym64<LittleEndian>, bool)> {
        self.tables.iter().enumerate().flat_map(move |(at, table)| {
            table
                .symbols
                .enumerate()
                .filter_map(move |(index, symbol)| {
                    let name = usize::try_from(symbol.st_name(ENDIAN)).ok()?;
                    // The static table has versions in names.
                    let name = table.names.get(name..)?;
                    let name = name.split(|&byte| byte == 0 || byte == b'@').next()?;
                    let default = at == 0 && !self.is_hidden(index);
                    (!name.is_empty()).then_some((name, symbol, default))
                })
        })
    }

    fn is_hidden(&self, index: SymbolIndex) -> bool {
        !self.versions.is_empty() && self.versions.version_index(ENDIAN, index).is_hidden()
    }

    fn symbol(&self, name: &str) -> Result<Symbol, SpecError> {
        let refuse = |problem: &str, allowed: &str| {
            let problem = format!("`{name}` {problem}");
            Err(SpecError::new("function", problem, allowed.to_owned()))
        };
        let (mut default, mut others) = (BTreeSet::new(), BTreeSet::new());
        let (mut is_imported, mut is_data) = (false, false);
        for (_, symbol, is_default) in self.symbols().filter(|known| known.0 == name.as_bytes()) {
            let section = symbol.st_shndx(ENDIAN);
            match symbol.st_type() {
                _ if section == SHN_UNDEF => is_imported = true,
                STT_GNU_IFUNC => {
                    return refuse(
                        "is chosen by the loader among several functions (IFUNC), by what the \
                         processor can do",
                        "the name of the one that is chosen, if the file has its symbol; or one that \
                         calls it",
                    );
                }
                STT_FUNC | STT_NOTYPE if section != SHN_ABS => {
                    let list = if is_default {
                        &mut default
                    } else {
                        &mut others
                    };
                    list.insert(Symbol {
                        address: symbol.st_value(ENDIAN),
                        length: symbol.st_size(ENDIAN),
                    });
                }
                STT_OBJECT | STT_TLS => is_data = true,
                _ => {}
            }
        }
        let found = if default.is_empty() { others } else { default };
        let addresses: BTreeSet<u64> = found.iter().map(|symbol| symbol.address).collect();
        match (found.last(), addresses.len()) {
            (Some(&symbol), 1) => Ok(symbol),
            (Some(_), count) => refuse(
                &format!("is the name of {count} functions in this file"),
                "a name that means one",
            ),
            (None, _) if is_imported => refuse(
                "is not in this file, which takes it from a library",
                "--file with the library that it is in",
            ),
            (None, _) if is_data => refuse("is data", "the name of a function"),
            (None, _) => Err(self.unknown(name)),
        }
    }

    /// That there is no function of this name, and which are called alike.
    fn unknown(&self, name: &str) -> SpecError {
        let functions = self.symbols().filter(|(_, symbol, _)| {
            symbol.st_type() == STT_FUNC && symbol.st_shndx(ENDIAN) != SHN_UNDEF
        });
        let mut functions: Vec<&str> = functions
            .filter_map(|(name, ..)| std::str::from_utf8(name).ok())
            .collect();
        functions.sort_unstable();
        functions.dedup();
        let problem = if functions.is_empty() {
            format!("`{name}` cannot be found: the file has no table of functions (stripped)")
        } else {
            format!("`{name}` is no function of this file")
        };
        let alike = alike(name, &functions);
        let mut allowed =
            "one that `nm -D` or `nm` lists as T, t or W; code that was inlined has no name"
                .to_owned();
        if !alike.is_empty() {
            allowed = format!("{allowed}; did you mean {}?", alike.join(", "));
        }
        SpecError::new("function", problem, allowed)
    }

    /// Where a function and a `ret` are.
    fn place(&self, name: &str, symbol: Symbol) -> Result<Place, SpecError> {
        let refuse = |problem: &str| {
            let problem = format!("`{name}` {problem}");
            Err(SpecError::new("function", problem, "another function"))
        };
        let within = |code: &&Code| {
            let past = symbol.address.checked_sub(code.address);
            past.is_some_and(|past| past < code.length)
        };
        let Some(code) = self.code.iter().find(within) else {
            return refuse("is in no part of the file that can be executed");
        };
        let start = symbol.address - code.address;
        let Some(entry) = code.offset.checked_add(start) else {
            return refuse("is past the end of the file");
        };
        let end = start.saturating_add(symbol.length).min(code.length);
        // First in the function itself, then behind it, then in front.
        for range in [start..end, end..code.length, 0..start] {
            if let Some(back) = self.ret(code, range, entry)? {
                return Ok(Place { entry, back });
            }
        }
        refuse("has no `ret` near it: nothing in that part of the file returns")
    }

    /// The first `ret` in a range of what is mapped as one.
    fn ret(
        &self,
        code: &Code,
        range: std::ops::Range<u64>,
        entry: u64,
    ) -> Result<Option<u64>, SpecError> {
        const CHUNK: u64 = 1 << 16;
        let mut at = range.start;
        while at < range.end {
            let length = CHUNK.min(range.end - at);
            let offset = code.offset.wrapping_add(at);
            let Ok(bytes) = self.file.read_bytes_at(offset, length) else {
                let problem = "is shorter than it says";
                return Err(SpecError::new("file", problem, "a whole file"));
            };
            let rets = (offset..).zip(bytes).filter(|&(_, &byte)| byte == RET);
            // Such as a program at the entry can tell from it.
            let mut rets = rets.map(|(offset, _)| offset);
            if let Some(back) = rets.find(|&back| Entry::new(0, entry, back).is_some()) {
                return Ok(Some(back));
            }
            at += length;
        }
        Ok(None)
    }
}

/// Those of these names that are most like another one.
fn alike<'a>(name: &str, names: &[&'a str]) -> Vec<&'a str> {
    const MOST: usize = 4;
    let lower = name.to_lowercase();
    let mut found: Vec<(usize, &str)> = names
        .iter()
        .filter_map(|&known| {
            let far = distance(&lower, &known.to_lowercase(), 2)?;
            Some((far, known))
        })
        .collect();
    found.sort_unstable();
    if found.is_empty() && name.len() > 3 {
        let mut within: Vec<_> = names.iter().filter(|known| known.contains(name)).collect();
        within.sort_unstable_by_key(|known| known.len());
        return within.into_iter().take(MOST).copied().collect();
    }
    found
        .into_iter()
        .take(MOST)
        .map(|(_, known)| known)
        .collect()
}

/// How many bytes have to be added, removed or changed to make one of the other, if not more than
/// `most`.
fn distance(one: &str, other: &str, most: usize) -> Option<usize> {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len().abs_diff(other.len()) > most {
        return None;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, byte) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (place, wanted) in other.iter().enumerate() {
            let changed = diagonal + usize::from(byte != wanted);
            diagonal = row[place + 1];
            row[place + 1] = changed.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row.last()
        .copied()
        .filter(|&far| far <= most && far < one.len())
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
