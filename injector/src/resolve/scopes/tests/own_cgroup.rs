//! Where the command's cgroup will lie: below the injector's own.

use super::*;
use crate::resolve::{Filesystem, own_cgroup};

#[test]
fn it_is_found_below_a_mount() {
    let own = own_cgroup(&FakeHost::new()).expect("a cgroup");
    let path = Path::new("/cg/web/php");
    assert_eq!((own.level, own.path.as_path()), (2, path));
}

#[test]
fn a_mount_of_another_part_is_passed_over() {
    let mut host = FakeHost::new();
    let db = CgroupMount {
        point: "/cg/db".into(),
        root: "/db".into(),
    };
    host.mounts.insert(0, db);
    assert_eq!(own_cgroup(&host).expect("a cgroup").level, 2);
}

/// A bind mount alone shows enough if it shows the injector's own cgroup.
#[test]
fn a_mount_of_its_own_part_is_enough() {
    let mut host = FakeHost::new();
    let (root, point) = ("/web".into(), "/mnt/a b".into());
    host.mounts = vec![CgroupMount { point, root }];
    for (path, id) in [("/mnt/a b", 40), ("/mnt/a b/php", 41)] {
        let directory = (id, Filesystem::CgroupV2);
        host.directories.insert(path.into(), directory);
    }
    let own = own_cgroup(&host).expect("a cgroup");
    let path = Path::new("/mnt/a b/php");
    assert_eq!((own.level, own.path.as_path()), (2, path));
}

#[test]
fn without_one_a_command_is_refused() {
    let mut host = FakeHost::new();
    for text in ["", "1:name=x:/web\n", "0::/gone\n", "0::/../up\n"] {
        host.own_cgroup = text.to_owned();
        let error = own_cgroup(&host).expect_err(text);
        assert_eq!(exit_code(&error), EXIT_UNSUPPORTED, "{error}");
    }
}
