//! A log that cannot be written stops nothing, not even a start.

use std::time::Duration;

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::Shell;
use crate::support::Binary;
use crate::support::real::until;

/// The database is locked for so long that a commit fails, which is logged; then it must go on.
async fn survives(rest: &str) {
    let broker = Binary::init(None);
    let mut shell = Shell::serve(&broker, rest).await;
    let register = |name: &str| broker.run(&["agent", "register", name, "--json"], "");
    let agent: Value = serde_json::from_slice(&register("bot").stdout).unwrap();
    let token = async || {
        let (id, secret) = (agent["client_id"].as_str().unwrap(), agent["client_secret"].as_str());
        let request = shell.http.post(format!("http://{}/oauth2/token", shell.public)).basic_auth(id, secret);
        let answer = request.form(&[("grant_type", "client_credentials")]).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_ne!(token().await, 503, "{rest}");
    let file = broker.dir.path().join("data/hallpass.db");
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(5));
    let mut lock = options.connect().await.unwrap();
    lock.execute("BEGIN EXCLUSIVE").await.unwrap();
    assert_eq!(register("refused").status.code(), Some(1), "{rest}");
    assert_eq!(shell.get("/readyz").await.unwrap().0, 503, "{rest}");
    assert_eq!(shell.get("/healthz").await.unwrap().0, 200, "{rest}: a restart would mend nothing");
    lock.execute("ROLLBACK").await.unwrap();
    lock.close().await.unwrap();
    until("records are written again", 20, async || shell.get("/readyz").await.unwrap().0 == 200).await;
    assert_eq!(register("more").status.code(), Some(0), "{rest}");
    assert_eq!(shell.terminate().await, Some(0), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk() {
    survives("2>/dev/full >/dev/full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_was_closed() {
    survives("2>&- >&-").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_reader_is_gone() {
    survives("2> >(exec 0<&-; exit) > >(exec 0<&-; exit)").await;
}

/// The pipe is full, and whoever should read it sleeps. The log is at its most talkative, so that it fills.
#[tokio::test(flavor = "multi_thread")]
async fn whose_reader_sleeps() {
    let filled = "2> >(exec sleep 120)";
    let broker = Binary::init(None);
    std::fs::write(broker.config(), "[log]\nlevel = \"trace\"\n").unwrap();
    let mut shell = Shell::serve(&broker, filled).await;
    let begun = std::time::Instant::now();
    for _ in 0..2000 {
        assert_eq!(shell.get("/healthz").await.unwrap().0, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let ready = broker.run(&["agent", "list"], "");
    assert_eq!(ready.status.code(), Some(0));
    assert_eq!(shell.terminate().await, Some(0));
}

/// Once it can be written again, the log says how many lines are missing.
#[tokio::test(flavor = "multi_thread")]
async fn that_can_be_written_again_says_what_is_missing() {
    let broker = Binary::init(None);
    std::fs::write(broker.config(), "[log]\nlevel = \"debug\"\nformat = \"json\"\n").unwrap();
    let log = broker.dir.path().join("log");
    assert!(std::process::Command::new("mkfifo").arg(&log).status().unwrap().success());
    // Opened for both ways by the shell, so that nobody waits for a reader, and the pipe never breaks.
    let mut shell = Shell::serve(&broker, &format!("2<>{}", log.display())).await;
    for _ in 0..1500 {
        assert_eq!(shell.get("/healthz").await.unwrap().0, 200);
    }
    let mut reader = std::fs::File::open(&log).unwrap();
    let (found, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let reader = std::io::BufReader::new(&mut reader);
        for line in std::io::BufRead::lines(reader) {
            if found.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    let is_about_it = |line: String| {
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        line["message"].as_str().unwrap_or_default().contains("could not be written").then_some(line)
    };
    let told = std::iter::from_fn(|| lines.recv_timeout(Duration::from_secs(10)).ok()).find_map(is_about_it);
    assert!(told.unwrap()["lost"].as_u64().unwrap() > 100);
    assert_eq!(shell.terminate().await, Some(0));
}
