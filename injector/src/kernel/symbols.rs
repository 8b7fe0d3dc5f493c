//! Which functions the running kernel has.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
};

/// Where the kernel lists its symbols: address, type, name and module.
pub(super) const SYMBOLS: &str = "/proc/kallsyms";

/// Whether the kernel has these functions.
///
/// Its BTF would be read faster, but lacks some functions without arguments, such as that of
/// `fork` (Linux 6.12).
///
/// # Errors
///
/// When the list cannot be read.
pub(super) fn functions(names: &[String]) -> io::Result<Vec<bool>> {
    find(BufReader::new(File::open(SYMBOLS)?), names)
}

/// A weak function does not count: it stands in for a call that the kernel was built without.
fn find(mut list: impl BufRead, names: &[String]) -> io::Result<Vec<bool>> {
    let wanted: HashMap<&str, usize> = (names.iter().map(String::as_str)).zip(0..).collect();
    let mut found = vec![false; names.len()];
    let mut missing = wanted.len();
    let mut line = String::new();
    while missing > 0 && list.read_line(&mut line)? > 0 {
        let mut words = line.split_ascii_whitespace().skip(1);
        if let (Some("T" | "t"), Some(name)) = (words.next(), words.next())
            && let Some(&index) = wanted.get(name)
            && !std::mem::replace(&mut found[index], true)
        {
            missing -= 1;
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
            let names = ["startup_64".to_owned(), format!("__x64_sys_{name}")];
            let found = find(list.as_bytes(), &names).expect("text");
            assert_eq!(found, [true, expected], "{name}");
        }
        assert!(find(list.as_bytes(), &[]).expect("text").is_empty());
        assert!(find(&b"\xff\xfe T x\n"[..], &["x".to_owned()]).is_err());
    }
}
