//! Token exchange (RFC 8693) and the tree of sessions: who may act for whom, how far, and that it ends at once.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hallpass::app::Surroundings;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use reqwest::Method;
use serde_json::{Value, json};

use crate::forge;
use crate::support::broker::TestAgent;
use crate::support::database::on_both_engines;
use crate::support::idp::{Idp, Signer};
use crate::support::real::Real;
use crate::support::upstream::text;
use crate::support::{Engine, TestBroker, TestClock, Upstream};

pub(crate) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const ORDERS: &str = "https://orders.example.com";
const SETTINGS: &[(&str, &str)] = &[("HALLPASS_ISSUER", "http://localhost:8600")];

/// A planner, a worker that may act for it, a helper that may act for the worker, and a stranger.
pub(crate) struct Scene {
    pub(crate) broker: TestBroker,
    pub(crate) planner: TestAgent,
    pub(crate) worker: TestAgent,
    pub(crate) helper: TestAgent,
    pub(crate) stranger: TestAgent,
    upstream: Upstream,
    /// Where people log in.
    idp: Idp,
    signer: Signer,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(Engine::Sqlite, Surroundings::default(), SETTINGS).await.unwrap()
    }

    pub(crate) async fn with(engine: Engine, surroundings: Surroundings, settings: &[(&str, &str)]) -> Option<Self> {
        let upstream = Upstream::start(|seen| {
            if seen.uri.path() != "/events" {
                return text(StatusCode::OK, "[]");
            }
            // One event, and then a stream that stays open until somebody cuts it.
            let first = stream::once(async { Ok(Frame::data(Bytes::from_static(b"data: 1\n\n"))) });
            Response::new(StreamBody::new(first.chain(stream::pending())).boxed_unsync())
        })
        .await;
        let broker = TestBroker::start_with(engine, surroundings, settings).await?;
        let signer = Signer::new("ES256", "k1");
        let idp = Idp::start(signer.jwks()).await;
        let login = idp.issuer();
        let url = upstream.url();
        broker
            .apply(&format!(
                r#"
upstreams:
  - name: crm
    base_url: {url}
    allow_private: true
    inject: {{ kind: bearer, credential: crm-key }}
    operations:
      - {{ id: list, methods: [GET], path: /contacts, scope: contacts.read }}
      - {{ id: events, methods: [GET], path: /events, scope: contacts.read }}
      - {{ id: add, methods: [POST], path: /contacts, scope: contacts.write }}
  - name: wiki
    base_url: {url}
    allow_private: true
    inject: {{ kind: bearer, credential: crm-key }}
    operations: [ {{ id: read, methods: [GET], path: /pages, scope: pages.read }} ]
resources: [ {{ name: orders, audience: "{ORDERS}", scopes: [orders.read, orders.write] }} ]
issuers:
  - {{ name: corp, issuer: "{login}", allow_private: true, subject_audiences: [agents] }}
  - {{ name: machines, issuer: "https://ci.example.com" }}
roles:
  - {{ name: all, scopes: ["crm:contacts.read", "crm:contacts.write", "wiki:pages.read", "orders:orders.read"] }}
  - {{ name: crm, scopes: ["crm:contacts.read", "crm:contacts.write"] }}
  - {{ name: auditor, scopes: ["hallpass:introspect"] }}
"#
            ))
            .await;
        broker.put_credential("crm-key", "sk-live-0123456789abcdef").await;
        let people = json!({ "may_act_for_people_of": ["corp", "machines"] });
        let planner = register(&broker, "planner", &["all"], people).await;
        let worker = register(&broker, "worker", &["all"], json!({ "may_act_for": ["planner"] })).await;
        let helper = register(&broker, "helper", &["crm"], json!({ "may_act_for": ["worker", "planner"] })).await;
        let stranger = register(&broker, "stranger", &["all"], json!({})).await;
        Some(Self { broker, planner, worker, helper, stranger, upstream, idp, signer })
    }

    async fn with_a_clock() -> (Arc<TestClock>, Self) {
        let clock = TestClock::new();
        let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
        (clock, Self::with(Engine::Sqlite, surroundings, SETTINGS).await.unwrap())
    }

    /// A token exchange: status and JSON.
    pub(crate) async fn exchange(&self, agent: &TestAgent, subject: &str, more: &[(&str, &str)]) -> (u16, Value) {
        let kind = more.iter().find(|(name, _)| *name == "subject_token_type").map_or(ACCESS_TOKEN, |(_, kind)| kind);
        let mut form = vec![("grant_type", EXCHANGE), ("subject_token", subject), ("subject_token_type", kind)];
        form.extend(more.iter().filter(|(name, value)| *name != "subject_token_type" && !value.is_empty()));
        self.post(agent, &form).await
    }

    async fn post(&self, agent: &TestAgent, form: &[(&str, &str)]) -> (u16, Value) {
        let request = self.broker.http.post(self.broker.url("/oauth2/token"));
        let request = request.basic_auth(&agent.client_id, Some(&agent.client_secret)).form(form);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// One that must succeed.
    async fn exchanged(&self, agent: &TestAgent, subject: &str, more: &[(&str, &str)]) -> Value {
        let (status, answer) = self.exchange(agent, subject, more).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn refused(&self, agent: &TestAgent, subject: &str, more: &[(&str, &str)], error: &str, word: &str) {
        let (status, answer) = self.exchange(agent, subject, more).await;
        assert_eq!((status, &answer["error"]), (400, &json!(error)), "{more:?}: {answer}");
        assert!(answer["error_description"].as_str().unwrap().contains(word), "{word}: {answer}");
    }

    /// planner → worker → helper: a token of each, the planner's first.
    async fn three_levels(&self) -> [Value; 3] {
        let (_, first) = self.broker.token_request(&self.planner, &[]).await;
        let second = self.exchanged(&self.worker, token(&first), &[]).await;
        let third = self.exchanged(&self.helper, token(&second), &[]).await;
        [first, second, third]
    }

    /// A brokered call: its status.
    async fn call(&self, token: &str) -> u16 {
        self.broker.call(Method::GET, "/crm/contacts", token).send().await.unwrap().status().as_u16()
    }

    async fn session(&self, answer: &Value) -> Value {
        let path = format!("/admin/v1/sessions/{}", answer["session_id"].as_str().unwrap());
        self.broker.admin_ok("GET", &path, Value::Null).await
    }

    fn at(&self, name: &str) -> String {
        format!("{}/exchange{name}", self.broker.running.issuer)
    }
}

pub(crate) async fn register(broker: &TestBroker, name: &str, roles: &[&str], identity: Value) -> TestAgent {
    let body = json!({ "name": name, "roles": roles, "identity": identity });
    let answer = broker.admin_ok("POST", "/admin/v1/agents", body).await;
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    TestAgent { client_id: text("client_id"), client_secret: text("client_secret") }
}

pub(crate) fn token(answer: &Value) -> &str {
    answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}"))
}

