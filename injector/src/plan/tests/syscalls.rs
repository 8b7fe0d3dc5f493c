//! Plans for rules on system calls.

use super::*;

#[test]
fn the_entry_is_preferred() {
    check(
        &[(errno(&["openat", "read"]), calls_of(web()))],
        &able(),
        "rule r0 (sys-errno) through kprobe
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. name openat at its entry for rules 0
         4. name read at its entry for rules 0
         5. attach to the entry of openat
         6. attach to the entry of read
         7. put the rules in force",
    );
}

#[test]
fn security_hooks_stand_in_and_serve_several_calls() {
    check(
        &[(errno(&["openat", "open", "read"]), calls_of(web()))],
        &debian(),
        "rule r0 (sys-errno) through lsm
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. name openat at security hook file_open for rules 0
         4. name open at security hook file_open for rules 0
         5. name read at security hook file_permission for rules 0
         6. attach to security hook file_open
         7. attach to security hook file_permission
         8. put the rules in force",
    );
}

#[test]
fn rules_that_name_one_call_share_its_attachment() {
    let rules = [
        (errno(&["openat"]), calls_of(web())),
        (errno(&["openat"]), calls_of(cgroup(43, 2, "/db"))),
    ];
    check(
        &rules,
        &able(),
        "rule r0 (sys-errno) through kprobe
         rule r1 (sys-errno) through kprobe
         1. write rule r0 at 0, inactive
         2. write rule r1 at 1, inactive
         3. aim rules 0 at cgroup /web (id 42)
         4. aim rules 1 at cgroup /db (id 43)
         5. name openat at its entry for rules 0,1
         6. attach to the entry of openat
         7. put the rules in force",
    );
    check(
        &rules,
        &debian(),
        "rule r0 (sys-errno) through lsm
         rule r1 (sys-errno) through lsm
         1. write rule r0 at 0, inactive
         2. write rule r1 at 1, inactive
         3. aim rules 0 at cgroup /web (id 42)
         4. aim rules 1 at cgroup /db (id 43)
         5. name openat at security hook file_open for rules 0,1
         6. attach to security hook file_open
         7. put the rules in force",
    );
}

#[test]
fn calls_of_processes_need_no_sockets() {
    check(
        &[(errno(&["read"]), calls_of(process()))],
        &able(),
        "rule r0 (sys-errno) through kprobe
         1. write rule r0 at 0, inactive
         2. follow the children of targeted processes
         3. aim rules 0 at process 7 and 2 descendants
         4. name read at its entry for rules 0
         5. attach to the entry of read
         6. put the rules in force",
    );
}

#[test]
fn a_call_that_nothing_can_fail_is_refused() {
    let unable = |hook: Option<Support>| {
        let mut features = debian();
        features.security.remove(&SecurityHook::FileOpen);
        features
            .security
            .extend(hook.map(|support| (SecurityHook::FileOpen, support)));
        features
    };
    let needs = "needs a kernel that lets programs override system calls \
                 (CONFIG_BPF_KPROBE_OVERRIDE): no override here; found";
    for (call, features, found) in [
        (
            "sync",
            debian(),
            "no security hook that stands for this call",
        ),
        (
            "openat",
            unable(None),
            "security hook file_open: it was not tried",
        ),
        (
            "openat",
            unable(Some(no("bpf is not among the active LSMs"))),
            "security hook file_open: bpf is not among the active LSMs",
        ),
    ] {
        check(
            &[
                (errno(&["read"]), calls_of(web())),
                (errno(&["read", call]), calls_of(web())),
            ],
            &features,
            &format!("refused: rule r1: --call {call}: not supported here: {needs} {found}"),
        );
    }
}

#[test]
fn a_call_that_the_kernel_lacks_is_refused() {
    let mut features = able();
    let lacking = selected(&["fsync"]).wanted[0];
    let none = no("no function __x64_sys_fsync in this kernel");
    features.entries.insert(lacking, none);
    check(
        &[(errno(&["fsync"]), calls_of(web()))],
        &features,
        "refused: rule r0: --call fsync: not supported here: needs a kernel that has this call; \
         found no function __x64_sys_fsync in this kernel",
    );
}

