//! Asking what can be done here costs little and leaves nothing.

use std::time::Duration;

use injector_common::FaultKind;
use injector_tests::{agent, kernel::Where, residue::Snapshot};

/// Natively it takes about a fifth of that.
const NATIVE: Duration = Duration::from_secs(3);
/// By a clock that counts instructions, one a nanosecond. Most of them are the verifier's, which
/// walks a dozen programs of a thousand ways each.
const COUNTED: Duration = Duration::from_secs(20);

#[test]
fn it_is_quick_and_leaves_nothing() {
    let snapshot = Snapshot::take(&[]);
    let finished = agent::run(&["doctor"]);
    assert_eq!(finished.code(), 0, "{finished:?}");
    snapshot.assert_clean();
    let limit = if Where::current().is_virtual() {
        COUNTED
    } else {
        NATIVE
    };
    assert!(finished.took < limit, "{:?}", finished.took);
    for kind in FaultKind::ALL {
        assert!(finished.stdout.contains(kind.name()), "{}", finished.stdout);
    }
}
