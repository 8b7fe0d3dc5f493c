//! Services of the host, such as sshd and container runtimes, are spared by rules on calls, signals
//! and resources, whatever these are aimed at.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    require,
    residue::Snapshot,
};
use tempfile::TempDir;

/// Opens a file for each line that it reads, and says how that went.
const OPENS: &str = "while read -r path; do
if true <\"$path\"; then echo opened; else echo failed; fi
done 2>/dev/null";

/// A folder with shells under other names, and with a file.
struct Scene {
    folder: TempDir,
    cgroup: Cgroup,
}

impl Scene {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let shell = fs::canonicalize("/bin/sh").expect("a shell");
        for name in ["sshd", "containerd-shim-runc-v2", "victim"] {
            fs::copy(&shell, folder.path().join(name)).expect("copy a shell");
        }
        fs::create_dir(folder.path().join("files")).expect("a folder");
        fs::write(folder.path().join("files/x"), "x").expect("a file");
        let cgroup = Cgroup::new("services");
        Self { folder, cgroup }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.program(name)
            .to_str()
            .expect("a path in UTF-8")
            .to_owned()
    }

    fn start(&self, name: &str) -> Asked {
        Asked::start(&self.program(name), &["-c", OPENS], &self.cgroup)
    }

    /// A rule that fails what opens the file, for whoever this is.
    fn fails<'a>(path: &'a str, target: &'a [&'a str]) -> Vec<&'a str> {
        let fault = [
            "sys-errno",
            "--call",
            "openat",
            "--errno",
            "EIO",
            "--path",
            path,
        ];
        [&fault[..], target, &["--for", "60s"]].concat()
    }
}

/// A process that opens files when it is told to.
struct Asked {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Asked {
    fn start(program: &std::path::Path, args: &[&str], cgroup: &Cgroup) -> Self {
        let mut command = Place::cgroup(cgroup).command(program);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("start a shell");
        let orders = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            child,
            orders,
            answers,
        }
    }

    fn opens(&mut self, path: &str) -> bool {
        writeln!(self.orders, "{path}").expect("ask");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("an answer");
        assert!(
            ["opened\n", "failed\n"].contains(&answer.as_str()),
            "{answer}"
        );
        answer == "opened\n"
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Those that run already and those that come; not what they start.
#[test]
fn calls_of_services_go_on() {
    require!(SysErrno);
    let scene = Scene::new();
    let (files, file) = (scene.text("files"), scene.text("files/x"));
    let (mut sshd, mut shim) = (scene.start("sshd"), scene.start("containerd-shim-runc-v2"));
    let mut victim = scene.start("victim");
    let snapshot = Snapshot::take(&[]);
    let target = scene.cgroup.target();
    let injection = Injection::start(&Scene::fails(&files, &["--target", &target]));
    assert!(!victim.opens(&file));
    assert!(sshd.opens(&file) && shim.opens(&file));
    let mut later = scene.start("sshd");
    assert!(later.opens(&file));
    // A session's program is no service.
    let script = format!("exec {} -c '{OPENS}'", scene.text("victim"));
    let mut session = Asked::start(&scene.program("sshd"), &["-c", &script], &scene.cgroup);
    assert!(!session.opens(&file));
    let told = injection.agent().stderr();
    for (name, asked) in [("sshd", &sshd), ("containerd-shim-runc-v2", &shim)] {
        let who = format!("{name} ({})", asked.child.id());
        assert!(told.contains(&who), "{told}");
    }
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (2, 2), "{rule:?}");
    assert!(victim.opens(&file));
    snapshot.assert_clean();
}

#[test]
fn the_whole_host_is_without_its_services() {
    require!(SysErrno);
    let scene = Scene::new();
    let (files, file) = (scene.text("files"), scene.text("files/x"));
    let (mut sshd, mut victim) = (scene.start("sshd"), scene.start("victim"));
    let everybody = ["--target", "cgroup:/", "--whole-host"];
    let injection = Injection::start(&Scene::fails(&files, &everybody));
    assert!(!victim.opens(&file));
    assert!(sshd.opens(&file));
    assert_eq!(injection.stop().rule().injected, 1);
}

/// It serves nobody but who started it.
#[test]
fn a_command_is_hit_whatever_it_is() {
    require!(SysErrno);
    let scene = Scene::new();
    let (files, file) = (scene.text("files"), scene.text("files/x"));
    let command = [
        "--",
        &scene.text("sshd"),
        "-c",
        "true <\"$0\"; exit 0",
        &file,
    ];
    let fault = Scene::fails(&files, &["--output", "json"]);
    let line = [&["inject"], &fault[..], &command].concat();
    let finished = agent::run(&line);
    assert_eq!(finished.rule().injected, 1, "{finished:?}");
}

#[test]
fn signals_pass_services_by() {
    let scene = Scene::new();
    let file = scene.text("files/x");
    let (mut sshd, mut victim) = (scene.start("sshd"), scene.start("victim"));
    let target = scene.cgroup.target();
    let injection = Injection::start(&["proc-kill", "--target", &target, "--for", "60s"]);
    assert_eq!(victim.child.wait().expect("an end").code(), None);
    assert!(sshd.opens(&file));
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (1, 1), "{rule:?}");
}

/// Where nobody else is, or all that is there would be hit alike.
#[test]
fn rules_that_cannot_spare_them_are_refused() {
    let scene = Scene::new();
    let files = scene.text("files");
    let sshd = scene.start("sshd");
    let snapshot = Snapshot::take(&[]);
    let refused = |line: &[&str], words: &[&str]| {
        let finished = agent::run(&[&["inject"], line].concat());
        assert_eq!(finished.code(), 2, "{finished:?}");
        for word in words {
            assert!(finished.stderr.contains(word), "{word}: {finished:?}");
        }
    };
    let (target, process) = (scene.cgroup.target(), format!("pid:{}", sshd.child.id()));
    let who = format!("sshd (process {})", sshd.child.id());
    refused(
        &Scene::fails(&files, &["--target", &target]),
        &["nothing but", &who],
    );
    refused(
        &Scene::fails(&files, &["--target", &process]),
        &["is", &who],
    );
    let victim = scene.start("victim");
    refused(
        &["cgroup-freeze", "--target", &target, "--for", "60s"],
        &["holds", &who],
    );
    refused(
        &["proc-kill", "--target", &process, "--for", "60s"],
        &[&process, &who],
    );
    drop(victim);
    snapshot.assert_clean();
}
