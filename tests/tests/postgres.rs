//! PostgreSQL under errors of its disk: every failure that it logs is one that was injected, no
//! change that it has confirmed is lost, and no page is damaged.

use std::time::{Duration, Instant};

use injector_tests::{agent::Injection, postgres::Postgres, require, wait};

/// How long the disk is bad.
const FAULT: Duration = Duration::from_secs(60);

/// Rows of the table, a few hundred pages.
const ROWS: u64 = 4000;

/// Changes and look-ups in one round of the client's.
const ROUND: u64 = 100;

/// A server with a table whose rows count their changes.
fn with_table() -> Postgres {
    let database = Postgres::start();
    drop(database.get(&format!(
        "create table rows (id int primary key, changes int not null default 0, pad text); \
         insert into rows select id, 0, repeat('x', 400) from generate_series(1, {ROWS}) id"
    )));
    drop(database.get("checkpoint"));
    database
}

/// Changes a row and looks at another one, many times, in no order. Returns how many changes the
/// server has confirmed.
fn round(database: &Postgres, number: u64) -> usize {
    // A prime that has no part in common with the number of rows leads to each of them.
    const STRIDE: u64 = 7919;
    let row = |turn| turn * STRIDE % ROWS + 1;
    let statements = (number * ROUND..(number + 1) * ROUND).map(|turn| {
        format!(
            "update rows set changes = changes + 1 where id = {};\n\
             select pad from rows where id = {};\n",
            row(turn),
            row(turn + ROWS / 2)
        )
    });
    let output = database.ask_all(&statements.collect::<String>());
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().filter(|line| *line == "UPDATE 1").count()
}

/// Lines of the log with any of these texts and this error. (The place in the statement may follow.)
fn logged(log: &str, what: &[&str], error: &str) -> u64 {
    let lines = log.lines().filter(|line| line.contains(error));
    let count = lines.filter(|line| what.iter().any(|what| line.contains(what)));
    count.count() as u64
}

const EIO: &str = ": Input/output error";

/// One in a hundred reads and writes of its tables fails, for a minute.
#[test]
fn each_failure_of_its_tables_is_logged_and_nothing_is_lost() {
    require!(SysErrno);
    let mut database = with_table();
    let (target, tables) = (database.cgroup.target(), database.tables());
    let rules = [
        ("reads", "pread64, preadv"),
        ("writes", "pwrite64, pwritev"),
    ]
    .map(|(name, calls)| {
        format!(
            "{{kind: sys-errno, name: {name}, target: '{target}', call: [{calls}], errno: EIO, \
             path: '{}', percent: 1}}",
            tables.display()
        )
    });
    let spec = format!(
        "{{version: 1, for: 200s, seed: 1, rules: [{}]}}",
        rules.join(", ")
    );
    let injection = Injection::of_spec(&spec);
    let (begin, mut rounds, mut confirmed) = (Instant::now(), 0, 0);
    while begin.elapsed() < FAULT {
        confirmed += round(&database, rounds);
        rounds += 1;
    }
    let rules = injection.stop().report().rules;
    let log = database.log();
    let reads = logged(&log, &["could not read block"], EIO);
    let failed_writes = ["could not write block", "could not extend file"];
    let writes = logged(&log, &failed_writes, EIO);
    assert_eq!(
        (rules[0].injected, rules[1].injected),
        (reads, writes),
        "{log}"
    );
    assert_eq!(logged(&log, &[""], EIO), reads + writes, "{log}");
    // Both were hit, or the fault would prove nothing.
    assert!(reads > 0 && writes > 0, "{rules:?}");
    println!("{rounds} rounds, {confirmed} changes, {rules:?}");

    database.answers();
    drop(database.get("checkpoint"));
    let sum = database.get("select sum(changes) from rows");
    assert_eq!(sum, confirmed.to_string(), "{log}");
    database.assert_sound();
}

/// What it cannot be sure to have on its disk makes it start again from its log.
#[test]
fn it_starts_again_when_it_cannot_sync() {
    require!(Override);
    let mut database = with_table();
    let (target, tables) = (database.cgroup.target(), database.tables());
    let tables = tables.display().to_string();
    let confirmed = round(&database, 0);
    assert_eq!(confirmed as u64, ROUND);
    let rule = ["sys-errno", "--target", &target, "--call", "fsync"];
    let options = ["--path", &tables, "--errno", "EIO", "--times", "1"];
    let injection = Injection::start(&[&rule[..], &options, &["--for", "80s"]].concat());
    let checkpoint = database.ask("checkpoint");
    assert!(!checkpoint.status.success(), "{checkpoint:?}");
    let finished = injection.wait();
    assert_eq!(finished.report().stopped_by, "budget");
    assert_eq!(finished.rule().injected, 1);
    database.answers();
    let log = database.log();
    let panics = log.lines().filter(|line| line.contains("PANIC:"));
    let panics: Vec<_> = panics.collect();
    assert!(
        matches!(&panics[..], [one] if one.contains("could not fsync file \"base/")),
        "{log}"
    );
    assert!(log.contains("automatic recovery in progress"), "{log}");
    let sum = database.get("select sum(changes) from rows");
    assert_eq!(sum, confirmed.to_string());
    database.assert_sound();
}

/// A full disk is an error of who writes, and over when there is room again.
#[test]
fn it_goes_on_when_there_is_room_again() {
    const NO_ROOM: &str = ": No space left on device";
    require!(SysErrno);
    let mut database = with_table();
    let (target, tables) = (database.cgroup.target(), database.tables());
    let tables = tables.display().to_string();
    let rule = ["disk-full", "--target", &target, "--path", &tables];
    let injection = Injection::start(&[&rule[..], &["--for", "80s"]].concat());
    let insert = format!(
        "insert into rows select id, 0, repeat('y', 400) \
         from generate_series({}, {}) id",
        ROWS + 1,
        2 * ROWS
    );
    let refused = database.ask(&insert);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(said.contains("No space left on device"), "{said}");
    let rules = injection.stop().report().rules;
    let log = database.log();
    let injected: u64 = rules.iter().map(|rule| rule.injected).sum();
    let failed = ["could not write block", "could not extend file"];
    assert_eq!(logged(&log, &failed, NO_ROOM), injected, "{log}");
    assert!(injected > 0, "{rules:?}");
    let inserted = wait::poll(Duration::from_secs(20), || {
        database.ask(&insert).status.success().then_some(())
    });
    assert!(inserted.is_some(), "{}", database.log());
    let count = database.get("select count(*) from rows");
    assert_eq!(count, (2 * ROWS).to_string());
    database.stop();
}
