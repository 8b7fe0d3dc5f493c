//! Programs that people run, as victims: web and data servers, the clients that
//! people reach them with, and a load generator.

use std::{fs, path::Path, time::Duration};

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::{Place, Process},
    netns::{Ip, Netns, Pair},
    require, wait,
};
use serde_json::Value;
use tempfile::TempDir;

/// A server in a group of its own on the near side.
struct Server {
    cgroup: Cgroup,
    port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Server {
    /// Starts nginx with one small page, and waits until it serves.
    fn nginx(pair: &Pair, port: u16) -> Self {
        let folder = tempfile::tempdir().expect("make a folder");
        let path = folder.path().display();
        let config = format!(
            "daemon off; user root; worker_processes 2; pid {path}/pid; error_log {path}/errors;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
             fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
             server {{ listen {port}; listen [::]:{port}; root {path}; }} }}\n"
        );
        fs::write(folder.path().join("config"), config).expect("write a file");
        fs::write(folder.path().join("page"), "x".repeat(100)).expect("write a file");
        let cgroup = Cgroup::new("nginx");
        let config = argument(&folder.path().join("config"));
        let place = Place::netns(&pair.near).and_cgroup(&cgroup);
        let process = place.spawn("nginx", &["-e", "stderr", "-c", &config]);
        let server = Self {
            cgroup,
            port,
            _process: process,
            _folder: folder,
        };
        wait::until("nginx", || server.get(pair, Ip::V4, "1").ok());
        server
    }

    /// Starts redis without persistence, and waits until it serves.
    fn redis(pair: &Pair, port: u16) -> Self {
        let folder = tempfile::tempdir().expect("make a folder");
        let cgroup = Cgroup::new("redis");
        let (number, path) = (port.to_string(), argument(folder.path()));
        let place = Place::netns(&pair.near).and_cgroup(&cgroup);
        let options = [
            "--port",
            &number,
            "--save",
            "",
            "--dir",
            &path,
            "--protected-mode",
            "no",
        ];
        let process = place.spawn("redis-server", &options);
        let server = Self {
            cgroup,
            port,
            _process: process,
            _folder: folder,
        };
        wait::until("redis", || {
            (server.redis_says(pair, &["ping"]) == "PONG").then_some(())
        });
        server
    }

    /// Gets the page from the far side, within so many seconds: how long that
    /// took in seconds, or curl's exit code.
    fn get(&self, pair: &Pair, ip: Ip, limit: &str) -> Result<f64, i32> {
        let host = match (ip, Pair::near_address(ip)) {
            (Ip::V4, address) => address.to_string(),
            (Ip::V6, address) => format!("[{address}]"),
        };
        let url = format!("http://{host}:{}/page", self.port);
        let args = [
            "-sf",
            "-o",
            "/dev/null",
            "-m",
            limit,
            "-w",
            "%{time_total}",
            &url,
        ];
        let output = Place::netns(&pair.far).output("curl", &args);
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout)
                .parse()
                .expect("a time")),
            Some(code) => Err(code),
            None => panic!("curl was killed"),
        }
    }

    /// What redis answers on the far side, or what its client complains of.
    fn redis_says(&self, pair: &Pair, words: &[&str]) -> String {
        let (host, port) = (
            Pair::near_address(Ip::V4).to_string(),
            self.port.to_string(),
        );
        let args = [&["-h", &host, "-p", &port], words].concat();
        let output = Place::netns(&pair.far).output("redis-cli", &args);
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).trim().to_owned()
    }

    fn inject(&self, fault: &[&str]) -> Injection {
        let target = self.cgroup.target();
        Injection::start(&[fault, &["--target", &target, "--for", "80s"]].concat())
    }
}

