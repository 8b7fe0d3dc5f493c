//! Plans for calls that pretend to succeed.

use std::collections::BTreeMap;

use injector_common::faults::sys_return::MAX_VALUE;

use super::*;
use crate::model::Rung;

fn returning(words: &[&str], value: u32, rung: Option<Rung>) -> Fault {
    let Selected { wanted, optional } = selected(words);
    let calls = Calls {
        wanted,
        optional,
        rung,
        ..Calls::default()
    };
    Fault::Call(calls, CallFault::Return(value))
}

#[test]
fn a_kprobe_has_a_call_return_anything() {
    for (call, value) in [("fsync", 0), ("write", MAX_VALUE)] {
        check(
            &[(returning(&[call], value, None), calls_of(web()))],
            &able(),
            &format!(
                "rule r0 (sys-return) through kprobe
                 1. write rule r0 at 0, inactive
                 2. aim rules 0 at cgroup /web (id 42)
                 3. name {call} at its entry for rules 0
                 4. attach to the entry of {call}
                 5. put the rules in force"
            ),
        );
    }
}

/// A program there that returns 0 lets the call go on.
#[test]
fn in_the_place_of_a_call_0_cannot_be_had() {
    let features = Features {
        override_return: no("no override here"),
        ..able()
    };
    check(
        &[(returning(&["write"], 7, None), calls_of(web()))],
        &features,
        "rule r0 (sys-return) through fmod_ret
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. name write at its entry by fmod_ret for rules 0
         4. attach to the entry of write by fmod_ret
         5. put the rules in force",
    );
    let lets = "a program in the place of a call that returns 0 lets it go on";
    let security = "at a security hook a call can fail, and not succeed";
    check(
        &[(returning(&["unlink"], 0, None), calls_of(web()))],
        &features,
        &format!(
            "refused: rule r0: --call unlink: not supported here: needs a kernel that lets programs \
             override system calls (CONFIG_BPF_KPROBE_OVERRIDE): no override here, or take their \
             place (CONFIG_FUNCTION_ERROR_INJECTION): not that of this one; found {lets}; \
             otherwise: {security}"
        ),
    );
    for (rung, why) in [
        (Rung::FmodRet, lets),
        (Rung::Lsm, security),
        (Rung::FmodRetSecurity, security),
    ] {
        check(
            &[(returning(&["unlink"], 0, Some(rung)), calls_of(web()))],
            &able(),
            &format!(
                "refused: rule r0: --call unlink: not supported here: needs a rung that can have it \
                 succeed: kprobe, or fmod_ret with a value above 0; found {why}"
            ),
        );
    }
}

#[test]
fn a_stock_kernel_can_have_none_succeed() {
    let stock = Features {
        modified_entries: BTreeMap::new(),
        ..debian()
    };
    check(
        &[(returning(&["unlink"], 0, None), calls_of(web()))],
        &stock,
        "refused: rule r0: --call unlink: not supported here: needs a kernel that lets programs \
         override system calls (CONFIG_BPF_KPROBE_OVERRIDE): no override here, or take their place \
         (CONFIG_FUNCTION_ERROR_INJECTION): not modifiable; found at a security hook a call can \
         fail, and not succeed",
    );
}

/// What cannot be pretended is left out where it may be.
#[test]
fn an_optional_call_that_nobody_would_believe_is_left_out() {
    let some = plan(
        &[(returning(&["?openat", "fsync"], 0, None), calls_of(web()))],
        &able(),
    );
    let notes = some.expect("a plan").notes;
    assert!(
        notes[0].contains("does not hit openat: its caller uses what it returns as a descriptor"),
        "{notes:?}"
    );
}
