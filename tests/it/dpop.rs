//! DPoP (RFC 9449) through the real router: tokens that a thief cannot use (P5).

use hallpass::app::Surroundings;
use hallpass_verify::{DpopRefusal, DpopRequest, Gateway, GatewaySettings, ProofRefusal, Refusal};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::forge;
use crate::support::broker::TestAgent;
use crate::support::proof::{ProofKey, proof_claims};
use crate::support::{Binary, Engine, TestBroker, TestClock, Upstream};

const CONTACTS: &str = "/exchange/crm/v1/contacts";
const ORDERS: &str = "https://orders.example.com";
const ALGS: &str = r#"algs="ES256 EdDSA Ed25519 PS256 RS256""#;

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    json: Value,
}

impl Answer {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        assert!(headers.get_all("dpop-nonce").iter().count() <= 1, "{headers:?}");
        Self { status, headers, json: answer.json().await.unwrap_or(Value::Null) }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    fn nonce(&self) -> String {
        self.header("dpop-nonce").unwrap_or_else(|| panic!("no nonce: {self:?}")).to_owned()
    }

    /// At the token endpoint: §5, §8.
    fn is_token_error(&self, error: &str, what: &str) {
        assert_eq!((self.status, &self.json["error"]), (400, &json!(error)), "{what}: {self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{what}: {self:?}");
        self.nonce();
    }

    /// At the exchange endpoint: §7.1, §9.
    fn is_refused(&self, code: &str, error: &str, what: &str) {
        assert_eq!((self.status, &self.json["code"]), (401, &json!(code)), "{what}: {self:?}");
        let challenge = self.header("www-authenticate").unwrap();
        let begin = format!(r#"DPoP realm="hallpass", error="{error}", error_description=""#);
        assert!(challenge.starts_with(&begin) && challenge.contains(ALGS), "{what}: {challenge}");
        self.nonce();
    }
}

/// A broker with the upstream `crm`, an agent, and the agent's key.
struct Scene {
    broker: TestBroker,
    agent: TestAgent,
    key: ProofKey,
    upstream: Upstream,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Surroundings::default(), &[]).await
    }

    async fn with(surroundings: Surroundings, settings: &[(&str, &str)]) -> Self {
        let upstream = Upstream::echo().await;
        let broker = TestBroker::start_with(Engine::Sqlite, surroundings, settings).await.unwrap();
        let (agent, _) = broker.with_crm(&upstream.url(), "sk-live-0123456789abcdef").await;
        Self { broker, agent, key: ProofKey::new(), upstream }
    }

    fn now(&self) -> i64 {
        forge::now(&self.broker)
    }

    /// The nonce of this moment, as the broker hands it out.
    fn nonce(&self) -> Option<String> {
        self.broker.running.public_state.dpop.nonce(self.now())
    }

    /// Claims of a good proof for the token endpoint.
    fn token_claims(&self) -> Value {
        proof_claims("POST", &self.broker.url("/oauth2/token"), None, self.nonce().as_deref(), self.now())
    }

    /// Claims of a good proof for a brokered GET.
    fn call_claims(&self, path: &str, token: &str) -> Value {
        proof_claims("GET", &self.broker.url(path), Some(token), self.nonce().as_deref(), self.now())
    }

    fn good(&self, claims: &Value) -> String {
        self.key.sign(&self.key.header(), claims)
    }

    async fn token_request(&self, proofs: &[&str], form: &[(&str, &str)]) -> Answer {
        let (id, secret) = (&self.agent.client_id, Some(&self.agent.client_secret));
        let mut request = self.broker.http.post(self.broker.url("/oauth2/token")).basic_auth(id, secret);
        for proof in proofs {
            request = request.header("dpop", *proof);
        }
        let form: Vec<_> = [("grant_type", "client_credentials")].into_iter().chain(form.iter().copied()).collect();
        Answer::of(request.form(&form)).await
    }

    /// A token that is bound to the agent's key.
    async fn bound(&self, form: &[(&str, &str)]) -> Value {
        let answer = self.token_request(&[&self.good(&self.token_claims())], form).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json["token_type"], "DPoP");
        answer.json
    }

    async fn bound_token(&self) -> String {
        self.bound(&[]).await["access_token"].as_str().unwrap().to_owned()
    }

    async fn call(&self, path: &str, authorization: &str, proofs: &[&str]) -> Answer {
        let mut request = self.broker.http.get(self.broker.url(path)).header("authorization", authorization);
        for proof in proofs {
            request = request.header("dpop", *proof);
        }
        Answer::of(request).await
    }

    /// A call as it should be.
    async fn good_call(&self, token: &str) -> Answer {
        let proof = self.good(&self.call_claims(CONTACTS, token));
        self.call(CONTACTS, &format!("DPoP {token}"), &[&proof]).await
    }
}

