//! Package lists of our own, for releases that this system gets no packages from.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::exec::{command, output, run};

/// Who vouches for Debian's archives.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where Debian's packages are, if this system does not know.
const ANYWHERE: &str = "http://deb.debian.org/debian";

/// What apt knows of some of Debian's releases; the system's own lists stay as they are.
pub(crate) struct Lists {
    configuration: PathBuf,
}

impl Lists {
    /// Fetches the lists of these releases into a folder that goes with its owner.
    pub(crate) fn fetch(folder: &Path, releases: &[&str]) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial", "sources"] {
            std::fs::create_dir_all(folder.join(part)).context("cannot make apt's folders")?;
        }
        let sources = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: {KEYRING}\n",
            mirror(),
            releases.join(" ")
        );
        std::fs::write(folder.join("sources/debian.sources"), sources)
            .context("cannot write apt's sources")?;
        let at = folder.display();
        let configuration = format!(
            "Dir::State::lists \"{at}/lists\";\nDir::Cache \"{at}/cache\";\n\
             Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{at}/sources\";\n\
             Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\nAPT::Sandbox::User \"root\";\n"
        );
        let lists = Self {
            configuration: folder.join("apt.conf"),
        };
        std::fs::write(&lists.configuration, configuration)
            .context("cannot write apt's configuration")?;
        // What cannot be fetched is an error, and not a warning beside lists that are empty.
        let update = ["-q", "-o", "APT::Update::Error-Mode=any", "update"];
        run(lists.command("apt-get").args(update))?;
        Ok(lists)
    }

    /// A program of apt's that knows these lists alone.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = command(program);
        command.env("APT_CONFIG", &self.configuration);
        command
    }
}

/// Where this system gets its packages from.
fn mirror() -> String {
    let mut list = command("apt-get");
    list.args(["indextargets", "--format", "$(REPO_URI)", "Label: Debian"]);
    let known = output(&mut list).unwrap_or_default();
    let first = known.lines().map(str::trim).find(|line| !line.is_empty());
    first.unwrap_or(ANYWHERE).to_owned()
}
