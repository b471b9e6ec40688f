//! **P4 No record, no call**: the intent is durable before the secret leaves the process, and if the audit log cannot be
//! written, the call is refused.
//!
//! Here the database is locked, full, stopped and cut off under a running broker. That no kill gets between the record
//! and the call is tested where the kills are, with P9.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::support::database::{execute, number, on_both_engines};
use crate::support::log::count_kind;
use crate::support::postgres::Cluster;
use crate::support::real::{Client, ISSUER, Real, copy_folder, until};
use crate::support::{Binary, Engine, Upstream};

on_both_engines!(the_intent_is_durable_when_the_upstream_sees_the_secret, a_locked_database_refuses_and_recovers);

const SECRET: &str = "sk-live-0123456789abcdef";

async fn the_intent_is_durable_when_the_upstream_sees_the_secret(engine: Engine) {
    let (open, wait) = tokio::sync::watch::channel(false);
    let upstream = Upstream::waiting(wait).await;
    let Some(mut real) = Real::init(engine) else { return };
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    let url = format!("{}/exchange/crm/any/slow", real.binary.public);
    let request = real.http.get(url).bearer_auth(token);
    let call = tokio::spawn(async move { request.send().await?.text().await });
    until("the upstream sees the call", 10, async || !upstream.seen().is_empty()).await;
    // As another process sees it, and as a crash at this moment would leave it.
    assert_eq!(upstream.seen()[0].headers["x-api-key"], SECRET);
    assert_eq!(count_kind(&real.database, "call.intent").await, 1);
    assert_eq!(count_kind(&real.database, "call.outcome").await, 0);
    open.send_replace(true);
    assert_eq!(call.await.unwrap().unwrap(), "at last");
    until("the outcome follows", 10, async || count_kind(&real.database, "call.outcome").await == 1).await;
    assert!(real.binary.terminate().success());
    assert_eq!(real.verify(&[]).0, 0);
}

/// Another process has the database, and lets go of it only when told.
enum Lock {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Lock {
    async fn take(url: &str) -> Self {
        if url.starts_with("sqlite:") {
            let mut other = SqliteConnection::connect(url).await.unwrap();
            until("the lock is ours", 10, async || sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.is_ok())
                .await;
            return Self::Sqlite(other);
        }
        let mut other = PgConnection::connect(url).await.unwrap();
        // Both: a probe that is committed by itself writes the chain's end and no record.
        let lock = "BEGIN; LOCK TABLE audit_segments, audit_heads IN ACCESS EXCLUSIVE MODE";
        sqlx::raw_sql(lock).execute(&mut other).await.unwrap();
        Self::Postgres(other)
    }