fn with(mut value: Value, name: &str, member: impl Into<Value>) -> Value {
    value[name] = member.into();
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name);
    value
}

/// Proofs with one defect each: header, claims, and the error of RFC 9449.
fn defects(key: &ProofKey, good: &Value) -> Vec<(&'static str, Value, Value, &'static str)> {
    let (invalid, nonce) = ("invalid_dpop_proof", "use_dpop_nonce");
    let (head, iat) = (key.header(), good["iat"].as_i64().unwrap());
    let mut private = key.jwk();
    private["d"] = "AAAA".into();
    let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    vec![
        ("no nonce", head.clone(), without(good.clone(), "nonce"), nonce),
        ("stale nonce", head.clone(), with(good.clone(), "nonce", "c3RhbGUtc3RhbGUtc3RhbG"), nonce),
        ("wrong htm", head.clone(), with(good.clone(), "htm", "DELETE"), invalid),
        ("wrong htu", head.clone(), with(good.clone(), "htu", "https://evil.example.com/"), invalid),
        ("old iat", head.clone(), with(good.clone(), "iat", iat - 62), invalid),
        ("future iat", head.clone(), with(good.clone(), "iat", iat + 60), invalid),
        ("no jti", head.clone(), without(good.clone(), "jti"), invalid),
        ("wrong typ", with(head.clone(), "typ", "JWT"), good.clone(), invalid),
        ("private jwk", with(head.clone(), "jwk", private), good.clone(), invalid),
        ("jku", with(head.clone(), "jku", "https://evil.example.com/jwks"), good.clone(), invalid),
        ("none", with(head.clone(), "alg", "none"), good.clone(), invalid),
        ("HS256", with(head.clone(), "alg", "HS256"), good.clone(), invalid),
        ("key of the wrong type", with(head, "jwk", ed), good.clone(), invalid),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s5_a_token_request_with_a_proof_gives_a_token_bound_to_its_key() {
    let scene = Scene::new().await;
    let token = scene.bound_token().await;
    assert_eq!(forge::payload(&token)["cnf"], json!({ "jkt": scene.key.jkt() }));
    let answer = scene.good_call(&token).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.nonce(), scene.nonce().unwrap(), "§8.2: good answers carry the nonce, too");
    let seen = scene.upstream.seen();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].headers.contains_key("dpop"), "the proof stays here: {seen:?}");
    let record = scene.broker.wait_for_record(|record| record["kind"] == "call.intent").await;
    assert!(record.to_string().contains(&scene.key.jkt()), "the record says to which key: {record}");
    let url = scene.broker.url("/.well-known/oauth-authorization-server");
    let metadata: Value = scene.broker.http.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["dpop_signing_alg_values_supported"], json!(["ES256", "EdDSA", "Ed25519", "PS256", "RS256"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s8_the_token_endpoint_asks_for_a_nonce_and_takes_it() {
    let scene = Scene::new().await;
    let claims = without(scene.token_claims(), "nonce");
    let answer = scene.token_request(&[&scene.good(&claims)], &[]).await;
    answer.is_token_error("use_dpop_nonce", "without a nonce");
    // The same proof with the nonce, as stock clients retry: it was not spent.
    let again = with(claims, "nonce", answer.nonce());
    let answer = scene.token_request(&[&scene.good(&again)], &[]).await;
    assert_eq!((answer.status, &answer.json["token_type"]), (200, &json!("DPoP")), "{answer:?}");
    let plain = scene.token_request(&[], &[]).await;
    assert_eq!((plain.status, &plain.json["token_type"]), (200, &json!("Bearer")));
    assert_eq!(plain.header("dpop-nonce"), None, "who speaks no DPoP is told nothing of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s4_3_each_defect_is_refused_at_the_token_endpoint() {
    let scene = Scene::new().await;
    for (what, header, claims, error) in defects(&scene.key, &scene.token_claims()) {
        scene.token_request(&[&scene.key.sign(&header, &claims)], &[]).await.is_token_error(error, what);
    }
    let other = ProofKey::new().sign(&scene.key.header(), &scene.token_claims());
    for proof in [&*other, "", "x", "a.b.c", &"x".repeat(9000)] {
        scene.token_request(&[proof], &[]).await.is_token_error("invalid_dpop_proof", proof);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s4_3_two_proofs_are_refused() {
    let scene = Scene::new().await;
    let token = scene.bound_token().await;
    let (one, two) = (scene.good(&scene.token_claims()), scene.good(&scene.token_claims()));
    scene.token_request(&[&one, &two], &[]).await.is_token_error("invalid_dpop_proof", "two");
    let proof = || scene.good(&scene.call_claims(CONTACTS, &token));
    let answer = scene.call(CONTACTS, &format!("DPoP {token}"), &[&proof(), &proof()]).await;
    answer.is_refused("invalid_dpop_proof", "invalid_dpop_proof", "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s11_1_a_proof_is_good_for_one_request() {
    let scene = Scene::new().await;
    let proof = scene.good(&scene.token_claims());
    assert_eq!(scene.token_request(&[&proof], &[]).await.status, 200);
    scene.token_request(&[&proof], &[]).await.is_token_error("invalid_dpop_proof", "again");
    let token = scene.bound_token().await;
    let proof = scene.good(&scene.call_claims(CONTACTS, &token));
    assert_eq!(scene.call(CONTACTS, &format!("DPoP {token}"), &[&proof]).await.status, 200);
    let again = scene.call(CONTACTS, &format!("DPoP {token}"), &[&proof]).await;
    again.is_refused("invalid_dpop_proof", "invalid_dpop_proof", "again");
    let record = scene.broker.wait_for_record(|one| one["kind"] == "call.refused" && one["reason"] == "dpop_replayed");
    assert!(record.await.to_string().contains(&scene.agent.client_id), "a replay is an attack: recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_fill_the_memory_of_what_was_spent() {
    let scene = Scene::new().await;
    let token = scene.bound_token().await;
    let held = scene.broker.running.public_state.dpop.remembered();
    for _ in 0..5 {
        let proof = scene.good(&scene.token_claims());
        let request = scene.broker.http.post(scene.broker.url("/oauth2/token")).header("dpop", proof);
        let request = request.basic_auth(&scene.agent.client_id, Some("hp_cs_wrong"));
        let answer = Answer::of(request.form(&[("grant_type", "client_credentials")])).await;
        assert_eq!((answer.status, &answer.json["error"]), (401, &json!("invalid_client")), "{answer:?}");
        let forged = forge::tampered(&token, |claims| claims["jti"] = "tk_other".into());
        let proof = scene.good(&scene.call_claims(CONTACTS, &forged));
        let answer = scene.call(CONTACTS, &format!("DPoP {forged}"), &[&proof]).await;
        answer.is_refused("token_bad_signature", "invalid_token", "forged");
    }
    assert_eq!(scene.broker.running.public_state.dpop.remembered(), held);
    assert_eq!(scene.good_call(&token).await.status, 200);
    assert_eq!(scene.broker.running.public_state.dpop.remembered(), held + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s7_each_defect_is_refused_at_the_exchange_endpoint() {
    let scene = Scene::new().await;
    let token = scene.bound_token().await;
    let authorization = format!("DPoP {token}");
    let good = scene.call_claims(CONTACTS, &token);
    let mut table = defects(&scene.key, &good);
    let head = scene.key.header();
    let invalid = "invalid_dpop_proof";
    table.push(("no ath", head.clone(), without(good.clone(), "ath"), invalid));
    table.push(("wrong ath", head.clone(), with(good.clone(), "ath", "AAAA"), invalid));
    let elsewhere = scene.broker.url("/exchange/crm/v1/contacts/7");
    table.push(("htu of another call", head.clone(), with(good.clone(), "htu", elsewhere), invalid));
    let upstream = format!("{}/v1/contacts", scene.upstream.url());
    table.push(("htu of the upstream", head, with(good.clone(), "htu", upstream), invalid));
    for (what, header, claims, error) in table {
        let answer = scene.call(CONTACTS, &authorization, &[&scene.key.sign(&header, &claims)]).await;
        answer.is_refused(error, error, what);
        if what.contains("htu") {
            let detail = answer.json["detail"].as_str().unwrap();
            assert!(detail.contains(&scene.broker.url(CONTACTS)), "says what htu should be: {detail}");
        }
    }
    scene.call(CONTACTS, &authorization, &[]).await.is_refused(invalid, invalid, "no proof");
    assert!(scene.upstream.seen().is_empty(), "nothing that was refused reached the upstream");
    let query = format!("{CONTACTS}?page=2");
    let answer = scene.call(&query, &authorization, &[&scene.good(&good)]).await;
    assert_eq!(answer.status, 200, "§4.3: the query does not count: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s9_the_exchange_endpoint_asks_for_a_nonce_and_records_nothing_of_it() {
    let scene = Scene::new().await;
    let token = scene.bound_token().await;
    let claims = without(scene.call_claims(CONTACTS, &token), "nonce");
    let answer = scene.call(CONTACTS, &format!("DPoP {token}"), &[&scene.good(&claims)]).await;
    answer.is_refused("use_dpop_nonce", "use_dpop_nonce", "no nonce");
    let proof = scene.good(&with(claims, "nonce", answer.nonce()));
    assert_eq!(scene.call(CONTACTS, &format!("DPoP {token}"), &[&proof]).await.status, 200);
    scene.broker.wait_for_record(|record| record["kind"] == "call.outcome").await;
    assert!(scene.broker.records().await.iter().all(|record| record["kind"] != "call.refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_token_copied_to_another_client_is_refused_at_the_exchange_endpoint() {
    let scene = Scene::new().await;
    let token = scene.bound_token().await;
    let proof = scene.good(&scene.call_claims(CONTACTS, &token));
    // With the token alone, in each place that takes one.
    let bearer = scene.call(CONTACTS, &format!("Bearer {token}"), &[]).await;
    assert_eq!((bearer.status, &bearer.json["code"]), (401, &json!("token_bound")), "{bearer:?}");
    let challenges = bearer.all("www-authenticate");
    assert_eq!(challenges.len(), 3, "{challenges:?}");
    assert!(
        challenges[0].starts_with("Basic ")
            && challenges[1].starts_with("Bearer realm=\"hallpass\", error=\"invalid_token\""),
        "{challenges:?}"
    );
    assert!(challenges[2].starts_with(&format!("DPoP {ALGS}")), "§7.2 says how it should come: {challenges:?}");
    let own_place = scene.broker.http.get(scene.broker.url(CONTACTS)).header("x-api-key", &token);
    assert_eq!(Answer::of(own_place).await.json["code"], "token_bound");
    // With a proof that was listened in on, but not under the scheme.
    let bearer = scene.call(CONTACTS, &format!("Bearer {token}"), &[&proof]).await;
    assert_eq!((bearer.status, &bearer.json["code"]), (401, &json!("token_bound")));
    let own_place = scene.broker.http.get(scene.broker.url(CONTACTS)).header("x-api-key", &token);
    assert_eq!(Answer::of(own_place.header("dpop", &proof)).await.json["code"], "token_bound");
    // With the thief's own key.
    let thief = ProofKey::new();
    let claims = scene.call_claims(CONTACTS, &token);
    let answer = scene.call(CONTACTS, &format!("DPoP {token}"), &[&thief.sign(&thief.header(), &claims)]).await;
    answer.is_refused("token_bound", "invalid_token", "another key");
    // With the agent's public key in front of the thief's signature.
    let forged = thief.sign(&scene.key.header(), &claims);
    let answer = scene.call(CONTACTS, &format!("DPoP {token}"), &[&forged]).await;
    answer.is_refused("invalid_dpop_proof", "invalid_dpop_proof", "another's signature");
    assert!(scene.upstream.seen().is_empty());
    assert_eq!(scene.good_call(&token).await.status, 200, "the agent itself is not disturbed");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_token_copied_to_another_client_is_refused_by_a_gateway() {
    let scene = Scene::new().await;
    let document = format!(
        "resources: [ {{ name: orders, audience: \"{ORDERS}\", scopes: [orders.read] }} ]\n\
         roles: [ {{ name: buyer, scopes: [\"orders:orders.read\"] }} ]"
    );
    scene.broker.apply(&document).await;
    let agent = scene.broker.register("buyer", &["buyer"]).await;
    let scene = Scene { agent, ..scene };
    let token = scene.bound(&[("resource", ORDERS)]).await["access_token"].as_str().unwrap().to_owned();
    let text =
        async |path: &str| scene.broker.http.get(scene.broker.url(path)).send().await.unwrap().text().await.unwrap();
    let gateway = Gateway::new(GatewaySettings::new(scene.broker.running.issuer.clone(), ORDERS));
    gateway.set_jwks(&text("/.well-known/jwks.json").await).unwrap();
    gateway.set_revocations(&text("/revocations").await, scene.now()).unwrap();

    let url = format!("{ORDERS}/v1/orders");
    let verify = |proofs: &[&str], token: &str| {
        let request = DpopRequest { proofs, method: "GET", url: &url, certificate: None };
        gateway.verify_dpop(token, &request, scene.now()).map(|claims| claims.client_id.clone())
    };
    let claims = || proof_claims("GET", &url, Some(&token), None, scene.now());
    let (proof, thief) = (scene.good(&claims()), ProofKey::new());
    assert_eq!(gateway.verify(&token, scene.now()).unwrap_err(), Refusal::Bound);
    let theirs = thief.sign(&thief.header(), &claims());
    assert_eq!(verify(&[&theirs], &token), Err(DpopRefusal::Token(Refusal::Bound)));
    assert_eq!(verify(&[], &token), Err(DpopRefusal::Proof(ProofRefusal::Missing)));
    assert_eq!(verify(&[&proof], &token), Ok(scene.agent.client_id.clone()));
    assert_eq!(verify(&[&proof], &token), Err(DpopRefusal::Proof(ProofRefusal::Replayed)));
    let (_, plain) = scene.broker.token_request(&scene.agent, &[("resource", ORDERS)]).await;
    let plain = plain["access_token"].as_str().unwrap();
    let proof = scene.good(&proof_claims("GET", &url, Some(plain), None, scene.now()));
    assert_eq!(verify(&[&proof], plain), Err(DpopRefusal::Token(Refusal::NotBound)));
    assert!(gateway.verify(plain, scene.now()).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s7_1_an_unbound_token_under_the_scheme_is_refused() {
    let scene = Scene::new().await;
    let token = scene.broker.token(&scene.agent).await;
    let answer = scene.good_call(&token).await;
    answer.is_refused("token_not_bound", "invalid_token", "unbound");
    assert_eq!(scene.call(CONTACTS, &format!("Bearer {token}"), &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_session_is_continued_only_with_the_key_that_opened_it() {
    let scene = Scene::new().await;
    let session = scene.bound(&[]).await["session_id"].as_str().unwrap().to_owned();
    let form = [("session_id", session.as_str())];
    assert_eq!(scene.bound(&form).await["session_id"], session);
    let thief = ProofKey::new();
    let theirs = thief.sign(&thief.header(), &scene.token_claims());
    scene.token_request(&[&theirs], &form).await.is_token_error("invalid_grant", "another key");
    let bare = scene.token_request(&[], &form).await;
    assert_eq!((bare.status, &bare.json["error"]), (400, &json!("invalid_grant")), "{bare:?}");
    // Nor does a proof take over a session that was opened without one.
    let plain = scene.token_request(&[], &[]).await.json["session_id"].as_str().unwrap().to_owned();
    let proof = scene.good(&scene.token_claims());
    scene.token_request(&[&proof], &[("session_id", &plain)]).await.is_token_error("invalid_grant", "an open one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_or_agent_that_requires_it_takes_bound_tokens_only() {
    let scene = Scene::new().await;
    let (plain, bound) = (scene.broker.token(&scene.agent).await, scene.bound_token().await);
    let document = |require: bool| {
        format!(
            "upstreams:\n  - name: crm\n    base_url: {}\n    allow_private: true\n    require_bound: {require}\n    \
             inject: {{ kind: header, name: X-Api-Key, credential: crm-key }}\n    operations:\n      \
             - {{ id: list-contacts, methods: [GET], path: /v1/contacts, scope: contacts.read }}\n      \
             - {{ id: any, methods: [GET], path: \"/any/{{*rest}}\", scope: any }}",
            scene.upstream.url()
        )
    };
    scene.broker.apply(&document(true)).await;
    let answer = scene.call(CONTACTS, &format!("Bearer {plain}"), &[]).await;
    assert_eq!((answer.status, &answer.json["code"]), (401, &json!("token_binding_required")), "{answer:?}");
    assert!(answer.json["detail"].as_str().unwrap().contains("DPoP proof"), "says what to do: {answer:?}");
    assert!(answer.all("www-authenticate")[1].starts_with("DPoP "), "{answer:?}");
    scene.broker.wait_for_record(|record| record["reason"] == "token_binding_required").await;
    assert_eq!(scene.good_call(&bound).await.status, 200);
    scene.broker.apply(&document(false)).await;
    assert_eq!(scene.call(CONTACTS, &format!("Bearer {plain}"), &[]).await.status, 200);

    let body = json!({ "name": "careful", "roles": ["support"], "identity": { "require_bound": true } });
    let agent = scene.broker.admin_ok("POST", "/admin/v1/agents", body).await;
    assert_eq!(agent["require_bound"], true);
    let text = |name: &str| agent[name].as_str().unwrap().to_owned();
    let agent = TestAgent { client_id: text("client_id"), client_secret: text("client_secret") };
    let scene = Scene { agent, ..scene };
    let answer = scene.token_request(&[], &[]).await;
    assert_eq!((answer.status, &answer.json["error"]), (400, &json!("invalid_request")), "{answer:?}");
    assert!(answer.json["error_description"].as_str().unwrap().contains("DPoP"), "{answer:?}");
    assert_eq!(scene.good_call(&scene.bound_token().await).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s7_a_bound_token_introspects_by_proof_only() {
    let scene = Scene::new().await;
    scene.broker.apply("roles: [ { name: auditor, scopes: [\"hallpass:introspect\"] } ]").await;
    let agent = scene.broker.register("auditor", &["auditor"]).await;
    let scene = Scene { agent, ..scene };
    let token = scene.bound_token().await;
    let url = scene.broker.url("/oauth2/introspect");
    let ask = async |authorization: String, proof: Option<&str>| {
        let request = scene.broker.http.post(&url).header("authorization", authorization);
        let request = proof.into_iter().fold(request, |request, proof| request.header("dpop", proof));
        Answer::of(request.form(&[("token", &token)])).await
    };
    let claims = |nonce: Option<&str>| proof_claims("POST", &url, Some(&token), nonce, scene.now());
    let bearer = ask(format!("Bearer {token}"), None).await;
    assert_eq!((bearer.status, &bearer.json["error"]), (401, &json!("invalid_token")), "{bearer:?}");
    let first = ask(format!("DPoP {token}"), Some(&scene.good(&claims(None)))).await;
    assert_eq!((first.status, &first.json["error"]), (401, &json!("use_dpop_nonce")), "{first:?}");
    assert!(first.header("www-authenticate").unwrap().starts_with(r#"DPoP realm="hallpass", error="use_dpop_nonce""#));
    let proof = scene.good(&claims(Some(&first.nonce())));
    let good = ask(format!("DPoP {token}"), Some(&proof)).await;
    assert_eq!((good.status, &good.json["active"]), (200, &json!(true)), "{good:?}");
    assert_eq!((&good.json["token_type"], &good.json["cnf"]["jkt"]), (&json!("DPoP"), &json!(scene.key.jkt())));
    let again = ask(format!("DPoP {token}"), Some(&proof)).await;
    assert_eq!((again.status, &again.json["error"]), (401, &json!("invalid_dpop_proof")), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_outlives_two_minutes_and_not_three() {
    let clock = TestClock::new();
    let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
    let scene = Scene::with(surroundings, &[]).await;
    let nonce = scene.nonce().unwrap();
    let said = async || {
        let claims = with(scene.token_claims(), "nonce", nonce.clone());
        scene.token_request(&[&scene.good(&claims)], &[]).await
    };
    clock.add_seconds(110);
    assert_eq!(said().await.status, 200);
    clock.add_seconds(71);
    said().await.is_token_error("use_dpop_nonce", "after three minutes");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nonces_a_proof_alone_is_enough() {
    let scene = Scene::with(Surroundings::default(), &[("HALLPASS_DPOP__REQUIRE_NONCE", "false")]).await;
    assert_eq!(scene.nonce(), None);
    let token = scene.bound_token().await;
    let answer = scene.good_call(&token).await;
    assert_eq!((answer.status, answer.header("dpop-nonce")), (200, None), "{answer:?}");
}

/// A broker that was made before there were nonces gets its secret when it starts, and keeps it; and what was spent
/// before a restart is not known after it, so proofs from before are asked for anew.
#[tokio::test(flavor = "multi_thread")]
async fn the_nonce_secret_is_made_where_it_is_missing_and_outlives_a_restart() {
    use sqlx::Connection as _;
    let clock = TestClock::new();
    let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
    let scene = Scene::with(surroundings, &[]).await;
    let url = format!("sqlite:{}", scene.broker.database_file().display());
    let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let at = scene.now();
    let nonce_at = |broker: &TestBroker| broker.running.public_state.dpop.nonce(at).unwrap();
    let first = nonce_at(&scene.broker);
    let gone = sqlx::query("DELETE FROM broker_secrets WHERE id = 'dpop-nonce'").execute(&mut database).await.unwrap();
    assert_eq!(gone.rows_affected(), 1);
    database.close().await.unwrap();
    let broker = scene.broker.restart().await;
    let second = nonce_at(&broker);
    assert_ne!(first, second);
    let scene = Scene { broker: broker.restart().await, ..scene };
    assert_eq!(nonce_at(&scene.broker), second);

    let started = scene.now();
    clock.add_seconds(10);
    let before = with(scene.token_claims(), "iat", started - 5);
    scene.token_request(&[&scene.good(&before)], &[]).await.is_token_error("use_dpop_nonce", "from before");
    assert_eq!(scene.token_request(&[&scene.good(&scene.token_claims())], &[]).await.status, 200);
}

/// Clocks differ: a proof may be dated ahead, so that after a quick restart it is not one "from before". What was used is in
/// the database, and a thief who listened cannot use it again.
async fn a_proof_that_was_used_before_a_restart_is_not_good_after_it(engine: Engine) {
    const ISSUER: &str = "http://127.0.0.1:8600";
    let clock = TestClock::new();
    let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
    let upstream = Upstream::echo().await;
    let settings = [("HALLPASS_ISSUER", ISSUER)];
    let Some(broker) = TestBroker::start_with(engine, surroundings, &settings).await else { return };
    let (agent, _) = broker.with_crm(&upstream.url(), "sk-live-0123456789abcdef").await;
    broker.apply("roles: [ { name: auditor, scopes: [\"hallpass:introspect\"] } ]").await;
    let auditor = broker.register("auditor", &["auditor"]).await;
    let mut scene = Scene { broker, agent, key: ProofKey::new(), upstream };
    let claims = |scene: &Scene, method: &str, path: &str, token: Option<&str>| {
        proof_claims(method, &format!("{ISSUER}{path}"), token, scene.nonce().as_deref(), scene.now() + 4)
    };
    let token_request = claims(&scene, "POST", "/oauth2/token", None);
    let spent_for_a_token = scene.good(&token_request);
    let bound = scene.token_request(&[&spent_for_a_token], &[]).await;
    let token = bound.json["access_token"].as_str().unwrap().to_owned();
    let spent_for_a_call = scene.good(&claims(&scene, "GET", CONTACTS, Some(&token)));
    assert_eq!(scene.call(CONTACTS, &format!("DPoP {token}"), &[&spent_for_a_call]).await.status, 200);
    let helpdesk = std::mem::replace(&mut scene.agent, auditor);
    let proof = scene.good(&claims(&scene, "POST", "/oauth2/token", None));
    let for_auditor = scene.token_request(&[&proof], &[]).await.json["access_token"].as_str().unwrap().to_owned();
    scene.agent = helpdesk;
    let introspect = async |scene: &Scene, proof: &str| {
        let request = scene.broker.http.post(scene.broker.url("/oauth2/introspect")).header("dpop", proof);
        let request = request.header("authorization", format!("DPoP {for_auditor}"));
        Answer::of(request.form(&[("token", &token)])).await
    };
    let spent_for_introspection = scene.good(&claims(&scene, "POST", "/oauth2/introspect", Some(&for_auditor)));
    assert_eq!(introspect(&scene, &spent_for_introspection).await.status, 200);
    // Made by then, and not used.
    let unused = scene.good(&claims(&scene, "GET", CONTACTS, Some(&token)));

    clock.add_seconds(1);
    scene.broker = scene.broker.restart().await;
    scene.token_request(&[&spent_for_a_token], &[]).await.is_token_error("invalid_dpop_proof", "at the token endpoint");
    let again = scene.call(CONTACTS, &format!("DPoP {token}"), &[&spent_for_a_call]).await;
    again.is_refused("invalid_dpop_proof", "invalid_dpop_proof", "at the exchange endpoint");
    let again = introspect(&scene, &spent_for_introspection).await;
    assert_eq!((again.status, &again.json["error"]), (401, &json!("invalid_dpop_proof")), "{again:?}");
    assert_eq!(scene.call(CONTACTS, &format!("DPoP {token}"), &[&unused]).await.status, 200);
    let replayed = |record: &Value, kind: &str| record["kind"] == kind && record["reason"] == "dpop_replayed";
    let records = scene.broker.records().await;
    for kind in ["token.refused", "call.refused"] {
        let found: Vec<_> = records.iter().filter(|one| replayed(one, kind)).collect();
        assert!(found.len() == 1 && found[0]["agent"] == *scene.agent.client_id, "{kind}: {found:?}");
    }
    assert_eq!(records.iter().filter(|one| one["kind"] == "call.intent").count(), 2, "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s11_1_a_proof_is_good_once_across_a_restart_on_sqlite() {
    a_proof_that_was_used_before_a_restart_is_not_good_after_it(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s11_1_a_proof_is_good_once_across_a_restart_on_postgresql() {
    a_proof_that_was_used_before_a_restart_is_not_good_after_it(Engine::Postgres).await;
}

#[test]
fn agent_register_takes_require_bound_and_agent_show_shows_it() {
    let mut binary = Binary::init(None);
    binary.serve(None);
    binary.ok(&["agent", "register", "careful", "--require-bound"], "");
    binary.ok(&["agent", "register", "other"], "");
    assert_eq!(binary.json(&["agent", "show", "careful"], "")["require_bound"], true);
    assert_eq!(binary.json(&["agent", "show", "other"], "")["require_bound"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_binds_what_comes_out_to_the_actors_own_key() {
    let scene = Scene::new().await;
    let subject = scene.bound_token().await;
    let body = json!({ "name": "worker", "roles": ["support"], "identity": { "may_act_for": ["helpdesk"] } });
    let worker = scene.broker.admin_ok("POST", "/admin/v1/agents", body).await;
    let text = |name: &str| worker[name].as_str().unwrap();
    let exchange = async |proof: Option<&str>| {
        let request = scene.broker.http.post(scene.broker.url("/oauth2/token"));
        let request = request.basic_auth(text("client_id"), Some(text("client_secret"))).form(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", &*subject),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ]);
        Answer::of(proof.into_iter().fold(request, |request, proof| request.header("dpop", proof))).await
    };
    // What a thief could use must not come out of what a thief cannot.
    let answer = exchange(None).await;
    assert_eq!((answer.status, &answer.json["error"]), (400, &json!("invalid_request")), "{answer:?}");
    let key = ProofKey::new();
    let answer = exchange(Some(&key.sign(&key.header(), &scene.token_claims()))).await;
    assert_eq!((answer.status, &answer.json["token_type"]), (200, &json!("DPoP")), "{answer:?}");
    let token = answer.json["access_token"].as_str().unwrap();
    let claims = forge::payload(token);
    assert_eq!((&claims["cnf"]["jkt"], &claims["act"]["sub"]), (&json!(key.jkt()), &worker["client_id"]), "{claims}");
    assert_eq!(claims["sub"], *scene.agent.client_id);
    let by = async |key: &ProofKey| {
        let proof = key.sign(&key.header(), &scene.call_claims(CONTACTS, token));
        scene.call(CONTACTS, &format!("DPoP {token}"), &[&proof]).await.status
    };
    assert_eq!(by(&key).await, 200);
    assert_eq!(by(&scene.key).await, 401, "not even by the key of the subject's own token");
}
