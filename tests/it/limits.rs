//! What one agent, or a stranger, may use up: never so much that others go without.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use hallpass::app::Surroundings;
use hallpass::http::routes::{admin_service, public_service};
use hallpass::listen::Authenticated;
use hallpass::model::{Change, Event, EventKind, Session};
use hallpass_verify::{Confirmation, RevocationEntry};
use http::header::ACCEPT;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::forge;
use crate::support::upstream::text;
use crate::support::{Engine, TestBroker, TestClock, Upstream};

/// As in `issue`.
const MAX_OWN_REVOCATIONS: usize = 1000;
const MAX_SESSIONS: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_revokes_in_a_loop_gets_one_cut_instead_of_a_line_for_each_token() {
    let broker = Arc::new(TestBroker::start().await);
    let (agent, live) = broker.with_crm("http://127.0.0.1:9", "a-secret-of-the-crm").await;
    let claims = forge::claims(&broker, &agent.client_id, "crm:contacts.read");
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..10 {
        let (broker, agent, claims) = (broker.clone(), agent.clone(), claims.clone());
        tasks.spawn(async move {
            for one in 0..=MAX_OWN_REVOCATIONS / 10 {
                let claims = forge::with(claims.clone(), "jti", format!("tk_{lane}_{one}"));
                let token = forge::by_broker(&broker, "at+jwt", &claims);
                let request = broker.http.post(broker.url("/oauth2/revoke"));
                let request = request.basic_auth(&agent.client_id, Some(&agent.client_secret));
                assert_eq!(request.form(&[("token", token)]).send().await.unwrap().status(), 200);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let entries = broker.running.state.manager.registry.revoked().list().entries;
    let tokens = entries.iter().filter(|entry| matches!(entry, RevocationEntry::Token { .. })).count();
    assert_eq!(tokens, MAX_OWN_REVOCATIONS);
    assert_eq!(entries.len(), MAX_OWN_REVOCATIONS + 1, "and one cut");
    // A token that was not even named is cut off, and the agent goes on with a new one.
    assert!(broker.running.state.manager.issuer.introspect(&live).is_err());
    let new = broker.token(&agent).await;
    assert!(
        broker
            .running
            .state
            .manager
            .registry
            .revoked()
            .find(&broker.running.state.manager.issuer.identify(&new).unwrap())
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_fill_the_audit_log() {
    let clock = TestClock::new();
    let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap();
    let (agent, _) = broker.with_crm("http://127.0.0.1:9", "a-secret-of-the-crm").await;
    let fail = async |path: &str, id: &str| {
        let form = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", "nonsense")];
        let answer = broker.http.post(broker.url(path)).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    };
    for _ in 0..40 {
        for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
            fail(path, &agent.client_id).await;
        }
    }
    let refused = async || {
        let all = broker.records().await;
        all.into_iter().filter(|one| one["reason"] == "client_secret_malformed").collect::<Vec<Value>>()
    };
    // 60 a minute; a slow machine may have needed more than one.
    let before = refused().await;
    assert!((60..120).contains(&before.len()), "{}", before.len());
    assert!(before.iter().any(|one| one["action"] == "introspect"));
    assert!(before.iter().any(|one| one["action"] == "revoke"));
    clock.add_seconds(61);
    fail("/oauth2/token", "hp_stranger").await;
    let after = refused().await;
    let object = after.last().unwrap()["object"].as_str().unwrap();
    assert!(object.starts_with("claimed:hp_stranger (+") && object.ends_with(" more)"), "{object}");
    // What is refused to an agent that proved who it is, is recorded each time.
    for _ in 0..70 {
        assert_eq!(broker.token_request(&agent, &[("scope", "crm:nothing")]).await.0, 400);
    }
    let all = broker.records().await;
    assert_eq!(all.iter().filter(|one| one["reason"] == "invalid_scope").count(), 70);
}

/// Stock clients ask for a token for each connection: where there is no room for another session, they go on in one.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_all_the_sessions_it_may_have_goes_on_in_one_that_is_just_like_the_new_one() {
    const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
    let clock = TestClock::new();
    let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap();
    let (agent, token) = broker.with_crm("http://127.0.0.1:9", "a-secret-of-the-crm").await;
    let state = &broker.running.state;
    let now = state.world.now();
    let id: Arc<str> = agent.client_id.as_str().into();
    let exchange = async |scope: &str| {
        let form = [
            ("grant_type", EXCHANGE),
            ("subject_token", &*token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("scope", scope),
        ];
        let request = broker.http.post(broker.url("/oauth2/token"));
        let answer = request.basic_auth(&agent.client_id, Some(&agent.client_secret)).form(&form).send().await.unwrap();
        (answer.status().as_u16(), answer.headers().clone(), answer.json::<Value>().await.unwrap())
    };
    let (status, _, below) = exchange("crm:any").await;
    assert_eq!(status, 200, "{below}");
    let plain = Session {
        id: "".into(),
        agent_id: id.clone(),
        created_at: now,
        expires_at: now,
        task: None,
        purpose: None,
        revoked_at: None,
        parent: None,
        cnf: None,
        delegation: None,
    };
    let put = |id: &str, seconds: i64, session: &Session| {
        let session = Session { id: id.into(), expires_at: now + seconds * 1000, ..session.clone() };
        Change::PutSession(Arc::new(session))
    };
    // The longest are not like the wanted one: for another task, bound to a key, below another session, over.
    let cnf = Confirmation { jkt: serde_json::from_value("A".repeat(43).into()).unwrap(), x5t_s256: None };
    let mut changes = vec![
        put("se_of_a_task", 9_000, &Session { task: Some("other".into()), ..plain.clone() }),
        put("se_bound", 9_000, &Session { cnf: Some(cnf), ..plain.clone() }),
        put("se_below", 9_000, &Session { parent: Some("se_above".into()), ..plain.clone() }),
        put("se_over", 9_000, &Session { revoked_at: Some(now), ..plain.clone() }),
        put("se_last", 8_000, &plain),
        put("se_first", 700, &plain),
    ];
    // `with_crm` and the exchange made one each.
    let more = MAX_SESSIONS - 2 - changes.len();
    changes.extend((0..more).map(|number| put(&format!("se_{number}"), 7_000, &plain)));
    // In parts: one commit of all of them takes a busy machine longer than the database has.
    for part in changes.chunks(500) {
        state.ledger.commit(Vec::new(), part.to_vec()).await.unwrap();
    }
    assert_eq!(state.manager.registry.sessions_of(&id), MAX_SESSIONS);

    for _ in 0..20 {
        let (status, answer) = broker.token_request(&agent, &[]).await;
        assert_eq!((status, answer["session_id"].as_str()), (200, Some("se_last")), "{answer}");
    }
    assert_eq!(broker.token_request(&agent, &[("session_id", "se_1")]).await.1["session_id"], "se_1");
    let (status, _, again) = exchange("crm:any").await;
    assert_eq!((status, &again["session_id"]), (200, &below["session_id"]), "the very same exchange");
    assert_eq!(state.manager.registry.sessions_of(&id), MAX_SESSIONS, "none was added");

    // None is like these: refused, with a time that is true.
    let refused = |status: u16, answer: &Value| {
        assert_eq!((status, answer["error"].as_str()), (429, Some("temporarily_unavailable")), "{answer}");
        assert_eq!(answer["code"], "too_many_sessions");
        assert!(answer["error_description"].as_str().unwrap().contains("session_id"), "{answer}");
    };
    let (status, headers, answer) = exchange("crm:contacts.read").await;
    refused(status, &answer);
    let wait: i64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=700).contains(&wait), "{wait}");
    for form in [[("task", "new")], [("purpose", "new")], [("session_expires_in", "60")]] {
        let (status, answer) = broker.token_request(&agent, &form).await;
        refused(status, &answer);
    }
    // Whoever takes the session back takes back what was issued in it (P3), and the next request goes on in another one.
    let last = broker.token(&agent).await;
    broker.admin_ok("POST", "/admin/v1/sessions/se_last/revoke", Value::Null).await;
    assert_eq!(broker.call(reqwest::Method::GET, "/crm/v1/contacts", &last).send().await.unwrap().status(), 401);
    clock.add_seconds(2);
    let (status, answer) = broker.token_request(&agent, &[]).await;
    assert_eq!(status, 200, "{answer}");
    assert_ne!(answer["session_id"], "se_last");

    let other = broker.register("other", &["support"]).await;
    broker.token(&other).await;
    // A minute before: the clock goes on by itself, too.
    clock.add_seconds(wait - 62);
    refused(429, &broker.token_request(&agent, &[("task", "new")]).await.1);
    clock.add_seconds(62);
    let (status, answer) = broker.token_request(&agent, &[("task", "new")]).await;
    assert_eq!(status, 200, "after Retry-After there is room: {answer}");
    assert!(state.manager.registry.session(answer["session_id"].as_str().unwrap()).unwrap().task.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_never_ends_is_refused_in_time() {
    let settings = [("HALLPASS_LISTEN__HEADER_TIMEOUT_SECONDS", "1")];
    let broker = TestBroker::start_with(Engine::Sqlite, Surroundings::default(), &settings).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(broker.running.public).await.unwrap();
    let head = "POST /oauth2/token HTTP/1.1\r\nHost: hallpass\r\nContent-Length: 100\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_beyond_the_limit_are_sent_away_and_the_list_stays_open() {
    let broker = TestBroker::start().await;
    let mut streams = Vec::new();
    let mut full = None;
    // One connection carries at most 100 streams.
    'all: for _ in 0..12 {
        let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        for _ in 0..90 {
            let answer =
                client.get(broker.url("/revocations")).header(ACCEPT, "text/event-stream").send().await.unwrap();
            if answer.status() != 200 {
                full = Some(answer);
                break 'all;
            }
            streams.push(answer);
        }
    }
    let full = full.expect("a subscriber was sent away");
    assert_eq!((streams.len(), full.status().as_u16()), (1000, 503));
    assert_eq!(full.json::<Value>().await.unwrap()["code"], "too_many_subscribers");
    assert_eq!(broker.http.get(broker.url("/revocations")).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_answer_to_somebody_authenticated_makes_a_connection_trusted() {
    let upstream = Upstream::start(|_| text(http::StatusCode::NOT_FOUND, "no such contact")).await;
    let broker = TestBroker::start().await;
    let (agent, token) = broker.with_crm(&upstream.url(), "a-secret-of-the-crm").await;
    let public = public_service(broker.running.public_state.clone());
    let ask = async |method: &str, path: &str, token: Option<&str>, form: &[(&str, &str)]| {
        let mut request = http::Request::builder().method(method).uri(path).header("host", "b");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request = request.header("content-type", "application/x-www-form-urlencoded");
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let answer = public.answer(request.body(Body::from(body)).unwrap()).await;
        (answer.status().as_u16(), answer.extensions().get::<Authenticated>().is_some())
    };
    let client = |secret| [("client_id", &*agent.client_id), ("client_secret", secret), ("token", &*token)];
    let (good, bad) = (client(&*agent.client_secret), client("nonsense"));
    let grant = [("grant_type", "client_credentials")];
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        assert_eq!(ask("POST", path, None, &[&grant[..], &bad].concat()).await, (401, false), "{path}");
    }
    assert_eq!(ask("POST", "/oauth2/token", None, &[&grant[..], &good[..2]].concat()).await, (200, true));
    for path in ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server", "/revocations"] {
        assert_eq!(ask("GET", path, None, &[]).await, (200, false), "{path}");
    }
    // The upstream's 404, ours, and a refusal by the rules: who asked showed a good token.
    assert_eq!(ask("GET", "/exchange/crm/v1/contacts/7", Some(&token), &[]).await, (404, true));
    assert_eq!(ask("GET", "/exchange/other/v1/contacts/7", Some(&token), &[]).await, (404, true));
    assert_eq!(ask("POST", "/exchange/crm/v1/contacts", Some(&token), &[]).await, (403, true));
    assert_eq!(ask("GET", "/exchange/crm/v1/contacts/7", Some("nonsense"), &[]).await, (401, false));
    assert_eq!(ask("POST", "/oauth2/revoke", None, &good).await, (200, true));
    assert_eq!(ask("GET", "/exchange/crm/v1/contacts/7", Some(&token), &[]).await, (401, false));
    let admins = admin_service(broker.running.state.clone(), true);
    let stranger = http::Request::builder().uri("/admin/v1/status").header("host", "b").body(Body::empty()).unwrap();
    let answer = admins.answer(stranger).await;
    assert!(answer.status() == 401 && answer.extensions().get::<Authenticated>().is_none());
}

/// As in `audit::ledger`.
const LINGER: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_connections_call_can_wait_for_others_to_be_written_with() {
    let upstream = Upstream::start(|_| text(http::StatusCode::OK, "a contact")).await;
    let broker = TestBroker::start().await;
    let (_, token) = broker.with_crm(&upstream.url(), "a-secret-of-the-crm").await;
    let (address, ledger) = (broker.running.public, &broker.running.state.ledger);
    let head = format!("GET /exchange/crm/v1/contacts/7 HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut known = TcpStream::connect(address).await.unwrap();
    // Of twenty calls, how many are answered while a record in no haste would still wait for others.
    let quick = async |stream: &mut Option<&mut TcpStream>| {
        let mut quick = 0;
        for _ in 0..20 {
            let mut own = TcpStream::connect(address).await.unwrap();
            let stream = stream.as_deref_mut().unwrap_or(&mut own);
            tokio::time::sleep(2 * LINGER).await;
            // Somebody is in haste, and somebody else was just written for who was not.
            ledger.commit(vec![Event::new(EventKind::Broker)], Vec::new()).await.unwrap();
            ledger.refusal(Event::new(EventKind::Broker)).await.unwrap();
            let begun = Instant::now();
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"a contact\r\n0\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
            }
            quick += usize::from(begun.elapsed() < LINGER);
        }
        quick
    };
    // This machine may be too slow to be quick; but it is not the waiting that makes it so.
    println!("of 20 calls of somebody known, {} were quick", quick(&mut Some(&mut known)).await);
    // What else the broker writes now and then is in haste, and takes one along.
    let strangers = quick(&mut None).await;
    assert!(strangers <= 2, "{strangers} of 20 did not wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_very_many_parameters_is_refused_before_they_are_compared() {
    let broker = TestBroker::start().await;
    let (agent, _) = broker.with_crm("http://127.0.0.1:9", "a-secret-of-the-crm").await;
    for (count, status) in [(61, 200), (62, 400), (7_000, 400)] {
        let others: Vec<_> = (0..count).map(|n| (format!("a{n}"), "1")).collect();
        let others: Vec<_> = others.iter().map(|(name, value)| (&**name, *value)).collect();
        let client = [("client_id", &*agent.client_id), ("client_secret", &*agent.client_secret)];
        let form = [&[("grant_type", "client_credentials")], &client[..], &others].concat();
        let answer = broker.http.post(broker.url("/oauth2/token")).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), status, "{count}");
        if status == 400 {
            let answer: Value = answer.json().await.unwrap();
            assert_eq!(answer["error"], "invalid_request");
            assert!(answer["error_description"].as_str().unwrap().contains("more than 64 parameters"), "{answer}");
        }
    }
}
