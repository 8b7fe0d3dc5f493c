//! `sys-signal`: the call brings a signal.

use aya_ebpf::helpers::generated::bpf_send_signal_thread;
use injector_common::faults::sys_signal;

use crate::decide::Live;

/// Sends the rule's signal to the thread that calls, and counts what came of it.
#[inline(always)]
pub(crate) fn send(rule: &Live<'_>, index: u32, n: u64) {
    let sent = sys_signal::signal(rule.rule.params).is_some_and(|signal| {
        // SAFETY: the helper takes any number, and refuses what is no signal.
        unsafe { bpf_send_signal_thread(signal) == 0 }
    });
    if sent {
        rule.hit_call(index, n, 0);
    } else {
        rule.done(false);
    }
}
