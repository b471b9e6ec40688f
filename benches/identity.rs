//! What it costs to know who an agent is: each authentication method, a DPoP proof, and a chain of four exchanges.
//!
//! `cargo bench --bench identity`. Each method is measured by itself, without the token that would follow; what is used
//! once (assertions, proofs) is signed outside of what is measured. The exchanges are whole: each ends with a durable
//! session, so they cost what the disk costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
#![allow(clippy::print_stdout)]
#![allow(missing_docs, dead_code, unused_macros, reason = "the harness of the tests, of which this uses a part")]

#[path = "../tests/it/certificates.rs"]
mod certificates;
#[path = "../tests/it/forge.rs"]
mod forge;
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use hallpass::app::Surroundings;
use hallpass::issue::{Caller, ExchangeRequest, Presented, TokenRequest};
use hallpass::model::Origin;
use hallpass_verify::{Dpop, DpopNonces, DpopRequest, DpopSettings};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use certificates::{Ca, Holder, uri};
use support::idp::{Idp, Signer};
use support::proof::{ProofKey, proof_claims};
use support::{Engine, TestBroker};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A broker with one agent for each method.
struct Scene {
    broker: TestBroker,
    idp: Idp,
    idp_key: Signer,
    own_keys: Vec<Signer>,
    spiffe: Ca,
    own_certificate: Holder,
    folder: tempfile::TempDir,
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

fn random() -> String {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).unwrap();
    data_encoding::HEXLOWER.encode(&bytes)
}

impl Scene {
    async fn new() -> Self {
        let (ca, spiffe, folder) = (Ca::new("Example CA"), Ca::new("SPIRE"), tempfile::tempdir().unwrap());
        let (idp_key, own_certificate) = (Signer::new("ES256", "idp"), Holder::self_signed(|_| {}));
        let idp = Idp::start(idp_key.jwks()).await;
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, &ca.pem).unwrap();
        let file = file.display().to_string();
        let settings = [
            // So that agents' certificates can be seen at all.
            ("HALLPASS_LISTEN__TRUSTED_PROXIES", "192.0.2.1"),
            ("HALLPASS_TLS__CLIENT_CA_FILE", &*file),
            ("HALLPASS_CLIENT_AUTH__ASSERTION_ALGORITHMS", "EdDSA ES256 PS256"),
        ];
        let broker = TestBroker::start_with(Engine::Sqlite, Surroundings::default(), &settings).await.unwrap();
        let own_keys = vec![Signer::new("EdDSA", "own"), Signer::new("ES256", "own"), Signer::new("PS256", "own")];
        let mut bundle = idp_key.jwks();
        bundle["keys"][0]["use"] = "jwt-svid".into();
        let x5c = data_encoding::BASE64.encode(&spiffe.der);
        let authority = json!({ "kty": "EC", "crv": "P-256", "use": "x509-svid", "x5c": [x5c], "x": "", "y": "" });
        bundle["keys"].as_array_mut().unwrap().push(authority);
        let document = json!({
            "resources": [{ "name": "orders", "audience": "https://orders.example.com", "scopes": ["read"] }],
            "roles": [{ "name": "r", "scopes": ["orders:read"] }],
            "issuers": [{ "name": "idp", "issuer": idp.issuer(), "allow_private": true }],
            "trust_domains": [{ "name": "example.org", "bundle_file": "bundle.json" }],
        });
        // JSON is YAML.
        let apply = json!({ "document": document.to_string(), "files": { "bundle.json": bundle.to_string() } });
        broker.admin_ok("POST", "/admin/v1/apply", apply).await;
        Self { broker, idp, idp_key, own_keys, spiffe, own_certificate, folder }
    }

    async fn agent(&self, name: &str, identity: Value) -> (String, String) {
        let body = json!({ "name": name, "roles": ["r"], "identity": identity });
        let answer = self.broker.admin_ok("POST", "/admin/v1/agents", body).await;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        (text("client_id"), text("client_secret"))
    }

    async fn by(&self, name: &str, method: Value) -> String {
        self.agent(name, json!({ "methods": [method] })).await.0
    }

    /// Client authentication and nothing else; it must succeed.
    async fn known(&self, caller: Caller) {
        let id = Origin { request: Arc::from("rq_bench"), client: None };
        self.broker.running.state.manager.issuer.client(&caller, Some("bench"), &id).await.unwrap();
    }
}

fn caller(presented: Presented) -> Caller {
    Caller { presented, address: None, certificates: None, proof: None }
}

fn by_secret(id: &str, secret: &str) -> Caller {
    caller(Presented::Secret { id: id.to_owned(), secret: Zeroizing::new(secret.to_owned()) })
}

fn by_assertion(kind: &str, id: Option<&str>, assertion: String) -> Caller {
    let (id, kind) = (id.map(str::to_owned), kind.to_owned());
    caller(Presented::Assertion { id, kind, assertion: Zeroizing::new(assertion) })
}

fn by_certificate(id: &str, chain: &[&[u8]]) -> Caller {
    let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    Caller { certificates: Some(chain.into()), ..caller(Presented::Certificate { id: id.to_owned() }) }
}

