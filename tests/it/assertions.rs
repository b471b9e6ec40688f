//! `private_key_jwt`, and what guards client secrets: RFC 7521, RFC 7523, rfc7523bis, RFC 6749 §2.3.

use std::sync::Arc;

use hallpass::app::Surroundings;
use serde_json::{Value, json};

use crate::forge;
use crate::support::idp::{Idp, Mode, Signer};
use crate::support::{Binary, Engine, TestBroker, TestClock};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A broker with an agent that signs, and has no secret.
struct Scene {
    broker: TestBroker,
    clock: Arc<TestClock>,
    signer: Signer,
    id: String,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Engine::Sqlite, "EdDSA", &[]).await.unwrap()
    }

    async fn with(engine: Engine, alg: &'static str, settings: &[(&str, &str)]) -> Option<Self> {
        let clock = TestClock::new();
        let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
        let broker = TestBroker::start_with(engine, surroundings, settings).await?;
        broker.apply("resources: [ { name: orders, audience: \"https://orders.example.com\", scopes: [read] } ]\nroles: [ { name: r, scopes: [\"orders:read\", \"hallpass:introspect\"] } ]").await;
        let signer = Signer::new(alg, "k1");
        let id = register(&broker, "signer", json!({ "method": "private_key_jwt", "jwks": signer.jwks() })).await;
        Some(Self { broker, clock, signer, id })
    }

    /// Claims of a good assertion, with a new `jti` each time.
    fn claims(&self) -> Value {
        let now = forge::now(&self.broker);
        let jti = hallpass::secret::random_id("j_", self.broker.running.state.world.entropy.as_ref());
        let issuer = &self.broker.running.issuer;
        json!({ "iss": self.id, "sub": self.id, "aud": issuer, "exp": now + 60, "iat": now, "jti": jti })
    }

    async fn ask(&self, assertion: &str, more: &[(&str, &str)]) -> (u16, Value) {
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", assertion),
        ];
        form.extend_from_slice(more);
        post(&self.broker, "/oauth2/token", &form).await
    }

    /// Refused as `invalid_client`, and recorded with this reason.
    async fn is_refused(&self, assertion: &str, reason: &str) {
        let (status, answer) = self.ask(assertion, &[]).await;
        assert_eq!((status, answer["error"].as_str()), (401, Some("invalid_client")), "{reason}: {answer}");
        let last = self.broker.records().await.pop().unwrap();
        assert_eq!((last["kind"].as_str(), last["reason"].as_str()), (Some("token.refused"), Some(reason)), "{last}");
    }
}

async fn post(broker: &TestBroker, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let answer = broker.http.post(broker.url(path)).form(form).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
}

async fn register(broker: &TestBroker, name: &str, method: Value) -> String {
    let body = json!({ "name": name, "roles": ["r"], "identity": { "methods": [method] }, "no_secret": true });
    let answer = broker.admin_ok("POST", "/admin/v1/agents", body).await;
    assert!(answer.get("client_secret").is_none(), "{answer}");
    answer["client_id"].as_str().unwrap().to_owned()
}

