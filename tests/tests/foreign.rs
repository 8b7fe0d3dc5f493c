//! Queueing disciplines and filters of somebody else's.

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::{Feature, Where},
    netns::{Ip, Pair},
    require,
    scene::{Harm, Kind, Scene},
};

/// Puts a loss of everything that the victim sends in force.
#[track_caller]
fn lose(scene: &Scene) -> Injection {
    scene.inject(Kind::Loss, &["--for", "60s"], &[])
}

/// A user's own clsact, with nothing in it, is not ours to remove.
#[test]
fn a_foreign_clsact_stays() {
    require!(NetLoss);
    let scene = Scene::new();
    let near = &scene.pair.near;
    near.tc(&["qdisc", "add", "dev", Pair::NEAR_LINK, "clsact"]);
    let snapshot = scene.snapshot();
    let injection = lose(&scene);
    assert_eq!(scene.harm(Kind::Loss), Harm::Everything);
    drop(injection.stop());
    snapshot.assert_clean();

    lose(&scene).abandon().clean_up();
    snapshot.assert_clean();
}

/// Adds filters of a user's to both sides of the near interface, which count.
fn add_filters(pair: &Pair) {
    for side in ["ingress", "egress"] {
        let words = format!(
            "filter add dev {} {side} pref 77 handle 0x7 matchall action pass",
            Pair::NEAR_LINK
        );
        pair.near.tc(&words.split(' ').collect::<Vec<_>>());
    }
}

/// Packets that a user's filter on one side has seen.
#[track_caller]
fn seen(pair: &Pair, side: &str) -> u64 {
    let text = pair
        .near
        .tc(&["-s", "filter", "show", "dev", Pair::NEAR_LINK, side]);
    packets(&text)
}

/// The first count of packets in what `tc -s` says.
#[track_caller]
fn packets(text: &str) -> u64 {
    // "Sent 168 bytes 2 pkt (dropped 0, overlimits 0 requeues 0)"
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "pkt");
    match at.and_then(|at| words[at - 1].parse().ok()) {
        Some(packets) => packets,
        None => panic!("no count: {text}"),
    }
}

/// Pings as a process that no rule is aimed at.
#[track_caller]
fn ping(pair: &Pair, bystander: &Cgroup) {
    let far = Pair::far_address(Ip::V4).to_string();
    let place = Place::netns(&pair.near).and_cgroup(bystander);
    place.run("ping", &["-c", "2", "-i", "0.2", "-W", "20", &far]);
}

#[test]
fn a_foreign_filter_stays_and_works() {
    // Like netem, a module that the host's kernel does not have.
    require!(Netem);
    let scene = Scene::new();
    let bystander = Cgroup::new("bystander");
    let near = &scene.pair.near;
    near.tc(&["qdisc", "add", "dev", Pair::NEAR_LINK, "clsact"]);
    add_filters(&scene.pair);
    let snapshot = scene.snapshot();
    let check = || {
        let before = ["ingress", "egress"].map(|side| seen(&scene.pair, side));
        ping(&scene.pair, &bystander);
        let after = ["ingress", "egress"].map(|side| seen(&scene.pair, side));
        assert!(
            after[0] >= before[0] + 2 && after[1] >= before[1] + 2,
            "{before:?} to {after:?}"
        );
    };
    let both = ["--direction", "both", "--for", "60s"];
    let injection = scene.inject(Kind::Loss, &both, &[]);
    assert_eq!(scene.harm(Kind::Loss), Harm::Everything);
    check();
    drop(injection.stop());
    snapshot.assert_clean();
    check();

    let abandoned = scene.inject(Kind::Loss, &both, &[]).abandon();
    check();
    abandoned.clean_up();
    snapshot.assert_clean();
    check();
}

