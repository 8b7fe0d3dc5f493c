//! What each kind does to the operation at hand, one module each.

pub(crate) mod dns;
pub(crate) mod net_corrupt;
pub(crate) mod net_delay;
pub(crate) mod net_duplicate;
pub(crate) mod net_loss;
pub(crate) mod net_rate;
pub(crate) mod net_refuse;
pub(crate) mod net_reject;
pub(crate) mod net_reset;
pub(crate) mod sys_delay;
pub(crate) mod sys_errno;
pub(crate) mod sys_return;
pub(crate) mod sys_signal;
pub(crate) mod user_return;
