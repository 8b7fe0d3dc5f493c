//! What agents leave: `injector stop --all`, and agents beside each other.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use injector_tests::{
    agent::{self, Agent, Finished, Injection},
    command::Place,
    netns::Pair,
    require,
    residue::Snapshot,
    scene::{Harm, Kind, Scene},
};
use nix::sys::signal::Signal;

/// Where agents keep their journals.
const JOURNALS: &str = "/run/injector";

/// Puts a loss of everything that the victim sends in force.
#[track_caller]
fn lose(scene: &Scene) -> Injection {
    scene.inject(Kind::Loss, &["--for", "60s"], &[])
}

#[track_caller]
fn stop_all() -> Finished {
    let stopped = agent::run(&["stop", "--all"]);
    assert_eq!(stopped.code(), 0, "{stopped:?}");
    stopped
}

/// Runs every command that a message offers to remove what remains.
#[track_caller]
fn follow(advice: &str) {
    let commands: Vec<&str> = advice
        .lines()
        .filter_map(|line| Some(line.split_once("; to remove it: ")?.1))
        .collect();
    assert!(!commands.is_empty(), "no advice: {advice}");
    let binary = agent::binary();
    let folder = binary.parent().expect("a folder").display();
    for command in commands {
        let script = format!("PATH={folder}:$PATH; {command}");
        Place::HERE.run("sh", &["-ec", &script]);
    }
}

#[test]
fn stopping_nothing_succeeds_twice() {
    let snapshot = Snapshot::take(&[]);
    for _ in 0..2 {
        assert_eq!(stop_all().stdout, "nothing was left\n");
    }
    snapshot.assert_clean();
}

#[test]
fn stopping_everything_ends_running_agents_well() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let dead = lose(&scene).abandon();
    let alive = lose(&scene);
    assert_eq!(scene.harm(Kind::Loss), Harm::Everything);
    dead.clean_up();
    let finished = alive.wait();
    assert_eq!(
        (finished.code(), finished.report().stopped_by.as_str()),
        (0, "signal")
    );
    snapshot.assert_clean();
    assert_eq!(scene.harm(Kind::Loss), Harm::Nothing);
}

/// The kernel gives its id inside to another process outside.
#[test]
fn an_agent_in_a_pid_namespace_is_found() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let target = scene.target();
    let netns = format!("--net={}", scene.pair.near.path().display());
    // The namespace of its target's processes, which cannot be seen from there.
    let mut inside = Place::HERE.command("nsenter");
    inside
        .args([&netns, "unshare", "--pid", "--fork", "--kill-child"])
        .arg("--mount-proc")
        .arg(agent::binary())
        .args(["inject", "net-loss", "--target", &target, "--for", "60s"])
        .args(["--interface", Pair::NEAR_LINK, "--output", "json"])
        .env("INJECTOR_LOG", "info");
    let injection = Injection::from_agent(Agent::from_command(inside));
    assert_eq!(scene.harm(Kind::Loss), Harm::Everything);
    let stopped = stop_all();
    assert!(stopped.stdout.starts_with("stopped "), "{stopped:?}");
    assert_eq!(injection.wait().report().stopped_by, "signal");
    snapshot.assert_clean();
}

#[test]
fn a_journal_that_cannot_be_read_is_told() {
    let snapshot = Snapshot::take(&[]);
    fs::create_dir_all(JOURNALS).expect("a folder for journals");
    for text in ["", "{", "{\"version\":9}", "[1]"] {
        fs::write(format!("{JOURNALS}/broken.json"), text).expect("a journal");
        let stopped = agent::run(&["stop", "--all"]);
        assert_eq!(stopped.code(), 4, "{text}: {stopped:?}");
        assert!(
            stopped.stderr.contains("broken.json"),
            "{text}: {stopped:?}"
        );
        follow(&stopped.stderr);
    }
    stop_all();
    snapshot.assert_clean();
}

/// What a kill between writing a journal and naming it leaves.
#[test]
fn a_draft_without_an_owner_is_removed() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let draft = format!("{JOURNALS}/0badcafe-4000000-1-2.draft");
    fs::create_dir_all(JOURNALS).expect("a folder for journals");
    fs::write(&draft, "{\"vers").expect("a draft");
    let stopped = stop_all();
    assert!(stopped.stdout.contains(&draft), "{stopped:?}");
    snapshot.assert_clean();
}

