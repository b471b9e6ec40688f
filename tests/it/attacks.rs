//! Attacks that a review found, each with the defence that stops it. The slow disk of the races is a real one: another
//! connection holds the database's write lock.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::real::until;
use crate::support::upstream::text;
use crate::support::{Binary, Engine, TestBroker, Upstream};

const SECRET: &str = "sk-live-0123456789abcdef";

/// Nothing can be written while this is held.
async fn slow_disk(broker: &TestBroker) -> SqliteConnection {
    let mut lock = SqliteConnectOptions::new().filename(broker.database_file()).connect().await.unwrap();
    lock.execute("BEGIN IMMEDIATE").await.unwrap();
    lock
}

/// An upstream that answers every connection with these bytes.
async fn raw_upstream(answer: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            _ = stream.read(&mut head).await.is_ok();
            _ = stream.write_all(&answer).await.is_ok();
        }
    });
    url
}

async fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = async_compression::tokio::bufread::GzipEncoder::new(text.as_bytes());
    let mut out = Vec::new();
    encoder.read_to_end(&mut out).await.unwrap();
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_transfer_coding_does_not_carry_the_secret_past_the_search() {
    let body = gzip(SECRET).await;
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_vec();
    answer.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
    answer.extend_from_slice(&body);
    answer.extend_from_slice(b"\r\n0\r\n\r\n");
    let broker = TestBroker::start().await;
    let (_, token) = broker.with_crm(&raw_upstream(answer).await, SECRET).await;
    let answer = broker.call(Method::GET, "/crm/v1/contacts", &token).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "upstream_encoding");
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_an_answer_in_another_character_set_is_refused() {
    let upstream = Upstream::start(|_| {
        let mut answer = text(http::StatusCode::OK, "x");
        answer.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain; charset=\"UTF-7\""));
        answer
    })
    .await;
    let broker = TestBroker::start().await;
    let (_, token) = broker.with_crm(&upstream.url(), SECRET).await;
    let request = broker.call(Method::GET, "/crm/v1/contacts", &token).header("accept-charset", "utf-16");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert!(!upstream.seen()[0].headers.contains_key("accept-charset"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_token_minted_while_its_agent_is_stopped_is_not_handed_out() {
    let upstream = Upstream::echo().await;
    let broker = TestBroker::start().await;
    let (agent, _) = broker.with_crm(&upstream.url(), SECRET).await;
    let lock = slow_disk(&broker).await;
    let stop = broker.admin_ok("POST", "/admin/v1/agents/helpdesk/suspend", json!({}));
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Asked for after the suspension, before it is durable; dated in a later second than its cut.
        let tokens = (0..4).map(|n| {
            let (broker, agent) = (&broker, &agent);
            async move {
                tokio::time::sleep(Duration::from_millis(400 * n)).await;
                broker.token_request(agent, &[]).await
            }
        });
        let release = async {
            tokio::time::sleep(Duration::from_millis(2200)).await;
            drop(lock);
        };
        futures_util::future::join(futures_util::future::join_all(tokens), release).await.0
    };
    let (_, answers) = futures_util::future::join(stop, later).await;
    for (status, answer) in answers {
        assert_eq!((status, &answer["error"]), (401, &json!("invalid_client")), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_credential_revoked_while_the_intent_is_written_stays_where_it_is() {
    let upstream = Upstream::echo().await;
    let broker = TestBroker::start().await;
    let (_, token) = broker.with_crm(&upstream.url(), SECRET).await;
    let lock = slow_disk(&broker).await;
    let call = broker.call(Method::GET, "/crm/v1/contacts", &token).send();
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        broker.admin_ok("POST", "/admin/v1/credentials/crm-key/revoke", json!({})).await
    };
    // While one batch waits for the disk, the next one gathers: both are in it.
    let more = broker.call(Method::GET, "/crm/v1/contacts", &token);
    let more = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        more.send().await
    };
    let release = async {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        drop(lock);
    };
    let (first, second, _, ()) = futures_util::join!(call, more, revoke, release);
    // The first one's batch was on its way before the revocation was asked for; the second one's was not.
    // Where its answer had begun when the revocation came, the revocation ended it.
    match first {
        Ok(first) => assert!(matches!(first.status().as_u16(), 200 | 403)),
        Err(cut) => assert!(format!("{cut:?}").contains("IncompleteMessage"), "{cut:?}"),
    }
    let second = second.unwrap();
    assert_eq!(second.status(), 403);
    assert_eq!(second.json::<Value>().await.unwrap()["code"], "credential_revoked");
    assert!(upstream.seen().len() <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_rewrap_that_fails_changes_nothing_and_can_be_tried_again() {
    let upstream = Upstream::echo().await;
    let broker = TestBroker::start().await;
    broker.with_crm(&upstream.url(), SECRET).await;
    let before = broker.admin_ok("GET", "/admin/v1/status", Value::Null).await["master_key"].clone();
    let lock = slow_disk(&broker).await;
    let (status, _) = broker.admin("POST", "/admin/v1/rewrap", json!({})).await;
    assert_eq!(status, 503);
    lock.close().await.unwrap();
    // The writer tries again by itself, and refuses everybody until it succeeds.
    until("the log is written again", 10, async || {
        broker.admin_ok("GET", "/admin/v1/status", Value::Null).await["audit_log_writable"] == true
    })
    .await;
    assert_eq!(broker.admin_ok("GET", "/admin/v1/status", Value::Null).await["master_key"], before);
    broker.put_credential("other", "another-secret-0123").await;
    // What a kill in the middle of writing the new key would leave stands in nobody's way.
    std::fs::remove_file(broker.dir.path().join("keys/master.key.next")).unwrap();
    std::fs::write(broker.dir.path().join("keys/master.key.next.half"), "hp_mk_").unwrap();
    let broker = broker.restart().await;
    let agent = broker.register("half", &["support"]).await;
    let token = broker.token(&agent).await;
    let done = broker.admin_ok("POST", "/admin/v1/rewrap", json!({})).await;
    assert_ne!(done["master_key"], before);
    let answer = broker.call(Method::GET, "/crm/v1/contacts", &token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let broker = broker.restart().await;
    assert_eq!(broker.admin_ok("GET", "/admin/v1/status", Value::Null).await["master_key"], done["master_key"]);
    let again = broker.register("again", &["support"]).await;
    let token = broker.token(&again).await;
    assert_eq!(broker.call(Method::GET, "/crm/v1/contacts", &token).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_audit_log_is_refused_at_start_and_by_verify() {
    let binary = Binary::init(None);
    let file = binary.dir.path().join("data/hallpass.db");
    let mut database = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    for table in ["audit_segments", "audit_heads", "audit_checkpoints"] {
        database.execute(sqlx::AssertSqlSafe(format!("DELETE FROM {table}"))).await.unwrap();
    }
    drop(database);
    let output = binary.run(&["serve", "--listen", "127.0.0.1:0"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the audit log was emptied"));
    let output = binary.run(&["audit", "verify"], "");
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_agent_gets_only_its_share_of_the_calls() {
    let upstream = Upstream::echo().await;
    let settings = [("HALLPASS_EXCHANGE__MAX_CALLS_PER_AGENT", "2")];
    let broker = TestBroker::start_with(Engine::Sqlite, Default::default(), &settings).await.unwrap();
    let (_, token) = broker.with_crm(&upstream.url(), SECRET).await;
    let other = broker.register("other", &["support"]).await;
    let other = broker.token(&other).await;
    let lock = slow_disk(&broker).await;
    let held: Vec<_> =
        (0..2).map(|_| tokio::spawn(broker.call(Method::GET, "/crm/v1/contacts", &token).send())).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let third = broker.call(Method::GET, "/crm/v1/contacts", &token).send().await.unwrap();
    assert_eq!(third.status(), 503);
    assert_eq!(third.json::<Value>().await.unwrap()["code"], "too_many_calls");
    drop(lock);
    assert_eq!(broker.call(Method::GET, "/crm/v1/contacts", &other).send().await.unwrap().status(), 200);
    for call in held {
        assert_eq!(call.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(broker.call(Method::GET, "/crm/v1/contacts", &token).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_call_that_the_drain_cuts_leaves_an_outcome_also_over_http2() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                _ = stream.read(&mut head).await.is_ok();
                let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello\n\r\n";
                _ = stream.write_all(answer).await.is_ok();
                tokio::time::sleep(Duration::from_secs(60)).await;
            });
        }
    });
    let settings = [("HALLPASS_LISTEN__DRAIN_SECONDS", "1")];
    let broker = TestBroker::start_with(Engine::Sqlite, Default::default(), &settings).await.unwrap();
    let (_, token) = broker.with_crm(&url, SECRET).await;
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let request = http2.get(broker.url("/exchange/crm/v1/contacts")).bearer_auth(&token);
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "hello\n");
    let broker = broker.restart().await;
    let outcome = broker.wait_for_record(|record| record["kind"] == "call.outcome").await;
    assert_eq!(outcome["reason"], "broker_stopped");
    assert_eq!(outcome["response_bytes"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_cut() {
    let big = "x".repeat(64 * 1024 * 1024);
    let upstream = Upstream::start(move |_| text(http::StatusCode::OK, &big)).await;
    let settings = [("HALLPASS_EXCHANGE__IDLE_TIMEOUT_SECONDS", "2")];
    let broker = TestBroker::start_with(Engine::Sqlite, Default::default(), &settings).await.unwrap();
    let (_, token) = broker.with_crm(&upstream.url(), SECRET).await;
    let mut stream = tokio::net::TcpStream::connect(broker.running.public).await.unwrap();
    let head = format!("GET /exchange/crm/v1/contacts HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // It never reads. The socket is still open when the broker has given the call up.
    let mut ended = None;
    for _ in 0..150 {
        ended = broker.records().await.into_iter().find(|record| record["kind"] == "call.outcome");
        if ended.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(ended.is_some(), "the call is still held");
    drop(stream);
}
