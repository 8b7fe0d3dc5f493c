//! That each integration test runs somewhere, by what its source says that it needs of a kernel:
//! one that is skipped wherever it begins would be found after an hour only.

use std::{collections::HashMap, fs, path::PathBuf};

use super::binaries::{Part, TestBinary};
use crate::{kernel, paths};

/// Which of the tested kernels have what a host may lack. Whatever is not named here any host has
/// that the tests run on.
const ONLY_THERE: &[(&str, &[&str])] = &[
    ("Override", &[kernel::OVERRIDE]),
    ("FmodRet", &[kernel::OVERRIDE]),
    ("UserReturn", &[kernel::NEWEST]),
    ("Asleep", &[kernel::BACKPORTED, kernel::OVERRIDE]),
    ("LoopbackDelay", &[kernel::BACKPORTED, kernel::OVERRIDE]),
    ("SysErrno", kernel::TESTED),
    ("SysSignal", kernel::TESTED),
    ("NetDelay", kernel::TESTED),
    ("Lsm", kernel::TESTED),
    ("FmodRetSecurity", kernel::TESTED),
    ("Controllers", kernel::TESTED),
    ("Netem", kernel::TESTED),
    ("Fq", kernel::TESTED),
    // Devices (`tests/src/device.rs`).
    ("GENEVE", kernel::TESTED),
    ("GRETAP", kernel::TESTED),
    ("IP6TNL", kernel::TESTED),
    ("IPIP", kernel::TESTED),
    ("SIT", kernel::TESTED),
    ("WIREGUARD", kernel::TESTED),
];

/// A test, and what it needs.
struct Test {
    binary: String,
    name: String,
    features: Vec<String>,
}

/// The tests that are written out, and those of the matrices of ends. Of others that macros make,
/// the ways through these are many.
fn tests() -> Vec<Test> {
    let mut found = Vec::new();
    let victims = features_of_victims();
    let folder = paths::root().join("tests/tests");
    for entry in fs::read_dir(folder).expect("the tests") {
        let path = entry.expect("a test").path();
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let binary = path.file_stem().expect("a name").to_string_lossy();
        found.extend(of_victims(&binary, &text, &victims));
        for after in text.split("#[test]\n").skip(1) {
            let Some((head, body)) = after.split_once("() {") else {
                continue;
            };
            let Some((_, name)) = head.rsplit_once("fn ") else {
                continue;
            };
            // Up to the brace in the column of the function.
            let indent = &head[..head.len() - head.trim_start().len()];
            let end = format!("\n{indent}}}\n");
            let body = body.split(&end).next().unwrap_or(body);
            let wanted = body
                .split("require!(")
                .skip(1)
                .filter_map(|rest| rest.split(')').next());
            let features = wanted.flat_map(|names| names.split(','));
            let devices = body.split("device::").skip(1);
            let devices = devices.filter_map(|rest| rest.split([')', ',', ']', '.']).next());
            found.push(Test {
                binary: binary.to_string(),
                name: name.to_owned(),
                features: (features.chain(devices))
                    .map(|name| name.trim().to_owned())
                    .collect(),
            });
        }
    }
    found
}

/// What each kind of victim needs: `Kind::feature` in `tests/src/scene.rs`.
fn features_of_victims() -> HashMap<String, String> {
    let path = paths::root().join("tests/src/scene.rs");
    let text = fs::read_to_string(path).expect("the scene");
    let (_, body) = text.split_once("fn feature(self)").expect("the features");
    let body = body.split("\n    }\n").next().expect("their end");
    let mut arms = body.split("Feature::");
    let mut kinds = arms.next();
    let mut features = HashMap::new();
    // What is before a feature names the kinds that need it.
    for arm in arms {
        let feature = identifier(arm);
        let before = kinds.replace(arm).unwrap_or_default();
        for kind in before.split("Self::").skip(1) {
            features.insert(identifier(kind).to_owned(), feature.to_owned());
        }
    }
    features
}

/// Tests that a macro of `text` makes of kinds of victims, by lines `name: Kind, …`.
fn of_victims(binary: &str, text: &str, victims: &HashMap<String, String>) -> Vec<Test> {
    let mut found = Vec::new();
    // Others say in each line what they need.
    let by_kind = text.contains("kind.feature()");
    for definition in text.split("macro_rules! ").skip(1) {
        let name = identifier(definition);
        let definition = definition.split("\n}\n").next().unwrap_or_default();
        let functions = definition.split("#[test]").skip(1);
        let functions = functions.filter_map(|rest| rest.split_once("fn "));
        let functions: Vec<&str> = functions.map(|(_, rest)| identifier(rest)).collect();
        let call = format!("\n{name}! {{\n");
        let calls = text.split(&call).skip(1);
        let lines = calls.flat_map(|rest| rest.split("\n}\n").next());
        for (module, rest) in lines.flat_map(str::lines).filter_map(|l| l.split_once(':')) {
            let Some(of_kind) = victims.get(identifier(rest.trim())) else {
                continue;
            };
            let said = rest.split("needs ").skip(1).map(identifier);
            let features: Vec<String> = if by_kind {
                vec![of_kind.clone()]
            } else {
                said.map(str::to_owned).collect()
            };
            for function in &functions {
                // The macro names a function itself, or takes the line's name for it.
                let name = match *function {
                    "" => module.trim().to_owned(),
                    function => format!("{}::{function}", module.trim()),
                };
                found.push(Test {
                    binary: binary.to_owned(),
                    name,
                    features: features.clone(),
                });
            }
        }
    }
    found
}

/// The name that `text` begins with; none of a macro's variable.
fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| c != '_' && !c.is_alphanumeric());
    &text[..end.unwrap_or(text.len())]
}

fn takes(part: Part, name: &str) -> bool {
    let named = |names: &[&str]| names.iter().any(|part| name.contains(part));
    match part {
        Part::Everything => true,
        Part::Nothing => false,
        Part::Named(names) => named(names),
        Part::AllBut(names) => !named(names),
    }
}

#[test]
fn each_test_runs_somewhere() {
    let tests = tests();
    assert!(tests.len() > 400, "{} tests were found", tests.len());
    let of_matrix = |name: &str| tests.iter().any(|test| test.name == name);
    assert!(of_matrix("delayed_names::is_killed") && of_matrix("loss_with_a_command"));
    let mut nowhere = Vec::new();
    for test in &tests {
        let has = |kernel: &str| {
            test.features.iter().all(|feature| {
                let known = ONLY_THERE.iter().find(|known| known.0 == feature);
                known.is_none_or(|(_, kernels)| kernels.contains(&kernel))
            })
        };
        let on_host = test
            .features
            .iter()
            .all(|feature| ONLY_THERE.iter().all(|known| known.0 != feature));
        let binary = TestBinary {
            name: test.binary.clone(),
            path: PathBuf::new(),
        };
        let part = |kernel: &str| match kernel {
            kernel::NEWEST => binary.part_on_newest(),
            _ => binary.part_on(kernel),
        };
        let in_machine = kernel::TESTED
            .iter()
            .any(|kernel| has(kernel) && takes(part(kernel), &test.name));
        if !on_host && !in_machine {
            nowhere.push(format!("{}: {}", test.binary, test.name));
        }
    }
    assert!(nowhere.is_empty(), "{nowhere:#?}");
}
