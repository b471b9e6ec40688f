//! What a gateway embeds, against a real broker: JWKS and revocations over HTTP, failing closed.

use std::time::Duration;

use hallpass::app::Surroundings;
use hallpass_verify::{Claims, Gateway, GatewaySettings, REVOCATIONS_TYP, Refusal, RevokedBy};
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};

use crate::forge;
use crate::support::broker::TestAgent;
use crate::support::{Engine, TestBroker, TestClock};

const ORDERS: &str = "https://orders.example.com";

/// A list that nobody signs anew while a test looks at it, and long polls that end only by a change.
const PATIENT: [(&str, &str); 2] =
    [("HALLPASS_REVOCATIONS__SIGN_EVERY_SECONDS", "30"), ("HALLPASS_REVOCATIONS__MAX_AGE_SECONDS", "300")];

/// A broker, an agent with a token for the orders API, and that API's gateway, which has fetched everything.
struct Scene {
    broker: TestBroker,
    agent: TestAgent,
    gateway: Gateway,
}

impl Scene {
    async fn new() -> Self {
        Self::on(TestBroker::start().await).await
    }

    async fn patient() -> Self {
        let broker = TestBroker::start_with(Engine::Sqlite, Surroundings::default(), &PATIENT).await;
        Self::on(broker.unwrap()).await
    }

    async fn on(broker: TestBroker) -> Self {
        broker
            .apply(&format!(
                r#"
resources: [ {{ name: orders, audience: "{ORDERS}", scopes: [orders.read, orders.write] }} ]
roles: [ {{ name: support, scopes: ["orders:orders.read"] }} ]
"#
            ))
            .await;
        let agent = broker.register("helpdesk", &["support"]).await;
        let gateway = Gateway::new(GatewaySettings::new(broker.running.issuer.clone(), ORDERS));
        let scene = Self { broker, agent, gateway };
        scene.fetch_jwks().await;
        scene.fetch_list().await;
        scene
    }

    fn now(&self) -> i64 {
        forge::now(&self.broker)
    }

    async fn token(&self) -> String {
        self.token_in(&[]).await
    }

    async fn token_in(&self, parameters: &[(&str, &str)]) -> String {
        let parameters: Vec<_> = parameters.iter().copied().chain([("resource", ORDERS)]).collect();
        let (status, answer) = self.broker.token_request(&self.agent, &parameters).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        self.gateway.verify(token, self.now())
    }

    async fn fetch_jwks(&self) {
        let answer = self.broker.http.get(self.broker.url("/.well-known/jwks.json")).send().await.unwrap();
        self.gateway.set_jwks(&answer.text().await.unwrap()).unwrap();
    }

    async fn fetch_list(&self) -> String {
        let list = self.list().await;
        self.gateway.set_revocations(&list, self.now()).unwrap();
        list
    }

    async fn list(&self) -> String {
        self.get("", &[]).await.text().await.unwrap()
    }

    async fn get(&self, query: &str, headers: &[(reqwest::header::HeaderName, &str)]) -> reqwest::Response {
        let mut request = self.broker.http.get(self.broker.url(&format!("/revocations{query}")));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.send().await.unwrap()
    }

    async fn revoke(&self, token: &str) {
        self.broker.admin_ok("POST", "/admin/v1/tokens/revoke", json!({ "token": token })).await;
    }
}

fn revoked(list: &str) -> Vec<Value> {
    forge::payload(list)["revoked"].as_array().unwrap().clone()
}

