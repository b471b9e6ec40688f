//! What ends the right to a call ends the call, whatever it is doing (P3).

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use super::{HEADER, RawUpstream, crm, document, drain, outcome, problem};
use crate::support::{Engine, TestBroker, TestClock};

/// An upstream that keeps an answer open; its first piece says that it began. With `drip` a piece follows each 20 ms.
async fn open_ended(drip: bool) -> RawUpstream {
    RawUpstream::start(move |mut stream, _| {
        Box::pin(async move {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(format!("{head}c\r\ndata: one\n\n\n\r\n").as_bytes()).await.unwrap();
            if !drip {
                return drain(&mut stream).await;
            }
            while stream.write_all(b"8\r\ndata: .\n\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    })
    .await
}

/// What an admin can do to end a call, and how the log names it.
const ENDS: [(&str, &str); 10] = [
    ("agent suspended", "revoked_midway"),
    ("agent revoked", "revoked_midway"),
    ("session revoked", "revoked_midway"),
    ("role narrowed", "scope_withdrawn_midway"),
    ("agent without role", "scope_withdrawn_midway"),
    ("upstream removed", "upstream_changed_midway"),
    ("operation gone", "upstream_changed_midway"),
    ("upstream moved", "upstream_changed_midway"),
    ("credential revoked", "credential_withdrawn_midway"),
    ("credential removed", "credential_withdrawn_midway"),
];

async fn end(broker: &TestBroker, base_url: &str, what: &str) {
    let apply = |document: String| async move { drop(broker.apply(&document).await) };
    let post = |path: &'static str| async move { drop(broker.admin_ok("POST", path, Value::Null).await) };
    let own = document(base_url, HEADER, "");
    match what {
        "agent suspended" => post("/admin/v1/agents/helpdesk/suspend").await,
        "agent revoked" => post("/admin/v1/agents/helpdesk/revoke").await,
        "session revoked" => {
            let intent = broker.wait_for_record(|one| one["kind"] == "call.intent").await;
            let path = format!("/admin/v1/sessions/{}/revoke", intent["session"].as_str().unwrap());
            broker.admin_ok("POST", &path, Value::Null).await;
        }
        "role narrowed" => apply("roles: [ { name: support, scopes: [] } ]".into()).await,
        "agent without role" => apply("agents: [ { name: helpdesk, roles: [] } ]".into()).await,
        "upstream removed" => drop(broker.admin_ok("DELETE", "/admin/v1/upstreams/crm", Value::Null).await),
        "operation gone" => apply(own.replace("/{*rest}", "/other/{*rest}")).await,
        "upstream moved" => apply(own.replace(base_url, "https://elsewhere.example.com")).await,
        "credential revoked" => post("/admin/v1/credentials/crm-key/revoke").await,
        "credential removed" => {
            drop(broker.admin_ok("DELETE", "/admin/v1/credentials/crm-key?force=true", Value::Null).await)
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_what_ends_the_right_ends_an_answer_under_way() {
    for (what, reason) in ENDS {
        for drip in [false, true] {
            let upstream = open_ended(drip).await;
            let broker = TestBroker::start().await;
            let token = crm(&broker, &upstream.url(), HEADER, "").await;
            let mut answer = broker.call(Method::GET, "/crm/events", &token).send().await.unwrap();
            answer.chunk().await.unwrap().unwrap();
            end(&broker, &upstream.url(), what).await;
            let begun = Instant::now();
            let rest = async {
                while answer.chunk().await?.is_some() {}
                Ok::<_, reqwest::Error>(())
            };
            let end = tokio::time::timeout(Duration::from_secs(10), rest).await.expect("still running");
            assert!(end.is_err(), "{what}: it ended as if it were complete");
            assert!(begun.elapsed() < Duration::from_secs(2), "{what}: {:?}", begun.elapsed());
            assert_eq!(outcome(&broker, 0).await["reason"], reason, "{what}, {drip}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_what_ends_the_right_ends_the_wait_for_an_answer() {
    for (what, reason) in ENDS {
        let upstream = RawUpstream::start(|mut stream, _| Box::pin(async move { drain(&mut stream).await })).await;
        let broker = TestBroker::start().await;
        let token = crm(&broker, &upstream.url(), HEADER, "").await;
        let call = tokio::spawn(broker.call(Method::GET, "/crm/a", &token).send());
        while upstream.heads().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        end(&broker, &upstream.url(), what).await;
        let answer =
            tokio::time::timeout(Duration::from_secs(10), call).await.expect("still waiting").unwrap().unwrap();
        let (status, code) = match reason {
            "revoked_midway" => (401, "revoked"),
            "scope_withdrawn_midway" => (403, "insufficient_scope"),
            "upstream_changed_midway" => (403, "upstream_changed_midway"),
            _ => (403, "credential_revoked"),
        };
        let found = problem(answer, status).await;
        assert!(found == code || found.ends_with(&format!("_{code}")), "{what}: {found}");
        assert_eq!(outcome(&broker, 0).await["reason"], reason, "{what}");
    }
}

/// An upstream that takes an upload and says how much came, and when the connection ended. With `answers` it begins its
/// answer first.
async fn sink(answers: bool) -> (RawUpstream, watch::Receiver<(usize, bool)>) {
    let (count, counted) = watch::channel((0, false));
    let upstream = RawUpstream::start(move |mut stream, _| {
        let count = count.clone();
        Box::pin(async move {
            if answers {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nack\r\n").await.unwrap();
            }
            let mut piece = [0; 4096];
            while let Ok(n) = stream.read(&mut piece).await {
                if n == 0 {
                    break;
                }
                count.send_modify(|(bytes, _)| *bytes += n);
            }
            count.send_modify(|(_, ended)| *ended = true);
        })
    })
    .await;
    (upstream, counted)
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_what_ends_the_right_ends_an_upload_under_way() {
    for (what, reason) in ENDS {
        for (answers, still) in [(false, false), (false, true), (true, false), (true, true)] {
            let (upstream, mut counted) = sink(answers).await;
            let broker = TestBroker::start().await;
            let token = crm(&broker, &upstream.url(), HEADER, "").await;
            // One piece, and then nothing for a long time; or a piece every 20 ms.
            let pieces = stream::unfold(0_u32, move |n| async move {
                let pause = if still && n > 0 { 60_000 } else { 20 };
                tokio::time::sleep(Duration::from_millis(pause)).await;
                Some((Ok::<_, std::io::Error>(Bytes::from_static(b"piece")), n + 1))
            });
            let request = broker.call(Method::POST, "/crm/a", &token).body(reqwest::Body::wrap_stream(pieces));
            let call = tokio::spawn(async move {
                match request.send().await {
                    Ok(answer) if answer.status() == 200 => answer.text().await.err().map(|_| 200),
                    Ok(answer) => Some(answer.status().as_u16()),
                    Err(_) => Some(0),
                }
            });
            counted.wait_for(|(bytes, _)| *bytes >= 5).await.unwrap();
            end(&broker, &upstream.url(), what).await;
            let begun = Instant::now();
            let ended = counted.wait_for(|(_, ended)| *ended);
            let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
            assert!(ended.is_ok(), "{what}: the upload goes on ({answers}, {still})");
            assert!(begun.elapsed() < Duration::from_secs(2), "{what}");
            assert_eq!(outcome(&broker, 0).await["reason"], reason, "{what}, {answers}, {still}");
            assert!(call.await.unwrap().is_some(), "{what}: it ended as if it were complete");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_touch_the_right_lets_a_call_go_on() {
    let upstream = open_ended(true).await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let mut answer = broker.call(Method::GET, "/crm/events", &token).send().await.unwrap();
    answer.chunk().await.unwrap().unwrap();
    // Another key of the same name, other limits, a role that gives more, somebody else's end.
    let body = json!({ "value_base64": "YW5vdGhlci1rZXktMDEyMzQ1", "rotate": true });
    broker.admin_ok("POST", "/admin/v1/credentials/crm-key", body).await;
    broker.apply(&document(&upstream.url(), HEADER, "timeouts: { idle_seconds: 7 }")).await;
    broker.apply("roles: [ { name: support, scopes: [\"crm:any\", \"hallpass:introspect\"] } ]").await;
    broker.register("other", &["support"]).await;
    broker.admin_ok("POST", "/admin/v1/agents/other/revoke", Value::Null).await;
    for _ in 0..20 {
        let piece = tokio::time::timeout(Duration::from_secs(5), answer.chunk()).await.expect("held back");
        assert!(piece.unwrap().is_some());
    }
}

/// A broker whose clock the test turns, and a token of a session that ends in a moment.
async fn short_session(base_url: &str) -> (TestBroker, String) {
    let clock = TestClock::new();
    let surroundings = hallpass::app::Surroundings { world: Some(clock.world()), ..Default::default() };
    let settings = [("HALLPASS_TOKENS__SESSION_SECONDS", "60"), ("HALLPASS_TOKENS__LIFETIME_SECONDS", "60")];
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &settings).await.unwrap();
    let token = crm(&broker, base_url, HEADER, "").await;
    clock.add_seconds(57);
    (broker, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_session_takes_its_calls_with_it() {
    for drip in [false, true] {
        let upstream = open_ended(drip).await;
        let (broker, token) = short_session(&upstream.url()).await;
        let mut answer = broker.call(Method::GET, "/crm/events", &token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let rest = async {
            while answer.chunk().await?.is_some() {}
            Ok::<_, reqwest::Error>(())
        };
        let end = tokio::time::timeout(Duration::from_secs(5), rest).await.expect("it outlives its session");
        assert!(end.is_err(), "it ended as if it were complete");
        assert_eq!(outcome(&broker, 0).await["reason"], "session_ended_midway");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_session_takes_uploads_and_waiting_calls_with_it() {
    let upstream = RawUpstream::start(|mut stream, _| Box::pin(async move { drain(&mut stream).await })).await;
    let (broker, token) = short_session(&upstream.url()).await;
    let answer = broker.call(Method::GET, "/crm/a", &token).send();
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.expect("it outlives its session").unwrap();
    assert_eq!(problem(answer, 401).await, "token_expired");
    assert_eq!(outcome(&broker, 0).await["reason"], "session_ended_midway");

    for still in [false, true] {
        let (upstream, mut counted) = sink(true).await;
        let (broker, token) = short_session(&upstream.url()).await;
        let pieces = stream::unfold(0_u32, move |n| async move {
            let pause = if still && n > 0 { 60_000 } else { 20 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"piece")), n + 1))
        });
        let request = broker.call(Method::POST, "/crm/a", &token).body(reqwest::Body::wrap_stream(pieces));
        let call = tokio::spawn(async move { request.send().await?.text().await });
        let ended = counted.wait_for(|(_, ended)| *ended);
        assert!(tokio::time::timeout(Duration::from_secs(6), ended).await.is_ok(), "the upload outlives its session");
        assert_eq!(outcome(&broker, 0).await["reason"], "session_ended_midway");
        call.await.unwrap().unwrap_err();
    }
}
