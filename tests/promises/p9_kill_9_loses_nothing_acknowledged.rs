//! **P9 `kill -9` at any moment loses nothing that was acknowledged.**
//!
//! And what goes with it: no secret reached the upstream without a durable intent (P4), and a stop by SIGTERM leaves
//! the outcome of what it let finish, and of what it cut.

#![allow(clippy::print_stdout, reason = "captured, and shown when a test fails: the seed that repeats it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use http::StatusCode;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::Value;

use crate::support::database::{number, on_both_engines, texts};
use crate::support::load::{Acknowledged, CALLING, Token};
use crate::support::real::{Client, Real, until};
use crate::support::upstream::text;
use crate::support::{Engine, Upstream, log};

on_both_engines!(kill_9_at_any_moment_loses_nothing);

const SECRET: &str = "sk-live-canary-the-first";

/// Kills of each engine, some of them while the broker is still starting.
const ROUNDS: u64 = 50;

/// The moments of the kills: the same ones again with `HALLPASS_TEST_SEED`.
struct Moments(u64);

impl Moments {
    fn new(engine: Engine) -> Self {
        let given = std::env::var("HALLPASS_TEST_SEED").ok().map(|text| text.parse().unwrap());
        let random = || u64::from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos());
        let seed = given.unwrap_or_else(random);
        // Shown if the test fails.
        println!("{engine:?}: the same moments again with HALLPASS_TEST_SEED={seed}");
        Self(seed)
    }

    /// SplitMix64.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

async fn kill_9_at_any_moment_loses_nothing(engine: Engine) {
    let upstream = Upstream::start(|_| text(StatusCode::OK, "done")).await;
    let Some(mut real) = Real::init(engine) else { return };
    // Everything that is handed out here is still in force at the end, also on a slow machine.
    real.binary.set("HALLPASS_TOKENS__LIFETIME_SECONDS", "900");
    let agent = real.with_crm(&upstream.url(), SECRET);
    let done = Arc::new(Acknowledged::default());
    done.secrets.lock().unwrap().push((SECRET.into(), Some(1)));
    let mut moments = Moments::new(engine);
    let start = Instant::now();
    for round in 0..ROUNDS {
        let killed = Arc::new(AtomicBool::new(false));
        let before = done.counts();
        let clients = done.work(&real, &agent, &killed);
        if round % 2 == 0 {
            // Every second time not before each of them was told that something is done.
            let all = || done.counts().iter().zip(&before).all(|(now, before)| now > before);
            until("there is load", 30, async || all()).await;
        }
        tokio::time::sleep(Duration::from_millis(moments.below(250))).await;
        real.binary.kill();
        killed.store(true, Ordering::SeqCst);
        for client in clients {
            client.await.unwrap();
        }
        if round % 5 == 4 {
            real.binary.serve_for(Duration::from_millis(moments.below(150)));
        }
        if round % 10 == 9 {
            // What lies there is whole before anybody mends anything.
            let (code, said) = real.verify(&[]);
            assert_eq!(code, 0, "round {round}: {said}");
        }
        real.binary.serve(None);
        the_last_ones_stand(&real, &done, &upstream, round).await;
    }
    println!("{ROUNDS} kills in {:?}", start.elapsed());
    everything_stands(&real, &done).await;
    assert!(real.binary.terminate().success());
    let (code, said) = real.verify(&[]);
    assert_eq!(code, 0, "{said}");
    everything_is_in_the_log(&real, &done, &upstream).await;
}

/// What was acknowledged just before the kill is what it would take.
async fn the_last_ones_stand(real: &Real, done: &Acknowledged, upstream: &Upstream, round: u64) {
    fn last<T: Clone>(n: usize, of: &std::sync::Mutex<Vec<T>>) -> Vec<T> {
        of.lock().unwrap().iter().rev().take(n).cloned().collect()
    }
    for token in last(3, &done.revoked) {
        assert_eq!(real.call_status("/crm/any/never", &token.text).await, 401, "round {round}: {token:?}");
    }
    for agent in last(1, &done.stopped) {
        let (status, answer) = real.token_request(&agent, &[]).await.unwrap();
        assert_eq!(status, 401, "round {round}: {answer}");
    }
    for token in last(1, &done.good) {
        let target = format!("/any/check-{round}");
        assert_eq!(real.call_status(&format!("/crm{target}"), &token.text).await, 200, "round {round}");
        // The value that the upstream got is the last acknowledged one, or one that was put after it.
        let seen = upstream.seen().into_iter().rev().find(|seen| seen.uri.path() == target).unwrap();
        let value = seen.headers["x-api-key"].to_str().unwrap();
        let secrets = done.secrets.lock().unwrap();
        let place = secrets.iter().position(|(one, _)| one == value).unwrap();
        let acknowledged = secrets.iter().rposition(|(_, version)| version.is_some()).unwrap();
        assert!(place >= acknowledged, "round {round}: {value} instead of {:?}", secrets[acknowledged]);
    }
}

