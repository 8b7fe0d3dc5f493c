//! PostgreSQL as a victim: a server of its own for each test, and what it has to say.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Output,
    sync::OnceLock,
};

use tempfile::TempDir;

use crate::{
    cgroup::Cgroup,
    command::{Place, Process},
    wait,
};

/// The variable that names a cluster to begin with, as `initdb` has made it.
///
/// Making one takes an emulated processor a minute, and the host two seconds.
pub const CLUSTER_VARIABLE: &str = "INJECTOR_TEST_CLUSTER";

/// Options of `initdb`: who is on this machine may connect, pages have checksums.
const INIT: [&str; 6] = ["-A", "trust", "-k", "--no-sync", "--locale=C", "-EUTF8"];

/// Settings of the server: it takes no more memory than 64 pages for its cache, so that most of
/// what is asked for is read and most of what is changed is written soon, and no worker repeats
/// the error of another one.
const SETTINGS: [&str; 4] = [
    "listen_addresses=",
    "shared_buffers=512kB",
    "lc_messages=C",
    "max_parallel_workers_per_gather=0",
];

/// A server in a group of its own.
#[derive(Debug)]
pub struct Postgres {
    /// The group.
    pub cgroup: Cgroup,
    folder: TempDir,
    server: Option<Process>,
}

impl Postgres {
    /// Starts a server with an empty database, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("make a folder");
        let path = text(folder.path());
        Place::HERE.run("chown", &["postgres", &path]);
        let data = format!("{path}/data");
        match std::env::var(CLUSTER_VARIABLE) {
            Ok(cluster) => drop(Place::HERE.run("cp", &["-a", &cluster, &data])),
            Err(_) => {
                let initdb = text(&programs().join("initdb"));
                let words = [&as_postgres(&initdb)[..], &["-D", &data], &INIT].concat();
                Place::HERE.run("setpriv", &words);
            }
        }
        let mut database = Self {
            cgroup: Cgroup::new("postgres"),
            folder,
            server: None,
        };
        database.resume();
        database
    }

    /// Starts the server on the files that are there, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn resume(&mut self) {
        let (postgres, data) = (text(&programs().join("postgres")), text(&self.data()));
        let folder = text(self.folder.path());
        let mut words = as_postgres(&postgres).to_vec();
        words.extend(["-D", &data, "-k", &folder]);
        words.extend(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        let mut log = File::options();
        let log = log.create(true).append(true).open(self.log_path());
        let mut command = Place::cgroup(&self.cgroup).command("setpriv");
        command
            .args(words)
            .stderr(log.expect("open the server's log"));
        self.server = Some(Process(command.spawn().expect("start the server")));
        self.answers();
    }

    /// Waits until the server answers.
    pub fn answers(&self) {
        wait::until("PostgreSQL", || {
            self.ask("select 1").status.success().then_some(())
        });
    }

    /// Has the server end orderly, and waits for that.
    ///
    /// # Panics
    ///
    /// When it is not there or fails at its end.
    pub fn stop(&mut self) {
        let mut server = self.server.take().expect("a running server");
        Place::HERE.run("kill", &["-INT", &server.pid().to_string()]);
        let status = server.wait();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// The folder with the files of all tables.
    #[must_use]
    pub fn tables(&self) -> PathBuf {
        self.data().join("base")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the server has logged.
    ///
    /// # Panics
    ///
    /// When it has no log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).expect("read the server's log")
    }

    /// What one client gets that says this, an error or none.
    #[must_use]
    pub fn ask(&self, statement: &str) -> Output {
        self.client(&["-c", statement])
    }

    /// The same with many statements, of which one that fails does not keep the next ones from
    /// being made.
    ///
    /// # Panics
    ///
    /// When they cannot be written to a file.
    #[must_use]
    pub fn ask_all(&self, statements: &str) -> Output {
        let file = self.folder.path().join("statements");
        fs::write(&file, statements).expect("write a file");
        self.client(&["-f", &text(&file)])
    }

    /// The answer to a statement.
    ///
    /// # Panics
    ///
    /// When it is an error.
    #[must_use]
    #[track_caller]
    pub fn get(&self, statement: &str) -> String {
        let output = self.ask(statement);
        assert!(output.status.success(), "{output:?}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn client(&self, what: &[&str]) -> Output {
        let (psql, folder) = (text(&programs().join("psql")), text(self.folder.path()));
        let options = ["-X", "-A", "-t", "-h", &folder, "-U", "postgres"];
        Place::HERE.output(&psql, &[&options, what].concat())
    }

    /// Checks every page of every table and index, by the server and then, when it has ended,
    /// without it.
    ///
    /// # Panics
    ///
    /// When one is not as it should be.
    #[track_caller]
    pub fn assert_sound(&mut self) {
        drop(self.get("create extension if not exists amcheck"));
        let (folder, data) = (text(self.folder.path()), text(&self.data()));
        let options = ["-h", &folder, "-U", "postgres", "--heapallindexed"];
        let scope = ["-d", "postgres"];
        let amcheck = text(&programs().join("pg_amcheck"));
        Place::HERE.run(&amcheck, &[&options[..], &scope].concat());
        self.stop();
        let checksums = text(&programs().join("pg_checksums"));
        let words = [&as_postgres(&checksums)[..], &["--check", "-D", &data]].concat();
        let said = Place::HERE.run("setpriv", &words);
        assert!(said.contains("Bad checksums:  0"), "{said}");
    }
}

/// What `setpriv` is told to run a program as the server's own user, who alone may.
fn as_postgres(program: &str) -> [&str; 8] {
    [
        "--reuid",
        "postgres",
        "--regid",
        "postgres",
        "--clear-groups",
        "--pdeathsig",
        "KILL",
        program,
    ]
}

/// Where the programs of the newest PostgreSQL are: Debian has a folder for each version.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let versions = fs::read_dir("/usr/lib/postgresql");
        let versions = versions.into_iter().flatten().flatten();
        let programs = versions.map(|entry| entry.path().join("bin"));
        let complete = programs.filter(|bin| bin.join("postgres").exists());
        complete.max().unwrap_or_else(|| PathBuf::from("/usr/bin"))
    })
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
