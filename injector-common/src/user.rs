//! What only user space needs of the shared types.

use aya::Pod;

use crate::{
    abi::{Control, RuleEntry, RuleSlot, RuleState, RuleStats, ScopeKey, SiteEntry},
    call_chain::Functions,
    call_filter::{CallFilter, FileKey, FileRules},
    dns::NameKey,
    faults::sys_errno::ErrorList,
    fields::Fields,
    filter::PeerName,
    sleep::Dormitory,
};

macro_rules! pod {
    ($($type:ty),+) => {
        $(
            // SAFETY: the type is repr(C), holds only integers and arrays of
            // them, and `abi_layout` proves that it has no padding.
            unsafe impl Pod for $type {}
        )+
    };
}

pod!(
    Control, RuleEntry, RuleSlot, RuleState, RuleStats, ScopeKey, SiteEntry, PeerName, NameKey,
    CallFilter, FileKey, FileRules, Fields, ErrorList, Dormitory, Functions
);
