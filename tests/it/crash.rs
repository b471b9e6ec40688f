//! What a crash, a stop, a lost database and a full disk leave behind: everything that was acknowledged (P9).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::{BodyExt as _, StreamBody};

use sqlx::{Connection as _, SqliteConnection};

use crate::support::database::{execute, number};
use crate::support::real::{Client, ISSUER, Real, until};
use crate::support::upstream::text;
use crate::support::{Binary, Engine, Upstream};

const SECRET: &str = "sk-live-0123456789abcdef";

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_nothing_on_sqlite() {
    kill_9_under_load_loses_nothing(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_nothing_on_postgresql() {
    kill_9_under_load_loses_nothing(Engine::Postgres).await;
}

/// What was acknowledged before the kill.
#[derive(Default)]
struct Acknowledged {
    /// Tokens that nobody revoked.
    good: Mutex<Vec<String>>,
    /// Tokens whose revocation was answered.
    revoked: Mutex<Vec<String>>,
}

async fn kill_9_under_load_loses_nothing(engine: Engine) {
    let upstream = Upstream::echo().await;
    let Some(mut real) = Real::init(engine) else { return };
    let agent = real.with_crm(&upstream.url(), SECRET);
    for round in 0..8_u64 {
        let done = Arc::new(Acknowledged::default());
        let last_call = Arc::new(AtomicU64::new(0));
        let killed = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..6)
            .map(|n| {
                let (http, public, agent) = (real.http.clone(), real.binary.public.clone(), agent.clone());
                let (done, killed, calls) = (done.clone(), killed.clone(), last_call.clone());
                tokio::spawn(async move {
                    while !killed.load(Ordering::SeqCst) {
                        if load(&http, &public, &agent, n % 2 == 0, &done, &calls).await.is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        // Not before something was acknowledged, and then at another moment in each round.
        until("the load begins", 20, async || {
            !done.good.lock().unwrap().is_empty() && done.revoked.lock().unwrap().len() > 1
        })
        .await;
        tokio::time::sleep(Duration::from_millis(37 * round % 150)).await;
        real.binary.kill();
        killed.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.await.unwrap();
        }

        // What lies there is whole before anybody mends anything.
        let (code, said) = real.verify(&[]);
        assert_eq!(code, 0, "round {round}: {said}");
        let start = Instant::now();
        real.binary.serve(None);
        assert!(start.elapsed() < Duration::from_secs(10), "round {round}: {:?}", start.elapsed());
        assert_eq!(real.ready().await, 200);
        // The revocation of a moment ago first.
        let revoked = done.revoked.lock().unwrap().clone();
        for token in revoked.iter().rev().take(20) {
            assert_eq!(real.call_status("/crm/v1/contacts", token).await, 401, "round {round}");
        }
        let good = done.good.lock().unwrap().clone();
        for token in good.iter().rev().take(20) {
            assert_eq!(real.call_status("/crm/v1/contacts", token).await, 200, "round {round}");
        }
        // Each token that was handed out is in the log, and each call that reached the upstream has its intent.
        let tokens = (good.len() + revoked.len()) as i64;
        let logged =
            number(&real.database, "SELECT COUNT(*) FROM audit_records WHERE body LIKE '%\"token.issued\"%'").await;
        assert!(logged >= tokens, "round {round}: {logged} < {tokens}");
        let intents =
            number(&real.database, "SELECT COUNT(*) FROM audit_records WHERE body LIKE '%\"call.intent\"%'").await;
        assert!(intents >= i64::try_from(upstream.seen().len()).unwrap(), "round {round}: a call without a record");
        let (code, said) = real.verify(&[]);
        assert_eq!(code, 0, "round {round}: {said}");
    }
    assert!(real.binary.terminate().success());
    let (code, said) = real.verify(&[]);
    assert_eq!(code, 0, "{said}");
}

/// A token and a call; or a token and its end.
async fn load(
    http: &reqwest::Client,
    public: &str,
    agent: &Client,
    revoke: bool,
    done: &Acknowledged,
    calls: &AtomicU64,
) -> reqwest::Result<()> {
    let request = http.post(format!("{public}/oauth2/token")).basic_auth(&agent.0, Some(&agent.1));
    let answer = request.form(&[("grant_type", "client_credentials")]).send().await?;
    let answer: serde_json::Value = answer.json().await?;
    let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    if revoke {
        let form = [("token", &token)];
        let answer = http.post(format!("{public}/oauth2/revoke")).basic_auth(&agent.0, Some(&agent.1)).form(&form);
        if answer.send().await?.status() == 200 {
            done.revoked.lock().unwrap().push(token);
        }
    } else {
        done.good.lock().unwrap().push(token.clone());
        let answer = http.get(format!("{public}/exchange/crm/v1/contacts")).bearer_auth(&token).send().await?;
        assert_eq!(answer.status(), 200);
        answer.bytes().await?;
        calls.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// An upstream that answers its head at once and its body after a while.
async fn slow_upstream(wait: Duration) -> Upstream {
    Upstream::start(move |_| {
        let body = futures_util::stream::once(async move {
            tokio::time::sleep(wait).await;
            Ok(http_body::Frame::data(bytes::Bytes::from_static(b"at last")))
        });
        let mut response = text(StatusCode::OK, "");
        *response.body_mut() = StreamBody::new(body).boxed_unsync();
        response
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_slow_call_finish() {
    let upstream = slow_upstream(Duration::from_secs(4)).await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    let url = format!("{}/exchange/crm/any/slow", real.binary.public);
    let call = tokio::spawn(async move {
        let answer = crate::support::broker::client().get(url).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await)
    });
    until("the call is under way", 10, async || !upstream.seen().is_empty()).await;
    let started = Instant::now();
    real.signal("-TERM");
    // No new connections, while the old one goes on.
    let public = real.binary.public.strip_prefix("http://").unwrap().to_owned();
    until("nobody listens", 5, async || tokio::net::TcpStream::connect(&public).await.is_err()).await;
    let status = tokio::task::spawn_blocking(move || (real.binary.terminate(), real)).await.unwrap();
    let (status, real) = status;
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(15), "idle connections do not hold it up: {:?}", started.elapsed());
    let (code, body) = call.await.unwrap();
    assert_eq!((code, body.unwrap().as_str()), (200, "at last"));
    let outcomes = "SELECT COUNT(*) FROM audit_records WHERE body LIKE '%\"call.outcome\"%\"status\":200%'";
    assert_eq!(number(&real.database, outcomes).await, 1, "the outcome is in the log");
    assert_eq!(real.verify(&[]).0, 0);
    assert!(!real.binary.dir.path().join("data/admin.sock").exists());
}

/// What does not end within `listen.drain_seconds` is cut.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_does_not_wait_for_ever() {
    let upstream = slow_upstream(Duration::from_secs(60)).await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    real.binary.set("HALLPASS_LISTEN__DRAIN_SECONDS", "1");
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    let url = format!("{}/exchange/crm/any/slow", real.binary.public);
    let call = tokio::spawn(async move {
        let answer = crate::support::broker::client().get(url).bearer_auth(token).send().await;
        match answer {
            Ok(answer) => answer.bytes().await.is_ok(),
            Err(_) => false,
        }
    });
    until("the call is under way", 10, async || !upstream.seen().is_empty()).await;
    let started = Instant::now();
    let (status, real) = tokio::task::spawn_blocking(move || (real.binary.terminate(), real)).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(!call.await.unwrap(), "the answer broke off, and the agent can see that");
    assert_eq!(real.verify(&[]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_gone_and_back() {
    let upstream = Upstream::echo().await;
    let Some(mut real) = Real::init(Engine::Postgres) else { return };
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    let (server, name) = real.database.rsplit_once('/').map(|(a, b)| (format!("{a}/postgres"), b.to_owned())).unwrap();
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");

    // All connections cut at once, several times, in the middle of work.
    for _ in 0..3 {
        execute(&server, &cut).await;
        until("it recovers by itself", 20, async || {
            real.token_request(&agent, &[]).await.unwrap().0 == 200
                && real.call_status("/crm/v1/contacts", &token).await == 200
        })
        .await;
    }

    // Gone: nobody may connect any more. Refused, and fail closed.
    execute(&server, &format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false;\n{cut}")).await;
    let before = upstream.seen().len();
    let (status, answer) = real.token_request(&agent, &[]).await.unwrap();
    assert_eq!((status, &answer["error"]), (503, &"temporarily_unavailable".into()), "{answer}");
    assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 503);
    assert_eq!(real.ready().await, 503);
    assert_eq!(upstream.seen().len(), before, "no record, no call");
    let (code, said) = real.verify(&[]);
    assert_eq!(code, 1, "{said}");

    execute(&server, &format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")).await;
    until("it recovers by itself", 20, async || real.token_request(&agent, &[]).await.unwrap().0 == 200).await;
    assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 200);
    assert_eq!(real.ready().await, 200);
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
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_locked_by_another_process() {
    let upstream = Upstream::echo().await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 200);
    let path = real.database.strip_prefix("sqlite:").unwrap().to_owned();
    let mut other = SqliteConnection::connect(&format!("sqlite:{path}")).await.unwrap();
    until("the lock is ours", 10, async || sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.is_ok()).await;

    let before = upstream.seen().len();
    let (status, answer) = real.token_request(&agent, &[]).await.unwrap();
    assert_eq!((status, &answer["error"]), (503, &"temporarily_unavailable".into()), "{answer}");
    assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 503);
    assert_eq!(upstream.seen().len(), before, "no record, no call");

    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    until("it recovers by itself", 20, async || real.token_request(&agent, &[]).await.unwrap().0 == 200).await;
    assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 200);
    assert_eq!(real.ready().await, 200);
    assert!(real.binary.terminate().success());
    assert_eq!(real.verify(&[]).0, 0);
}

/// A file system of its own, gone with this.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(dir)),
            _ => {
                use std::io::Write as _;
                let words = "\n#### THE FULL-DISK TEST IS SKIPPED: it takes root to mount a small tmpfs\n";
                drop(std::io::stderr().lock().write_all(words.as_bytes()));
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status().is_ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_refused_cleanly_and_survived() {
    let Some(disk) = SmallDisk::mount("6m") else { return };
    let upstream = Upstream::echo().await;
    // The data folder alone is on it: the log of the process goes on.
    let mut binary = Binary::init(None);
    let data = binary.dir.path().join("data");
    crate::support::real::copy_folder(&data, disk.0.path());
    let database = format!("sqlite:{}", disk.0.path().join("hallpass.db").display());
    binary.set("HALLPASS_ISSUER", ISSUER);
    binary.set("HALLPASS_DATABASE__URL", &database);
    let mut real = Real { binary, database, http: crate::support::broker::client() };
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    let gone = real.token(&agent).await;
    real.binary.ok(&["token", "revoke"], &gone);

    let fill = disk.0.path().join("fill");
    let filled = std::process::Command::new("dd")
        .args(["if=/dev/zero", "bs=4096", &format!("of={}", fill.display())])
        .output()
        .unwrap();
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
    let status = real.call_status("/crm/v1/contacts", &token).await;
    assert!(status == 503 && upstream.seen().len() == before, "no record, no call: {status}");
    assert_eq!(real.call_status("/crm/v1/contacts", &gone).await, 401);
    let output = real.binary.run(&["agent", "revoke", "helpdesk"], "");
    assert_eq!(output.status.code(), Some(1), "what cannot be recorded is not done");

    std::fs::remove_file(&fill).unwrap();
    until("it recovers by itself", 20, async || real.token_request(&agent, &[]).await.unwrap().0 == 200).await;
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
