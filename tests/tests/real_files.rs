//! Programs that people run, under errors of their files and descriptors: each failure that they
//! log is one that was injected, and nothing that they have confirmed is lost.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Output,
};

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::{Place, Process},
    require, wait,
};
use tempfile::TempDir;

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Lines of a log with this in them.
fn lines(log: &str, what: &str) -> u64 {
    log.lines().filter(|line| line.contains(what)).count() as u64
}

/// A server in a group of its own, which listens at a socket in its folder.
struct Server {
    cgroup: Cgroup,
    folder: TempDir,
    process: Option<Process>,
}

impl Server {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("make a folder");
        fs::create_dir(folder.path().join("files")).expect("make a folder");
        Self {
            cgroup: Cgroup::new(name),
            folder,
            process: None,
        }
    }

    /// What the faults are about.
    fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("read the server's log")
    }

    /// Starts it, with its output in the log.
    fn start(&mut self, program: &str, words: &[&str]) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("open the server's log");
        let mut command = Place::cgroup(&self.cgroup).command(program);
        command.args(words);
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.process = Some(Process(command.spawn().expect("start the server")));
    }

    fn inject(&self, fault: &[&str]) -> Injection {
        let target = self.cgroup.target();
        Injection::start(&[fault, &["--target", &target, "--for", "80s"]].concat())
    }
}

/// Redis that appends each change to a file, and makes sure of it so often.
struct Redis(Server);

impl Redis {
    fn start(fsync: &str) -> Self {
        let mut redis = Self(Server::new("redis"));
        redis.resume(fsync);
        redis
    }

    fn resume(&mut self, fsync: &str) {
        let (files, socket) = (self.0.files(), self.0.socket());
        let place = [
            "--port",
            "0",
            "--dir",
            text(&files),
            "--unixsocket",
            text(&socket),
        ];
        let keeps = ["--save", "", "--appendonly", "yes", "--appendfsync", fsync];
        self.0.start("redis-server", &[place, keeps].concat());
        wait::until("redis", || (self.says(&["ping"]) == "PONG").then_some(()));
    }

    /// What it answers, or what its client complains of.
    fn says(&self, words: &[&str]) -> String {
        let socket = self.0.socket();
        let output = Place::HERE.output("redis-cli", &[&["-s", text(&socket)], words].concat());
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    /// Adds to a list until it is told that this did not work: how many additions were
    /// confirmed, and what it was told.
    fn add_until_refused(&self, key: &str) -> (u64, String) {
        for number in 0..100 {
            let said = self.says(&["rpush", key, "x"]);
            if said != (number + 1).to_string() {
                return (number, said);
            }
        }
        panic!("a hundred additions were confirmed: {}", self.0.log());
    }

    /// Starts it again on its files, and counts what is in the list then.
    fn restarted(&mut self, fsync: &str, key: &str) -> u64 {
        self.0.process = None;
        self.resume(fsync);
        self.says(&["llen", key]).parse().expect("a number")
    }
}

/// What it cannot have on its disk before it answers, it does not answer: it ends.
#[track_caller]
fn redis_ends_rather_than_lie(fault: &[&str], logged: &str, why: &str) {
    let mut redis = Redis::start("always");
    assert_eq!(redis.says(&["rpush", "list", "x"]), "1");
    let files = redis.0.files();
    let injection = redis.0.inject(&[fault, &["--path", text(&files)]].concat());
    let said = redis.says(&["rpush", "list", "x"]);
    assert!(said.contains("closed") || said.contains("reset"), "{said}");
    let status = redis.0.process.as_mut().expect("a server").wait();
    assert_eq!(status.code(), Some(1), "{}", redis.0.log());
    let injected: u64 = injection
        .stop()
        .report()
        .rules
        .iter()
        .map(|rule| rule.injected)
        .sum();
    let log = redis.0.log();
    assert_eq!((injected, lines(&log, logged)), (1, 1), "{log}");
    assert_eq!(lines(&log, why), 1, "{log}");
    // What was confirmed is there. What was not may be, where only the sync has failed.
    let there = redis.restarted("always", "list");
    assert!((1..=2).contains(&there), "{there}: {}", redis.0.log());
    assert_eq!(redis.says(&["rpush", "list", "x"]), (there + 1).to_string());
}

#[test]
fn redis_ends_when_its_disk_is_full() {
    require!(SysErrno);
    redis_ends_rather_than_lie(
        &["disk-full"],
        "Error writing to the AOF file: No space left on device",
        "Can't recover from AOF write error when the AOF fsync policy is 'always'",
    );
}

/// Only there can a sync be failed.
#[test]
fn redis_ends_when_it_cannot_sync() {
    require!(Override);
    redis_ends_rather_than_lie(
        &["sys-errno", "--call", "fsync,fdatasync", "--errno", "EIO"],
        "for fsync error",
        "when the AOF fsync policy is 'always': Input/output error. Exiting",
    );
}

/// Where it syncs later, it answers before it knows, then refuses changes, and takes them again
/// when there is room.
#[test]
fn redis_refuses_changes_until_there_is_room() {
    require!(SysErrno);
    let mut redis = Redis::start("everysec");
    let files = redis.0.files();
    let injection = redis.0.inject(&["disk-full", "--path", text(&files)]);
    let (confirmed, said) = redis.add_until_refused("list");
    assert!(said.starts_with("MISCONF"), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(redis.says(&["llen", "list"]), confirmed.to_string());
    let injected: u64 = injection
        .stop()
        .report()
        .rules
        .iter()
        .map(|rule| rule.injected)
        .sum();
    // It tries again each second, and logs one failure in 30 s.
    let log = redis.0.log();
    let logged = lines(&log, "Error writing to the AOF file");
    assert!(
        logged >= 1 && logged <= injected,
        "{logged} of {injected}: {log}"
    );
    let again: u64 = wait::until("room", || redis.says(&["rpush", "list", "x"]).parse().ok());
    assert_eq!(again, confirmed + 1);
    assert_eq!(lines(&redis.0.log(), "AOF write error looks solved"), 1);
    wait::until("a sync", || {
        redis
            .says(&["info", "persistence"])
            .contains("aof_pending_bio_fsync:0")
            .then_some(())
    });
    assert_eq!(redis.restarted("everysec", "list"), again);
}

/// nginx with two workers and a page.
struct Nginx(Server);

impl Nginx {
    fn start() -> Self {
        let mut nginx = Self(Server::new("nginx"));
        let path = nginx.0.folder.path().display().to_string();
        let config = format!(
            "daemon off; user root; worker_processes 2; pid {path}/pid; error_log {path}/errors;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
             fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
             server {{ listen unix:{path}/socket; root {path}/files; }} }}\n"
        );
        fs::write(nginx.0.folder.path().join("config"), config).expect("write a file");
        fs::write(nginx.0.files().join("page"), "x".repeat(100)).expect("write a file");
        let config = nginx.0.folder.path().join("config");
        nginx
            .0
            .start("nginx", &["-e", "stderr", "-c", text(&config)]);
        wait::until("nginx", || (nginx.get().stdout == b"200").then_some(()));
        nginx
    }

