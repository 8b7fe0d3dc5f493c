//! Plans for rules on system calls.

use std::collections::BTreeMap;

use super::*;
use crate::model::Rung;

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
fn who_is_counted_by_itself_is_forgotten_at_its_end() {
    let rules = [(errno(&["read"]), calls_of(process()))];
    let mut experiment = experiment(&rules);
    let scopes = rules.map(|(_, scope)| scope);
    for (per, forgets) in [
        (Per::Rule, false),
        (Per::Thread, true),
        (Per::Process, true),
        (Per::Program, true),
    ] {
        experiment.rules[0].per = per;
        let plan = build(&experiment, &scopes, &able()).expect("a plan");
        assert_in_order(&plan);
        assert_eq!(
            plan.effects.contains(&Effect::ForgetCallers),
            forgets,
            "{per:?}"
        );
        assert_eq!(
            plan.effects.contains(&Effect::ForgetPrograms),
            per == Per::Program
        );
    }
}

#[test]
fn a_call_that_nothing_can_fail_is_refused() {
    let unable = |hook: Option<Support>| {
        let mut features = debian();
        features.modified_security = BTreeMap::new();
        features.security.remove(&SecurityHook::FileOpen);
        features
            .security
            .extend(hook.map(|support| (SecurityHook::FileOpen, support)));
        features
    };
    let needs = "needs a kernel that lets programs override system calls \
                 (CONFIG_BPF_KPROBE_OVERRIDE): no override here, or take their place \
                 (CONFIG_FUNCTION_ERROR_INJECTION): not modifiable; found";
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
            "security hook file_open: bpf is not among the active LSMs; otherwise: \
             security hook file_open: it was not tried",
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
         override system calls (CONFIG_BPF_KPROBE_OVERRIDE): no override here, or take their \
         place (CONFIG_FUNCTION_ERROR_INJECTION): not modifiable; found no security hook that \
         stands for this call",
    );
}

/// A kernel with error injection, and without override.
fn modifiable() -> Features {
    Features {
        modify_return: Support::Supported,
        ..debian()
    }
}

#[test]
fn a_call_is_replaced_where_it_cannot_be_overridden() {
    check(
        &[(errno(&["read"]), calls_of(web()))],
        &modifiable(),
        "rule r0 (sys-errno) through fmod_ret
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. name read at its entry by fmod_ret for rules 0
         4. attach to the entry of read by fmod_ret
         5. put the rules in force",
    );
}

/// Each call of a rule by the best way that it has.
#[test]
fn one_rule_may_need_several_rungs() {
    let mut features = modifiable();
    features.security.remove(&SecurityHook::PathMkdir);
    for call in selected(&["openat", "mkdir"]).wanted {
        features.modified_entries.remove(&call);
    }
    check(
        &[(errno(&["read", "openat", "mkdir"]), calls_of(web()))],
        &features,
        "rule r0 (sys-errno) through fmod_ret+lsm+fmod_ret-security
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. name read at its entry by fmod_ret for rules 0
         4. name openat at security hook file_open for rules 0
         5. name mkdir at security hook path_mkdir by fmod_ret for rules 0
         6. attach to the entry of read by fmod_ret
         7. attach to security hook file_open
         8. attach to security hook path_mkdir by fmod_ret
         9. put the rules in force",
    );
}

fn errno_by(rung: Rung, words: &[&str]) -> Fault {
    let Fault::Call(mut calls, fault) = errno(words) else {
        panic!("a rule on calls");
    };
    calls.rung = Some(rung);
    Fault::Call(calls, fault)
}

/// `socketcall` is where 32-bit callers enter for both: one program there, and one rung.
#[test]
fn thirty_two_bit_callers_are_met_where_they_enter() {
    let mut features = able();
    for call in selected(&["bind", "connect"]).wanted {
        let direct = format!("__ia32_sys_{}", call.name);
        let shared = "__ia32_compat_sys_socketcall".to_owned();
        features.twins.insert(call, vec![direct, shared]);
    }
    check(
        &[(errno(&["bind", "connect"]), calls_of(web()))],
        &features,
        "rule r0 (sys-errno) through kprobe
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. name bind at its entry for rules 0
         4. name connect at its entry for rules 0
         5. attach to the entry of bind
         6. attach to the entry of connect
         7. attach to __ia32_sys_bind, for 32-bit callers
         8. attach to __ia32_compat_sys_socketcall, for 32-bit callers
         9. attach to __ia32_sys_connect, for 32-bit callers
         10. put the rules in force",
    );
    let by = |rung, call| (errno_by(rung, &[call]), calls_of(web()));
    check(
        &[by(Rung::Kprobe, "bind"), by(Rung::FmodRet, "connect")],
        &features,
        "refused: rule r1: --call connect: not supported here: needs one rung for all rules on calls \
         that 32-bit callers make by __ia32_compat_sys_socketcall; found fmod_ret here, and another \
         one in a rule before it",
    );
    let refused = Features {
        modified_twins: no("not modifiable"),
        ..features.clone()
    };
    check(
        &[(
            errno_by(Rung::FmodRet, &["bind", "connect"]),
            calls_of(web()),
        )],
        &refused,
        "rule r0 (sys-errno) through fmod_ret
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. name bind at its entry by fmod_ret for rules 0
         4. name connect at its entry by fmod_ret for rules 0
         5. attach to the entry of bind by fmod_ret
         6. attach to the entry of connect by fmod_ret
         7. put the rules in force
         note: rule r0 leaves 32-bit callers alone, who enter by functions of their own: not \
         modifiable",
    );
    // Both pass by security hooks as others do.
    let plan = plan(
        &[by(Rung::Kprobe, "bind"), by(Rung::Lsm, "connect")],
        &features,
    );
    assert_eq!(plan.expect("a plan").backends, ["kprobe", "lsm"]);
}

