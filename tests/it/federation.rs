//! Workload identity: tokens of registered issuers and JWT-SVIDs, and where their keys come from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hallpass::app::Surroundings;
use hallpass::outbound::Resolve;
use hallpass::trust::{FETCH_TIMEOUT, Trust, Untrusted};
use serde_json::{Value, json};

use crate::forge;
use crate::support::database::on_both_engines;
use crate::support::idp::{Idp, Mode, Signer};
use crate::support::{Engine, TestBroker, TestClock};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

/// A broker that trusts an issuer as Kubernetes is one, and an agent `bot` for one service account there.
struct Scene {
    broker: TestBroker,
    clock: Arc<TestClock>,
    idp: Idp,
    signer: Signer,
    bot: String,
}

impl Scene {
    async fn new() -> Self {
        Self::on(Engine::Sqlite, "RS256").await.unwrap()
    }

    async fn on(engine: Engine, alg: &'static str) -> Option<Self> {
        let clock = TestClock::new();
        let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
        let broker = TestBroker::start_with(engine, surroundings, &[]).await?;
        let signer = Signer::new(alg, "k1");
        let idp = Idp::start(signer.jwks()).await;
        broker
            .apply(&document(&format!("{{ name: k8s, issuer: \"{}\", allow_private: true }}", idp.issuer()), ""))
            .await;
        let bot = register(&broker, "bot", k8s("bot")).await;
        Some(Self { broker, clock, idp, signer, bot })
    }

    fn claims(&self) -> Value {
        let now = forge::now(&self.broker);
        json!({
            "iss": self.idp.issuer(), "sub": "system:serviceaccount:shop:bot", "aud": [self.broker.running.issuer],
            "exp": now + 3600, "iat": now, "nbf": now,
            "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "bot", "uid": "7" } },
        })
    }

    fn token(&self) -> String {
        self.signer.sign(&self.claims())
    }

    /// RFC 7523 §2.1.
    async fn grant(&self, assertion: &str, more: &[(&str, &str)]) -> (u16, Value) {
        let mut form = vec![("grant_type", GRANT), ("assertion", assertion)];
        form.extend_from_slice(more);
        post(&self.broker, &form).await
    }

    /// RFC 7523 §2.2.
    async fn client(&self, kind: &str, assertion: &str, id: Option<&str>) -> (u16, Value) {
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_assertion_type", kind),
            ("client_assertion", assertion),
        ];
        form.extend(id.map(|id| ("client_id", id)));
        post(&self.broker, &form).await
    }

    /// Refused both ways, for this reason.
    async fn is_refused(&self, assertion: &str, reason: &str) {
        let (status, answer) = self.grant(assertion, &[("client_id", &self.bot)]).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_grant")), "{reason}: {answer}");
        self.recorded(reason).await;
        let (status, answer) = self.grant(assertion, &[]).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_grant")), "{reason}: {answer}");
    }

    async fn recorded(&self, reason: &str) {
        let last = self.broker.records().await.pop().unwrap();
        assert_eq!((last["kind"].as_str(), last["reason"].as_str()), (Some("token.refused"), Some(reason)), "{last}");
    }
}

fn document(issuer: &str, trust_domains: &str) -> String {
    format!(
        "resources: [ {{ name: orders, audience: \"https://orders.example.com\", scopes: [read] }} ]\n\
         roles: [ {{ name: r, scopes: [\"orders:read\", \"hallpass:introspect\"] }} ]\n\
         issuers: [ {issuer} ]\ntrust_domains: [ {trust_domains} ]\n"
    )
}

fn k8s(name: &str) -> Value {
    let claims = json!({ "kubernetes.io/namespace": "shop", "kubernetes.io/serviceaccount/name": name });
    json!({ "method": "federated", "issuer": "k8s", "claims": claims })
}

async fn register(broker: &TestBroker, name: &str, method: Value) -> String {
    let body = json!({ "name": name, "roles": ["r"], "identity": { "methods": [method] }, "no_secret": true });
    broker.admin_ok("POST", "/admin/v1/agents", body).await["client_id"].as_str().unwrap().to_owned()
}

