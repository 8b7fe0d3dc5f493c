//! `sys-errno`: the call fails.

use injector_common::{Control, Verdict, faults::sys_errno, names::MAX_RULES};

use crate::decide::live;

/// What the call returns if one of the rules in `mask` hits it: the rules are
/// asked in their order, and the first that injects ends the search.
#[inline(always)]
pub(crate) fn apply(control: &Control, mask: u64, now: u64) -> Option<i32> {
    for index in 0..MAX_RULES {
        if index >= control.rule_count {
            break;
        }
        if mask & (1 << index) == 0 {
            continue;
        }
        let Some(rule) = live(index, now) else {
            continue;
        };
        let (verdict, _) = rule.decide();
        if verdict == Verdict::Inject {
            rule.done(true);
            return Some(sys_errno::return_value(rule.rule.params));
        }
    }
    None
}
