//! Control groups of version 2.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::wait;

/// A control group of the test's own. On drop its processes are killed and it
/// is removed, with everything below it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a group directly below the root of the hierarchy.
    ///
    /// # Panics
    ///
    /// When the group cannot be made.
    #[must_use]
    pub fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::make(mount_point().join(format!("test-{label}-{}-{count}", process::id())))
    }

    /// Makes a group below this one.
    ///
    /// # Panics
    ///
    /// When the group cannot be made.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self::make(self.path.join(name))
    }

    fn make(path: PathBuf) -> Self {
        if let Err(error) = fs::create_dir(&path) {
            panic!("cannot make the control group {}: {error}", path.display());
        }
        Self { path }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory relative to the mount point.
    ///
    /// # Panics
    ///
    /// Never: every group lies below the mount point.
    #[must_use]
    pub fn relative(&self) -> &Path {
        self.path
            .strip_prefix(mount_point())
            .expect("a group lies below the mount point")
    }

    /// The group as the `--target` option takes it.
    #[must_use]
    pub fn target(&self) -> String {
        format!("cgroup:{}", self.path.display())
    }

    /// Its id, which is the inode number of its directory.
    ///
    /// # Panics
    ///
    /// When the directory has vanished.
    #[must_use]
    pub fn id(&self) -> u64 {
        fs::metadata(&self.path).expect("look at a group").ino()
    }

    /// Its processes, without those of groups below it.
    ///
    /// # Panics
    ///
    /// When the group has vanished.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        fs::read_to_string(self.path.join("cgroup.procs"))
            .expect("read the processes of a group")
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect()
    }

    /// Moves a process with all its threads into the group.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    pub fn adopt(&self, pid: u32) {
        fs::write(self.path.join("cgroup.procs"), pid.to_string()).expect("move a process");
    }

    /// The file through which a process enters the group by writing `0`.
    pub(crate) fn open_procs(&self) -> File {
        OpenOptions::new()
            .write(true)
            .open(self.path.join("cgroup.procs"))
            .expect("open the processes of a group")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Drop must not panic: the test may already be unwinding.
        if let Err(error) = fs::write(self.path.join("cgroup.kill"), "1") {
            eprintln!("cannot kill what runs in {}: {error}", self.path.display());
        }
        // Zombies keep a group busy until they are reaped.
        let gone = wait::poll(Duration::from_secs(10), || remove(&self.path).ok());
        if gone.is_none() {
            eprintln!("control group {} remains", self.path.display());
        }
    }
}

/// Removes a group and everything below it.
fn remove(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// Where the version 2 hierarchy is mounted on this machine.
///
/// # Panics
///
/// When it is not mounted.
#[must_use]
pub fn mount_point() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    find_mount(&mounts).expect("a mounted cgroup2 file system")
}

/// Finds the cgroup2 mount of the whole hierarchy in a `mountinfo` table: the
/// first whose root is `/`.
fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        // id parent major:minor root mount-point options… - type source options
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        (right.split(' ').next() == Some("cgroup2") && root == "/").then(|| point.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Place;

    #[test]
    fn mount_is_found_in_a_hybrid_layout() {
        let table = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                     41 31 0:31 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(
            find_mount(table),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
    }

    #[test]
    fn mount_of_a_part_is_passed_over() {
        let table = "41 31 0:31 /machine /mnt rw - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(table), None);
    }

    #[test]
    fn processes_start_inside_and_go_with_the_group() {
        let outer = Cgroup::new("self");
        let inner = outer.child("inner");
        let mut process = Place::cgroup(&inner).spawn("sleep", &["1000"]);
        assert_eq!(inner.processes(), [process.pid()]);
        assert_eq!(outer.processes(), [0_u32; 0]);

        let path = outer.path().to_owned();
        drop(inner);
        process.wait();
        drop(outer);
        assert!(!path.exists());
    }
}