async fn post(broker: &TestBroker, form: &[(&str, &str)]) -> (u16, Value) {
    let answer = broker.http.post(broker.url("/oauth2/token")).form(form).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn a_workload_gets_its_token_by_its_own(engine: Engine) {
    for alg in ["RS256", "ES256", "EdDSA", "PS256"] {
        let Some(scene) = Scene::on(engine, alg).await else { return };
        // Without a client id; with it; as a client assertion, where it is needed. A file that is read again is shown again.
        let token = scene.token();
        for (status, answer) in [
            scene.grant(&token, &[]).await,
            scene.grant(&token, &[("client_id", &scene.bot), ("scope", "hallpass:introspect")]).await,
            scene.client(JWT_BEARER, &token, Some(&scene.bot)).await,
        ] {
            assert_eq!(status, 200, "{alg}: {answer}");
            let claims = forge::payload(answer["access_token"].as_str().unwrap());
            assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(scene.bot), &json!(scene.bot)));
        }
        assert_eq!(scene.client(JWT_BEARER, &token, None).await.0, 401);
        assert_eq!(scene.idp.fetches(), 1);
        let record = scene.broker.wait_for_record(|record| record["kind"] == "token.issued").await;
        assert!(record.to_string().contains("federated"), "{record}");
        if engine == Engine::Postgres {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7523_s2_1_a_workload_gets_its_token_by_its_own_on_sqlite() {
    a_workload_gets_its_token_by_its_own(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7523_s2_1_a_workload_gets_its_token_by_its_own_on_postgresql() {
    a_workload_gets_its_token_by_its_own(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7523_s3_what_a_foreign_token_says_is_held_to() {
    let scene = Scene::new().await;
    let (now, good) = (forge::now(&scene.broker), scene.claims());
    let other = json!({ "namespace": "shop", "serviceaccount": { "name": "other" } });
    let flat = json!({ "namespace": "shop", "serviceaccount": "bot" });
    for (name, value, reason) in [
        ("aud", json!("https://other.example.com"), "no_trust_entry_matches"),
        ("aud", json!([]), "no_trust_entry_matches"),
        ("aud", Value::Null, "no_trust_entry_matches"),
        ("exp", json!(now - 1), "assertion_expired"),
        ("exp", Value::Null, "assertion_malformed"),
        ("iat", json!(now + 600), "assertion_not_yet_valid"),
        ("nbf", json!(now + 600), "assertion_not_yet_valid"),
        ("sub", Value::Null, "assertion_malformed"),
        ("sub", json!(""), "assertion_malformed"),
        ("kubernetes.io", other, "no_trust_entry_matches"),
        ("kubernetes.io", flat, "no_trust_entry_matches"),
        ("kubernetes.io", Value::Null, "no_trust_entry_matches"),
    ] {
        scene.is_refused(&scene.signer.sign(&forge::with(good.clone(), name, value)), reason).await;
    }
    // An issuer that nobody registered; nobody asks it anything.
    let stranger = Idp::start(scene.signer.jwks()).await;
    let token = scene.signer.sign(&forge::with(good.clone(), "iss", stranger.issuer()));
    scene.is_refused(&token, "no_trust_entry_matches").await;
    assert_eq!(scene.grant(&token, &[]).await.0, 400);
    scene.recorded("issuer_not_registered").await;
    for near in [format!("{}/", scene.idp.issuer()), scene.idp.issuer().to_uppercase()] {
        scene.is_refused(&scene.signer.sign(&forge::with(good.clone(), "iss", near)), "no_trust_entry_matches").await;
    }
    assert_eq!(stranger.upstream.seen().len(), 0);
    let mallory = Signer::new("EdDSA", "k1");
    for (token, reason) in [
        (mallory.sign(&good), "assertion_wrong_algorithm"),
        (forge::unsecured("none", "k1", &good), "assertion_wrong_algorithm"),
        (forge::by_hmac(scene.signer.jwk().to_string().as_bytes(), "k1", &good), "assertion_wrong_algorithm"),
        (forge::tampered(&scene.token(), |claims| claims["jti"] = json!("x")), "assertion_bad_signature"),
        (
            scene.signer.sign_with(json!({ "alg": "RS256", "kid": "k1", "jwk": mallory.jwk() }), &good),
            "assertion_malformed",
        ),
        (
            scene.signer.sign_with(json!({ "alg": "RS256", "kid": "k1", "jku": stranger.issuer() }), &good),
            "assertion_malformed",
        ),
        (
            scene.signer.sign_with(json!({ "alg": "RS256", "kid": "k1", "typ": "logout+jwt" }), &good),
            "assertion_wrong_type",
        ),
    ] {
        scene.is_refused(&token, reason).await;
    }
    assert_eq!(scene.grant(&scene.token(), &[]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_describes_two_agents_is_nobodys_until_one_is_named() {
    let scene = Scene::new().await;
    let twin = register(&scene.broker, "twin", k8s("bot")).await;
    let (status, answer) = scene.grant(&scene.token(), &[]).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_grant")));
    scene.recorded("several_agents_match").await;
    for id in [&twin, &scene.bot] {
        let (status, answer) = scene.grant(&scene.token(), &[("client_id", id)]).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(forge::payload(answer["access_token"].as_str().unwrap())["sub"], **id);
    }
    let (status, _) = scene.grant(&scene.token(), &[("client_id", "ag_nobody")]).await;
    assert_eq!(status, 400);
    // One who is stopped is not let in by its token either.
    scene.broker.admin_ok("POST", "/admin/v1/agents/twin/revoke", json!({})).await;
    assert_eq!(scene.grant(&scene.token(), &[("client_id", &twin)]).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7523_s2_1_the_assertion_is_the_only_authentication() {
    let scene = Scene::new().await;
    let token = scene.token();
    for more in [
        &[("client_id", "x"), ("client_secret", "y")][..],
        &[("client_assertion_type", JWT_BEARER), ("client_assertion", &token)],
    ] {
        let (status, answer) = scene.grant(&token, more).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_request")), "{answer}");
    }
    let (status, answer) = post(&scene.broker, &[("grant_type", GRANT)]).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_request")));
    for broken in ["x", "a.b.c", "e30.e30.e30", &"x".repeat(20_000)] {
        let (status, answer) = scene.grant(broken, &[]).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_grant")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_of_its_own_may_be_agreed_on() {
    let scene = Scene::new().await;
    let method = json!({ "method": "federated", "issuer": "k8s", "audience": "https://github.example.com/acme",
        "claims": { "repository": "acme/shop", "run_attempt": "1", "groups": "ci" } });
    let ci = register(&scene.broker, "ci", method).await;
    let mut claims = scene.claims();
    (claims["aud"], claims["repository"], claims["run_attempt"], claims["groups"]) =
        (json!("https://github.example.com/acme"), json!("acme/shop"), json!(1), json!(["dev", "ci"]));
    let (status, answer) = scene.grant(&scene.signer.sign(&claims), &[]).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(forge::payload(answer["access_token"].as_str().unwrap())["sub"], ci);
    for (name, value) in [("repository", json!("acme/shop2")), ("run_attempt", json!(2)), ("groups", json!(["dev"]))] {
        assert_eq!(
            scene.grant(&scene.signer.sign(&forge::with(claims.clone(), name, value)), &[]).await.0,
            400,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_kid_has_the_keys_fetched_once_a_minute_however_often_it_comes() {
    let scene = Scene::new().await;
    assert_eq!(scene.grant(&scene.token(), &[]).await.0, 200);
    let storm = async |fetches: usize| {
        let all: Vec<_> = (0..100)
            .map(|n| {
                let token =
                    scene.signer.sign_with(json!({ "alg": "RS256", "kid": format!("new-{n}") }), &scene.claims());
                let request = scene.broker.http.post(scene.broker.url("/oauth2/token"));
                tokio::spawn(request.form(&[("grant_type", GRANT), ("assertion", &token)]).send())
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap().unwrap().status(), 400);
        }
        assert_eq!(scene.idp.fetches(), fetches);
    };
    storm(2).await;
    storm(2).await;
    scene.clock.add_seconds(61);
    storm(3).await;
    // And the real keys were good all the time.
    assert_eq!(scene.grant(&scene.token(), &[]).await.0, 200);
    assert_eq!(scene.idp.fetches(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_have_the_keys_fetched_once() {
    let scene = Scene::new().await;
    let all: Vec<_> = (0..100)
        .map(|_| {
            let (token, request) = (scene.token(), scene.broker.http.post(scene.broker.url("/oauth2/token")));
            tokio::spawn(request.form(&[("grant_type", GRANT), ("assertion", &token)]).send())
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(scene.idp.fetches(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_rotate_and_nobody_notices() {
    let scene = Scene::new().await;
    assert_eq!(scene.grant(&scene.token(), &[]).await.0, 200);
    let new = Signer::new("ES256", "k2");
    scene.idp.rotate(json!({ "keys": [scene.signer.jwk(), new.jwk()] }));
    scene.broker.admin_ok("POST", "/admin/v1/keys/rotate", json!({})).await;
    for signer in [&scene.signer, &new, &scene.signer] {
        assert_eq!(scene.grant(&signer.sign(&scene.claims()), &[]).await.0, 200);
    }
    // The old key is taken back; once the set is not fresh any more, it is not taken.
    scene.idp.rotate(new.jwks());
    scene.clock.add_seconds(301);
    assert_eq!(scene.grant(&scene.token(), &[]).await.0, 400);
    scene.recorded("assertion_unknown_key").await;
    assert_eq!(scene.grant(&new.sign(&scene.claims()), &[]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stay_while_their_issuer_is_down_and_whoever_asks_is_not_kept_waiting() {
    let scene = Scene::new().await;
    assert_eq!(scene.grant(&scene.token(), &[]).await.0, 200);
    scene.idp.set(Mode::Down);
    scene.clock.add_seconds(301);
    for _ in 0..5 {
        assert_eq!(scene.grant(&scene.token(), &[]).await.0, 200);
    }
    let asked = scene.idp.upstream.seen().len();
    assert_eq!(asked, 3, "discovery, keys, and one more try in ten seconds");
    scene.clock.add_seconds(86_400);
    assert_eq!(scene.grant(&scene.token(), &[]).await.0, 400, "not for ever");
    scene.recorded("issuer_keys_unavailable").await;
}

/// What a server of keys may do to us. Each time, keys that were never had are not made up.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_misbehaves_vouches_for_nobody() {
    let elsewhere = Idp::start(Signer::new("RS256", "k1").jwks()).await;
    for mode in [
        Mode::Names("https://login.example.com".into()),
        Mode::Huge,
        Mode::Redirect(format!("{}/jwks", elsewhere.issuer())),
        Mode::Down,
        Mode::KeysAt("http://169.254.169.254/latest/meta-data".into()),
        Mode::KeysAt("https://169.254.169.254/latest/meta-data".into()),
        Mode::KeysAt("http://keys.example.com/jwks".into()),
        Mode::KeysAt("file:///etc/passwd".into()),
    ] {
        let scene = Scene::new().await;
        scene.idp.set(mode.clone());
        assert_eq!(scene.grant(&scene.token(), &[]).await.0, 400, "{mode:?}");
        scene.recorded("issuer_keys_unavailable").await;
        // It mends its ways; after ten seconds we look again.
        scene.idp.set(Mode::Good);
        scene.clock.add_seconds(11);
        assert_eq!(scene.grant(&scene.token(), &[]).await.0, 200, "{mode:?}");
    }
    assert_eq!(elsewhere.upstream.seen().len(), 0, "nobody followed a redirect");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_hangs_holds_nobody_for_long() {
    let scene = Scene::new().await;
    scene.idp.set(Mode::Hang);
    let start = std::time::Instant::now();
    let (token, bot) = (scene.token(), &scene.bot);
    let named = [("client_id", bot.as_str())];
    let (first, second) = tokio::join!(scene.grant(&token, &[]), scene.grant(&token, &named));
    assert_eq!((first.0, second.0), (400, 400));
    let took = start.elapsed();
    assert!(took >= FETCH_TIMEOUT && took < FETCH_TIMEOUT * 2 + Duration::from_secs(10), "{took:?}");
    let start = std::time::Instant::now();
    assert_eq!(scene.grant(&token, &[]).await.0, 400, "and the next is told at once");
    assert!(start.elapsed() < FETCH_TIMEOUT, "{:?}", start.elapsed());
    assert_eq!(scene.idp.fetches(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8414_s3_an_authorization_server_is_discovered_too() {
    let scene = Scene::new().await;
    scene.idp.set(Mode::Rfc8414);
    let (status, answer) = scene.grant(&scene.token(), &[]).await;
    assert_eq!(status, 200, "{answer}");
}

/// Names that lead where the test says.
struct Names(HashMap<&'static str, IpAddr>);

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> BoxFuture<'a, std::io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(self.0.get(host).copied().into_iter().collect()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_by_tls_from_a_checked_address_or_not_at_all() {
    let (signer, clock) = (Signer::new("ES256", "k1"), TestClock::new());
    let server = Idp::start(signer.jwks()).await;
    let (address, ca, _task) = tls_in_front_of(server.upstream.address, "keys.example.com").await;
    let names = [
        ("keys.example.com", [127, 0, 0, 1]),
        ("other.example.com", [127, 0, 0, 1]),
        ("meta.example.com", [169, 254, 169, 254]),
    ];
    let resolver = Arc::new(Names(names.into_iter().map(|(name, ip)| (name, ip.into())).collect()));
    let surroundings = Surroundings { world: Some(clock.world()), resolver };
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap();
    let issuers: Vec<String> = [
        // name, host, whether private addresses are allowed, CA
        ("good", "keys.example.com", true, true),
        ("public-cas", "keys.example.com", true, false),
        ("not-private", "keys.example.com", false, true),
        ("other-name", "other.example.com", true, true),
        ("metadata", "meta.example.com", true, true),
    ]
    .into_iter()
    .map(|(name, host, private, with_ca)| {
        let ca = if with_ca { ", ca_file: ca.pem" } else { "" };
        let port = address.port();
        format!("{{ name: {name}, issuer: \"https://{name}.example.com\", jwks_uri: \"https://{host}:{port}/jwks\", allow_private: {private}{ca} }}")
    })
    .collect();
    let body = json!({ "document": document(&issuers.join(", "), ""), "files": { "ca.pem": ca } });
    broker.admin_ok("POST", "/admin/v1/apply", body).await;
    for name in ["good", "public-cas", "not-private", "other-name", "metadata"] {
        register(&broker, name, json!({ "method": "federated", "issuer": name, "claims": { "sub": "s" } })).await;
        let now = forge::now(&broker);
        let issuer = format!("https://{name}.example.com");
        let claims = json!({ "iss": issuer, "sub": "s", "aud": broker.running.issuer, "exp": now + 60 });
        let (status, answer) = post(&broker, &[("grant_type", GRANT), ("assertion", &signer.sign(&claims))]).await;
        assert_eq!(status, if name == "good" { 200 } else { 400 }, "{name}: {answer}");
    }
    assert_eq!(server.fetches(), 1);
}

/// Whoever is on this machine, or on the private network, must not vouch for somebody who is known by a certificate.
#[tokio::test(flavor = "multi_thread")]
async fn an_https_issuers_discovery_document_names_no_plain_place_for_its_keys() {
    let (signer, clock) = (Signer::new("ES256", "k1"), TestClock::new());
    let server = Idp::start(signer.jwks()).await;
    let (address, ca, _task) = tls_in_front_of(server.upstream.address, "keys.example.com").await;
    let resolver = Arc::new(Names([("keys.example.com", [127, 0, 0, 1].into())].into()));
    let surroundings = Surroundings { world: Some(clock.world()), resolver };
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap();
    let issuer = format!("https://keys.example.com:{}", address.port());
    let declared = format!("{{ name: it, issuer: \"{issuer}\", allow_private: true, ca_file: ca.pem }}");
    let body = json!({ "document": document(&declared, ""), "files": { "ca.pem": ca } });
    broker.admin_ok("POST", "/admin/v1/apply", body).await;
    register(&broker, "it", json!({ "method": "federated", "issuer": "it", "claims": { "sub": "s" } })).await;
    let ask = async || {
        let exp = forge::now(&broker) + 60;
        let claims = json!({ "iss": issuer, "sub": "s", "aud": broker.running.issuer, "exp": exp });
        post(&broker, &[("grant_type", GRANT), ("assertion", &signer.sign(&claims))]).await.0
    };
    for plain in
        [format!("{}/jwks", server.issuer()), format!("HTTP://localhost:{}/jwks", server.upstream.address.port())]
    {
        server.set(Mode::NamesKeysAt(issuer.clone(), plain.clone()));
        assert_eq!(ask().await, 400, "{plain}");
        clock.add_seconds(30);
    }
    assert_eq!(server.fetches(), 0, "nothing was fetched there");
    server.set(Mode::NamesKeysAt(issuer.clone(), format!("{issuer}/jwks")));
    assert_eq!(ask().await, 200);
}

/// TLS with a certificate for `name`, in front of a plain server: its address, and its CA as PEM.
async fn tls_in_front_of(
    plain: std::net::SocketAddr,
    name: &str,
) -> (std::net::SocketAddr, String, tokio::task::JoinHandle<()>) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut inner = tokio::net::TcpStream::connect(plain).await.unwrap();
                _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await.is_ok();
            });
        }
    });
    (address, ca.pem(), task)
}

/// The signer's key as a SPIFFE bundle has it.
fn bundle(signer: &Signer) -> Value {
    let mut key = signer.jwk();
    key["use"] = json!("jwt-svid");
    let x509 = json!({ "kty": "EC", "crv": "P-256", "use": "x509-svid", "x": "AA", "y": "AA", "x5c": ["AAECAw=="] });
    json!({ "keys": [key, x509], "spiffe_sequence": 1, "spiffe_refresh_hint": 60 })
}

on_both_engines!(spiffe_a_jwt_svid_of_a_registered_trust_domain_is_taken);

const SPIFFE_ID: &str = "spiffe://prod.example.com/ns/shop/sa/bot";

async fn spiffe_a_jwt_svid_of_a_registered_trust_domain_is_taken(engine: Engine) {
    let Some(scene) = Scene::on(engine, "RS256").await else { return };
    let (file, remote) = (Signer::new("ES256", "f"), Signer::new("ES256", "r"));
    let endpoint = Idp::start(bundle(&remote)).await;
    let domains = format!(
        "{{ name: prod.example.com, bundle_file: bundle.json }}, {{ name: edge.example.com, bundle_endpoint: \"{}/bundle\", allow_private: true }}",
        endpoint.issuer()
    );
    let issuer = format!("{{ name: k8s, issuer: \"{}\", allow_private: true }}", scene.idp.issuer());
    let body =
        json!({ "document": document(&issuer, &domains), "files": { "bundle.json": bundle(&file).to_string() } });
    scene.broker.admin_ok("POST", "/admin/v1/apply", body).await;
    let bot = register(&scene.broker, "svid", json!({ "method": "spiffe", "id": SPIFFE_ID })).await;
    let edge =
        register(&scene.broker, "edge", json!({ "method": "spiffe", "id": "spiffe://edge.example.com/bot" })).await;
    let now = forge::now(&scene.broker);
    let claims = json!({ "sub": SPIFFE_ID, "aud": [scene.broker.running.issuer], "exp": now + 300, "iat": now });
    let svid = file.sign(&claims);
    // SVIDs are cached: the same again is good again.
    for id in [None, Some(&*bot), None] {
        let (status, answer) = scene.client(JWT_SPIFFE, &svid, id).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(forge::payload(answer["access_token"].as_str().unwrap())["sub"], bot);
    }
    let record = scene.broker.wait_for_record(|record| record["kind"] == "token.issued").await;
    assert!(record.to_string().contains("spiffe"), "{record}");
    for (name, value, reason) in [
        ("aud", json!([scene.broker.running.issuer, "https://stranger.example.com"]), "assertion_wrong_audience"),
        ("aud", json!(format!("{}/oauth2/token", scene.broker.running.issuer)), "assertion_wrong_audience"),
        ("aud", Value::Null, "assertion_wrong_audience"),
        ("exp", json!(now - 1), "assertion_expired"),
        ("exp", Value::Null, "assertion_malformed"),
        ("sub", Value::Null, "assertion_without_sub"),
        ("sub", json!("system:bot"), "assertion_sub_is_no_spiffe_id"),
        ("sub", json!("spiffe://prod.example.com/ns/shop/sa/other"), "no_agent_matches"),
        ("sub", json!("spiffe://unknown.example.com/bot"), "trust_domain_unknown"),
        // Another trust domain's keys do not count here.
        ("sub", json!("spiffe://edge.example.com/bot"), "assertion_unknown_key"),
    ] {
        let (status, answer) =
            scene.client(JWT_SPIFFE, &file.sign(&forge::with(claims.clone(), name, value)), None).await;
        assert_eq!((status, answer["error"].as_str()), (401, Some("invalid_client")), "{reason}: {answer}");
        scene.recorded(reason).await;
    }
    assert_eq!(scene.client(JWT_SPIFFE, &svid, Some(&scene.bot)).await.0, 401, "another agent's name");
    assert_eq!(scene.client(JWT_BEARER, &svid, Some(&bot)).await.0, 401, "another type");
    let forged = Signer::new("ES256", "f").sign(&claims);
    assert_eq!(scene.client(JWT_SPIFFE, &forged, None).await.0, 401);

    // From the endpoint; it is polled, so that keys change without anybody waiting for them.
    let at_edge = |signer: &Signer| {
        let now = forge::now(&scene.broker);
        signer.sign(
            &json!({ "sub": "spiffe://edge.example.com/bot", "aud": scene.broker.running.issuer, "exp": now + 300 }),
        )
    };
    let (status, answer) = scene.client(JWT_SPIFFE, &at_edge(&remote), Some(&edge)).await;
    assert_eq!(status, 200, "{answer}");
    let before = endpoint.fetches();
    endpoint.rotate(bundle(&Signer::new("ES256", "n")));
    scene.clock.add_seconds(61);
    for _ in 0..500 {
        if endpoint.fetches() > before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(endpoint.fetches() > before, "the bundle was not polled");
    assert_eq!(scene.client(JWT_SPIFFE, &at_edge(&remote), None).await.0, 401, "the old key is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8693_s2_1_a_persons_token_is_verified_for_an_exchange() {
    let scene = Scene::new().await;
    let issuer = scene.idp.issuer();
    let one = format!("{{ name: k8s, issuer: \"{issuer}\", allow_private: true }}");
    let two = format!("{{ name: people, issuer: \"{issuer}\", allow_private: true, subject_audiences: [app] }}");
    scene.broker.apply(&document(&format!("{one}, {two}"), "")).await;
    let state = &scene.broker.running.state;
    let trust = Trust::new(5, scene.clock.world(), state.manager.registry.clone(), Surroundings::default().resolver);
    let now = forge::now(&scene.broker);
    let claims = json!({ "iss": issuer, "sub": "anna", "aud": ["app", "more"], "exp": now + 60, "iat": now, "jti": "j",
        "scope": "b a", "may_act": { "sub": scene.bot } });
    let subject = trust.subject(&scene.signer.sign(&claims), now).await.unwrap();
    assert_eq!((&*subject.issuer_name, &*subject.sub, subject.exp), ("people", "anna", now + 60));
    assert_eq!(
        (subject.audience, subject.iat, subject.jti.as_deref()),
        (vec!["app".into(), "more".into()], Some(now), Some("j"))
    );
    assert_eq!(subject.scope.unwrap().to_string(), "a b");
    assert_eq!(subject.may_act.unwrap()["sub"], scene.bot);
    for (name, value, code) in [
        ("aud", json!("other"), "assertion_wrong_audience"),
        ("aud", json!(scene.broker.running.issuer), "assertion_wrong_audience"),
        ("exp", json!(now), "assertion_expired"),
        ("sub", json!(""), "assertion_malformed"),
        ("scope", json!(7), "assertion_malformed"),
        ("scope", json!("a\u{e4}"), "assertion_malformed"),
        ("iss", json!("https://stranger.example.com"), "assertion_wrong_issuer"),
    ] {
        let refused =
            trust.subject(&scene.signer.sign(&forge::with(claims.clone(), name, value)), now).await.unwrap_err();
        assert_eq!(refused, Untrusted(code), "{name}");
    }
}