    /// Gets the page: curl's output is the status of the answer.
    fn get(&self) -> Output {
        let socket = self.0.socket();
        let reach = [
            "-s",
            "-m",
            "30",
            "--unix-socket",
            text(&socket),
            "http://nginx/page",
        ];
        let say = ["-o", "/dev/null", "-w", "%{http_code}"];
        Place::HERE.output("curl", &[&reach[..], &say].concat())
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.0.folder.path().join("errors")).unwrap_or_default()
    }
}

/// Whoever connects meanwhile waits, and is served.
#[test]
fn nginx_logs_each_connection_that_it_cannot_accept() {
    require!(SysErrno);
    let nginx = Nginx::start();
    let fault = [
        "sys-errno",
        "--call",
        "accept4",
        "--errno",
        "EMFILE",
        "--times",
        "4",
    ];
    let injection = nginx.0.inject(&fault);
    for _ in 0..3 {
        let answer = nginx.get();
        assert_eq!(answer.stdout, b"200", "{answer:?}");
    }
    let rule = injection.wait().rule().clone();
    let errors = nginx.errors();
    assert_eq!(rule.injected, 4, "{rule:?}");
    let told = lines(&errors, "accept4() failed (24: Too many open files)");
    assert_eq!(told, 4, "{errors}");
    assert_eq!(nginx.get().stdout, b"200");
    assert_eq!(lines(&nginx.errors(), "failed"), 4);
}

#[test]
fn nginx_logs_each_file_that_it_cannot_open() {
    require!(SysErrno);
    let nginx = Nginx::start();
    let files = nginx.0.files();
    let fault = [
        "sys-errno",
        "--call",
        "openat",
        "--errno",
        "EIO",
        "--path",
        text(&files),
    ];
    let injection = nginx.0.inject(&[&fault[..], &["--when", "2+2"]].concat());
    let asked = 8;
    let answers: Vec<Vec<u8>> = (0..asked).map(|_| nginx.get().stdout).collect();
    let rule = injection.stop().rule().clone();
    let failed = answers.iter().filter(|answer| **answer == b"500").count() as u64;
    let well = answers.iter().filter(|answer| **answer == b"200").count() as u64;
    let errors = nginx.errors();
    let told = lines(&errors, "page\" failed (5: Input/output error)");
    assert_eq!(
        (rule.injected, told, failed),
        (4, 4, 4),
        "{rule:?} {errors}"
    );
    assert_eq!(well, asked - failed, "{answers:?}");
    assert_eq!(nginx.get().stdout, b"200");
}
