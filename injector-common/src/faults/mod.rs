//! Parameters and pure arithmetic of each fault kind, one module each.

pub mod net_corrupt;
pub mod net_delay;
pub mod net_loss;
pub mod sys_errno;