fn authentication(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let scene = runtime.block_on(Scene::new());
    let mut group = criterion.benchmark_group("authenticate");
    let mut bench = |name: &str, caller: &dyn Fn() -> Caller| {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter_batched(caller, |caller| scene.known(caller), BatchSize::SmallInput);
        });
    };

    let (id, secret) = runtime.block_on(scene.agent("secret", json!({})));
    bench("client_secret", &|| by_secret(&id, &secret));
    for (key, name) in scene.own_keys.iter().zip(["EdDSA", "ES256", "PS256"]) {
        let method = json!({ "method": "private_key_jwt", "jwks": key.jwks() });
        let id = runtime.block_on(scene.by(&format!("key-{}", name.to_lowercase()), method));
        bench(&format!("private_key_jwt {name}"), &|| {
            let (iss, now) = (&scene.broker.running.issuer, now());
            let claims = json!({ "iss": id, "sub": id, "aud": iss, "iat": now, "exp": now + 60, "jti": random() });
            by_assertion(JWT_BEARER, None, key.sign(&claims))
        });
    }
    let claims = |sub: &str| {
        let now = now();
        json!({ "iss": scene.idp.issuer(), "aud": scene.broker.running.issuer, "sub": sub, "iat": now, "exp": now + 600 })
    };
    let id = runtime
        .block_on(scene.by("job", json!({ "method": "federated", "issuer": "idp", "claims": { "sub": "job" } })));
    bench("federated", &|| by_assertion(JWT_BEARER, Some(&id), scene.idp_key.sign(&claims("job"))));
    let spiffe_id = "spiffe://example.org/bot";
    let id = runtime.block_on(scene.by("svid", json!({ "method": "spiffe", "id": spiffe_id })));
    bench("spiffe JWT-SVID", &|| by_assertion(JWT_SPIFFE, None, scene.idp_key.sign(&claims(spiffe_id))));
    let svid = scene.spiffe.holder(|params| params.subject_alt_names = vec![uri(spiffe_id)]);
    bench("spiffe X.509-SVID", &|| by_certificate(&id, &[&svid.der]));

    let (id, _) = runtime.block_on(scene.agent("issued", json!({})));
    let csr = json!({ "csr": scene.own_certificate.csr() });
    let path = format!("/admin/v1/agents/{id}/certificate");
    let answer = runtime.block_on(scene.broker.admin_ok("POST", &path, csr));
    let issued = scene.own_certificate.with(answer["certificate"].as_str().unwrap());
    bench("tls_client_auth", &|| by_certificate(&id, &[&issued.der]));
    let x5c = data_encoding::BASE64.encode(&scene.own_certificate.der);
    let jwks = json!({ "keys": [{ "kty": "EC", "x5c": [x5c] }] });
    let id = runtime.block_on(scene.by("pinned", json!({ "method": "self_signed_tls_client_auth", "jwks": jwks })));
    bench("self_signed_tls_client_auth", &|| by_certificate(&id, &[&scene.own_certificate.der]));
}

fn dpop(criterion: &mut Criterion) {
    let (key, nonces) = (ProofKey::new(), DpopNonces::new(&[7; 32]));
    let settings = DpopSettings { nonces: Some(nonces), ..DpopSettings::default() };
    let dpop = Dpop::new(settings);
    let (url, token) = ("https://hallpass.example.com/exchange/crm/v1/contacts", "a.token.of-usual-size");
    criterion.bench_function("DPoP proof of a call", |bencher| {
        bencher.iter_batched(
            || key.sign(&key.header(), &proof_claims("GET", url, Some(token), dpop.nonce(now()).as_deref(), now())),
            |proof| {
                let proofs = [proof.as_str()];
                let request = DpopRequest { proofs: &proofs, method: "GET", url, certificate: None };
                dpop.check(&request, Some(token), now()).unwrap().spend(now()).unwrap()
            },
            BatchSize::SmallInput,
        );
    });
}

/// Four agents, each acting for the one before: a token of the first, exchanged four times.
fn exchange(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let scene = runtime.block_on(Scene::new());
    let names = ["a0", "a1", "a2", "a3", "a4"];
    let agents: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let may_act_for: Vec<_> = n.checked_sub(1).map(|before| names[before]).into_iter().collect();
            runtime.block_on(scene.agent(name, json!({ "may_act_for": may_act_for })))
        })
        .collect();
    let issuer = &scene.broker.running.state.manager.issuer;
    let request = || TokenRequest { resources: vec!["https://orders.example.com".into()], ..TokenRequest::default() };
    let id = Origin { request: Arc::from("rq_bench"), client: None };
    let chain = async || {
        let first = issuer.token(&by_secret(&agents[0].0, &agents[0].1), &request(), &id).await.unwrap();
        let mut token = first.token.to_string();
        for (client, secret) in &agents[1..] {
            let exchange = ExchangeRequest {
                subject_token: Zeroizing::new(token),
                subject_token_type: ACCESS_TOKEN.into(),
                actor_token: None,
                actor_token_type: None,
                requested_token_type: None,
                token: request(),
            };
            let (issued, _) = issuer.exchange(&by_secret(client, secret), &exchange, &id).await.unwrap();
            token = issued.token.to_string();
        }
        token
    };
    let mut group = criterion.benchmark_group("delegate");
    // Sessions are kept until they end, 10,000 of an agent at most.
    group
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(4));
    group.bench_function("a token and four exchanges, one below the other", |bencher| {
        bencher.to_async(&runtime).iter(chain);
    });
}

criterion_group!(all, authentication, dpop, exchange);
criterion_main!(all);
