//! `sys-errno` on each rung, asked for by name: the same calls fail, as often as they are made,
//! and nobody else's.
//!
//! By itself an agent takes the best rung of its kernel, on which the tests of `sys_errno.rs` and
//! `sys_calls.rs` run.

use aya::maps::{Array, Map, MapData, loaded_maps};
use injector_common::{RuleSlot, names::MAP_RULES};
use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::{Feature, Where},
    require,
    residue::Snapshot,
    victim::{CallVictim, Callers, assert_all_failed, failures},
};

/// Calls that each victim makes in a round.
const COUNT: u64 = 20;

/// Calls, each with an error of its own. Programs of one of them differ from rung to rung.
const CALLS: [(&str, u32); 3] = [("openat", 28), ("mmap", 12), ("mkdir", 122)];

/// What a call returns whose rule holds no error.
const EIO: u32 = 5;

/// Fails calls of a victim on one rung, beside a bystander in another cgroup: all of them, then
/// with garbage for rules, then as many as a budget allows.
#[track_caller]
fn check(rung: &str) {
    let snapshot = Snapshot::take(&[]);
    let (cgroup, other) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let start = |cgroup| {
        CALLS.map(|(call, _)| CallVictim::start(Place::cgroup(cgroup), call, Callers::One))
    };
    let (victims, bystanders) = (start(&cgroup), start(&other));
    let target = cgroup.target();
    let rules = CALLS.map(|(call, errno)| {
        format!(
            "{{kind: sys-errno, target: '{target}', call: {call}, errno: '{errno}', rung: {rung}}}"
        )
    });
    let spec = format!("{{version: 1, for: 60s, rules: [{}]}}", rules.join(", "));
    let injection = Injection::of_spec(&spec);
    let round = || {
        victims.iter().for_each(|victim| victim.begin(COUNT));
        bystanders
            .iter()
            .for_each(|other| other.assert_unharmed(COUNT));
        victims.each_ref().map(CallVictim::finish)
    };
    for (seen, (_, errno)) in round().iter().zip(CALLS) {
        assert_all_failed(seen, errno);
    }
    fill_with_garbage();
    for seen in round() {
        assert_all_failed(&seen, EIO);
    }
    for rule in injection.stop().report().rules {
        assert_eq!(
            (rule.matched, rule.injected),
            (2 * COUNT, 2 * COUNT),
            "{rule:?}"
        );
        assert_eq!(rule.backend, rung, "{rule:?}");
    }
    victims
        .iter()
        .for_each(|victim| victim.assert_unharmed(COUNT));

    let racing = CallVictim::start(Place::cgroup(&cgroup), "openat", Callers::Threads(7));
    let rule = [
        "sys-errno",
        "--target",
        &target,
        "--call",
        "openat",
        "--errno",
        "EIO",
    ];
    let options = ["--times", "7", "--rung", rung, "--for", "60s"];
    let injection = Injection::start(&[&rule[..], &options].concat());
    let seen = racing.round(200);
    let finished = injection.wait();
    assert_eq!(failures(&seen), 7, "{seen:?}");
    assert_eq!(finished.report().stopped_by, "budget");
    assert_eq!(finished.rule().injected, 7);
    drop((cgroup, other, victims, bystanders, racing));
    snapshot.assert_clean();
}

/// Writes over the parameters of the rules in force.
fn fill_with_garbage() {
    let maps = loaded_maps().map(|map| map.expect("a map's description"));
    let ours = maps.filter(|map| map.name_as_str() == Some(MAP_RULES));
    // The kernel frees those of earlier agents when it finds the time.
    let newest = ours.map(|map| map.id()).max().expect("a table of rules");
    let map = MapData::from_id(newest).expect("the table of rules");
    let mut rules: Array<_, RuleSlot> = Map::Array(map).try_into().expect("an array");
    for index in 0..u32::try_from(CALLS.len()).expect("few rules") {
        let mut slot = rules.get(&index, 0).expect("a rule");
        for version in &mut slot.versions {
            version.params = [u64::MAX; 4];
        }
        rules.set(index, slot, 0).expect("write a rule");
    }
}

macro_rules! rungs {
    ($($test:ident: $name:literal, $feature:ident;)+) => {
        $(
            #[test]
            fn $test() {
                require!($feature);
                check($name);
            }
        )+
    };
}

// The first one is what sys_errno.rs tests where there is one.
rungs! {
    fmod_ret: "fmod_ret", FmodRet;
    lsm: "lsm", Lsm;
    fmod_ret_security: "fmod_ret-security", FmodRetSecurity;
}

/// A rung that cannot be had is refused with what the kernel says, and no other one taken.
#[test]
fn what_a_rung_cannot_do_is_refused() {
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    // On no kernel, and on this one.
    let (never, not_here) = (2, 3);
    let mut refused = vec![
        ("lsm", "fsync", "no security hook", never),
        ("fmod_ret-security", "fsync", "no security hook", never),
    ];
    if Feature::Override.available().is_err() {
        refused.push(("kprobe", "openat", "bpf_override_return", not_here));
    }
    if Feature::FmodRet.available().is_err() {
        // A kernel may also refuse every program on its functions, whatever it does there.
        let why = match Where::current() {
            Where::Host | Where::Given => "found",
            Where::Debian61 | Where::Debian612 | Where::Override | Where::DebianNewest => "modif",
        };
        refused.push(("fmod_ret", "openat", why, not_here));
    }
    for (rung, call, why, code) in refused {
        let rule = ["plan", "sys-errno", "--target", &target, "--call", call];
        let options = ["--errno", "EIO", "--for", "5s", "--rung", rung];
        let finished = agent::run(&[&rule[..], &options].concat());
        assert_eq!(finished.code(), code, "{finished:?}");
        for part in [rung, call, why] {
            assert!(finished.stderr.contains(part), "{part}: {finished:?}");
        }
    }
}

/// Calls without a hook, and one whose function has no arguments and goes by another name.
#[test]
fn calls_without_a_hook_fail_in_their_place() {
    require!(FmodRet);
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let place = Place::cgroup(&cgroup);
    let victim = CallVictim::start(place, "fsync", Callers::One);
    let rule = ["sys-errno", "--target", &target, "--call", "fsync,sync"];
    let options = ["--errno", "EIO", "--rung", "fmod_ret", "--for", "60s"];
    let injection = Injection::start(&[&rule[..], &options].concat());
    assert_all_failed(&victim.round(COUNT), EIO);
    // It has no error to tell of.
    let synced = place.command("sync").status().expect("run sync");
    assert!(synced.success(), "{synced}");
    let rule = injection.stop().rule();
    assert_eq!(
        (rule.matched, rule.injected),
        (COUNT + 1, COUNT + 1),
        "{rule:?}"
    );
    victim.assert_unharmed(COUNT);
}
