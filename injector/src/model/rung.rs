//! Ways to make system calls fail.

/// A way to make system calls fail, the preferred one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// A kprobe at the call's entry, which overrides its result.
    Kprobe,
    /// A program in the place of the call.
    FmodRet,
    /// BPF LSM programs at security hooks behind the call.
    Lsm,
    /// Programs in the place of the kernel's functions that ask at these hooks.
    FmodRetSecurity,
}

impl Rung {
    /// All of them, the preferred one first.
    pub const ALL: [Self; 4] = [
        Self::Kprobe,
        Self::FmodRet,
        Self::Lsm,
        Self::FmodRetSecurity,
    ];

    /// Whether it meets a call before anything of it is done.
    #[must_use]
    pub const fn is_at_entry(self) -> bool {
        match self {
            Self::Kprobe | Self::FmodRet => true,
            Self::Lsm | Self::FmodRetSecurity => false,
        }
    }

    /// Its name, as users write it and as plans and reports have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kprobe => "kprobe",
            Self::FmodRet => "fmod_ret",
            Self::Lsm => "lsm",
            Self::FmodRetSecurity => "fmod_ret-security",
        }
    }
}