#[test]
fn optional_calls_are_left_out_where_nothing_can_fail_them() {
    check(
        &[(
            errno(&["?sync", "?chdir", "openat", "?fsync"]),
            calls_of(web()),
        )],
        &debian(),
        "rule r0 (sys-errno) through lsm
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. name openat at security hook file_open for rules 0
         4. attach to security hook file_open
         5. put the rules in force
         note: rule r0 does not hit sync, chdir, fsync: no security hook that stands for this call",
    );
    // A rule that would do nothing is none.
    check(
        &[(errno(&["?sync", "?chdir"]), calls_of(web()))],
        &debian(),
        "refused: rule r0: --call sync: not supported here: needs a kernel that lets programs \
         override system calls (CONFIG_BPF_KPROBE_OVERRIDE): no override here; found no security \
         hook that stands for this call",
    );
}

fn refuse(errno: &str) -> Fault {
    Fault::Refuse {
        filter: PacketFilter {
            peer_ports: vec![80..=80].into(),
            ..PacketFilter::new(Direction::Egress)
        },
        errno: errno.parse().expect("an error"),
    }
}

#[test]
fn rules_on_connect_share_their_programs() {
    check(
        &[
            (refuse("ECONNREFUSED"), calls_of(web())),
            (refuse("EPERM"), calls_of(process())),
        ],
        &able(),
        "rule r0 (net-refuse) through cgroup
         rule r1 (net-refuse) through cgroup
         1. write rule r0 at 0, inactive
         2. write rule r1 at 1, inactive
         3. follow the children of targeted processes
         4. aim rules 0 at cgroup /web (id 42)
         5. aim rules 1 at process 7 and 2 descendants
         6. attach to connect below the root cgroup, for IPv4 and IPv6
         7. put the rules in force",
    );
}

#[test]
fn where_no_error_can_be_chosen_only_eperm_is_possible() {
    let old = Features {
        refuse: no("no such helper"),
        ..able()
    };
    check(
        &[(refuse("EPERM"), calls_of(web()))],
        &old,
        "rule r0 (net-refuse) through cgroup
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. attach to connect below the root cgroup, for IPv4 and IPv6, to fail with EPERM
         4. put the rules in force",
    );
    check(
        &[(refuse("ECONNREFUSED"), calls_of(web()))],
        &old,
        "refused: rule r0 (net-refuse): not supported here: needs programs that choose \
         connect's error (Linux 6.1); only --errno EPERM can be had without; found no such helper",
    );
    let none = Features {
        deny: no("no programs"),
        ..old
    };
    check(
        &[(refuse("EPERM"), calls_of(web()))],
        &none,
        "refused: rule r0 (net-refuse): not supported here: needs programs at connect; \
         found no programs",
    );
}

fn below(path: &str) -> CallFilter {
    CallFilter {
        paths: vec![path.into()].into(),
        ..CallFilter::default()
    }
}

#[test]
fn files_are_met_at_security_hooks_and_by_descriptor() {
    let place = |process, path: &str| FilePlace {
        process,
        path: path.into(),
        left_out: false,
    };
    let scope = RuleScope {
        files: vec![place(None, "/data"), place(Some(Tgid(7)), "/data/x")],
        ..calls_of(web())
    };
    check(
        &[(errno_if(&["write", "fsync"], below("/data")), scope.clone())],
        &able(),
        "rule r0 (sys-errno) through kprobe, lsm
         1. write rule r0 at 0, inactive
         2. name /data, /data/x of process 7 for rule 0
         3. aim rules 0 at cgroup /web (id 42)
         4. name write at security hook file_permission for rules 0
         5. name fsync at its entry for rules 0
         6. attach to the entry of fsync
         7. attach to security hook file_permission
         8. put the rules in force",
    );
    for (call, features, found) in [
        (
            "fsync",
            debian(),
            "no security hook that stands for this call; at its entry: no override here",
        ),
        (
            "socket",
            able(),
            "its first argument is no descriptor of the file, and at security hooks: no hook of \
             this call is told of a file",
        ),
        (
            "access",
            able(),
            "its first argument is no descriptor of the file, and at security hooks: no security \
             hook that stands for this call",
        ),
    ] {
        check(
            &[(errno_if(&[call], below("/data")), scope.clone())],
            &features,
            &format!(
                "refused: rule r0: --call {call}: not supported here: needs a security hook that is told \
                 which file the call is about, or an override of a call that takes a descriptor; \
                 found {found}"
            ),
        );
    }
}