/// A namespace that was made after a crash may have the number of one that is
/// gone. It has another cookie.
#[test]
fn a_namespace_with_the_same_number_is_left_alone() {
    require!(NetCorrupt);
    let scene = Scene::new();
    let before = scene.snapshot();
    let abandoned = scene
        .inject(Kind::Corruption, &["--for", "60s"], &[])
        .abandon();
    before.assert_bpf_gone(Kind::Corruption.uses_filters());
    let path = only_journal();
    let written = fs::read_to_string(&path).expect("a journal");
    let (there, cookie) = (scene.snapshot(), "\"cookie\":");
    assert!(written.contains(cookie), "{written}");
    let other = written.replace(cookie, "\"cookie\":1");
    // The journal goes, and all that it does not name stays.
    fs::write(&path, other).expect("a journal");
    assert_eq!(stop_all().stdout, "nothing was left\n");
    fs::create_dir_all(JOURNALS).expect("a folder for journals");
    fs::write(&path, written).expect("a journal");
    there.assert_clean();
    abandoned.clean_up();
    before.assert_clean();
}

#[track_caller]
fn only_journal() -> PathBuf {
    let files = fs::read_dir(JOURNALS).expect("journals");
    let paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    match paths.as_slice() {
        [path] => path.clone(),
        paths => panic!("one journal expected: {paths:?}"),
    }
}

/// Where an agent cannot remove a qdisc, it says what does, and the journal
/// still names it.
#[test]
fn what_remains_can_be_removed_as_told() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    for follows in [true, false] {
        let options = ["--for", "60s", "--interface", Pair::NEAR_LINK];
        let injection = scene.inject(Kind::Loss, &options, &[]);
        // Whoever holds this lock keeps agents from removing what they share.
        let netns = File::open(scene.pair.near.path()).expect("a namespace");
        netns.lock().expect("a lock");
        let finished = injection.stop();
        netns.unlock().expect("a lock to give back");
        remove_what_remains(&finished, follows);
        snapshot.assert_clean();
    }
}

/// Removes what an agent was kept from removing, as it told or by `stop --all`.
/// Only filters can be kept back: links go with their owner.
#[track_caller]
fn remove_what_remains(finished: &Finished, follows: bool) {
    if !Kind::Loss.uses_filters() {
        assert_eq!(finished.code(), 0, "{finished:?}");
        return;
    }
    assert_eq!(finished.code(), 4, "{finished:?}");
    if follows {
        follow(&finished.stderr);
    } else {
        stop_all();
    }
}

/// A filter that cannot be removed stays in the journal, whatever else can be.
#[test]
fn a_filter_that_remains_is_told() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    for follows in [true, false] {
        let variables = [("INJECTOR_TEST_FAIL_DETACH", "1")];
        let injection = scene.inject(Kind::Loss, &["--for", "60s"], &variables);
        assert_eq!(scene.harm(Kind::Loss), Harm::Everything);
        let finished = injection.stop();
        remove_what_remains(&finished, follows);
        snapshot.assert_clean();
    }
}

/// A device that a journal names and that is not ours stays, until the user
/// removes it as told.
#[test]
fn a_device_of_others_stays() {
    require!(NetCorrupt);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let abandoned = scene
        .inject(Kind::Corruption, &["--for", "60s"], &[])
        .abandon();
    let path = only_journal();
    let text = fs::read_to_string(&path).expect("a journal");
    let at = text.find("\"inja").expect("a device of ours") + 1;
    let name = text[at..].split('"').next().expect("a name");
    scene.pair.near.ip(&[
        "link",
        "add",
        "precious",
        "type",
        "veth",
        "peer",
        "worthless",
    ]);
    fs::write(&path, text.replace(name, "precious")).expect("a journal");
    let stopped = agent::run(&["stop", "--all"]);
    assert_eq!(stopped.code(), 4, "{stopped:?}");
    scene.pair.near.ip(&["link", "show", "precious"]);
    follow(&stopped.stderr);
    fs::write(&path, text).expect("a journal");
    abandoned.clean_up();
    snapshot.assert_clean();
}

/// Lets agents on one interface end in all orders.
#[test]
fn the_last_agent_leaves_nothing() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    for order in [[0, 1], [1, 0]] {
        let mut agents = [Some(lose(&scene)), Some(lose(&scene))];
        for index in order {
            assert_eq!(scene.harm(Kind::Loss), Harm::Everything);
            let injection = agents[index].take().expect("an agent");
            assert_eq!(injection.stop().code(), 0);
        }
        snapshot.assert_clean();
    }
    // Both at once.
    for _ in 0..3 {
        let agents = [lose(&scene), lose(&scene)];
        for injection in &agents {
            injection.agent().signal(Signal::SIGINT);
        }
        for injection in agents {
            assert_eq!(injection.wait().code(), 0);
        }
        snapshot.assert_clean();
    }
}

/// One is killed, the other one ends well, whichever came first.
#[test]
fn a_killed_agent_beside_another_leaves_nothing() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    for killed_first in [true, false] {
        let (one, other) = (lose(&scene), lose(&scene));
        let (killed, living) = if killed_first {
            (one, other)
        } else {
            (other, one)
        };
        let abandoned = killed.abandon();
        assert_eq!(scene.harm(Kind::Loss), Harm::Everything);
        assert_eq!(living.stop().code(), 0);
        abandoned.clean_up();
        snapshot.assert_clean();
    }
}