    async fn release(self) {
        match self {
            Self::Sqlite(mut other) => {
                sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
                other.close().await.unwrap();
            }
            Self::Postgres(mut other) => {
                sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
                other.close().await.unwrap();
            }
        }
    }
}

/// Status, stable code and `Retry-After` of a token request, of a call and of `/readyz`, all at once; how long they took.
async fn all_refused(real: &Real, agent: &Client, token: &str) -> Duration {
    let start = Instant::now();
    let all = futures_util::future::join3(
        real.token_request(agent, &[("task", "while the database is away")]),
        real.call("/crm/any/away", token),
        real.http.get(format!("{}/readyz", real.binary.ops)).send(),
    );
    let all = tokio::time::timeout(Duration::from_secs(60), all).await;
    let (issued, called, ready) = all.expect("nobody is left to wait");
    let (status, answer) = issued.unwrap();
    assert_eq!((status, &answer["error"]), (503, &"temporarily_unavailable".into()), "{answer}");
    let called = called.unwrap();
    assert_eq!((called.status().as_u16(), called.headers().contains_key("retry-after")), (503, true));
    let answer: Value = called.json().await.unwrap();
    assert_eq!(answer["code"], "audit_unavailable", "{answer}");
    let ready = ready.unwrap();
    assert_eq!(ready.status(), 503);
    let answer: Value = ready.json().await.unwrap();
    assert_eq!(answer["status"], "not ready", "{answer}");
    start.elapsed()
}

async fn a_locked_database_refuses_and_recovers(engine: Engine) {
    let (open, wait) = tokio::sync::watch::channel(false);
    let upstream = Upstream::waiting(wait).await;
    let Some(mut real) = Real::init(engine) else { return };
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    let url = format!("{}/exchange/crm/any/under-way", real.binary.public);
    let request = real.http.get(url).bearer_auth(&token);
    let call = tokio::spawn(async move { request.send().await?.text().await });
    until("a call is in flight", 10, async || !upstream.seen().is_empty()).await;

    let lock = Lock::take(&real.database).await;
    let took = all_refused(&real, &agent, &token).await;
    // A lock is given up after 5 s: SQLite does so, and for PostgreSQL, which would wait for ever, we do.
    assert!(took > Duration::from_secs(4), "{took:?}");
    // Who comes when that is known is told at once.
    let took = all_refused(&real, &agent, &token).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    // What cannot be recorded is not done, and is not done later.
    let (code, said) = crate::support::real::said(&real.binary.run(&["agent", "revoke", "helpdesk"], ""));
    assert!(code == 1 && said.contains("cannot be recorded"), "{said}");
    open.send_replace(true);
    assert_eq!(call.await.unwrap().unwrap(), "at last", "what had its intent goes on");
    assert_eq!(upstream.seen().len(), 1, "no record, no call");
    lock.release().await;

    until("it recovers by itself", 30, async || real.ready().await == 200).await;
    // The outcome that had to wait is there, and nothing of what was refused.
    until("the outcome follows", 10, async || count_kind(&real.database, "call.outcome").await == 1).await;
    assert_eq!(count_kind(&real.database, "token.issued").await, 1);
    assert_eq!(count_kind(&real.database, "call.intent").await, 1);
    assert_eq!(count_kind(&real.database, "revocation").await, 0);
    assert_eq!(real.call_status("/crm/any/again", &token).await, 200);
    let fresh = real.token(&agent).await;
    real.binary.kill();
    real.binary.serve(None);
    assert_eq!(real.call_status("/crm/any/after", &fresh).await, 200);
    assert!(real.binary.terminate().success());
    let (code, said) = real.verify(&[]);
    assert_eq!(code, 0, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_cut_off_stopped_and_back() {
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.create_database(0);
    let upstream = Upstream::echo().await;
    let mut real = Real::init_at(Some(&database));
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    let (server, name) = database.rsplit_once('/').map(|(a, b)| (format!("{a}/postgres"), b.to_owned())).unwrap();
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    let works = async || {
        real.token_request(&agent, &[]).await.unwrap().0 == 200
            && real.call_status("/crm/v1/contacts", &token).await == 200
            && real.ready().await == 200
    };

    // All connections cut at once, several times, in the middle of work.
    for _ in 0..3 {
        execute(&server, &cut).await;
        until("it recovers by itself", 20, &works).await;
    }
    // Gone, politely and by a crash. Refused, and fail closed.
    for mode in ["fast", "immediate"] {
        let good = real.token(&agent).await;
        cluster.stop(mode);
        let before = upstream.seen().len();
        let took = all_refused(&real, &agent, &good).await;
        assert!(took < Duration::from_secs(5), "{took:?}");
        let took = all_refused(&real, &agent, &good).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(upstream.seen().len(), before, "no record, no call");
        let (code, said) = real.verify(&[]);
        assert_eq!(code, 1, "{said}");
        until("PostgreSQL is back", 30, async || cluster.start().is_ok()).await;
        until("it recovers by itself", 30, &works).await;
        assert_eq!(real.call_status("/crm/v1/contacts", &good).await, 200);
    }
    // The lock is taken again: a second broker is still refused.
    until("the lock is back", 10, async || {
        let locks = format!(
            "SELECT COUNT(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
             WHERE l.locktype = 'advisory' AND d.datname = '{name}'"
        );
        number(&server, &locks).await == 1
    })
    .await;
    let output = real.binary.run(&["serve", "--listen", "127.0.0.1:0"], "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("already serves"), "{said}");
    assert!(real.binary.terminate().success());
    assert_eq!(real.verify(&[]).0, 0);
    cluster.stop("immediate");
}

/// When this is set, a test that may not mount a file system fails instead of being skipped.
const REQUIRE_MOUNT: &str = "HALLPASS_TEST_REQUIRE_MOUNT";

/// A file system of its own, gone with this.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir.path());
        let output = mount.output();
        if output.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        let required = std::env::var_os(REQUIRE_MOUNT).is_some_and(|v| !v.is_empty() && v != "0");
        assert!(!required, "{REQUIRE_MOUNT} is set, but a tmpfs cannot be mounted: {output:?}");
        use std::io::Write as _;
        let line = "#".repeat(100);
        let words = format!(
            "\n{line}\n## THE FULL-DISK TEST IS SKIPPED: only root may mount a small tmpfs.\n\
             ## Set {REQUIRE_MOUNT}=1 to fail here instead.\n{line}\n"
        );
        drop(std::io::stderr().lock().write_all(words.as_bytes()));
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(self.0.path()).status().is_ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_refused_and_survived() {
    let Some(disk) = SmallDisk::mount("6m") else { return };
    let upstream = Upstream::echo().await;
    // The data folder alone is on it: the log of the process goes on.
    let mut binary = Binary::init(None);
    let data = binary.dir.path().join("data");
    copy_folder(&data, disk.0.path());
    let database = format!("sqlite:{}", disk.0.path().join("hallpass.db").display());
    binary.set("HALLPASS_ISSUER", ISSUER);
    binary.set("HALLPASS_DATABASE__URL", &database);
    let mut real = Real { binary, database, http: crate::support::broker::client() };
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    let gone = real.token(&agent).await;
    real.binary.ok(&["token", "revoke"], &gone);

    let fill = disk.0.path().join("fill");
    let filled =
        Command::new("dd").args(["if=/dev/zero", "bs=4096", &format!("of={}", fill.display())]).output().unwrap();
    assert!(!filled.status.success(), "the disk is full");
    // What SQLite has already reserved takes a few more; then it is refused.
    let mut acknowledged = Vec::new();
    let mut refused = None;
    for _ in 0..3000 {
        let (status, answer) = real.token_request(&agent, &[("task", &"t".repeat(200))]).await.unwrap();
        if status == 200 {
            acknowledged.push(answer["access_token"].as_str().unwrap().to_owned());
        } else {
            refused = Some((status, answer["error"].as_str().unwrap_or_default().to_owned()));
            break;
        }
    }
    assert_eq!(refused, Some((503, "temporarily_unavailable".to_owned())));
    let before = upstream.seen().len();
    let answer = real.call("/crm/v1/contacts", &token).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "audit_unavailable");
    assert_eq!(upstream.seen().len(), before, "no record, no call");
    assert_eq!(real.call_status("/crm/v1/contacts", &gone).await, 401);
    assert_eq!(real.ready().await, 503);
    let output = real.binary.run(&["agent", "revoke", "helpdesk"], "");
    assert_eq!(output.status.code(), Some(1), "what cannot be recorded is not done");

    std::fs::remove_file(&fill).unwrap();
    until("it recovers by itself", 20, async || real.ready().await == 200).await;
    real.token(&agent).await;
    assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 200);
    for token in acknowledged.iter().rev().take(5) {
        assert_eq!(real.call_status("/crm/v1/contacts", token).await, 200);
    }
    assert_eq!(real.verify(&[]).0, 0);

    // And what was acknowledged is there after a crash, too.
    real.binary.kill();
    real.binary.serve(None);
    for token in acknowledged.iter().rev().take(5) {
        assert_eq!(real.call_status("/crm/v1/contacts", token).await, 200);
    }
    assert_eq!(real.call_status("/crm/v1/contacts", &gone).await, 401);
    assert!(real.binary.terminate().success());
    let (code, said) = real.verify(&[]);
    assert_eq!(code, 0, "{said}");
}
