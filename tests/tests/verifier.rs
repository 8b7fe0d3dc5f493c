//! How much work the programs are for the kernel's verifier, which decides how
//! long it takes until a fault is in force.

use aya::programs::loaded_programs;
use injector_tests::{
    require,
    scene::{Kind, Scene},
};

/// Three times what they need on Linux 6.18, the most of the kernels tried. Half a
/// million once took a second and a half.
const LIMIT: u32 = 48_000;

#[test]
fn packet_programs_are_verified_quickly() {
    require!(NetLoss);
    let scene = Scene::new();
    let injection = scene.inject(Kind::Reception, &["--for", "60s"], &[]);
    let mut seen = Vec::new();
    for program in loaded_programs() {
        let program = program.expect("a program's description");
        let name = program.name_as_str().unwrap_or_default().to_owned();
        if name == "inj_ingress" || name == "inj_egress" {
            let count = program
                .verified_instruction_count()
                .expect("the count is there since Linux 5.16");
            seen.push((name, count));
        }
    }
    drop(injection.stop());
    assert!(!seen.is_empty(), "no packet program was loaded");
    println!("{seen:?}");
    for (name, count) in seen {
        assert!(count <= LIMIT, "{name}: {count} instructions");
    }
}
