//! The same for calls that pretend to succeed.

use super::conflict;

/// What is not made can neither fail nor return something else.
#[test]
fn a_call_comes_back_once() {
    let returns = "sys-return --name lie --target cgroup:/a --call fsync,connect --value 0";
    let fails = "sys-errno --target cgroup:/a --call fsync --errno EIO";
    for (first, second, says) in [
        (
            returns,
            fails,
            Some("has every fsync of the same target return 0"),
        ),
        (
            fails,
            returns,
            Some("fails every fsync of the same target with EIO"),
        ),
        (
            "net-refuse --target cgroup:/a",
            returns,
            Some("`lie` answers every connect before"),
        ),
        (
            "sys-return --target cgroup:/a --call fsync --value 0 --when 2",
            fails,
            None,
        ),
        (
            returns,
            "sys-delay --target cgroup:/a --call fsync --delay 1ms",
            None,
        ),
    ] {
        let found = conflict(first, second);
        match says {
            None => assert_eq!(found, None, "{first}, {second}"),
            Some(says) => {
                let found = found.expect(says);
                assert!(found.contains(says), "{found}");
            }
        }
    }
}

/// Of one function the first rule decides that hits.
#[test]
fn a_function_comes_back_once() {
    let rule = |name: &str, rest: &str| {
        format!("user-return --name {name} --target cgroup:/a --file /a.so {rest}")
    };
    let first = rule("one", "--function f --return -1");
    for (first, second, says) in [
        (&first, rule("two", "--function f --return 0"), true),
        (
            &first,
            rule("two", "--function f --return 0 --times 3"),
            true,
        ),
        (&first, rule("two", "--function g --return 0"), false),
        (
            &rule("one", "--function f --return -1 --percent 5"),
            rule("two", "--function f --return 0"),
            false,
        ),
        (
            &rule("one", "--function f --return -1 --shadow"),
            rule("two", "--function f --return 0"),
            false,
        ),
    ] {
        let found = conflict(first, &second);
        assert_eq!(found.is_some(), says, "{first}, {second}: {found:?}");
        if let Some(found) = found {
            let hides = "`one` has every f of the same target return -1, so `two` can never hit it";
            assert!(found.contains(hides), "{found}");
        }
    }
}
