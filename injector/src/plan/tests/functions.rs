//! Plans for functions that return at once.

use super::*;
use crate::{
    model::{Function, FunctionValue},
    resolve::{FileId, FunctionPlace},
};

fn fault(name: &str, bits: u64) -> Fault {
    Fault::Function(Function {
        name: name.to_owned(),
        file: "/lib/libc.so.6".into(),
        value: FunctionValue { bits, hex: false },
    })
}

/// What a rule on a function at this place of a file resolves to.
fn at(scope: Scope, name: &str, file: u64, entry: u64) -> RuleScope {
    let place = FunctionPlace {
        name: name.to_owned(),
        process: None,
        path: "/lib/libc.so.6".into(),
        file: FileId([1, file]),
        entry,
        back: entry + 9,
    };
    RuleScope {
        function: Some(place),
        ..calls_of(scope)
    }
}

#[test]
fn one_program_asks_all_rules_on_a_function() {
    check(
        &[
            (fault("malloc", 0), at(web(), "malloc", 7, 0x1000)),
            (fault("free", 0), at(web(), "free", 7, 0x2000)),
            (
                fault("__libc_malloc", 1),
                at(process(), "__libc_malloc", 7, 0x1000),
            ),
            (fault("malloc", 0), at(web(), "malloc", 8, 0x1000)),
        ],
        &able(),
        "rule r0 (user-return) through uprobe
         rule r1 (user-return) through uprobe
         rule r2 (user-return) through uprobe
         rule r3 (user-return) through uprobe
         1. write rule r0 at 0, inactive
         2. write rule r1 at 1, inactive
         3. write rule r2 at 2, inactive
         4. write rule r3 at 3, inactive
         5. follow the children of targeted processes
         6. aim rules 0,1,3 at cgroup /web (id 42)
         7. aim rules 2 at process 7 and 2 descendants
         8. name malloc in /lib/libc.so.6 for rules 0,2
         9. name free in /lib/libc.so.6 for rules 1
         10. name malloc in /lib/libc.so.6 for rules 3
         11. attach to the entry of malloc in /lib/libc.so.6
         12. attach to the entry of free in /lib/libc.so.6
         13. attach to the entry of malloc in /lib/libc.so.6
         14. put the rules in force",
    );
}

#[test]
fn a_kernel_that_lets_nobody_write_registers_refuses() {
    let features = Features {
        function_return: no("invalid bpf_context access"),
        ..able()
    };
    check(
        &[(fault("malloc", 0), at(web(), "malloc", 7, 0x1000))],
        &features,
        "refused: rule r0 (user-return): not supported here: needs programs at the entry of functions \
         (uprobes) that may write the registers of whoever comes by; found invalid bpf_context access",
    );
}

/// One that is attached is not attached again, whatever its rules are called by now.
#[test]
fn a_change_attaches_what_is_new() {
    let first = (fault("malloc", 0), at(web(), "malloc", 7, 0x1000));
    let now = plan(&[first], &able()).expect("a plan");
    let other = (
        fault("__libc_malloc", 1),
        at(web(), "__libc_malloc", 7, 0x1000),
    );
    let more = (fault("free", 0), at(web(), "free", 7, 0x2000));
    let next = plan(&[other, more], &able()).expect("a plan");
    let steps = change(&now, &next).expect("steps");
    let attached: Vec<String> = steps
        .iter()
        .filter(|step| matches!(step, Effect::AttachFunction { .. }))
        .map(ToString::to_string)
        .collect();
    assert_eq!(attached, ["attach to the entry of free in /lib/libc.so.6"]);
    assert!(
        steps
            .iter()
            .all(|step| !matches!(step, Effect::NameFunction { .. })),
        "{steps:?}"
    );
}
