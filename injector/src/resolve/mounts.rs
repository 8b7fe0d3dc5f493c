//! `/proc/self/mountinfo`.

use std::path::PathBuf;

use super::host::CgroupMount;

/// The mounts of cgroup v2 in the text of a `mountinfo` file.
pub(super) fn cgroup_mounts(mountinfo: &str) -> Vec<CgroupMount> {
    mounts_of("cgroup2", mountinfo)
        .map(|(root, point)| CgroupMount { point, root })
        .collect()
}

/// The roots and mount points of one type of filesystem.
///
/// proc_pid_mountinfo(5): id, parent, device, root, mount point, options, any
/// number of optional fields, `-`, type, source, options.
pub(crate) fn mounts_of(kind: &str, mountinfo: &str) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    let all = mounts(mountinfo);
    all.filter_map(move |(of, root, point)| (of == kind).then_some((root, point)))
}

/// All mount points.
pub(super) fn points(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mounts(mountinfo).map(|(.., point)| point)
}

/// The type, root and mount point of each mount.
fn mounts(mountinfo: &str) -> impl Iterator<Item = (&str, PathBuf, PathBuf)> {
    mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let mut fields = before.split(' ').skip(3);
        let root = unescape(fields.next()?);
        let point = unescape(fields.next()?);
        Some((kind, root.into(), point.into()))
    })
}

/// Undoes the kernel's escapes: blank, tab, newline and backslash as octal.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escaped) = rest.split_at(at);
        plain.push_str(before);
        let code = escaped
            .get(1..4)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = escaped.get(4..).unwrap_or_default();
            }
            None => {
                plain.push('\\');
                rest = escaped.get(1..).unwrap_or_default();
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_version_2_counts() {
        let text = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
42 31 0:38 /a\\040b /mnt/x\\134y rw - cgroup2 none rw
garbage
";
        let mount = |point: &str, root: &str| CgroupMount {
            point: point.into(),
            root: root.into(),
        };
        assert_eq!(
            cgroup_mounts(text),
            [
                mount("/sys/fs/cgroup/unified", "/"),
                mount("/mnt/x\\y", "/a b")
            ]
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\PC\n]*") {
            let _ = cgroup_mounts(&text);
        }

        #[test]
        fn no_escape_panics(text in "[\\\\0-9aé]*") {
            let _ = unescape(&text);
        }
    }
}
