//! `injector plan`: what would be done, and nothing of it.

use std::fs;

use injector_tests::{
    agent::{self, Finished},
    require,
    scene::{Harm, Kind, Scene},
};
use serde_json::Value;

/// Plans, and checks that nothing is changed.
#[track_caller]
fn plan(scene: &Scene, args: &[&str]) -> Finished {
    let snapshot = scene.snapshot();
    let finished = agent::run(&[&["plan"], args].concat());
    assert_eq!(finished.code(), 0, "{finished:?}");
    snapshot.assert_clean();
    assert_eq!(scene.harm(Kind::Loss), Harm::Nothing);
    finished
}

const LINE: [&str; 12] = [
    "--percent",
    "12.5",
    "--times",
    "7",
    "--peer-port",
    "443",
    "--interface",
    "near0",
    "--seed",
    "42",
    "--name",
    "lab",
];

/// What the steps are about differs from kernel to kernel; what the rule does
/// is told word by word.
#[test]
fn a_rule_is_told_in_full() {
    require!(NetLoss);
    let scene = Scene::new();
    let target = scene.target();
    let line = ["net-loss", "--target", &target, "--for", "90s"];
    let told = plan(
        &scene,
        &[&line, &LINE[..], &["--", "true", "two words"]].concat(),
    )
    .stdout;
    for expected in [
        "experiment lab with seed 42, for 90s\n",
        "rule lab (net-loss) through ",
        "    loses packets that the target sends to port 443 of a peer through near0\n",
        &format!("    target: {target}, command\n"),
        "    trigger: 12.5 % of the occurrences, at most 7 hits\n",
        "    time: from the start, for 90s\n",
        "command: true \"two words\"\n",
        "  1. create cgroup injector-",
        ". act on near0 in ",
        ". put the rules in force\n",
    ] {
        assert!(told.contains(expected), "no {expected:?} in: {told}");
    }
}

#[test]
fn a_file_is_planned_as_its_command_line() {
    require!(NetLoss);
    let scene = Scene::new();
    let target = scene.target();
    let spec = format!(
        "version: 1\nname: lab\nfor: 90s\nseed: 42\nrules:\n- {{name: lab, kind: net-loss, \
         target: '{target}', percent: 12.5, times: 7, peer-port: 443, interface: near0}}\n"
    );
    let file = tempfile::NamedTempFile::new().expect("make a file");
    fs::write(file.path(), spec).expect("write a file");
    let path = file.path().to_str().expect("a path in UTF-8");
    let line = ["net-loss", "--target", &target, "--for", "90s"];
    let line = [&line, &LINE[..]].concat();
    let by_line = plan(&scene, &line).stdout;
    assert_eq!(plan(&scene, &[path]).stdout, by_line);

    let json = |args: &[&str]| -> Value {
        let stdout = plan(&scene, &[args, &["--output", "json"]].concat()).stdout;
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
        serde_json::from_str(&stdout).expect("JSON")
    };
    let planned = json(&line);
    assert_eq!(json(&[path]), planned);
    assert_eq!(
        (&planned["experiment"], &planned["seed"]),
        (&"lab".into(), &42.into())
    );
    let rule = &planned["rules"][0];
    assert_eq!(
        (&rule["name"], &rule["kind"]),
        (&"lab".into(), &"net-loss".into())
    );
    assert_eq!(rule["targets"], Value::from(vec![target.as_str()]));
    // The words of the text, and its steps.
    for key in ["backend", "explanation", "trigger", "time"] {
        let words = rule[key].as_str().expect(key);
        assert!(by_line.contains(words), "{key}: {words}");
    }
    let steps = planned["steps"].as_array().expect("steps");
    let numbered: Vec<String> = (1..)
        .zip(steps)
        .map(|(number, step)| format!("{number:3}. {}", step.as_str().expect("a step")))
        .collect();
    assert!(
        by_line.ends_with(&(numbered.join("\n") + "\n")),
        "{planned}"
    );
    assert_eq!(planned["notes"], Value::Array(Vec::new()));
}
