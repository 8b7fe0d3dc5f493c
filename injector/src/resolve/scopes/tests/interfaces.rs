//! Several interfaces, and all but some.

use super::*;

fn on(these: &[&str], not: &[&str]) -> Result<Vec<String>, Error> {
    let fault = Fault::Packet(filter(these, not), PacketFault::LOSS);
    let scope = resolve_one(&FakeHost::new(), &["cgroup:db"], fault)?;
    let names = names(&scope.netns[0]).into_iter().map(str::to_owned);
    Ok(names.collect())
}

#[test]
fn several_can_be_named_and_left_out() {
    assert_eq!(on(&["wg0", "eth1"], &[]).expect("both"), ["wg0", "eth1"]);
    assert_eq!(on(&[], &["lo", "inj0"]).expect("others"), ["eth0", "wg0"]);
    // What is not acted on anyhow may be left out, too.
    assert_eq!(
        on(&[], &["gre0", "lo"]).expect("others"),
        ["eth0", "inj0", "wg0"]
    );
}

#[test]
fn every_name_must_be_known() {
    for (these, not) in [(&["eth0", "nope"][..], &[][..]), (&[], &["lo", "nope"])] {
        let error = on(these, not).expect_err("no such interface");
        assert_eq!(exit_code(&error), EXIT_USAGE);
        let text = error.to_string();
        assert!(text.contains("there is no `nope`"), "{text}");
    }
}

#[test]
fn something_must_be_left() {
    let error = on(&[], &["lo", "eth0", "inj0", "wg0"]).expect_err("nothing is left");
    assert_eq!(exit_code(&error), EXIT_UNSUPPORTED);
    assert!(error.to_string().contains("interface option"), "{error}");
}