#[test]
fn the_rung_that_was_asked_for_serves_or_the_rule_is_refused() {
    for rung in Rung::ALL {
        let plan = plan(&[(errno_by(rung, &["read"]), calls_of(web()))], &able());
        assert_eq!(plan.expect("a plan").backends, [rung.name()]);
    }
    check(
        &[(errno_by(Rung::FmodRet, &["read"]), calls_of(web()))],
        &debian(),
        "refused: rule r0: --call read: not supported here: needs a kernel that lets it fail by \
         fmod_ret; found not modifiable",
    );
}

/// One program serves a hook on both rungs, and would count twice.
#[test]
fn rules_at_one_security_hook_share_their_rung() {
    check(
        &[
            (errno_by(Rung::Kprobe, &["fsync"]), calls_of(web())),
            (errno_by(Rung::Lsm, &["read"]), calls_of(web())),
            (
                errno_by(Rung::FmodRetSecurity, &["mkdir", "write"]),
                calls_of(web()),
            ),
        ],
        &able(),
        "refused: rule r2: --call write: not supported here: needs one rung for all rules on \
         calls that share a security hook; found lsm in a rule before it",
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
        mounted: false,
    };
    let scope = RuleScope {
        files: vec![place(None, "/data"), place(Some(Tgid(7)), "/data/x")],
        ..calls_of(web())
    };
    check(
        &[(errno_if(&["write", "fsync"], below("/data")), scope.clone())],
        &able(),
        "rule r0 (sys-errno) through kprobe+lsm
         1. write rule r0 at 0, inactive
         2. name /data, /data/x of process 7 for rule 0
         3. aim rules 0 at cgroup /web (id 42)
         4. name write at security hook file_permission for rules 0
         5. name fsync at its entry for rules 0
         6. attach to the entry of fsync
         7. attach to security hook file_permission
         8. put the rules in force",
    );
    for (call, features, needs, found) in [
        (
            "fsync",
            debian(),
            "a kernel that lets programs override system calls (CONFIG_BPF_KPROBE_OVERRIDE): no \
             override here, or take their place (CONFIG_FUNCTION_ERROR_INJECTION): not modifiable",
            "no security hook that stands for this call",
        ),
        (
            "socket",
            able(),
            "a call that a security hook tells the file of, or that takes a descriptor of it",
            "no security hook of this call is told of a file; otherwise: its first argument is no \
             descriptor of the file",
        ),
        (
            "access",
            able(),
            "a call that a security hook tells the file of, or that takes a descriptor of it",
            "no security hook that stands for this call; otherwise: its first argument is no \
             descriptor of the file",
        ),
    ] {
        check(
            &[(errno_if(&[call], below("/data")), scope.clone())],
            &features,
            &format!(
                "refused: rule r0: --call {call}: not supported here: needs {needs}; found {found}"
            ),
        );
    }
}

/// The entry comes first, so that the rule there would be asked before the one behind it.
#[test]
fn rules_on_one_call_share_their_place() {
    let scope = RuleScope {
        files: vec![FilePlace {
            process: None,
            path: "/data".into(),
            left_out: false,
            mounted: false,
        }],
        ..calls_of(web())
    };
    let by_file = || (errno_if(&["write"], below("/data")), scope.clone());
    check(
        &[by_file(), (errno(&["write"]), calls_of(web()))],
        &able(),
        "refused: rule r1: --call write: not supported here: needs one place for all rules on a \
         call, its entry or a security hook behind it; --rung of the rule without a condition on \
         files may name it; found lsm in a rule before it",
    );
    let behind = (errno_by(Rung::Lsm, &["write"]), calls_of(web()));
    let plan = plan(&[by_file(), behind], &able()).expect("a plan");
    assert_eq!(plan.backends, ["lsm", "lsm"]);
}

/// Conditions that a call could never meet where it would be met.
#[test]
fn conditions_that_never_hold_are_refused() {
    let open = CallFilter {
        access: Some(Access::Write),
        ..below("/data")
    };
    let typed = CallFilter {
        file_types: vec![FileType::Directory].into(),
        ..below("/data")
    };
    for (call, filter) in [
        ("unlink", &open),
        ("chmod", &open),
        ("mkdir", &typed),
        ("symlink", &typed),
    ] {
        let rule = (errno_if(&[call], filter.clone()), calls_of(web()));
        let refused = plan(&[rule], &able()).expect_err(call).to_string();
        assert!(
            refused.contains("no security hook of this call"),
            "{refused}"
        );
    }
    for (call, filter) in [("write", &open), ("openat", &open), ("rmdir", &typed)] {
        let rule = (errno_if(&[call], filter.clone()), calls_of(web()));
        assert!(plan(&[rule], &able()).is_ok(), "{call}");
    }
}
