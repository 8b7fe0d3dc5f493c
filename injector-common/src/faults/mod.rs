//! Parameters and pure arithmetic of each fault kind, one module each.

/// Parameters of a rule; what they mean is the kind's business.
pub type Params = [u64; 4];

pub mod dns;
pub mod net_corrupt;
pub mod net_delay;
pub mod net_duplicate;
pub mod net_loss;
pub mod net_partition;
pub mod net_rate;
pub mod net_refuse;
pub mod net_reject;
pub mod net_reorder;
pub mod net_reset;
pub mod sys_delay;
pub mod sys_errno;
pub mod sys_return;
pub mod sys_signal;
pub mod user_return;