fn argument(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// curl: the time was up before an answer came.
const TIMED_OUT: i32 = 28;

#[test]
fn nginx_vanishes_and_comes_back() {
    require!(NetLoss);
    let pair = Pair::new();
    let (victim, bystander) = (Server::nginx(&pair, 8080), Server::nginx(&pair, 8081));
    for direction in ["egress", "ingress"] {
        // The answers come from worker processes, not from the first one.
        let injection = victim.inject(&["net-loss", "--direction", direction]);
        for ip in [Ip::V4, Ip::V6] {
            assert_eq!(
                victim.get(&pair, ip, "1"),
                Err(TIMED_OUT),
                "{direction} {ip:?}"
            );
            assert!(bystander.get(&pair, ip, "20").is_ok());
        }
        assert!(injection.stop().rule().injected > 0);
        for ip in [Ip::V4, Ip::V6] {
            assert!(victim.get(&pair, ip, "20").is_ok());
        }
    }
}

#[test]
fn nginx_answers_late() {
    require!(NetDelay);
    let pair = Pair::new();
    let (victim, bystander) = (Server::nginx(&pair, 8080), Server::nginx(&pair, 8081));
    let injection = victim.inject(&["net-delay", "--delay", "200ms"]);
    // The handshake and the answer are delayed once each.
    let late = victim.get(&pair, Ip::V4, "20").expect("an answer");
    assert!((0.4..0.6).contains(&late), "{late} s");
    assert!(bystander.get(&pair, Ip::V4, "20").expect("an answer") < 0.2);
    assert!(injection.stop().rule().injected >= 3);
    assert!(victim.get(&pair, Ip::V4, "20").expect("an answer") < 0.2);
}

/// curl: the server answered with an error (`-f`).
const HTTP_ERROR: i32 = 22;

#[test]
fn nginx_cannot_open_its_page() {
    require!(SysErrno);
    let pair = Pair::new();
    let (victim, bystander) = (Server::nginx(&pair, 8080), Server::nginx(&pair, 8081));
    let injection = victim.inject(&["sys-errno", "--call", "openat", "--errno", "EIO"]);
    assert_eq!(victim.get(&pair, Ip::V4, "20"), Err(HTTP_ERROR));
    assert!(bystander.get(&pair, Ip::V4, "20").is_ok());
    assert!(injection.stop().rule().injected >= 1);
    assert!(victim.get(&pair, Ip::V4, "20").is_ok());
}

#[test]
fn redis_cannot_read_its_clients() {
    require!(SysErrno);
    let pair = Pair::new();
    let (victim, bystander) = (Server::redis(&pair, 6380), Server::redis(&pair, 6381));
    let injection = victim.inject(&["sys-errno", "--call", "read", "--errno", "ECONNRESET"]);
    let answer = victim.redis_says(&pair, &["ping"]);
    assert!(
        answer.contains("closed") || answer.contains("reset"),
        "{answer}"
    );
    assert_eq!(bystander.redis_says(&pair, &["ping"]), "PONG");
    assert!(injection.stop().rule().injected >= 1);
    assert_eq!(victim.redis_says(&pair, &["ping"]), "PONG");
}

#[test]
fn redis_answers_what_it_was_not_told() {
    require!(NetCorrupt);
    let pair = Pair::new();
    let (victim, bystander) = (Server::redis(&pair, 6380), Server::redis(&pair, 6381));
    let value = "a".repeat(1000);
    for server in [&victim, &bystander] {
        assert_eq!(server.redis_says(&pair, &["set", "key", &value]), "OK");
    }
    let injection = victim.inject(&["net-corrupt", "--checksum", "valid", "--seed", "8"]);
    let answer = victim.redis_says(&pair, &["get", "key"]);
    let good = |answer: &str| answer == value;
    assert!(!good(&answer) && !answer.is_empty(), "{answer}");
    assert!(good(&bystander.redis_says(&pair, &["get", "key"])));
    assert!(injection.stop().rule().injected >= 1);
    assert!(good(&victim.redis_says(&pair, &["get", "key"])));
}

/// Retransmitted segments of a run of iperf3 that the near side sends, with its
/// client in this group.
fn retransmits(pair: &Pair, cgroup: &Cgroup, port: &str) -> u64 {
    let far = Pair::far_address(Ip::V4).to_string();
    let near = Place::netns(&pair.near).and_cgroup(cgroup);
    // Slowly: at full speed a busy machine drops packets on its own.
    let args = [
        "-J", "-c", &far, "-p", port, "-t", "2", "-b", "20M", "-l", "1400",
    ];
    let text = near.run("iperf3", &args);
    let result: Value = serde_json::from_str(&text).expect("iperf3 speaks JSON");
    result["end"]["sum_sent"]["retransmits"]
        .as_u64()
        .expect("a count")
}

fn iperf3_server(netns: &Netns, port: &str) -> Process {
    let server = Place::netns(netns).spawn("iperf3", &["-s", "-p", port]);
    let deadline = Duration::from_secs(20);
    let listening = wait::poll(deadline, || {
        let sockets = Place::netns(netns).run("ss", &["-Hltn", "sport", "=", port]);
        (!sockets.trim().is_empty()).then_some(())
    });
    assert!(listening.is_some(), "iperf3 does not listen");
    server
}

#[test]
fn iperf3_retransmits() {
    require!(NetLoss);
    let pair = Pair::new();
    let (victim, bystander) = (Cgroup::new("iperf3"), Cgroup::new("iperf3"));
    let _servers = ["5201", "5202"].map(|port| iperf3_server(&pair.far, port));
    // Some 3500 segments in each run, of one packet each.
    pair.near.ip(&["link", "set", "near0", "gso_max_segs", "1"]);
    let few = 20;
    let target = victim.target();
    let args = [
        "net-loss",
        "--target",
        &target,
        "--percent",
        "5",
        "--seed",
        "2",
        "--for",
        "80s",
    ];
    // A group's namespaces are those of its processes, and the client is not
    // there yet.
    let _resident = Place::netns(&pair.near)
        .and_cgroup(&victim)
        .spawn("sleep", &["1000"]);
    let injection = Injection::start(&args);
    let suffered = retransmits(&pair, &victim, "5201");
    let beside = retransmits(&pair, &bystander, "5202");
    let rule = injection.stop().rule();
    assert!(
        suffered > few && beside < few,
        "{suffered} against {beside}: {rule:?}"
    );
    let after = retransmits(&pair, &victim, "5201");
    assert!(after < few, "{after} afterwards");
}