async fn every_algorithm_that_is_allowed_signs_an_assertion(engine: Engine) {
    for (alg, is_default) in [("EdDSA", true), ("ES256", true), ("PS256", true), ("RS256", false), ("ES384", false)] {
        let Some(scene) = Scene::with(engine, alg, &[]).await else { return };
        let (status, answer) = scene.ask(&scene.signer.sign(&scene.claims()), &[]).await;
        assert_eq!(status, if is_default { 200 } else { 401 }, "{alg}: {answer}");
        if is_default {
            let record = scene.broker.wait_for_record(|record| record["kind"] == "token.issued").await;
            assert!(record.to_string().contains("private_key_jwt"), "{record}");
        }
        if engine == Engine::Postgres {
            return;
        }
    }
    let all = [("HALLPASS_CLIENT_AUTH__ASSERTION_ALGORITHMS", "RS256 ES384 RS512")];
    for alg in ["RS256", "ES384", "RS512"] {
        let scene = Scene::with(engine, alg, &all).await.unwrap();
        let (status, answer) = scene.ask(&scene.signer.sign(&scene.claims()), &[]).await;
        assert_eq!(status, 200, "{alg}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7523_s2_2_every_allowed_algorithm_on_sqlite() {
    every_algorithm_that_is_allowed_signs_an_assertion(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7523_s2_2_every_allowed_algorithm_on_postgresql() {
    every_algorithm_that_is_allowed_signs_an_assertion(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7521_s4_2_an_assertion_opens_introspection_and_revocation_too() {
    let scene = Scene::new().await;
    let (_, issued) = scene.ask(&scene.signer.sign(&scene.claims()), &[("client_id", &scene.id)]).await;
    let token = issued["access_token"].as_str().unwrap();
    for (path, expected) in [("/oauth2/introspect", true), ("/oauth2/revoke", true), ("/oauth2/introspect", false)] {
        let assertion = scene.signer.sign(&scene.claims());
        let form = [("client_assertion_type", JWT_BEARER), ("client_assertion", &*assertion), ("token", token)];
        let (status, answer) = post(&scene.broker, path, &form).await;
        assert_eq!(status, 200, "{path}: {answer}");
        if path.ends_with("introspect") {
            assert_eq!(answer["active"], expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7523bis_typed_and_single_element_array_are_taken() {
    let scene = Scene::new().await;
    for typ in [json!("client-authentication+jwt"), json!("application/Client-Authentication+JWT"), Value::Null] {
        let mut header = json!({ "alg": "EdDSA", "kid": "k1" });
        if !typ.is_null() {
            header["typ"] = typ;
        }
        let claims = forge::with(scene.claims(), "aud", json!([scene.broker.running.issuer]));
        let (status, answer) = scene.ask(&scene.signer.sign_with(header, &claims), &[]).await;
        assert_eq!(status, 200, "{answer}");
    }
    // RFC 9864's name for the same algorithm; and no `kid`.
    let token = scene.signer.sign_with(json!({ "alg": "Ed25519" }), &scene.claims());
    assert_eq!(scene.ask(&token, &[]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7523_s3_what_an_assertion_says_is_held_to() {
    let scene = Scene::new().await;
    let issuer = scene.broker.running.issuer.clone();
    let now = forge::now(&scene.broker);
    let other = register(
        &scene.broker,
        "other",
        json!({ "method": "private_key_jwt", "jwks": Signer::new("EdDSA", "o").jwks() }),
    )
    .await;
    let table: Vec<(&str, Value, &str)> = vec![
        // rfc7523bis §4: our issuer and nothing else.
        ("aud", json!(format!("{issuer}/oauth2/token")), "assertion_wrong_audience"),
        ("aud", json!([issuer, "https://stranger.example.com"]), "assertion_wrong_audience"),
        ("aud", json!([format!("{issuer}/oauth2/token")]), "assertion_wrong_audience"),
        ("aud", json!(format!("{issuer}/")), "assertion_wrong_audience"),
        ("aud", json!([]), "assertion_wrong_audience"),
        ("aud", json!([issuer, 7]), "assertion_wrong_audience"),
        ("aud", Value::Null, "assertion_wrong_audience"),
        ("exp", json!(now - 1), "assertion_expired"),
        ("exp", json!(now), "assertion_expired"),
        ("exp", Value::Null, "assertion_malformed"),
        ("exp", json!("tomorrow"), "assertion_malformed"),
        ("exp", json!(now + 4000), "assertion_lives_too_long"),
        ("exp", json!(1e300), "assertion_malformed"),
        ("iat", json!(now + 600), "assertion_not_yet_valid"),
        ("nbf", json!(now + 600), "assertion_not_yet_valid"),
        ("iat", json!(now - 7200), "assertion_lives_too_long"),
        ("iat", Value::Null, "assertion_malformed"),
        ("sub", json!(other), "assertion_iss_is_not_sub"),
        ("sub", Value::Null, "assertion_without_sub"),
        ("iss", json!(other), "assertion_iss_is_not_sub"),
        ("iss", json!("https://issuer.example.com"), "assertion_iss_is_not_sub"),
        ("jti", Value::Null, "assertion_without_jti"),
        ("jti", json!(""), "assertion_without_jti"),
        ("jti", json!(7), "assertion_without_jti"),
        ("jti", json!("x".repeat(300)), "assertion_malformed"),
    ];
    for (name, value, reason) in table {
        let claims = forge::with(scene.claims(), name, value);
        scene.is_refused(&scene.signer.sign(&claims), reason).await;
    }
    for name in ["sub", "exp", "jti", "aud", "iss"] {
        let mut claims = scene.claims();
        claims.as_object_mut().unwrap().remove(name);
        let (status, _) = scene.ask(&scene.signer.sign(&claims), &[]).await;
        assert_eq!(status, 401, "without {name}");
    }
    // Another client's name beside it, and another client's name in it.
    let (status, _) = scene.ask(&scene.signer.sign(&scene.claims()), &[("client_id", &other)]).await;
    assert_eq!(status, 401);
    let mut claims = scene.claims();
    (claims["iss"], claims["sub"]) = (json!(other), json!(other));
    scene.is_refused(&scene.signer.sign(&claims), "assertion_unknown_key").await;
    (claims["iss"], claims["sub"]) = (json!("ag_nobody"), json!("ag_nobody"));
    scene.is_refused(&scene.signer.sign(&claims), "unknown_client").await;
    assert_eq!(scene.ask(&scene.signer.sign(&scene.claims()), &[]).await.0, 200, "after all that, a good one is good");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8725_s3_the_header_chooses_neither_key_nor_algorithm() {
    let scene = Scene::new().await;
    let mallory = Signer::new("EdDSA", "k1");
    let good = json!({ "alg": "EdDSA", "kid": "k1", "typ": "JWT" });
    for (name, value, reason) in [
        ("jwk", mallory.jwk(), "assertion_malformed"),
        ("jku", json!("https://mallory.example.com/jwks"), "assertion_malformed"),
        ("x5u", json!("https://mallory.example.com/x5u"), "assertion_malformed"),
        ("x5c", json!(["AAAA"]), "assertion_malformed"),
        ("crit", json!(["exp"]), "assertion_malformed"),
        ("alg", json!("none"), "assertion_wrong_algorithm"),
        ("alg", json!("HS256"), "assertion_wrong_algorithm"),
        ("alg", json!("ES256"), "assertion_wrong_algorithm"),
        ("alg", json!("RS256"), "assertion_wrong_algorithm"),
        ("alg", Value::Null, "assertion_malformed"),
        ("kid", json!("k2"), "assertion_unknown_key"),
        ("kid", json!(7), "assertion_malformed"),
        ("typ", json!("at+jwt"), "assertion_wrong_type"),
        ("typ", json!("dpop+jwt"), "assertion_wrong_type"),
    ] {
        let header = forge::with(good.clone(), name, value);
        scene.is_refused(&mallory.sign_with(header.clone(), &scene.claims()), reason).await;
        scene.is_refused(&scene.signer.sign_with(header, &scene.claims()), reason).await;
    }
    scene.is_refused(&mallory.sign(&scene.claims()), "assertion_bad_signature").await;
    let signed = scene.signer.sign(&scene.claims());
    let changed = forge::tampered(&signed, |claims| claims["jti"] = json!("other"));
    scene.is_refused(&changed, "assertion_bad_signature").await;
    for spelling in ["none", "None", "NONE"] {
        scene.is_refused(&forge::unsecured(spelling, "k1", &scene.claims()), "assertion_wrong_algorithm").await;
    }
    // RFC 8725 §2.1: the public key, which everybody knows, as an HMAC secret.
    let public = scene.signer.jwk().to_string();
    scene.is_refused(&forge::by_hmac(public.as_bytes(), "k1", &scene.claims()), "assertion_wrong_algorithm").await;
    for broken in ["", "a.b", "a.b.c.d.e", "....", &"x".repeat(20_000), &signed[..signed.len() - 3]] {
        let (status, answer) = scene.ask(broken, &[]).await;
        assert!(matches!(status, 400 | 401), "{broken}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7523_s3_a_jti_is_good_once_also_for_many_at_the_same_moment() {
    let scene = Arc::new(Scene::new().await);
    let assertion = Arc::new(scene.signer.sign(&scene.claims()));
    let all = (0..20).map(|_| {
        let (scene, assertion) = (scene.clone(), assertion.clone());
        tokio::spawn(async move { scene.ask(&assertion, &[]).await.0 })
    });
    let mut statuses = Vec::new();
    for one in all.collect::<Vec<_>>() {
        statuses.push(one.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    scene.is_refused(&assertion, "assertion_replayed").await;
    // A refusal uses nothing up.
    let claims = scene.claims();
    scene.is_refused(&scene.signer.sign(&forge::with(claims.clone(), "aud", "x")), "assertion_wrong_audience").await;
    assert_eq!(scene.ask(&scene.signer.sign(&claims), &[]).await.0, 200);
}

async fn an_assertion_that_was_used_before_a_restart_is_not_good_after_it(engine: Engine) {
    let settings = [("HALLPASS_ISSUER", "http://127.0.0.1:8600")];
    let Some(mut scene) = Scene::with(engine, "EdDSA", &settings).await else { return };
    let without_iat = |scene: &Scene| {
        let mut claims = scene.claims();
        claims.as_object_mut().unwrap().remove("iat");
        scene.signer.sign(&claims)
    };
    // Used for a token, for a request that was refused, and at another endpoint; with and without the optional `iat`.
    let issued = [scene.signer.sign(&scene.claims()), without_iat(&scene)];
    let mut used = issued.to_vec();
    for assertion in &issued {
        assert_eq!(scene.ask(assertion, &[]).await.0, 200);
    }
    for assertion in [scene.signer.sign(&scene.claims()), without_iat(&scene)] {
        assert_eq!(scene.ask(&assertion, &[("scope", "orders:nothing")]).await.1["error"], "invalid_scope");
        used.push(assertion);
    }
    for assertion in [scene.signer.sign(&scene.claims()), without_iat(&scene)] {
        let form = [("client_assertion_type", JWT_BEARER), ("client_assertion", &*assertion), ("token", "x")];
        assert_eq!(post(&scene.broker, "/oauth2/introspect", &form).await.0, 200);
        used.push(assertion);
    }
    // Made before the restart, and not used: their time has not come.
    let unused = [scene.signer.sign(&scene.claims()), without_iat(&scene)];
    scene.clock.add_seconds(2);
    scene.broker = scene.broker.restart().await;
    for assertion in &used {
        scene.is_refused(assertion, "assertion_replayed").await;
    }
    // At once: RFC 7523 section 3 leaves `iat` to the client.
    for assertion in unused.iter().chain([&without_iat(&scene), &scene.signer.sign(&scene.claims())]) {
        let (status, answer) = scene.ask(assertion, &[]).await;
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = scene.ask(assertion, &[]).await;
        assert_eq!((status, answer["error"].as_str()), (401, Some("invalid_client")));
        assert!(answer["error_description"].as_str().unwrap().contains("used before"), "{answer}");
    }
    // What has ended is forgotten.
    scene.clock.add_seconds(4000);
    let state = &scene.broker.running.state;
    state.ledger.commit(Vec::new(), vec![hallpass::model::Change::Prune { before: state.world.now() }]).await.unwrap();
    let kept = state.manager.store.load(0).await.unwrap();
    assert_eq!(kept.used_assertions, []);
    assert!(kept.assertions_since.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7523_s3_an_assertion_is_good_once_across_a_restart_on_sqlite() {
    an_assertion_that_was_used_before_a_restart_is_not_good_after_it(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7523_s3_an_assertion_is_good_once_across_a_restart_on_postgresql() {
    an_assertion_that_was_used_before_a_restart_is_not_good_after_it(Engine::Postgres).await;
}

/// An agent that was there before used assertions were kept may have used what it made then.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_may_have_seen_is_not_taken_and_its_sender_is_told_so() {
    let settings = [("HALLPASS_ISSUER", "http://127.0.0.1:8600")];
    let mut scene = Scene::with(Engine::Sqlite, "EdDSA", &settings).await.unwrap();
    scene.clock.add_seconds(100);
    let before = scene.signer.sign(&scene.claims());
    // The database as that version left it.
    let url = format!("sqlite:{}", scene.broker.database_file().display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query("DELETE FROM used_assertions").execute(&pool).await.unwrap();
    pool.close().await;
    scene.clock.add_seconds(2);
    scene.broker = scene.broker.restart().await;
    scene.is_refused(&before, "assertion_from_before_they_were_kept").await;
    let mut claims = scene.claims();
    claims.as_object_mut().unwrap().remove("iat");
    let (status, answer) = scene.ask(&scene.signer.sign(&claims), &[]).await;
    assert_eq!(status, 401);
    assert!(answer["error_description"].as_str().unwrap().contains("iat"), "{answer}");
    // A new agent has used none; and an hour later all are good.
    let signer = Signer::new("ES256", "new");
    let id = register(&scene.broker, "new", json!({ "method": "private_key_jwt", "jwks": signer.jwks() })).await;
    let mut of_new = claims.clone();
    (of_new["iss"], of_new["sub"]) = (json!(id), json!(id));
    assert_eq!(scene.ask(&signer.sign(&of_new), &[]).await.0, 200);
    scene.clock.add_seconds(120);
    assert_eq!(scene.ask(&scene.signer.sign(&scene.claims()), &[]).await.0, 200, "its iat says that it is newer");
    scene.clock.add_seconds(3700);
    (claims["exp"], claims["jti"]) = (json!(forge::now(&scene.broker) + 60), json!("after an hour"));
    assert_eq!(scene.ask(&scene.signer.sign(&claims), &[]).await.0, 200);
}

/// Behind a proxy there is one address for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s2_3_1_whoever_guesses_at_an_address_locks_nobody_else_out_there() {
    let scene = Scene::new().await;
    let good = scene.broker.register("good", &["r"]).await;
    let wrong = scene.broker.register("another", &["r"]).await;
    let ask = |id: &str, secret: &str| {
        let request = scene.broker.http.post(scene.broker.url("/oauth2/token")).basic_auth(id, Some(secret));
        request.form(&[("grant_type", "client_credentials")]).send()
    };
    for n in 0..120 {
        let id = if n % 2 == 0 { format!("ag_made_up_{n}") } else { scene.id.clone() };
        assert_eq!(ask(&id, &wrong.client_secret).await.unwrap().status(), 401);
    }
    // A right secret passes, as often as it comes.
    for _ in 0..3 {
        assert_eq!(ask(&good.client_id, &good.client_secret).await.unwrap().status(), 200);
    }
    // A wrong one is told to wait, and nobody learns from that which clients there are.
    let known = ask(&good.client_id, &wrong.client_secret).await.unwrap();
    let unknown = ask("ag_nobody", &wrong.client_secret).await.unwrap();
    assert_eq!((known.status().as_u16(), unknown.status().as_u16()), (401, 401));
    assert!(known.headers().get("retry-after").is_some() && unknown.headers().get("retry-after").is_some());
    let (mut known, mut unknown): (Value, Value) = (known.json().await.unwrap(), unknown.json().await.unwrap());
    (known["request_id"], unknown["request_id"]) = (Value::Null, Value::Null);
    assert_eq!(known, unknown);
    assert_eq!(ask(&good.client_id, &good.client_secret).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s2_3_two_methods_in_one_request_are_refused() {
    let scene = Scene::new().await;
    let assertion = scene.signer.sign(&scene.claims());
    let (status, answer) = scene.ask(&assertion, &[("client_id", &scene.id), ("client_secret", "x")]).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_request")));
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion", &*assertion),
        ("client_assertion_type", JWT_BEARER),
    ];
    let request = scene.broker.http.post(scene.broker.url("/oauth2/token")).basic_auth(&scene.id, Some("x"));
    assert_eq!(request.form(&form).send().await.unwrap().status(), 400);
    let (status, _) = post(&scene.broker, "/oauth2/token", &form[..2]).await;
    assert_eq!(status, 400, "RFC 7521 section 4.2: the type is required");
    let unknown =
        [form[0], form[1], ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")];
    assert_eq!(post(&scene.broker, "/oauth2/token", &unknown).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_at_a_jwks_uri_rotate() {
    let scene = Scene::new().await;
    let (old, new) = (Signer::new("ES256", "old"), Signer::new("ES256", "new"));
    let idp = Idp::start(old.jwks()).await;
    let uri = format!("{}/jwks", idp.issuer());
    let method = json!({ "method": "private_key_jwt", "jwks_uri": uri, "allow_private": true });
    let id = register(&scene.broker, "remote", method).await;
    let claims = || {
        let mut claims = scene.claims();
        (claims["iss"], claims["sub"]) = (json!(id), json!(id));
        claims
    };
    for _ in 0..3 {
        assert_eq!(scene.ask(&old.sign(&claims()), &[]).await.0, 200);
    }
    assert_eq!(idp.fetches(), 1);
    idp.rotate(new.jwks());
    assert_eq!(scene.ask(&new.sign(&claims()), &[]).await.0, 200, "an unknown kid has the set fetched again");
    scene.is_refused(&old.sign(&claims()), "assertion_unknown_key").await;
    assert_eq!(idp.fetches(), 2);
    // A second rotation within the minute waits for the minute.
    let third = Signer::new("ES256", "third");
    idp.rotate(third.jwks());
    scene.is_refused(&third.sign(&claims()), "assertion_unknown_key").await;
    scene.clock.add_seconds(61);
    assert_eq!(scene.ask(&third.sign(&claims()), &[]).await.0, 200);
    // While it is down, what is known stays good, for a day.
    idp.set(Mode::Down);
    scene.clock.add_seconds(7200);
    assert_eq!(scene.ask(&third.sign(&claims()), &[]).await.0, 200);
    scene.clock.add_seconds(86_400);
    scene.is_refused(&third.sign(&claims()), "issuer_keys_unavailable").await;
    idp.set(Mode::Good);
    scene.clock.add_seconds(11);
    assert_eq!(scene.ask(&third.sign(&claims()), &[]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_dialled_for_keys_only_where_the_admin_says_so() {
    let scene = Scene::new().await;
    let signer = Signer::new("ES256", "k");
    let idp = Idp::start(signer.jwks()).await;
    let uri = format!("{}/jwks", idp.issuer());
    let id = register(&scene.broker, "remote", json!({ "method": "private_key_jwt", "jwks_uri": uri })).await;
    let mut claims = scene.claims();
    (claims["iss"], claims["sub"]) = (json!(id), json!(id));
    scene.is_refused(&signer.sign(&claims), "issuer_keys_unavailable").await;
    assert_eq!(idp.fetches(), 0);
    for bad in ["http://keys.example.com/jwks", "ftp://127.0.0.1/", "https://u:p@127.0.0.1/", "/jwks"] {
        let method = json!({ "method": "private_key_jwt", "jwks_uri": bad });
        let body = json!({ "name": "x", "identity": { "methods": [method] } });
        let (status, answer) = scene.broker.admin("POST", "/admin/v1/agents", body).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("bad_identity")), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8414_s2_a_method_that_is_forbidden_is_neither_announced_nor_taken() {
    let scene = Scene::new().await;
    let metadata = |scene: &Scene| {
        let request = scene.broker.http.get(scene.broker.url("/.well-known/oauth-authorization-server"));
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let all = metadata(&scene).await;
    for endpoint in ["token", "introspection", "revocation"] {
        let methods = &all[format!("{endpoint}_endpoint_auth_methods_supported")];
        for method in ["client_secret_basic", "client_secret_post", "private_key_jwt", "spiffe_jwt"] {
            assert!(methods.as_array().unwrap().contains(&json!(method)), "{methods}");
        }
        let algorithms = &all[format!("{endpoint}_endpoint_auth_signing_alg_values_supported")];
        assert_eq!(*algorithms, json!(["EdDSA", "ES256", "PS256"]));
    }
    let grant = |name: &str| format!("urn:ietf:params:oauth:grant-type:{name}");
    let grants = json!(["client_credentials", grant("token-exchange"), grant("jwt-bearer")]);
    assert_eq!(all["grant_types_supported"], grants);

    let only =
        Scene::with(Engine::Sqlite, "EdDSA", &[("HALLPASS_CLIENT_AUTH__METHODS", "client_secret")]).await.unwrap();
    let some = metadata(&only).await;
    assert_eq!(some["token_endpoint_auth_methods_supported"], json!(["client_secret_basic", "client_secret_post"]));
    assert!(some.get("token_endpoint_auth_signing_alg_values_supported").is_none());
    assert_eq!(some["grant_types_supported"], json!(["client_credentials", grant("token-exchange")]));
    only.is_refused(&only.signer.sign(&only.claims()), "method_forbidden").await;

    let keys =
        Scene::with(Engine::Sqlite, "EdDSA", &[("HALLPASS_CLIENT_AUTH__METHODS", "private_key_jwt")]).await.unwrap();
    let agent = keys.broker.register("secretive", &["r"]).await;
    assert_eq!(keys.broker.token_request(&agent, &[]).await.0, 401);
    assert_eq!(keys.ask(&keys.signer.sign(&keys.claims()), &[]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s2_3_1_guessing_is_slowed_and_locked_but_nobody_is_locked_out_of_its_key() {
    let scene = Scene::new().await;
    let mut agent = scene.broker.register("secretive", &["r"]).await;
    let right = agent.client_secret.clone();
    let wrong = scene.broker.register("another", &["r"]).await.client_secret;
    let body = |id: &str, secret: &str| {
        let request = scene.broker.http.post(scene.broker.url("/oauth2/token")).basic_auth(id, Some(secret));
        request.form(&[("grant_type", "client_credentials")]).send()
    };
    for _ in 0..6 {
        let answer = body(&agent.client_id, &wrong).await.unwrap();
        assert_eq!(answer.status(), 401);
        assert!(answer.headers().get("retry-after").is_none());
    }
    // Slowed: the right one is not looked at either, and the answer says for how long.
    let answer = body(&agent.client_id, &right).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (401, "1"));
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"], "invalid_client");
    let record = scene.broker.records().await.pop().unwrap();
    assert_eq!(record["reason"], "client_secret_slowed", "{record}");
    scene.clock.add_seconds(2);
    assert_eq!(body(&agent.client_id, &right).await.unwrap().status(), 200, "and it clears the count");
    for _ in 0..5 {
        assert!(body(&agent.client_id, &wrong).await.unwrap().headers().get("retry-after").is_none());
    }
    // Locked in the end.
    let mut waits = Vec::new();
    for _ in 0..11 {
        body(&agent.client_id, &wrong).await.unwrap();
        let wait: i64 =
            body(&agent.client_id, &wrong).await.unwrap().headers()["retry-after"].to_str().unwrap().parse().unwrap();
        waits.push(wait);
        scene.clock.add_seconds(wait + 1);
    }
    assert_eq!(waits.last(), Some(&900), "{waits:?}");
    // A made-up client is slowed alike: the wait does not tell who exists.
    agent.client_id = "ag_nobody".into();
    for _ in 0..6 {
        assert!(body(&agent.client_id, &wrong).await.unwrap().headers().get("retry-after").is_none());
    }
    assert!(body(&agent.client_id, &wrong).await.unwrap().headers().get("retry-after").is_some());
    // A stranger who guesses secrets of an agent that has a key keeps nobody from the key, from the same address too.
    for _ in 0..80 {
        body(&scene.id, &wrong).await.unwrap();
    }
    assert!(body(&scene.id, &wrong).await.unwrap().headers().get("retry-after").is_some());
    assert_eq!(scene.ask(&scene.signer.sign(&scene.claims()), &[]).await.0, 200);
    let metrics = scene.broker.http.get(scene.broker.ops_url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("client_secret_slowed"), "{metrics}");
}

#[test]
fn the_command_line_registers_an_agent_without_a_secret() {
    let mut binary = Binary::init(None);
    binary.serve(None);
    let signer = Signer::new("ES256", "k1");
    let file = binary.dir.path().join("jwks.json");
    std::fs::write(&file, signer.jwks().to_string()).unwrap();
    let file = file.to_str().unwrap();
    let said = binary.ok(&["agent", "register", "bot", "--jwks", file, "--no-secret", "--json"], "");
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert!(answer.get("client_secret").is_none(), "{answer}");
    assert_eq!(answer["identity"]["methods"][0]["jwks"], signer.jwks());
    let shown = binary.ok(&["agent", "show", "bot"], "");
    assert!(
        shown.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == ["methods", "private_key_jwt"]),
        "{shown}"
    );
    assert!(!binary.run(&["agent", "register", "none", "--no-secret"], "").status.success());
    assert!(!binary.run(&["agent", "register", "none", "--federated", "issuer"], "").status.success());
    assert!(!binary.run(&["agent", "register", "none", "--federated", "issuer=nobody,sub=x"], "").status.success());
    let mixed = binary.ok(&["agent", "register", "both", "--jwks", file], "");
    assert!(mixed.contains("client_secret"), "{mixed}");
}
