//! Refusals that an agent can have in a loop: each is counted, few are recorded.

use std::sync::Arc;

use hallpass::app::Surroundings;
use hallpass::audit::RECORDED_A_MINUTE;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::upstream::text;
use crate::support::{Engine, TestBroker, TestClock, Upstream};

const MORE: usize = RECORDED_A_MINUTE as usize + 20;

async fn refused(broker: &TestBroker, reason: &str) -> Vec<Value> {
    // Nobody waits for some of these records; what is committed after them comes after them.
    broker.admin_ok("POST", "/admin/v1/audit/checkpoint", json!({})).await;
    broker.records().await.into_iter().filter(|one| one["kind"] == "call.refused" && one["reason"] == reason).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_does_not_fill_the_log() {
    let clock = TestClock::new();
    let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap();
    let (_, token) = broker.with_crm("http://127.0.0.1:9", "a-secret-of-the-crm").await;
    let other = broker.register("other", &["support"]).await;
    let other = broker.token(&other).await;
    for name in ["helpdesk", "other"] {
        broker.admin_ok("POST", &format!("/admin/v1/agents/{name}/suspend"), json!({})).await;
    }
    let call = async |token: &str| {
        let answer = broker.call(Method::GET, "/crm/v1/contacts", token).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        answer.json::<Value>().await.unwrap()["code"].as_str().unwrap().to_owned()
    };
    let reason = call(&token).await;
    for _ in 1..MORE {
        assert_eq!(call(&token).await, reason);
    }
    // A slow machine may have needed more than one minute.
    let before = refused(&broker, &reason).await.len();
    assert!((RECORDED_A_MINUTE as usize..MORE).contains(&before), "{before}");
    // One agent's loop hides nothing of another's.
    call(&other).await;
    assert_eq!(refused(&broker, &reason).await.len(), before + 1);
    clock.add_seconds(61);
    call(&token).await;
    let last = refused(&broker, &reason).await.pop().unwrap();
    assert_eq!(last["object"], format!("(+{} more)", MORE - before));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_calls_are_recorded_and_counted() {
    let clock = TestClock::new();
    let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
    let settings = [("HALLPASS_EXCHANGE__MAX_CALLS_PER_AGENT", "1")];
    let big = Arc::new("x".repeat(64 * 1024 * 1024));
    let upstream = Upstream::start(move |_| text(http::StatusCode::OK, &big)).await;
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &settings).await.unwrap();
    let (_, token) = broker.with_crm(&upstream.url(), "a-secret-of-the-crm").await;
    // A call whose answer is not read holds the only place.
    let mut held = tokio::net::TcpStream::connect(broker.running.public).await.unwrap();
    let head = format!("GET /exchange/crm/v1/contacts HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n\r\n");
    held.write_all(head.as_bytes()).await.unwrap();
    held.read_exact(&mut [0; 64]).await.unwrap();
    let call = async || {
        let answer = broker.call(Method::GET, "/crm/v1/contacts", &token).send().await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], "too_many_calls");
    };
    for _ in 0..MORE {
        call().await;
    }
    let all = refused(&broker, "too_many_calls").await;
    assert!((RECORDED_A_MINUTE as usize..MORE).contains(&all.len()), "{}", all.len());
    let first = &all[0];
    assert_eq!(
        (&first["upstream"], &first["method"], &first["target"]),
        (&json!("crm"), &json!("GET"), &json!("/v1/contacts"))
    );
    clock.add_seconds(61);
    call().await;
    let last = refused(&broker, "too_many_calls").await.pop().unwrap();
    assert_eq!(last["object"], format!("(+{} more)", MORE - all.len()));
    let metrics = broker.http.get(broker.ops_url("/metrics")).send().await.unwrap().text().await.unwrap();
    let count =
        metrics.lines().find_map(|line| line.strip_prefix("hallpass_calls_refused_total{reason=\"too_many_calls\"} "));
    // One recorder for all brokers of this process.
    assert!(count.unwrap().parse::<usize>().unwrap() > MORE, "{count:?}");
    drop(held);
}