/// Every revocation of the whole run still counts, and good tokens from all of it are good.
async fn everything_stands(real: &Real, done: &Acknowledged) {
    let calls = |tokens: Vec<Token>, wanted: u16| async move {
        let mut calls = futures_util::stream::iter(tokens)
            .map(|token| async move { (real.call_status("/crm/any/last", &token.text).await, token) })
            .buffer_unordered(16);
        while let Some((status, token)) = calls.next().await {
            assert_eq!(status, wanted, "{token:?}");
        }
    };
    let revoked = done.revoked.lock().unwrap().clone();
    calls(revoked, 401).await;
    let good = done.good.lock().unwrap().clone();
    let step = good.len().div_ceil(100);
    calls(good.into_iter().step_by(step).collect(), 200).await;
    let stopped: Vec<Client> = done.stopped.lock().unwrap().clone();
    for agent in stopped.iter().rev().take(50) {
        assert_eq!(real.token_request(agent, &[]).await.unwrap().0, 401);
    }
}

/// The log, the database and the upstream's own memory are held against each other and against what was acknowledged.
async fn everything_is_in_the_log(real: &Real, done: &Acknowledged, upstream: &Upstream) {
    let bodies = log::bodies(&real.database).await;
    let records: Vec<Value> = bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    let of = |kind: &'static str| records.iter().filter(move |record| record["kind"] == kind);
    let text = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();

    let tokens: Vec<Token> = [&done.good, &done.revoked].iter().flat_map(|all| all.lock().unwrap().clone()).collect();
    let issued: BTreeSet<String> = of("token.issued").map(|record| text(record, "token")).collect();
    assert_eq!(issued.len(), of("token.issued").count(), "a token is there twice");
    let sessions: BTreeSet<String> = texts(&real.database, "SELECT id FROM sessions").await.into_iter().collect();
    for token in &tokens {
        assert!(issued.contains(&token.jti) && sessions.contains(&token.sid), "{token:?} was handed out");
    }

    let revoked: BTreeSet<(String, String)> =
        of("revocation").map(|record| (text(record, "action"), text(record, "object"))).collect();
    let revocations = done.revocations.lock().unwrap().clone();
    for (action, object) in &revocations {
        assert!(revoked.contains(&((*action).to_owned(), object.clone())), "{action} {object} was revoked");
    }
    let put: BTreeSet<String> = of("admin").map(|record| text(record, "object")).collect();
    let secrets = done.secrets.lock().unwrap().clone();
    for version in secrets.iter().filter_map(|(_, version)| *version) {
        assert!(put.contains(&format!("crm-key@{version}")), "version {version} was put");
    }
    let versions = number(&real.database, "SELECT COUNT(*) FROM credential_versions").await;
    assert!(versions >= secrets.iter().filter(|(_, version)| version.is_some()).count() as i64);

    // Both ways: whatever the upstream saw has an intent that names the very version that it saw …
    let mut intents: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for intent in of("call.intent") {
        intents.entry(text(intent, "target")).or_default().push(text(intent, "credential"));
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for one in upstream.seen() {
        let target = one.uri.path().to_owned();
        let value = one.headers["x-api-key"].to_str().unwrap();
        let version = secrets.iter().find(|(secret, _)| secret == value).expect("a secret of ours").1;
        let intent = intents.get(&target).unwrap_or_else(|| panic!("{target} was called without a record"));
        assert!(version.is_none_or(|n| intent.contains(&format!("crm-key@{n}"))), "{target}: {value}, {intent:?}");
        *seen.entry(target).or_default() += 1;
    }
    for (target, times) in &seen {
        assert!(*times <= intents[target].len(), "{target}: {times} calls, {:?}", intents[target]);
    }
    // … and what was answered or has an outcome with the upstream's status, was seen there.
    let calls = done.calls.lock().unwrap().clone();
    let ended = of("call.outcome").filter(|outcome| !outcome["status"].is_null()).map(|one| text(one, "target"));
    for target in calls.iter().cloned().chain(ended) {
        assert!(seen.contains_key(&target), "{target} was answered");
    }
    // Of an intent nothing more is known only where a kill came just then: two clients make calls, one at a time.
    let outcomes: BTreeSet<String> = of("call.outcome").map(|one| text(one, "target")).collect();
    let open = intents.keys().filter(|target| !outcomes.contains(*target) && !seen.contains_key(*target)).count();
    assert!(open <= ROUNDS as usize * CALLING, "{open} intents without a call");

    let counts = done.counts();
    println!("{} records, {} calls seen, {open} intents left open, {counts:?}", records.len(), upstream.seen().len());
    assert!(counts.iter().all(|count| *count >= ROUNDS as usize / 2), "{counts:?}: there was no load to speak of");
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
    until("the call is in flight", 10, async || !upstream.seen().is_empty()).await;
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
    let outcomes = log::count(&real.database, &["\"call.outcome\"", "\"status\":200"]).await;
    assert_eq!(outcomes, 1, "the outcome is in the log");
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
    until("the call is in flight", 10, async || !upstream.seen().is_empty()).await;
    let started = Instant::now();
    let (status, real) = tokio::task::spawn_blocking(move || (real.binary.terminate(), real)).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(!call.await.unwrap(), "the answer broke off, and the agent can see that");
    assert_eq!(real.verify(&[]).0, 0);
}