/// A filter that a user adds to the qdisc that we made keeps the qdisc.
#[test]
fn a_filter_that_is_added_meanwhile_stays() {
    require!(Netem);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let near = &scene.pair.near;
    for kill in [false, true] {
        let injection = lose(&scene);
        if !Kind::Loss.uses_filters() {
            near.tc(&["qdisc", "add", "dev", Pair::NEAR_LINK, "clsact"]);
        }
        add_filters(&scene.pair);
        if kill {
            injection.abandon().clean_up();
        } else {
            assert_eq!(injection.stop().code(), 0);
        }
        for side in ["ingress", "egress"] {
            // Panics if the user's filter is gone.
            let _ = seen(&scene.pair, side);
            let left = near.tc(&["filter", "show", "dev", Pair::NEAR_LINK, side]);
            assert!(!left.contains("inj_"), "{left}");
        }
        near.tc(&["qdisc", "del", "dev", Pair::NEAR_LINK, "clsact"]);
        snapshot.assert_clean();
    }
}

/// An `ingress` qdisc takes the place of a clsact. What has no need of one goes
/// on, what has is refused before anything is touched.
#[test]
fn a_foreign_ingress_qdisc() {
    require!(NetLoss);
    let scene = Scene::new();
    scene
        .pair
        .near
        .tc(&["qdisc", "add", "dev", Pair::NEAR_LINK, "ingress"]);
    let snapshot = scene.snapshot();
    if Feature::Tcx.expected(Where::current()).is_err() {
        let target = scene.target();
        for command in ["plan", "inject"] {
            let args = [command, "net-loss", "--target", &target, "--for", "60s"];
            let refused = agent::run(&args);
            assert_eq!(refused.code(), 3, "{refused:?}");
            for word in [Pair::NEAR_LINK, "ingress qdisc", "clsact"] {
                assert!(refused.stderr.contains(word), "{}", refused.stderr);
            }
            snapshot.assert_clean();
        }
    } else {
        let injection = lose(&scene);
        assert_eq!(scene.harm(Kind::Loss), Harm::Everything);
        drop(injection.stop());
        snapshot.assert_clean();
    }
    let arriving = ["--direction", "ingress", "--proto", "udp", "--for", "60s"];
    let injection = scene.inject(Kind::Loss, &arriving, &[]);
    assert_eq!(scene.harm(Kind::Loss), Harm::Nothing, "it only sends");
    assert_eq!(injection.stop().code(), 0);
    snapshot.assert_clean();
    scene
        .inject(Kind::Loss, &arriving, &[])
        .abandon()
        .clean_up();
    snapshot.assert_clean();
}

/// Packets of the third band of a `prio` discipline on the near interface.
#[track_caller]
fn in_last_band(pair: &Pair) -> u64 {
    let show = ["-s", "class", "show", "dev", Pair::NEAR_LINK];
    let text = pair.near.tc(&show);
    let (_, last) = text.split_once("class prio 1:3").expect("a third band");
    packets(last)
}

/// What comes out of a device of ours enters the interface's own queue as its sender wanted.
#[test]
fn priorities_reach_a_discipline() {
    // Like netem, a module that the host's kernel does not have.
    require!(Netem);
    require!(NetDelay);
    let pair = Pair::new();
    let victim = Cgroup::new("victim");
    pair.near.tc(&[
        "qdisc",
        "add",
        "dev",
        Pair::NEAR_LINK,
        "root",
        "handle",
        "1:",
        "prio",
    ]);
    let place = Place::netns(&pair.near).and_cgroup(&victim);
    // By whom the namespace is found.
    let _resident = place.spawn("sleep", &["600"]);
    let far = Pair::far_address(Ip::V4).to_string();
    let (target, way) = (victim.target(), ["--direction", "egress", "--for", "60s"]);
    for fault in [
        &["net-delay", "--delay", "5ms"][..],
        &["net-loss", "--when", "99..99", "--unit", "segment"],
    ] {
        let injection = Injection::start(&[fault, &["--target", &target], &way].concat());
        let before = in_last_band(&pair);
        // Type of service 8 is priority 2 (`rt_tos2priority`), which has the third band.
        place.run(
            "ping",
            &["-c", "5", "-i", "0.2", "-W", "20", "-Q", "8", &far],
        );
        let rule = injection.stop().rule();
        assert_eq!(rule.matched, 5, "{fault:?}");
        assert_eq!(in_last_band(&pair) - before, 5, "{fault:?}");
    }
}
