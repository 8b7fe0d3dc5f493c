//! Small files that are made here, damaged ones, and the C library of this host.

use proptest::prelude::*;

use super::*;

/// Where the tables and code of the files made here are.
const CODE: u64 = 0x1000;

/// A symbol of such a file: its name, kind, section, address and length.
type Made = (&'static str, u8, u16, u64, u64);

/// A library whose code, at offset 0x1000, is mapped at address 0x3000, with these symbols in its
/// dynamic table and in its static one.
fn made(code: &[u8], dynamic: &[Made], fixed: &[Made]) -> Vec<u8> {
    let mut file = vec![0; usize::try_from(CODE).unwrap()];
    file.extend(code);
    // Sections: none, and a table with its names for each of the two.
    let mut sections = vec![[0; 64]];
    for (kind, symbols) in [(11_u32, dynamic), (2, fixed)] {
        let (mut table, mut names) = (vec![0; 24], vec![0]);
        for &(name, kind, section, address, length) in symbols {
            table.extend(u32::try_from(names.len()).unwrap().to_le_bytes());
            table.extend([1 << 4 | kind, 0]);
            table.extend(section.to_le_bytes());
            table.extend(address.to_le_bytes());
            table.extend(length.to_le_bytes());
            names.extend(name.bytes().chain([0]));
        }
        let next = u32::try_from(sections.len() + 1).unwrap();
        for (kind, link, entry, bytes) in [(kind, next, 24, table), (3, 0, 0, names)] {
            let mut section = [0; 64];
            section[4..8].copy_from_slice(&kind.to_le_bytes());
            section[24..32].copy_from_slice(&file.len().to_le_bytes());
            section[32..40].copy_from_slice(&bytes.len().to_le_bytes());
            section[40..44].copy_from_slice(&link.to_le_bytes());
            section[56] = entry;
            sections.push(section);
            file.extend(bytes);
        }
    }
    file.resize(file.len().next_multiple_of(8), 0);
    let place = file.len();
    file.extend(sections.concat());
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut put = |at: usize, value: u64, length: usize| {
        file[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
    };
    put(16, 3, 2); // a library
    put(18, 62, 2); // x86-64
    put(20, 1, 4);
    put(32, 64, 8); // program headers
    put(40, place as u64, 8);
    put(52, 64, 2);
    put(54, 56, 2);
    put(56, 1, 2);
    put(58, 64, 2);
    put(60, 5, 2);
    put(62, 2, 2);
    // What is mapped, to be read and executed.
    put(64, 1, 4);
    put(68, 5, 4);
    put(72, CODE, 8);
    put(80, 0x3000, 8);
    put(96, code.len() as u64, 8);
    put(104, code.len() as u64, 8);
    file
}

const FUNCTION: u8 = 2;
const HERE: u16 = 1;

/// `push rbp; pop rbp; ret`, between bytes that do nothing.
fn code() -> Vec<u8> {
    let mut code = vec![0x90; 0x2000];
    code[0x100..0x103].copy_from_slice(&[0x55, 0x5d, 0xc3]);
    code
}

fn refused(file: &[u8], name: &str) -> SpecError {
    find(file, name).expect_err(name)
}

#[test]
fn a_function_and_its_ret_are_found_by_either_table() {
    let one: Made = ("one", FUNCTION, HERE, 0x3100, 3);
    let other: Made = ("other@@V_2", FUNCTION, HERE, 0x3100, 3);
    let file = made(&code(), &[one], &[other]);
    for name in ["one", "other"] {
        let place = find(&file[..], name).expect(name);
        assert_eq!((place.entry, place.back), (0x1100, 0x1102));
    }
}

/// Behind it, in front of it, and never where a program could take it for the entry.
#[test]
fn any_ret_of_the_same_part_serves() {
    let at = |address, length| [("f", FUNCTION, HERE, address, length)];
    let back = |code: &[u8], symbols: &[Made]| {
        let file = made(code, symbols, &[]);
        find(&file[..], "f").map(|place| place.back)
    };
    // Code of unknown length, and such as jumps elsewhere to return.
    assert_eq!(back(&code(), &at(0x3100, 0)), Ok(0x1102));
    assert_eq!(back(&code(), &at(0x3080, 4)), Ok(0x1102));
    assert_eq!(back(&code(), &at(0x3200, 4)), Ok(0x1102));
    // One that is a `ret` itself, and one a page away from it.
    assert!(back(&code(), &at(0x3102, 1)).is_err());
    assert!(back(&code(), &at(0x4102, 1)).is_err());
    let mut none = code();
    none[0x102] = 0x90;
    let error = back(&none, &at(0x3100, 3)).expect_err("no ret");
    assert!(error.problem.contains("no `ret`"), "{error}");
}

#[test]
fn what_is_no_function_here_is_refused_with_the_reason() {
    let file = made(
        &code(),
        &[
            ("memcpy", 10, HERE, 0x3100, 3),
            ("environ", 1, HERE, 0x3100, 8),
            ("from_elsewhere", FUNCTION, 0, 0, 0),
            ("SSL_read", FUNCTION, HERE, 0x3100, 3),
            ("SSL_read_ex", FUNCTION, HERE, 0x3100, 3),
            ("nowhere", FUNCTION, HERE, 0x9000, 3),
        ],
        &[
            ("twice", FUNCTION, HERE, 0x3100, 3),
            ("twice", FUNCTION, HERE, 0x3104, 3),
        ],
    );
    for (name, says) in [
        ("memcpy", "IFUNC"),
        ("environ", "is data"),
        ("from_elsewhere", "from a library"),
        ("twice", "2 functions"),
        ("nowhere", "no part of the file that can be executed"),
        ("ssl_raed", "did you mean SSL_read?"),
        ("read", "did you mean SSL_read, SSL_read_ex?"),
        (
            "quite_another",
            "no function of this file; allowed: one that",
        ),
    ] {
        let error = refused(&file, name);
        assert_eq!(error.field, "function", "{name}");
        assert!(error.to_string().contains(says), "{name}: {error}");
    }
    let stripped = refused(&made(&code(), &[], &[]), "malloc");
    assert!(stripped.problem.contains("stripped"), "{stripped}");
}

#[test]
fn what_is_no_x86_64_binary_is_refused_with_the_reason() {
    let good = made(&code(), &[("f", FUNCTION, HERE, 0x3100, 3)], &[]);
    let with = |at: usize, byte: u8| {
        let mut file = good.clone();
        file[at] = byte;
        file
    };
    for (file, says) in [
        (Vec::new(), "no ELF file"),
        (b"#!/bin/sh\n".to_vec(), "no ELF file"),
        (with(4, 1), "64 bits"),
        (with(18, 0xb7), "another processor (ELF machine 183)"),
        (with(16, 1), "cannot be executed (ELF type 1)"),
        (good[..0x1100].to_vec(), "damaged"),
    ] {
        let error = refused(&file, "f");
        assert_eq!(error.field, "file", "{says}");
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

/// Of a real library, with versions of symbols and functions that the loader chooses.
#[test]
fn the_c_library_is_understood() {
    let paths = [
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/lib64/libc.so.6",
    ];
    let Some(file) = paths.iter().find_map(|path| std::fs::read(path).ok()) else {
        return;
    };
    for name in ["malloc", "getppid", "pthread_create", "realpath", "fopen"] {
        let place = find(&file[..], name).expect(name);
        assert_eq!(file[usize::try_from(place.back).unwrap()], RET, "{name}");
        // In the function itself, or not far from it.
        assert!(
            place.entry.abs_diff(place.back) < 1 << 16,
            "{name}: {place:?}"
        );
    }
    assert!(refused(&file, "memcpy").problem.contains("IFUNC"));
    assert!(refused(&file, "environ").problem.contains("is data"));
    let near = refused(&file, "maloc").allowed;
    assert!(near.contains("malloc"), "{near}");
}

proptest! {
    #[test]
    fn nothing_in_a_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = find(&bytes[..], "f");
    }

    /// Nor leads anywhere but to a `ret` of that file.
    #[test]
    fn no_damage_leads_astray(
        damage in proptest::collection::vec((0_usize..0x3200, any::<u8>()), 1..40),
        tables in proptest::collection::vec((0_usize..300, any::<u8>()), 0..20),
    ) {
        let mut file = made(&code(), &[("f", FUNCTION, HERE, 0x3100, 3)], &[]);
        let length = file.len();
        for (at, byte) in damage.into_iter().filter(|(at, _)| !(2..20).contains(at)) {
            file[at % length] = byte;
        }
        for (at, byte) in tables {
            file[length - 1 - at] = byte;
        }
        if let Ok(place) = find(&file[..], "f") {
            prop_assert_eq!(file[usize::try_from(place.back).unwrap()], RET);
            prop_assert!(Entry::new(0, place.entry, place.back).is_some());
        }
    }
}