pub(crate) fn claims(answer: &Value) -> Value {
    forge::payload(token(answer))
}

/// A person's token that lives for ten minutes.
fn persons(scene: &Scene, more: &[(&str, Value)]) -> String {
    let now = forge::now(&scene.broker);
    let mut says = json!({ "iss": scene.idp.issuer(), "sub": "alice", "aud": "agents", "iat": now, "exp": now + 600 });
    for (name, value) in more {
        says[*name] = value.clone();
    }
    scene.signer.sign(&says)
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8693_s2_2_1_the_answer_and_s4_1_the_actor() {
    let scene = Scene::new().await;
    let (_, first) =
        scene.broker.token_request(&scene.planner, &[("scope", "crm:contacts.read wiki:pages.read")]).await;
    let answer =
        scene.exchanged(&scene.worker, token(&first), &[("scope", "crm:contacts.read"), ("task", "T-1")]).await;
    assert_eq!(answer["issued_token_type"], ACCESS_TOKEN);
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["scope"], "crm:contacts.read");
    let says = claims(&answer);
    assert_eq!(says["sub"], *scene.planner.client_id, "§1.1: delegation keeps the subject");
    assert_eq!(says["client_id"], *scene.worker.client_id);
    assert_eq!(says["act"], json!({ "sub": scene.worker.client_id }));
    assert_eq!(says["aud"], scene.at(""));
    assert_eq!(says["sid"], answer["session_id"]);
    assert!(says["exp"].as_i64().unwrap() <= claims(&first)["exp"].as_i64().unwrap());
    assert_eq!(scene.call(token(&answer)).await, 200);
    let session = scene.session(&answer).await;
    assert_eq!(session["parent"], first["session_id"]);
    assert_eq!(session["subject"], *scene.planner.client_id);
    assert_eq!(session["act"], says["act"]);

    // §2.1: it may ask for a JWT, which an access token of ours is; the actor may send a token of its own beside.
    let own = scene.broker.token(&scene.worker).await;
    let more = [("requested_token_type", JWT), ("actor_token", own.as_str()), ("actor_token_type", ACCESS_TOKEN)];
    assert_eq!(scene.exchanged(&scene.worker, token(&first), &more).await["issued_token_type"], JWT);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8693_s4_1_actors_nest_newest_outermost_and_the_records_tell_through_whom() {
    let scene = Scene::new().await;
    let [first, _, third] = scene.three_levels().await;
    let says = claims(&third);
    let act = json!({ "sub": scene.helper.client_id, "act": { "sub": scene.worker.client_id } });
    assert_eq!((&says["sub"], &says["act"]), (&json!(scene.planner.client_id), &act));
    assert_eq!(says["scope"], "crm:contacts.read crm:contacts.write", "cut to the helper's roles");
    let auditor = register(&scene.broker, "auditor", &["auditor"], json!({})).await;
    let request = scene.broker.http.post(scene.broker.url("/oauth2/introspect"));
    let request = request.basic_auth(&auditor.client_id, Some(&auditor.client_secret));
    let seen: Value = request.form(&[("token", token(&third))]).send().await.unwrap().json().await.unwrap();
    assert_eq!((&seen["active"], &seen["act"], &seen["sid"]), (&json!(true), &act, &third["session_id"]));

    assert_eq!(scene.call(token(&third)).await, 200);
    for kind in ["token.issued", "call.intent", "call.outcome"] {
        let record = |record: &Value| record["kind"] == kind && record["session"] == third["session_id"];
        let record = scene.broker.wait_for_record(record).await;
        assert_eq!(record["agent"], *scene.helper.client_id, "{record}");
        assert_eq!(record["subject"], *scene.planner.client_id, "{record}");
        assert_eq!(record["through"], json!([scene.worker.client_id]), "{record}");
    }

    // Its own token an agent may make narrower; that adds no actor.
    let narrow = scene.exchanged(&scene.planner, token(&first), &[("scope", "wiki:pages.read")]).await;
    assert_eq!((&claims(&narrow)["act"], &narrow["scope"]), (&Value::Null, &json!("wiki:pages.read")));
    let again = [("session_id", narrow["session_id"].as_str().unwrap())];
    assert_eq!(
        scene.broker.token_request(&scene.planner, &again).await.1["scope"],
        "wiki:pages.read",
        "a later token of the session gains nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8693_s2_2_2_what_is_refused() {
    let scene = Scene::new().await;
    let (broker, worker) = (&scene.broker, &scene.worker);
    let (_, first) = broker.token_request(&scene.planner, &[("scope", "crm:contacts.read orders:orders.read")]).await;
    assert_eq!(first["error"], "invalid_scope", "orders is behind a gateway: {first}");
    let (_, first) = broker.token_request(&scene.planner, &[("scope", "crm:contacts.read")]).await;
    let good = token(&first);
    let own = broker.token(worker).await;
    let theirs = broker.token(&scene.stranger).await;

    // §2.1: types.
    let bad = "invalid_request";
    scene.refused(worker, good, &[("actor_token", &own)], bad, "actor_token_type").await;
    scene.refused(worker, good, &[("actor_token_type", ACCESS_TOKEN)], bad, "actor_token").await;
    scene
        .refused(worker, good, &[("actor_token", &own), ("actor_token_type", ID_TOKEN)], bad, "actor_token_type")
        .await;
    let of_another = [("actor_token", theirs.as_str()), ("actor_token_type", JWT)];
    scene.refused(worker, good, &of_another, bad, "another agent's").await;
    let nonsense = [("actor_token", "x.y.z"), ("actor_token_type", JWT)];
    scene.refused(worker, good, &nonsense, bad, "actor_token").await;
    scene.refused(worker, good, &[("requested_token_type", ID_TOKEN)], bad, "requested_token_type").await;
    scene.refused(worker, good, &[("requested_token_type", "saml")], bad, "requested_token_type").await;
    scene.refused(worker, good, &[("subject_token_type", ID_TOKEN)], bad, "no ID tokens").await;
    scene.refused(worker, good, &[("subject_token_type", "saml")], bad, "subject_token_type").await;
    scene.refused(worker, good, &[("session_id", first["session_id"].as_str().unwrap())], bad, "session_id").await;
    let without_type = [("grant_type", EXCHANGE), ("subject_token", good)];
    let without_token = [("grant_type", EXCHANGE), ("subject_token_type", JWT)];
    for form in [without_type, without_token] {
        let (status, answer) = scene.post(worker, &form).await;
        assert_eq!((status, &answer["error"]), (400, &json!(bad)), "{answer}");
    }

    // The subject token.
    let now = forge::now(broker);
    let by_broker = |claims: &Value| forge::by_broker(broker, "at+jwt", claims);
    let with = |name: &str, value: Value| by_broker(&forge::with(claims(&first), name, value));
    scene.refused(worker, "nonsense", &[], bad, "no signed JWT").await;
    let unregistered = persons(&scene, &[("iss", json!("https://evil.example.com"))]);
    scene.refused(worker, &unregistered, &[("subject_token_type", ID_TOKEN)], bad, "no issuer that is").await;
    scene.refused(worker, &with("exp", json!(now - 1)), &[], bad, "expired").await;
    scene.refused(worker, &with("aud", json!("https://elsewhere.example.com")), &[], bad, "audience").await;
    scene.refused(worker, &with("sid", json!("se_unknown")), &[], bad, "session is over").await;
    scene.refused(worker, &with("cnf", json!({ "jkt": "k" })), &[], bad, "bound to a key").await;
    scene.refused(&scene.planner, &with("cnf", json!({ "jkt": "k" })), &[], bad, "bound to a key").await;
    let forged = forge::by_foreign_key(broker.running.state.manager.registry.keys().active_kid(), &claims(&first));
    scene.refused(worker, &forged, &[], bad, "signature").await;
    scene.refused(worker, &forge::tampered(good, |says| says["exp"] = (now + 800).into()), &[], bad, "signature").await;

    // Who may not: nobody that the admin did not name.
    scene.refused(&scene.stranger, good, &[], bad, "may not act for").await;
    scene.refused(&scene.planner, &own, &[], bad, "may not act for").await;

    // Beyond the subject, beyond the own roles, elsewhere.
    scene.refused(worker, good, &[("scope", "crm:contacts.write")], "invalid_scope", "roles").await;
    scene.refused(worker, good, &[("scope", "a\u{7f}b")], "invalid_scope", "").await;
    let pages = broker.token_request(&scene.planner, &[("scope", "wiki:pages.read")]).await.1;
    scene.refused(&scene.helper, token(&pages), &[], "invalid_scope", "in common").await;
    scene.refused(worker, good, &[("resource", ORDERS)], "invalid_target", "beyond").await;
    scene.refused(worker, good, &[("audience", ORDERS)], "invalid_target", "beyond").await;
    let narrow = scene.exchanged(worker, good, &[("resource", &scene.at("/crm"))]).await;
    assert_eq!(claims(&narrow)["aud"], scene.at("/crm"));
    for wider in [scene.at(""), scene.at("/wiki")] {
        scene.refused(&scene.helper, token(&narrow), &[("resource", &wider)], "invalid_target", "beyond").await;
    }
    let orders = broker.token_request(&scene.planner, &[("resource", ORDERS)]).await.1;
    scene.refused(worker, token(&orders), &[("resource", &scene.at(""))], "invalid_target", "beyond").await;
    assert_eq!(claims(&scene.exchanged(worker, token(&orders), &[]).await)["aud"], ORDERS);

    // Taken back; and the client itself.
    broker.admin_ok("POST", "/admin/v1/tokens/revoke", json!({ "token": good })).await;
    scene.refused(worker, good, &[], bad, "revoked").await;
    let liar = TestAgent { client_secret: scene.stranger.client_secret.clone(), ..worker.clone() };
    let (status, answer) = scene.exchange(&liar, good, &[]).await;
    assert_eq!((status, &answer["error"]), (401, &json!("invalid_client")));
    let record = |record: &Value| record["kind"] == "token.refused" && record["action"] == "exchange";
    let record = broker.wait_for_record(record).await;
    assert_eq!((&record["agent"], &record["reason"]), (&json!(worker.client_id), &json!(bad)), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_as_deep_as_the_operator_says() {
    let settings = [SETTINGS, &[("HALLPASS_DELEGATION__MAX_DEPTH", "2")]].concat();
    let scene = Scene::with(Engine::Sqlite, Surroundings::default(), &settings).await.unwrap();
    let [_, _, third] = scene.three_levels().await;
    scene.refused(&scene.helper, token(&third), &[], "invalid_request", "too deep").await;
    let none = [SETTINGS, &[("HALLPASS_DELEGATION__MAX_DEPTH", "0")]].concat();
    let scene = Scene::with(Engine::Sqlite, Surroundings::default(), &none).await.unwrap();
    let own = scene.broker.token(&scene.planner).await;
    scene.refused(&scene.planner, &own, &[], "invalid_request", "too deep").await;
}

async fn revoking_the_root_refuses_the_grandchilds_next_call_and_survives_a_restart(engine: Engine) {
    let Some(scene) = Scene::with(engine, Surroundings::default(), SETTINGS).await else { return };
    let doomed = scene.three_levels().await;
    let spared = scene.three_levels().await;
    let mut under_way = scene.broker.call(Method::GET, "/crm/events", token(&doomed[2])).send().await.unwrap();
    assert_eq!(under_way.chunk().await.unwrap().unwrap(), "data: 1\n\n");
    for one in doomed.iter().chain(&spared) {
        assert_eq!(scene.call(token(one)).await, 200);
    }
    let seen = scene.upstream.seen().len();
    let path = format!("/admin/v1/sessions/{}/revoke", doomed[0]["session_id"].as_str().unwrap());
    scene.broker.admin_ok("POST", &path, json!({ "reason": "stolen" })).await;
    for one in doomed.iter().rev() {
        assert_eq!(scene.call(token(one)).await, 401, "the very next call");
    }
    assert_eq!(scene.upstream.seen().len(), seen);
    let cut = tokio::time::timeout(std::time::Duration::from_secs(20), under_way.chunk()).await;
    assert!(cut.expect("the stream goes on").is_err(), "it was cut, and did not end well");
    for (agent, one) in [(&scene.helper, &doomed[2]), (&scene.worker, &doomed[1])] {
        let again = [("session_id", one["session_id"].as_str().unwrap())];
        assert_eq!(scene.broker.token_request(agent, &again).await.1["error"], "invalid_grant");
        scene.refused(agent, token(one), &[], "invalid_request", "revoked").await;
        let record = |record: &Value| record["kind"] == "revocation" && record["session"] == one["session_id"];
        assert_eq!(scene.broker.wait_for_record(record).await["reason"], "stolen");
    }

    let Scene { broker, planner, worker, helper, stranger, upstream, idp, signer } = scene;
    let scene = Scene { broker: broker.restart().await, planner, worker, helper, stranger, upstream, idp, signer };
    for one in &doomed {
        assert_eq!(scene.call(token(one)).await, 401);
        assert!(scene.session(one).await["revoked_at"].is_number());
    }
    assert_eq!(scene.session(&spared[2]).await["parent"], spared[1]["session_id"]);
    assert_eq!(scene.call(token(&spared[2])).await, 200);
    let path = format!("/admin/v1/sessions/{}/revoke", spared[0]["session_id"].as_str().unwrap());
    scene.broker.admin_ok("POST", &path, Value::Null).await;
    assert_eq!(scene.call(token(&spared[2])).await, 401, "the tree was read back");
}

on_both_engines!(revoking_the_root_refuses_the_grandchilds_next_call_and_survives_a_restart);

#[tokio::test(flavor = "multi_thread")]
async fn stopping_an_agent_ends_what_others_do_below_it() {
    let scene = Scene::new().await;
    let [first, second, third] = scene.three_levels().await;
    scene.broker.admin_ok("POST", "/admin/v1/agents/worker/suspend", Value::Null).await;
    assert_eq!([scene.call(token(&second)).await, scene.call(token(&third)).await], [401, 401]);
    assert_eq!(scene.call(token(&first)).await, 200, "above it nothing ends");
    scene.broker.admin_ok("POST", "/admin/v1/agents/worker/resume", Value::Null).await;
    assert_eq!(scene.call(token(&third)).await, 401, "what is over stays over");
    let again = [("session_id", third["session_id"].as_str().unwrap())];
    assert_eq!(scene.broker.token_request(&scene.helper, &again).await.1["error"], "invalid_grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_a_token_back_ends_what_it_was_exchanged_for() {
    let scene = Scene::new().await;
    let [first, second, third] = scene.three_levels().await;
    let again = [("session_id", first["session_id"].as_str().unwrap())];
    let other = scene.broker.token_request(&scene.planner, &again).await.1;
    let kept = scene.exchanged(&scene.worker, token(&other), &[]).await;
    // By its agent (RFC 7009 §2.1); another session that hangs under the same one, by another token, goes on.
    let request = scene.broker.http.post(scene.broker.url("/oauth2/revoke"));
    let request = request.basic_auth(&scene.planner.client_id, Some(&scene.planner.client_secret));
    assert_eq!(request.form(&[("token", token(&first))]).send().await.unwrap().status(), 200);
    for dead in [&first, &second, &third] {
        assert_eq!(scene.call(token(dead)).await, 401);
    }
    assert_eq!([scene.call(token(&other)).await, scene.call(token(&kept)).await], [200, 200]);
    // By an admin, of whom nothing is known but its id.
    let jti = json!({ "jti": claims(&other)["jti"] });
    scene.broker.admin_ok("POST", "/admin/v1/tokens/revoke", jti).await;
    assert_eq!(scene.call(token(&kept)).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_made_while_its_parent_is_taken_back_is_over_too() {
    let scene = Arc::new(Scene::new().await);
    for round in 0..4 {
        let (_, first) = scene.broker.token_request(&scene.planner, &[]).await;
        let first = Arc::new(first);
        let storm: Vec<_> = (0..24)
            .map(|_| {
                let (scene, first) = (scene.clone(), first.clone());
                tokio::spawn(async move { scene.exchange(&scene.worker, token(&first), &[]).await })
            })
            .collect();
        let path = match round % 2 {
            0 => format!("/admin/v1/sessions/{}/revoke", first["session_id"].as_str().unwrap()),
            _ => "/admin/v1/agents/planner/suspend".into(),
        };
        scene.broker.admin_ok("POST", &path, Value::Null).await;
        for one in storm {
            let (status, answer) = one.await.unwrap();
            if status == 200 {
                assert_eq!(scene.call(token(&answer)).await, 401, "round {round}");
            } else {
                assert_eq!((status, &answer["error"]), (400, &json!("invalid_request")), "{answer}");
            }
        }
        if round % 2 == 1 {
            scene.broker.admin_ok("POST", "/admin/v1/agents/planner/resume", Value::Null).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_token_opens_a_session_on_the_persons_behalf() {
    let (_, scene) = Scene::with_a_clock().await;
    let id_token = [("subject_token_type", ID_TOKEN)];
    let alice = persons(&scene, &[("may_act", json!({ "sub": scene.planner.client_id }))]);
    let answer = scene.exchanged(&scene.planner, &alice, &id_token).await;
    let says = claims(&answer);
    assert_eq!((&says["sub"], &says["act"]), (&json!("alice"), &json!({ "sub": scene.planner.client_id })));
    assert_eq!(says["sub_id"], json!({ "format": "iss_sub", "iss": scene.idp.issuer(), "sub": "alice" }));
    assert_eq!(answer["scope"], "crm:contacts.read crm:contacts.write wiki:pages.read", "the agent's own roles");
    assert!(answer["session_expires_in"].as_i64().unwrap() <= 600, "it ends with the person's token: {answer}");
    assert_eq!(scene.call(token(&answer)).await, 200);
    let below = scene.exchanged(&scene.worker, token(&answer), &[]).await;
    assert_eq!(claims(&below)["sub"], "alice");
    assert_eq!(claims(&below)["act"]["act"]["sub"], *scene.planner.client_id);
    let record = |record: &Value| record["kind"] == "token.issued" && record["session"] == below["session_id"];
    let record = scene.broker.wait_for_record(record).await;
    assert_eq!((&record["subject"], &record["subject_issuer"]), (&json!("alice"), &json!(scene.idp.issuer())));
    assert_eq!(record["through"], json!([scene.planner.client_id]));

    // Scopes of ours that the person's token names are all there is.
    let some = persons(&scene, &[("scope", json!("openid crm:contacts.read"))]);
    assert_eq!(scene.exchanged(&scene.planner, &some, &[]).await["scope"], "crm:contacts.read");
    let now = forge::now(&scene.broker);
    for (more, word) in [
        (vec![("may_act", json!({ "sub": scene.worker.client_id }))], "may_act"),
        (vec![("aud", json!("others"))], "audience"),
        (vec![("iss", json!("https://evil.example.com"))], "no issuer that is registered"),
        (vec![("iss", json!("https://ci.example.com"))], "no issuer that is registered"),
        (vec![("sub", json!(scene.worker.client_id))], "no name of a person"),
        (vec![("exp", json!(now - 1))], "expired"),
        (vec![("iat", json!(now - 90_000))], "more than a day ago"),
        (vec![("iat", json!(now + 900))], "future"),
    ] {
        scene.refused(&scene.planner, &persons(&scene, &more), &id_token, "invalid_request", word).await;
    }
    scene.refused(&scene.worker, &alice, &id_token, "invalid_request", "may_act_for_people_of").await;
    let more = [("resource", ORDERS)];
    assert_eq!(claims(&scene.exchanged(&scene.planner, &alice, &more).await)["aud"], ORDERS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_delegation_is_taken_back_whole() {
    let (clock, scene) = Scene::with_a_clock().await;
    let (alice, bob) = (persons(&scene, &[]), persons(&scene, &[("sub", json!("bob"))]));
    let hers = scene.exchanged(&scene.planner, &alice, &[]).await;
    let below = scene.exchanged(&scene.worker, token(&hers), &[]).await;
    let his = scene.exchanged(&scene.planner, &bob, &[]).await;
    let (status, answer) =
        scene.broker.admin("POST", "/admin/v1/subjects/revoke", json!({ "subject": "alice", "issuer": "none" })).await;
    assert_eq!((status, &answer["code"]), (404, &json!("issuer_unknown")));
    let answer = json!({ "subject": "alice", "issuer": "corp", "reason": "left" });
    let answer = scene.broker.admin_ok("POST", "/admin/v1/subjects/revoke", answer).await;
    assert_eq!(answer["sessions"], 2);
    assert_eq!([scene.call(token(&hers)).await, scene.call(token(&below)).await], [401, 401]);
    assert_eq!(scene.call(token(&his)).await, 200);
    scene.refused(&scene.planner, &alice, &[], "invalid_request", "taken back").await;
    let list = scene.broker.http.get(scene.broker.url("/revocations")).send().await.unwrap().text().await.unwrap();
    assert!(!forge::payload(&list).to_string().contains("alice"), "the public list names nobody");

    // It is remembered across a restart; a token from after it is good.
    let Scene { broker, planner, worker, helper, stranger, upstream, idp, signer } = scene;
    let scene = Scene { broker: broker.restart().await, planner, worker, helper, stranger, upstream, idp, signer };
    scene.refused(&scene.planner, &alice, &[], "invalid_request", "taken back").await;
    clock.add_seconds(120);
    scene.exchanged(&scene.planner, &persons(&scene, &[]), &[]).await;
    // Whoever vouches for the subject.
    scene.broker.admin_ok("POST", "/admin/v1/subjects/revoke", json!({ "subject": "bob" })).await;
    assert_eq!(scene.call(token(&his)).await, 401);
    scene.refused(&scene.planner, &bob, &[], "invalid_request", "taken back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_the_tree_and_ends_it() {
    let upstream = Upstream::echo().await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let agent = real.with_crm(&upstream.url(), "sk-live-0123456789abcdef");
    let (_, first) = real.token_request(&agent, &[("task", "ticket 7")]).await.unwrap();
    let form = [("grant_type", EXCHANGE), ("subject_token", token(&first)), ("subject_token_type", ACCESS_TOKEN)];
    let request = real.http.post(format!("{}/oauth2/token", real.binary.public));
    let answer = request.basic_auth(&agent.0, Some(&agent.1)).form(&form).send().await.unwrap();
    let below: Value = answer.json().await.unwrap();
    let (root, child) = (first["session_id"].as_str().unwrap(), below["session_id"].as_str().unwrap());
    let tree = real.binary.ok(&["session", "list", "--tree"], "");
    let at = |what: &str| tree.find(what).unwrap_or_else(|| panic!("no {what} in {tree}"));
    assert!(at(&format!("\n{root}")) < at(&format!("\n`- {child}")), "{tree}");
    let shown = real.binary.json(&["session", "show", child], "");
    assert_eq!((&shown["parent"], &shown["subject"]), (&json!(root), &json!(agent.0)));
    let said = real.binary.ok(&["session", "revoke", "--subject", &agent.0, "--reason", "left"], "");
    assert!(said.starts_with("1 "), "{said}");
    assert_eq!(real.call_status("/crm/v1/contacts", token(&below)).await, 401);
    assert_eq!(real.call_status("/crm/v1/contacts", token(&first)).await, 200, "its own session goes on");
    assert!(real.binary.ok(&["session", "revoke", root], "").contains("all below it"));
    assert_eq!(real.call_status("/crm/v1/contacts", token(&first)).await, 401);
}
