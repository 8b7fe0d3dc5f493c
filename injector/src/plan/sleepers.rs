//! How many programs are attached to the function of a call, so that it can wait asleep.

use super::Effect;
use crate::model::{Manner, Syscall};

/// How many programs the kernel takes at one function (`BPF_MAX_TRAMP_LINKS`,
/// include/linux/bpf.h).
pub(super) const MOST: u32 = 38;

/// How many calls of one name can wait asleep on one processor at their entry, or at their return,
/// if so many names are to. The kernel lets no program of this kind run again on a processor while
/// it sleeps there, so there are as many of them; it takes [`MOST`] at one function, and some
/// milliseconds for each that is attached.
fn share(calls: usize, at_both: bool) -> u32 {
    const ALL: usize = 64;
    let most = if at_both { 16 } else { 32 };
    u32::try_from(ALL / calls.max(1)).map_or(8, |share| share.clamp(8, most))
}

/// The same for a call among those that wait asleep, where a call that waits at both stands twice.
pub(super) fn of(call: Syscall, waiting: &[Syscall]) -> u32 {
    let times = waiting.iter().filter(|&&known| known == call).count();
    share(waiting.len(), times > 1)
}

/// How many programs an effect attaches to the function of a call.
pub(super) const fn programs(effect: &Effect) -> u32 {
    match effect {
        Effect::AttachEntry { modifies: true, .. }
        | Effect::AttachReturn {
            manner: Manner::Busy,
            ..
        } => 1,
        // With the one that decides.
        Effect::AttachSleepingEntry { sleepers, .. } | Effect::AttachReturn { sleepers, .. } => {
            *sleepers + 1
        }
        Effect::AttachEntry {
            modifies: false, ..
        }
        | Effect::CreateCgroup { .. }
        | Effect::AddHop(_)
        | Effect::WriteRule { .. }
        | Effect::NameFiles { .. }
        | Effect::NameChain { .. }
        | Effect::FollowProcesses
        | Effect::ForgetCallers
        | Effect::ForgetPrograms
        | Effect::WriteScope { .. }
        | Effect::FollowSockets
        | Effect::TagSockets { .. }
        | Effect::WriteSite { .. }
        | Effect::WriteCall { .. }
        | Effect::AttachPackets { .. }
        | Effect::AttachSeen { .. }
        | Effect::AttachTwin { .. }
        | Effect::AttachSecurity { .. }
        | Effect::StartWaker
        | Effect::AttachSleepingHook { .. }
        | Effect::NameFunction { .. }
        | Effect::AttachFunction { .. }
        | Effect::AttachConnect { .. }
        | Effect::AttachSend { .. }
        | Effect::StartGuardian
        | Effect::HandOver { .. }
        | Effect::Enable => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_calls_share_the_programs_in_which_they_sleep() {
        let counts = [0, 1, 2, 3, 4, 8, 14, 300].map(|calls| share(calls, false));
        assert_eq!(counts, [32, 32, 32, 21, 16, 8, 8, 8]);
        let both = [2, 8].map(|calls| share(calls, true));
        assert_eq!(both, [16, 8]);
        // With those that decide, and one in the place of the call.
        assert!(2 * (both[0] + 1) < MOST && counts[0] + 1 < MOST);
    }
}
