//! Which functions the running kernel has.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead, BufReader},
};

/// Where the kernel lists its symbols: address, type, name and module.
pub(super) const SYMBOLS: &str = "/proc/kallsyms";

/// Which of these functions the kernel has.
///
/// Its BTF would be read faster, but lacks some functions without arguments, such as that of
/// `fork` (Linux 6.12).
///
/// # Errors
///
/// When the list cannot be read.
pub(super) fn functions(names: &BTreeSet<String>) -> io::Result<BTreeSet<String>> {
    find(BufReader::new(File::open(SYMBOLS)?), names)
}

/// A weak function does not count: it stands in for a call that the kernel was built without.
fn find(mut list: impl BufRead, names: &BTreeSet<String>) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut line = String::new();
    while found.len() < names.len() && list.read_line(&mut line)? > 0 {
        let mut words = line.split_ascii_whitespace().skip(1);
        if let (Some("T" | "t"), Some(name)) = (words.next(), words.next())
            && let Some(name) = names.get(name)
        {
            found.insert(name.clone());
        }
        line.clear();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_and_nothing_else() {
        let list = "\
ffffffff81000000 T startup_64
0000000000000000 t __x64_sys_fork
ffffffff8108e160 W __x64_sys_quotactl
ffffffff8108e1a0 D __x64_sys_data
ffffffff8108e1b0 T __x64_sys_read_more
ffffffff8108e1c0 T __x64_sys_read\t[module]

nonsense
";
        for (name, expected) in [
            ("fork", true),
            ("quotactl", false),
            ("data", false),
            ("read", true),
            ("write", false),
        ] {
            let (first, name) = ("startup_64".to_owned(), format!("__x64_sys_{name}"));
            let names = BTreeSet::from([first.clone(), name.clone()]);
            let found = find(list.as_bytes(), &names).expect("text");
            assert!(found.contains(&first), "{found:?}");
            assert_eq!(found.contains(&name), expected, "{found:?}");
        }
        let none = find(list.as_bytes(), &BTreeSet::new());
        assert!(none.expect("text").is_empty());
        let names = BTreeSet::from(["x".to_owned()]);
        assert!(find(&b"\xff\xfe T x\n"[..], &names).is_err());
    }
}