fn text(answer: &reqwest::Response, name: reqwest::header::HeaderName) -> &str {
    answer.headers()[name].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_the_api_is_accepted_and_says_who_and_what() {
    let scene = Scene::new().await;
    let claims = scene.verify(&scene.token().await).unwrap();
    assert_eq!(claims.client_id, scene.agent.client_id);
    assert_eq!(claims.aud.0, [ORDERS]);
    assert_eq!(claims.scope.to_string(), "orders:orders.read");
    assert_eq!(claims.iss, scene.broker.running.issuer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_has_heard_nothing_refuses_everything() {
    let scene = Scene::new().await;
    let token = scene.token().await;
    let gateway = Gateway::new(GatewaySettings::new(scene.broker.running.issuer.clone(), ORDERS));
    assert_eq!(gateway.verify(&token, scene.now()).unwrap_err(), Refusal::ListStale);
    let list = scene.list().await;
    assert_eq!(gateway.set_revocations(&list, scene.now()).unwrap_err(), Refusal::UnknownKey);
    let jwks = scene.broker.running.state.manager.registry.keys().jwks().clone();
    gateway.set_jwks(&jwks).unwrap();
    assert_eq!(gateway.verify(&token, scene.now()).unwrap_err(), Refusal::ListStale);
    gateway.set_revocations(&list, scene.now()).unwrap();
    gateway.verify(&token, scene.now()).unwrap();
    assert!(gateway.set_jwks("{").is_err());
    gateway.verify(&token, scene.now()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_somebody_else_or_from_somebody_else_is_refused() {
    let scene = Scene::new().await;
    let token = scene.token().await;
    let now = scene.now();
    let jwks = scene.broker.running.state.manager.registry.keys().jwks().clone();

    let other_api =
        Gateway::new(GatewaySettings::new(scene.broker.running.issuer.clone(), "https://bills.example.com"));
    other_api.set_jwks(&jwks).unwrap();
    other_api.set_revocations(&scene.list().await, now).unwrap();
    assert_eq!(other_api.verify(&token, now).unwrap_err(), Refusal::WrongAudience);

    let issuer = "https://other.example.com";
    let other_issuer = Gateway::new(GatewaySettings::new(issuer, ORDERS));
    other_issuer.set_jwks(&jwks).unwrap();
    assert_eq!(other_issuer.set_revocations(&scene.list().await, now).unwrap_err(), Refusal::WrongIssuer);
    let list = json!({ "iss": issuer, "iat": now, "version": 1, "max_age": 30, "revoked": [] });
    other_issuer.set_revocations(&forge::by_broker(&scene.broker, REVOCATIONS_TYP, &list), now).unwrap();
    assert_eq!(other_issuer.verify(&token, now).unwrap_err(), Refusal::WrongIssuer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_token_is_refused_whatever_its_trick() {
    let scene = Scene::new().await;
    let kid = scene.broker.running.state.manager.registry.keys().active_kid().to_owned();
    let claims = forge::with(forge::claims(&scene.broker, &scene.agent.client_id, "orders:orders.read"), "aud", ORDERS);
    let now = scene.now();
    scene.verify(&forge::by_broker(&scene.broker, "at+jwt", &claims)).unwrap();

    let jwk = forge::published(&scene.broker, &kid).to_string();
    let expired = forge::with(forge::with(claims.clone(), "exp", now - 1), "iat", now - 300);
    let future = forge::with(forge::with(claims.clone(), "iat", now + 120), "exp", now + 300);
    let bound = forge::with(claims.clone(), "cnf", json!({ "jkt": "x" }));
    let unknown = forge::with(claims.clone(), "cnf", json!({ "kid": "x" }));
    let tampered = forge::tampered(&scene.token().await, |claims| claims["scope"] = "orders:orders.write".into());
    let by_broker = |typ: &str, claims: &Value| forge::by_broker(&scene.broker, typ, claims);
    for (what, token, refusal) in [
        ("expired", by_broker("at+jwt", &expired), Refusal::Expired),
        ("from the future", by_broker("at+jwt", &future), Refusal::NotYetValid),
        ("bound to a key", by_broker("at+jwt", &bound), Refusal::Bound),
        ("bound by a method that is not known", by_broker("at+jwt", &unknown), Refusal::Malformed),
        ("typ JWT", by_broker("JWT", &claims), Refusal::WrongType),
        ("a list as a token", scene.list().await, Refusal::WrongType),
        ("tampered", tampered, Refusal::BadSignature),
        ("a foreign key", forge::by_foreign_key(&kid, &claims), Refusal::BadSignature),
        ("an unknown key", forge::by_foreign_key("k", &claims), Refusal::UnknownKey),
        ("alg none", forge::unsecured("none", &kid, &claims), Refusal::WrongAlgorithm),
        ("HS256 over the JWK", forge::by_hmac(jwk.as_bytes(), &kid, &claims), Refusal::WrongAlgorithm),
    ] {
        assert_eq!(scene.verify(&token).unwrap_err(), refusal, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_dead_at_its_end_although_it_was_good_before() {
    let scene = Scene::new().await;
    let token = scene.token().await;
    let claims = scene.verify(&token).unwrap();
    let list = json!({
        "iss": scene.broker.running.issuer, "iat": claims.exp, "version": claims.exp * 1000, "max_age": 30, "revoked": [],
    });
    let list = forge::by_broker(&scene.broker, REVOCATIONS_TYP, &list);
    scene.gateway.set_revocations(&list, claims.exp).unwrap();
    scene.gateway.verify(&token, claims.exp - 1).unwrap();
    assert_eq!(scene.gateway.verify(&token, claims.exp).unwrap_err(), Refusal::Expired);
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_revoked_token_is_refused_once_the_list_is_there_and_only_it() {
    let scene = Scene::new().await;
    let (token, other) = (scene.token().await, scene.token().await);
    scene.verify(&token).unwrap();
    scene.revoke(&token).await;
    scene.fetch_list().await;
    assert_eq!(scene.verify(&token).unwrap_err(), Refusal::Revoked(RevokedBy::Token));
    scene.verify(&other).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_revoked_session_takes_all_its_tokens_along() {
    let scene = Scene::new().await;
    let first = scene.token().await;
    let sid = forge::payload(&first)["sid"].as_str().unwrap().to_owned();
    let second = scene.token_in(&[("session_id", &sid)]).await;
    let other = scene.token().await;
    scene.broker.admin_ok("POST", &format!("/admin/v1/sessions/{sid}/revoke"), Value::Null).await;
    scene.fetch_list().await;
    for token in [&first, &second] {
        assert_eq!(scene.verify(token).unwrap_err(), Refusal::Revoked(RevokedBy::Session));
    }
    scene.verify(&other).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_stopped_agent_takes_what_it_had_along_and_a_resumed_one_gets_new_tokens() {
    let scene = Scene::new().await;
    let old = scene.token().await;
    scene.broker.admin_ok("POST", "/admin/v1/agents/helpdesk/suspend", Value::Null).await;
    scene.broker.admin_ok("POST", "/admin/v1/agents/helpdesk/resume", Value::Null).await;
    let new = scene.token().await;
    scene.fetch_list().await;
    assert_eq!(scene.verify(&old).unwrap_err(), Refusal::Revoked(RevokedBy::Agent));
    scene.verify(&new).unwrap();
    scene.broker.admin_ok("POST", "/admin/v1/agents/helpdesk/revoke", Value::Null).await;
    scene.fetch_list().await;
    assert_eq!(scene.verify(&new).unwrap_err(), Refusal::Revoked(RevokedBy::Agent));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_retired_key_takes_its_tokens_along_with_the_old_jwks_and_with_the_new() {
    let scene = Scene::new().await;
    let (seen, unseen) = (scene.token().await, scene.token().await);
    scene.verify(&seen).unwrap();
    let kid = forge::header(&seen)["kid"].as_str().unwrap().to_owned();
    scene.broker.admin_ok("POST", &format!("/admin/v1/keys/{kid}/retire"), Value::Null).await;
    // The list is signed by the next key, which the gateway knows already.
    scene.fetch_list().await;
    for token in [&seen, &unseen] {
        assert_eq!(scene.verify(token).unwrap_err(), Refusal::Revoked(RevokedBy::Key));
    }
    scene.fetch_jwks().await;
    assert!(scene.verify(&seen).is_err());
    assert!(scene.verify(&unseen).is_err());
    let new = scene.token().await;
    assert_ne!(forge::header(&new)["kid"], *kid);
    scene.verify(&new).unwrap();
}

/// Whoever stole the key could otherwise sign a list that brings its tokens back.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_a_revoked_key_signed_is_refused() {
    let scene = Scene::new().await;
    let stolen = scene.broker.running.state.manager.registry.keys();
    let token = scene.token().await;
    let kid = stolen.active_kid().to_owned();
    scene.broker.admin_ok("POST", &format!("/admin/v1/keys/{kid}/retire"), Value::Null).await;
    scene.fetch_list().await;
    let now = scene.now();
    let claims = json!({
        "iss": scene.broker.running.issuer, "iat": now + 1, "version": 99, "max_age": 30, "revoked": [],
    });
    let list = stolen.sign(REVOCATIONS_TYP, &claims).unwrap();
    assert_eq!(scene.gateway.set_revocations(&list, now).unwrap_err(), Refusal::Revoked(RevokedBy::Key));
    assert_eq!(scene.verify(&token).unwrap_err(), Refusal::Revoked(RevokedBy::Key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_older_than_its_bound_is_not_relied_on() {
    let scene = Scene::new().await;
    let token = scene.token().await;
    let iat = forge::payload(&scene.fetch_list().await)["iat"].as_i64().unwrap();
    scene.gateway.verify(&token, iat + 30).unwrap();
    assert_eq!(scene.gateway.verify(&token, iat + 31).unwrap_err(), Refusal::ListStale);

    // The gateway's bound and the list's own: the shorter one counts, whichever it is.
    let issuer = scene.broker.running.issuer.clone();
    for (own, of_list, lasts) in [(10, 30, 10), (30, 10, 10)] {
        let settings = GatewaySettings { max_list_age: own, ..GatewaySettings::new(issuer.clone(), ORDERS) };
        let gateway = Gateway::new(settings);
        gateway.set_jwks(scene.broker.running.state.manager.registry.keys().jwks()).unwrap();
        let list = json!({ "iss": issuer, "iat": iat, "version": 1, "max_age": of_list, "revoked": [] });
        gateway.set_revocations(&forge::by_broker(&scene.broker, REVOCATIONS_TYP, &list), iat).unwrap();
        gateway.verify(&token, iat + lasts).unwrap();
        assert_eq!(gateway.verify(&token, iat + lasts + 1).unwrap_err(), Refusal::ListStale);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_older_list_does_not_bring_a_revoked_token_back() {
    let scene = Scene::new().await;
    let token = scene.token().await;
    let before = scene.list().await;
    scene.revoke(&token).await;
    scene.fetch_list().await;
    // Mostly of the same second: the epoch tells which is older.
    assert_eq!(scene.gateway.set_revocations(&before, scene.now()).unwrap_err(), Refusal::ListStale);
    assert_eq!(scene.verify(&token).unwrap_err(), Refusal::Revoked(RevokedBy::Token));

    let list = |iat: i64, version: u64, revoked: Value| {
        let iss = &scene.broker.running.issuer;
        let list = json!({ "iss": iss, "iat": iat, "version": version, "max_age": 30, "revoked": revoked });
        forge::by_broker(&scene.broker, REVOCATIONS_TYP, &list)
    };
    let now = scene.now() + 2;
    let jti = forge::payload(&token)["jti"].clone();
    let epoch = u64::try_from(now * 1000).unwrap();
    scene.gateway.set_revocations(&list(now, epoch, json!([{ "jti": jti }])), now).unwrap();
    // Of a node that lags behind: younger, and of a lower epoch.
    for (iat, version) in [(now, epoch - 1), (now - 1, epoch), (now + 1, epoch - 1), (now + 1, 1)] {
        let replayed = list(iat, version, json!([]));
        assert_eq!(scene.gateway.set_revocations(&replayed, now).unwrap_err(), Refusal::ListStale, "{iat} {version}");
    }
    assert_eq!(scene.gateway.verify(&token, now).unwrap_err(), Refusal::Revoked(RevokedBy::Token));
    scene.gateway.set_revocations(&list(now - 1, epoch + 1, json!([])), now).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_epoch_rises_with_each_revocation_and_each_start_and_never_falls() {
    let scene = Scene::new().await;
    let epoch = || scene.broker.running.state.manager.registry.revoked().list().epoch;
    let first = epoch();
    // By the database's clock: a database that was restored from a backup is above all that was handed out before.
    assert!((scene.now() * 1000 - 60_000..=scene.now() * 1000 + 60_000).contains(&first), "{first}");
    let mut last = first;
    for _ in 0..3 {
        let token = scene.token().await;
        scene.revoke(&token).await;
        assert!(epoch() > last);
        last = epoch();
    }
    assert_eq!(scene.broker.running.state.manager.store.epoch().await.unwrap(), last, "what the list says is durable");
    assert!(scene.broker.running.state.manager.store.raise_epoch().await.unwrap() > last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_no_list_is_refused_and_the_old_one_stays() {
    let scene = Scene::new().await;
    let token = scene.token().await;
    let now = scene.now();
    let claims = json!({ "iss": scene.broker.running.issuer, "iat": now, "version": 9, "max_age": 30, "revoked": [] });
    let by_broker = |typ: &str, claims: &Value| forge::by_broker(&scene.broker, typ, claims);
    let kid = scene.broker.running.state.manager.registry.keys().active_kid().to_owned();
    let other = forge::with(claims.clone(), "iss", "https://other.example.com");
    let mut without_version = claims.clone();
    without_version.as_object_mut().unwrap().remove("version");
    for (what, list, refusal) in [
        ("typ of a token", by_broker("at+jwt", &claims), Refusal::WrongType),
        ("typ JWT", by_broker("JWT", &claims), Refusal::WrongType),
        ("a token", token.clone(), Refusal::WrongType),
        ("another issuer", by_broker(REVOCATIONS_TYP, &other), Refusal::WrongIssuer),
        (
            "from the future",
            by_broker(REVOCATIONS_TYP, &forge::with(claims.clone(), "iat", now + 60)),
            Refusal::NotYetValid,
        ),
        ("without version", by_broker(REVOCATIONS_TYP, &without_version), Refusal::Malformed),
        ("unsigned", forge::unsecured("none", &kid, &claims), Refusal::WrongAlgorithm),
        ("nothing", String::new(), Refusal::Malformed),
    ] {
        assert_eq!(scene.gateway.set_revocations(&list, now).unwrap_err(), refusal, "{what}");
    }
    scene.verify(&token).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_a_signed_jwt_of_opaque_ids() {
    let scene = Scene::new().await;
    let (token, session) = (scene.token().await, scene.token().await);
    let sid = forge::payload(&session)["sid"].as_str().unwrap().to_owned();
    scene
        .broker
        .admin_ok("POST", "/admin/v1/tokens/revoke", json!({ "token": token, "reason": "helpdesk leak" }))
        .await;
    scene.broker.admin_ok("POST", &format!("/admin/v1/sessions/{sid}/revoke"), Value::Null).await;
    scene.broker.admin_ok("POST", "/admin/v1/agents/helpdesk/revoke", json!({ "reason": "helpdesk gone" })).await;
    let kid = forge::header(&token)["kid"].as_str().unwrap().to_owned();
    scene.broker.admin_ok("POST", &format!("/admin/v1/keys/{kid}/retire"), Value::Null).await;

    let answer = scene.get("", &[]).await;
    assert_eq!(text(&answer, CONTENT_TYPE), "application/jwt");
    assert_eq!(text(&answer, CACHE_CONTROL), "no-cache");
    let list = answer.text().await.unwrap();
    assert_eq!(forge::header(&list)["typ"], REVOCATIONS_TYP);
    let claims = forge::payload(&list);
    assert_eq!(claims["iss"], *scene.broker.running.issuer);
    assert_eq!(claims["max_age"], 30);
    let whole = claims.to_string();
    for name in ["helpdesk", "support", "orders", "leak", "gone"] {
        assert!(!whole.replace(&scene.broker.running.issuer, "").contains(name), "{name}: {whole}");
    }
    let mut revoked = revoked(&list);
    revoked.sort_by_key(Value::to_string);
    assert_eq!(revoked.len(), 4, "{whole}");
    assert!(revoked[0]["before"].as_i64().unwrap() > forge::payload(&token)["iat"].as_i64().unwrap(), "{whole}");
    assert_eq!(revoked[0]["client_id"], *scene.agent.client_id);
    assert_eq!(revoked[1], json!({ "jti": forge::payload(&token)["jti"] }));
    assert_eq!(revoked[2], json!({ "kid": kid }));
    assert_eq!(revoked[3], json!({ "sid": sid }));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_s13_an_unchanged_list_is_304() {
    let scene = Scene::patient().await;
    let answer = scene.get("", &[]).await;
    assert_eq!(answer.status(), 200);
    let etag = text(&answer, ETAG).to_owned();
    for held in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        let again = scene.get("", &[(IF_NONE_MATCH, &held)]).await;
        assert_eq!(again.status(), 304, "{held}");
        assert_eq!(text(&again, ETAG), etag);
        assert_eq!(again.bytes().await.unwrap().len(), 0);
    }
    scene.revoke(&scene.token().await).await;
    let changed = scene.get("", &[(IF_NONE_MATCH, &etag)]).await;
    assert_eq!(changed.status(), 200);
    assert_ne!(text(&changed, ETAG), etag);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_answers_as_soon_as_something_is_revoked() {
    let scene = Scene::patient().await;
    let token = scene.token().await;
    let etag = text(&scene.get("", &[]).await, ETAG).to_owned();
    let url = scene.broker.url("/revocations?wait=60");
    let poll = tokio::spawn(scene.broker.http.get(url).header(IF_NONE_MATCH, &etag).send());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!poll.is_finished(), "nothing has changed yet");
    scene.revoke(&token).await;
    // Far below the 60 s that it would wait otherwise.
    let answer = tokio::time::timeout(Duration::from_secs(20), poll).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let list = answer.text().await.unwrap();
    assert_eq!(revoked(&list), [json!({ "jti": forge::payload(&token)["jti"] })]);
    scene.gateway.set_revocations(&list, scene.now()).unwrap();
    assert_eq!(scene.verify(&token).unwrap_err(), Refusal::Revoked(RevokedBy::Token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_in_vain_ends_with_304_and_one_without_etag_at_once() {
    let scene = Scene::patient().await;
    let etag = text(&scene.get("", &[]).await, ETAG).to_owned();
    let started = hallpass::world::monotonic();
    assert_eq!(scene.get("?wait=1", &[(IF_NONE_MATCH, &etag)]).await.status(), 304);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let started = hallpass::world::monotonic();
    assert_eq!(scene.get("?wait=60", &[]).await.status(), 200);
    assert_eq!(scene.get("?wait=60", &[(IF_NONE_MATCH, "\"old\"")]).await.status(), 200);
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// A gateway that only polls must never find its list too old while the broker is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_brings_a_younger_list_before_the_old_one_is_too_old() {
    let settings = [("HALLPASS_REVOCATIONS__SIGN_EVERY_SECONDS", "1"), ("HALLPASS_REVOCATIONS__MAX_AGE_SECONDS", "6")];
    let broker = TestBroker::start_with(Engine::Sqlite, Surroundings::default(), &settings).await;
    let scene = Scene::on(broker.unwrap()).await;
    let answer = scene.get("", &[]).await;
    let etag = text(&answer, ETAG).to_owned();
    let before = forge::payload(&answer.text().await.unwrap())["iat"].as_i64().unwrap();
    let answer = scene.get("?wait=60", &[(IF_NONE_MATCH, &etag)]).await;
    assert_eq!(answer.status(), 200);
    let after = forge::payload(&answer.text().await.unwrap())["iat"].as_i64().unwrap();
    assert!(after > before && scene.now() - before < 30, "{before} {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_no_number_of_seconds_is_400() {
    let scene = Scene::new().await;
    for query in ["abc", "-1", "1.5", "", "30s", "99999999999999999999999", "1&wait=2", "%00"] {
        let answer = scene.get(&format!("?wait={query}"), &[]).await;
        assert_eq!(answer.status(), 400, "{query}");
        assert!(answer.headers().contains_key("x-request-id"), "{query}");
        assert_eq!(text(&answer, CONTENT_TYPE), "application/problem+json", "{query}");
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], "bad_query", "{query}");
    }
    for query in ["?wait=0", "?other=1", "?", "?wait=18446744073709551615"] {
        assert_eq!(scene.get(query, &[]).await.status(), 200, "{query}");
    }
}

/// One event of a stream: its lines.
async fn event(stream: &mut reqwest::Response, buffer: &mut String) -> String {
    loop {
        if let Some(end) = buffer.find("\n\n") {
            let rest = buffer.split_off(end + 2);
            return std::mem::replace(buffer, rest);
        }
        let piece = tokio::time::timeout(Duration::from_secs(30), stream.chunk()).await;
        let piece = piece.expect("an event within 30 s").unwrap().expect("the stream goes on");
        buffer.push_str(std::str::from_utf8(&piece).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_stream_pushes_the_list_at_once_and_on_every_revocation() {
    let scene = Scene::patient().await;
    let token = scene.token().await;
    let mut stream = scene.get("", &[(ACCEPT, "text/event-stream")]).await;
    assert_eq!(stream.status(), 200);
    assert_eq!(text(&stream, CONTENT_TYPE), "text/event-stream");
    assert_eq!(text(&stream, CACHE_CONTROL), "no-store");
    let mut buffer = String::new();
    let data = |event: &str| {
        assert!(event.starts_with("event: revocations\nid: "), "{event}");
        event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned()
    };
    let first = data(&event(&mut stream, &mut buffer).await);
    assert_eq!(revoked(&first), Vec::<Value>::new());
    scene.revoke(&token).await;
    let second = data(&event(&mut stream, &mut buffer).await);
    assert_eq!(revoked(&second), [json!({ "jti": forge::payload(&token)["jti"] })]);
    scene.gateway.set_revocations(&second, scene.now()).unwrap();
    assert_eq!(scene.verify(&token).unwrap_err(), Refusal::Revoked(RevokedBy::Token));

    let sid = forge::payload(&token)["sid"].as_str().unwrap().to_owned();
    scene.broker.admin_ok("POST", &format!("/admin/v1/sessions/{sid}/revoke"), Value::Null).await;
    let third = data(&event(&mut stream, &mut buffer).await);
    assert_eq!(revoked(&third).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_leaves_the_list_once_it_cannot_matter_any_more() {
    let clock = TestClock::new();
    let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap();
    let scene = Scene::on(broker).await;
    let token = scene.token().await;
    scene.revoke(&token).await;
    scene.broker.admin_ok("POST", "/admin/v1/agents/helpdesk/suspend", Value::Null).await;
    assert_eq!(revoked(&scene.list().await).len(), 2);

    // As long as the token could live anywhere, it stays: 5 minutes, and one for clocks that differ.
    clock.add_seconds(280);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(revoked(&scene.list().await).len(), 2);
    // Then it goes. The agent's cut concerns tokens of up to 15 minutes.
    clock.add_seconds(160);
    let left = wait_for_length(&scene, 1).await;
    assert_eq!(left[0]["client_id"], *scene.agent.client_id);
    clock.add_seconds(15 * 60);
    wait_for_length(&scene, 0).await;
    // The token is long dead: nothing came back to life.
    scene.fetch_list().await;
    assert_eq!(scene.verify(&token).unwrap_err(), Refusal::Expired);
}

async fn wait_for_length(scene: &Scene, length: usize) -> Vec<Value> {
    for _ in 0..150 {
        let entries = revoked(&scene.list().await);
        if entries.len() == length {
            return entries;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("not {length} entries within 30 s: {:?}", revoked(&scene.list().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_survives_a_restart() {
    let scene = Scene::new().await;
    let token = scene.token().await;
    scene.revoke(&token).await;
    let before = revoked(&scene.list().await);
    let Scene { broker, .. } = scene;
    let broker = broker.restart().await;
    let list = broker.http.get(broker.url("/revocations")).send().await.unwrap().text().await.unwrap();
    assert_eq!(revoked(&list), before);
}
