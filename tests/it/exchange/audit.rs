//! No record, no call (P4).

use std::time::{Duration, Instant};

use reqwest::Method;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::{HEADER, RawUpstream, SECRET, crm, problem};
use crate::support::{TestBroker, Upstream, log};

#[tokio::test(flavor = "multi_thread")]
async fn every_request_that_an_upstream_saw_has_its_intent_before_it() {
    let broker = TestBroker::start().await;
    // The upstream itself looks whether the intent is on disk when the secret arrives.
    let database = broker.database_file();
    let upstream = RawUpstream::start(move |mut stream, head| {
        let database = database.clone();
        Box::pin(async move {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let words = [&format!("\"target\":\"{path}\""), "\"kind\":\"call.intent\""];
            let found = log::count(&format!("sqlite:{}", database.display()), &words).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{found}");
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        })
    })
    .await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let calls = (0..40).map(|n| {
        let request = broker.call(Method::GET, &format!("/crm/n/{n}/x"), &token);
        async move { request.send().await.unwrap().text().await.unwrap() }
    });
    let found = futures_util::future::join_all(calls).await;
    assert!(found.iter().all(|found| found == "1"), "{found:?}");
    assert_eq!(upstream.heads().len(), 40);

    for _ in 0..100 {
        let records = broker.records().await;
        let outcomes: Vec<_> = records.iter().filter(|one| one["kind"] == "call.outcome").collect();
        if outcomes.len() == 40 {
            for outcome in outcomes {
                let intent =
                    |one: &&serde_json::Value| one["kind"] == "call.intent" && one["request"] == outcome["request"];
                let intent = records.iter().find(intent).expect("an intent for each outcome");
                assert!(intent["seq"].as_i64().unwrap() < outcome["seq"].as_i64().unwrap());
                assert_eq!(outcome["reason"], "completed");
            }
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("40 outcomes were to come");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_stops_calls_and_comes_back_by_itself() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let get = || async { broker.call(Method::GET, "/crm/a", &token).send().await.unwrap() };
    assert_eq!(get().await.status(), 200);

    let mut lock = SqliteConnectOptions::new()
        .filename(broker.database_file())
        .busy_timeout(Duration::from_secs(5))
        .connect()
        .await
        .unwrap();
    lock.execute("BEGIN EXCLUSIVE").await.unwrap();
    let calls = futures_util::future::join_all((0..5).map(|_| get())).await;
    for answer in calls {
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(problem(answer, 503).await, "audit_unavailable");
    }
    // What is refused anyway is refused still, and nobody gets a token either.
    let answer = broker.call(Method::PATCH, "/crm/a", &token).send().await.unwrap();
    assert_eq!(problem(answer, 403).await, "operation_not_allowed");
    assert_eq!(upstream.seen().len(), 1, "a secret left without a record");
    assert!(!broker.running.state.ledger.is_healthy());
    let ready = broker.http.get(broker.ops_url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);

    lock.execute("ROLLBACK").await.unwrap();
    lock.close().await.unwrap();
    let begun = Instant::now();
    while get().await.status() != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it did not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(upstream.seen().len(), 2);
    assert!(upstream.seen().iter().all(|seen| seen.headers["x-api-key"] == SECRET));
    let intents = broker.records().await.into_iter().filter(|one| one["kind"] == "call.intent").count();
    assert_eq!(intents, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_cannot_be_written_now_is_written_later() {
    let broker = TestBroker::start().await;
    let (release, released) = tokio::sync::watch::channel(false);
    let upstream = RawUpstream::start(move |mut stream, _| {
        let mut released = released.clone();
        Box::pin(async move {
            released.wait_for(|yes| *yes).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        })
    })
    .await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let call = tokio::spawn(broker.call(Method::GET, "/crm/a", &token).send());
    while upstream.heads().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut lock = SqliteConnectOptions::new().filename(broker.database_file()).connect().await.unwrap();
    lock.execute("BEGIN EXCLUSIVE").await.unwrap();
    release.send_replace(true);
    assert_eq!(call.await.unwrap().unwrap().text().await.unwrap(), "ok");
    // Longer than the store's patience, so that the first try fails.
    tokio::time::sleep(Duration::from_millis(5500)).await;
    lock.execute("ROLLBACK").await.unwrap();
    let outcome = super::outcome(&broker, 0).await;
    assert_eq!((&outcome["reason"], &outcome["status"]), (&"completed".into(), &200.into()));
}
