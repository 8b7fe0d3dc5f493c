//! Rules in shadow, which are asked beside those that they would contradict.

use super::conflict;

/// It hides nothing, and may be hidden.
#[test]
fn rules_in_shadow_leave_operations_to_those_behind() {
    for (first, second) in [
        (
            "net-loss -t cgroup:/x",
            "net-delay -t cgroup:/x --delay 10ms",
        ),
        (
            "sys-errno -t cgroup:/x --call mkdir --errno EIO",
            "sys-errno -t cgroup:/x --call mkdir --errno EPERM",
        ),
    ] {
        assert!(conflict(first, second).is_some(), "{first}; {second}");
        let shadow = format!("{first} --shadow");
        assert_eq!(conflict(&shadow, second), None, "{shadow}; {second}");
        let shadow = format!("{second} --shadow");
        assert!(conflict(first, &shadow).is_some(), "{first}; {shadow}");
    }
}
