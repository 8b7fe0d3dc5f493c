//! Whom rules leave out.

use super::*;

/// `/web` with sshd in it, beside others.
fn host() -> FakeHost {
    let mut host = FakeHost::new();
    host.services = [(12, "sshd"), (13, "containerd-shim")].into();
    host
}

fn freeze() -> Fault {
    Fault::Resource(ResourceFault::Freeze)
}

#[test]
fn services_among_others_are_left_out_and_told() {
    let host = host();
    let scope = resolve_one(&host, &["cgroup:web"], errno()).expect("a rule");
    let told = scope.left_out.expect("some are left out");
    for word in ["rule r", "sshd (12)", "containerd-shim (13)"] {
        assert!(told.contains(word), "{told}");
    }
    let scope = resolve_one(&host, &["cgroup:db"], errno()).expect("a rule");
    assert_eq!(scope.left_out, None);
    let scope = resolve_one(&host, &["pid:11"], errno()).expect("a rule");
    assert!(scope.left_out.is_some());
    // Whoever sends or receives a packet is not known by what it executes.
    let scope = resolve_one(&host, &["cgroup:web"], loss()).expect("a rule");
    assert_eq!(scope.left_out, None);
    let scope = resolve_one(&host, &["command"], errno()).expect("a rule");
    assert_eq!(scope.left_out, None);
}

#[test]
fn whoever_is_nothing_else_is_refused() {
    let mut host = host();
    refused(
        &host,
        "pid:12",
        EXIT_USAGE,
        &["pid:12 is sshd (process 12)"],
    );
    host.services.insert(11, "kubelet");
    refused(&host, "cgroup:web", EXIT_USAGE, &["nothing but", "kubelet"]);
}

#[test]
fn what_is_set_for_all_is_refused_where_a_daemon_is() {
    let mut host = host();
    host.control_files
        .insert("/cg/web/cgroup.freeze".into(), "0\n".into());
    host.own_cgroup = "0::/db\n".to_owned();
    let error = resolve_one(&host, &["cgroup:web"], freeze()).expect_err("sshd");
    assert!(
        error.to_string().contains("holds sshd (process 12)"),
        "{error}"
    );
    // Whatever serves one container is in a cgroup with it.
    host.services.remove(&12);
    let scope = resolve_one(&host, &["cgroup:web"], freeze()).expect("a rule");
    assert!(scope.left_out.is_some());
}
