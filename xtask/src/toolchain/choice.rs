//! Which toolchain to take, from what was found: decisions only, so that every system can be
//! tried in a test.

use super::BpfToolchain;

/// The LLVM versions that the pinned bpf-linker can be built for. Its own must not be older than
/// the compiler's, whose bitcode it reads, so it is built for just that one.
pub(super) const LINKER_KNOWS: std::ops::RangeInclusive<u32> = 21..=23;

/// A nightly whose LLVM the linker knows, for whom the newest is too new.
const KNOWN_NIGHTLY: &str = "nightly-2026-05-20";

/// The variable that names another toolchain of rustup's than `nightly`.
pub(super) const VARIABLE: &str = "INJECTOR_NIGHTLY";

/// What was found on this system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Debian's compiler, with its `core` for BPF.
    pub(super) packaged: bool,
    /// `rustup`.
    pub(super) rustup: bool,
    /// A nightly of rustup's.
    pub(super) nightly: Option<Nightly>,
}

/// A nightly toolchain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nightly {
    /// The sources of `core` are there.
    pub(super) sources: bool,
    /// First number of the version of its LLVM.
    pub(super) llvm: u32,
}

impl Found {
    /// What can be used as it is. Debian's compiler goes first: it needs no sources of `core`.
    pub(super) fn usable(self) -> Option<BpfToolchain> {
        if self.packaged {
            return Some(BpfToolchain::Debian);
        }
        let nightly = self.nightly?;
        let good = nightly.sources && LINKER_KNOWS.contains(&nightly.llvm);
        good.then_some(BpfToolchain::Nightly { llvm: nightly.llvm })
    }

    /// Why nothing can be used, and the command that helps. `name` is the toolchain of rustup's
    /// that was looked for.
    pub(super) fn advice(self, name: &str) -> String {
        let (why, command) = match self.nightly {
            None if !self.rustup => (
                "there is no rustup".to_owned(),
                "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh".to_owned(),
            ),
            None => (
                format!("rustup has no {name}"),
                format!("rustup toolchain install {name} --profile minimal --component rust-src"),
            ),
            Some(nightly) if !LINKER_KNOWS.contains(&nightly.llvm) => (
                format!(
                    "rustup's {name} is built with LLVM {}, and bpf-linker knows {} to {}",
                    nightly.llvm,
                    LINKER_KNOWS.start(),
                    LINKER_KNOWS.end()
                ),
                format!(
                    "rustup toolchain install {KNOWN_NIGHTLY} --profile minimal \
                     --component rust-src\n  export {VARIABLE}={KNOWN_NIGHTLY}"
                ),
            ),
            Some(_) => (
                format!("rustup's {name} lacks the sources of core"),
                format!("rustup component add rust-src --toolchain {name}"),
            ),
        };
        format!(
            "no toolchain can compile for BPF here: {why} (Debian 12 has packages for it). Run \
             this, then try again:\n  {command}"
        )
    }
}

/// First number of the LLVM version in what `rustc --version --verbose` prints.
pub(super) fn llvm_of(version: &str) -> Option<u32> {
    let line = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

/// First number of the LLVM version that a linker was built for: its file names the library.
pub(super) fn llvm_linked(program: &[u8]) -> Option<u32> {
    const LIBRARY: &[u8] = b"libLLVM.so.";
    let at = program
        .windows(LIBRARY.len())
        .position(|window| window == LIBRARY)?;
    let rest = program.get(at + LIBRARY.len()..)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    let digits: Vec<u8> = digits.copied().collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Nightly = Nightly {
        sources: true,
        llvm: 22,
    };

    fn nightly(nightly: Nightly) -> Found {
        Found {
            rustup: true,
            nightly: Some(nightly),
            ..Found::default()
        }
    }

    #[test]
    fn debians_compiler_goes_first() {
        let found = Found {
            packaged: true,
            ..nightly(GOOD)
        };
        assert_eq!(found.usable(), Some(BpfToolchain::Debian));
    }

    #[test]
    fn a_nightly_is_used_with_the_linker_for_its_own_llvm() {
        for llvm in [21, 22, 23] {
            let found = nightly(Nightly { llvm, ..GOOD });
            assert_eq!(found.usable(), Some(BpfToolchain::Nightly { llvm }));
        }
    }

    /// On Debian a package is installed then, and elsewhere the command is named.
    #[track_caller]
    fn refused(found: Found, command: &str) {
        assert_eq!(found.usable(), None);
        let advice = found.advice("nightly");
        let lines: Vec<_> = advice.lines().skip(1).collect();
        assert!(lines.contains(&command), "{advice}");
    }

    #[test]
    fn without_the_sources_of_core_a_nightly_is_not_used() {
        refused(
            nightly(Nightly {
                sources: false,
                ..GOOD
            }),
            "  rustup component add rust-src --toolchain nightly",
        );
    }

    #[test]
    fn a_nightly_with_an_unknown_llvm_is_not_used() {
        for llvm in [20, 24] {
            refused(
                nightly(Nightly { llvm, ..GOOD }),
                "  export INJECTOR_NIGHTLY=nightly-2026-05-20",
            );
        }
    }

    #[test]
    fn without_a_nightly_its_installation_is_named() {
        let rustup = Found {
            rustup: true,
            ..Found::default()
        };
        refused(
            rustup,
            "  rustup toolchain install nightly --profile minimal --component rust-src",
        );
        refused(
            Found::default(),
            "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh",
        );
    }

    #[test]
    fn the_compiler_tells_its_llvm() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nLLVM version: 22.1.4\n";
        assert_eq!(llvm_of(text), Some(22));
        assert_eq!(llvm_of("rustc 1.97.0"), None);
    }

    #[test]
    fn the_linker_tells_its_llvm() {
        assert_eq!(
            llvm_linked(b"\0libc.so.6\0libLLVM.so.22.1-rust-1.97.0-nightly\0"),
            Some(22)
        );
        assert_eq!(llvm_linked(b"\0libLLVM.so.23\0"), Some(23));
        assert_eq!(llvm_linked(b"\0libc.so.6\0"), None);
    }
}
