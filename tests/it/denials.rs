//! The denial matrix: every route of the table × every kind of bad token, and what is answered.
//!
//! A route without a row here fails the suite, and so does a row without a route.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use bytes::Bytes;
use hallpass::http::routes::{Access, Listener, table};
use hallpass::model::AdminRole;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::forge;
use crate::support::broker::TestAgent;
use crate::support::{TestBroker, Upstream};

/// What is wrong with the token that is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    NoToken,
    WrongScope,
    Expired,
    Revoked,
    Tampered,
    ForeignKey,
    AlgNone,
    HmacOfJwk,
    HmacOfPoint,
    WrongTyp,
    WrongAud,
}

const KINDS: [Kind; 11] = [
    Kind::NoToken,
    Kind::WrongScope,
    Kind::Expired,
    Kind::Revoked,
    Kind::Tampered,
    Kind::ForeignKey,
    Kind::AlgNone,
    Kind::HmacOfJwk,
    Kind::HmacOfPoint,
    Kind::WrongTyp,
    Kind::WrongAud,
];

impl Kind {
    /// The problem's `code` at a route for bearers.
    fn code(self) -> &'static str {
        match self {
            Self::NoToken => "token_missing",
            Self::WrongScope => "insufficient_scope",
            Self::Expired => "token_expired",
            Self::Revoked => "token_revoked",
            Self::Tampered | Self::ForeignKey => "token_bad_signature",
            Self::AlgNone | Self::HmacOfJwk | Self::HmacOfPoint => "token_wrong_algorithm",
            Self::WrongTyp => "token_wrong_type",
            Self::WrongAud => "token_wrong_audience",
        }
    }
}

/// How a route treats tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Answers 200 and looks at no token.
    Ignores,
    /// Answers 400 to everybody.
    Refuses,
    /// Takes a client's own secret; a token is no client authentication.
    TakesClients,
    /// Takes a client's own secret, or a token with this scope.
    TakesClientsAndScope(&'static str),
    /// Takes a token with this scope.
    TakesScope(&'static str),
    /// Takes nobody but who is at the other end of the unix socket.
    TakesPeers,
    /// Is on the admin listener alone.
    IsElsewhere,
}

struct Row {
    path: &'static str,
    listener: Listener,
    access: Access,
    manner: Manner,
    /// A request that a good token (or the right client) gets through.
    method: &'static str,
    target: &'static str,
    form: &'static str,
}

const BASIC: &str = r#"Basic realm="hallpass", charset="UTF-8""#;
const INTROSPECT: &str = "hallpass:introspect";

fn public(
    path: &'static str,
    access: Access,
    manner: Manner,
    method: &'static str,
    target: &'static str,
    form: &'static str,
) -> Row {
    Row { path, listener: Listener::Public, access, manner, method, target, form }
}

fn open(listener: Listener, path: &'static str) -> Row {
    Row { path, listener, access: Access::Open, manner: Manner::Ignores, method: "GET", target: path, form: "" }
}

/// `role` is what it takes to change something there.
fn admin(path: &'static str, role: AdminRole, target: &'static str) -> Row {
    let (listener, access) = (Listener::Admin, Access::Admin(role));
    Row { path, listener, access, manner: Manner::TakesPeers, method: "GET", target, form: "" }
}

/// Of these `remote_admin.rs` tells more.
fn remote(path: &'static str, access: Access) -> Row {
    let (listener, manner) = (Listener::RemoteAdmin, Manner::IsElsewhere);
    Row { path, listener, access, manner, method: "GET", target: path, form: "" }
}

/// What must be, by path. Written out: a table that is derived from the router would agree with any router.
#[rustfmt::skip]
fn rows() -> Vec<Row> {
    use Access::{Bearer, Client, ClientOrBearer};
    use AdminRole::{Approver, Operator, Owner, Viewer};
    use Manner::{TakesClients, TakesClientsAndScope, TakesScope};
    vec![
        public("/oauth2/token", Client, TakesClients, "POST", "/oauth2/token", "grant_type=client_credentials"),
        public("/oauth2/introspect", ClientOrBearer, TakesClientsAndScope(INTROSPECT), "POST", "/oauth2/introspect", "token=x"),
        public("/oauth2/revoke", Client, TakesClients, "POST", "/oauth2/revoke", "token=x"),
        public("/oauth2/certificate", Client, TakesClients, "POST", "/oauth2/certificate", "csr=x"),
        public("/exchange/{upstream}", Bearer, TakesScope("crm:root"), "GET", "/exchange/crm", ""),
        public("/exchange/{upstream}/", Bearer, TakesScope("crm:root"), "GET", "/exchange/crm/", ""),
        public("/exchange/{upstream}/{*path}", Bearer, TakesScope("crm:contacts.read"), "GET", "/exchange/crm/v1/contacts", ""),
        public("/oauth2/authorize", Access::Open, Manner::Refuses, "GET", "/oauth2/authorize?response_type=code", ""),
        open(Listener::Public, "/.well-known/oauth-authorization-server"),
        open(Listener::Public, "/.well-known/jwks.json"),
        open(Listener::Public, "/.well-known/oauth-protected-resource"),
        Row {
            target: "/.well-known/oauth-protected-resource/exchange/crm",
            ..open(Listener::Public, "/.well-known/oauth-protected-resource/{*path}")
        },
        open(Listener::Public, "/revocations"),
        open(Listener::Ops, "/healthz"),
        open(Listener::Ops, "/readyz"),
        open(Listener::Ops, "/metrics"),
        admin("/admin/v1/openapi.json", Viewer, "/admin/v1/openapi.json"),
        admin("/admin/v1/status", Viewer, "/admin/v1/status"),
        admin("/admin/v1/apply", Operator, "/admin/v1/apply"),
        admin("/admin/v1/agents", Operator, "/admin/v1/agents"),
        admin("/admin/v1/agents/{name}", Operator, "/admin/v1/agents/helpdesk"),
        admin("/admin/v1/agents/{name}/suspend", Approver, "/admin/v1/agents/helpdesk/suspend"),
        admin("/admin/v1/agents/{name}/resume", Operator, "/admin/v1/agents/helpdesk/resume"),
        admin("/admin/v1/agents/{name}/revoke", Operator, "/admin/v1/agents/helpdesk/revoke"),
        admin("/admin/v1/agents/{name}/rotate-secret", Operator, "/admin/v1/agents/helpdesk/rotate-secret"),
        admin("/admin/v1/held/{id}/confirm", Operator, "/admin/v1/held/hd_x/confirm"),
        admin("/admin/v1/agents/{name}/certificate", Operator, "/admin/v1/agents/helpdesk/certificate"),
        admin("/admin/v1/client-ca", Viewer, "/admin/v1/client-ca"),
        admin("/admin/v1/sessions", Viewer, "/admin/v1/sessions"),
        admin("/admin/v1/sessions/{id}", Viewer, "/admin/v1/sessions/se_x"),
        admin("/admin/v1/sessions/{id}/revoke", Approver, "/admin/v1/sessions/se_x/revoke"),
        admin("/admin/v1/subjects/revoke", Approver, "/admin/v1/subjects/revoke"),
        admin("/admin/v1/tokens/inspect", Viewer, "/admin/v1/tokens/inspect"),
        admin("/admin/v1/tokens/revoke", Approver, "/admin/v1/tokens/revoke"),
        admin("/admin/v1/upstreams", Viewer, "/admin/v1/upstreams"),
        admin("/admin/v1/upstreams/{name}", Operator, "/admin/v1/upstreams/crm"),
        admin("/admin/v1/upstreams/{name}/test", Operator, "/admin/v1/upstreams/crm/test"),
        admin("/admin/v1/roles", Viewer, "/admin/v1/roles"),
        admin("/admin/v1/roles/{name}", Operator, "/admin/v1/roles/support"),
        admin("/admin/v1/resources", Viewer, "/admin/v1/resources"),
        admin("/admin/v1/resources/{name}", Operator, "/admin/v1/resources/orders"),
        admin("/admin/v1/issuers", Viewer, "/admin/v1/issuers"),
        admin("/admin/v1/issuers/{name}", Operator, "/admin/v1/issuers/k8s"),
        admin("/admin/v1/trust-domains", Viewer, "/admin/v1/trust-domains"),
        admin("/admin/v1/trust-domains/{name}", Operator, "/admin/v1/trust-domains/prod.example.com"),
        admin("/admin/v1/credentials", Viewer, "/admin/v1/credentials"),
        admin("/admin/v1/credentials/{name}", Operator, "/admin/v1/credentials/crm-key"),
        admin("/admin/v1/credentials/{name}/revoke", Operator, "/admin/v1/credentials/crm-key/revoke"),
        admin("/admin/v1/rewrap", Owner, "/admin/v1/rewrap"),
        admin("/admin/v1/keys", Viewer, "/admin/v1/keys"),
        admin("/admin/v1/keys/rotate", Owner, "/admin/v1/keys/rotate"),
        admin("/admin/v1/keys/{kid}/retire", Owner, "/admin/v1/keys/x/retire"),
        admin("/admin/v1/audit", Viewer, "/admin/v1/audit"),
        admin("/admin/v1/audit/{node}/records", Viewer, "/admin/v1/audit/node-1/records"),
        admin("/admin/v1/audit/{node}/search", Viewer, "/admin/v1/audit/node-1/search"),
        remote("/admin/v1/login", Access::Open),
        remote("/admin/v1/logout", Access::Admin(Viewer)),
        admin("/admin/v1/audit/checkpoint", Viewer, "/admin/v1/audit/checkpoint"),
        admin("/admin/v1/audit/{node}/checkpoints", Viewer, "/admin/v1/audit/node-1/checkpoints"),
        admin("/admin/v1/audit/keys", Viewer, "/admin/v1/audit/keys"),
    ]
}

/// An answer, read whole.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn challenge(&self) -> Option<&str> {
        match *self.challenges() {
            [] => None,
            [one] => Some(one),
            // Basic before all others, for those who read no further.
            [first, second, ..] => {
                assert_eq!(first, BASIC, "{self:?}");
                Some(second)
            }
        }
    }

    /// Each on a line of its own.
    fn challenges(&self) -> Vec<&str> {
        self.headers.get_all("www-authenticate").iter().map(|value| value.to_str().unwrap()).collect()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// The broker, an agent that may do everything, and a bad token of each kind that claims to be that agent's.
struct Scene {
    broker: TestBroker,
    agent: TestAgent,
    good: String,
    tokens: Vec<(Kind, Option<String>)>,
    upstream: Upstream,
}

impl Scene {
    async fn new() -> Self {
        let upstream = Upstream::echo().await;
        let broker = TestBroker::start().await;
        let url = upstream.url();
        broker
            .apply(&format!(
                r#"
upstreams:
  - name: crm
    base_url: {url}
    allow_private: true
    inject: {{ kind: header, name: X-Api-Key, credential: crm-key }}
    operations:
      - {{ id: root, methods: [GET], path: /, scope: root }}
      - {{ id: list-contacts, methods: [GET], path: /v1/contacts, scope: contacts.read }}
      - {{ id: other, methods: [GET], path: /other, scope: other }}
roles:
  - {{ name: support, scopes: ["crm:root", "crm:contacts.read", "crm:other"] }}
  - {{ name: auditor, scopes: ["{INTROSPECT}"] }}
"#
            ))
            .await;
        broker.put_credential("crm-key", "sk-live-0123456789abcdef").await;
        let agent = broker.register("helpdesk", &["support", "auditor"]).await;
        let good = broker.token(&agent).await;
        let scope = format!("crm:contacts.read crm:other crm:root {INTROSPECT}");
        assert_eq!(forge::payload(&good)["scope"], *scope, "the good token may do everything");

        let kid = broker.running.state.manager.registry.keys().active_kid().to_owned();
        let jwk = forge::published(&broker, &kid);
        let point: Vec<u8> = [vec![4], coordinate(&jwk, "x"), coordinate(&jwk, "y")].concat();
        let claims = forge::claims(&broker, &agent.client_id, &scope);
        let now = forge::now(&broker);
        let mut tokens = Vec::new();
        for kind in KINDS {
            let token = match kind {
                Kind::NoToken => None,
                Kind::WrongScope => {
                    let (status, answer) = broker.token_request(&agent, &[("scope", "crm:other")]).await;
                    assert_eq!(status, 200, "{answer}");
                    Some(answer["access_token"].as_str().unwrap().to_owned())
                }
                Kind::Expired => {
                    let old = forge::with(forge::with(claims.clone(), "exp", now - 1), "iat", now - 301);
                    Some(forge::by_broker(&broker, "at+jwt", &old))
                }
                Kind::Revoked => {
                    let token = broker.token(&agent).await;
                    broker.admin_ok("POST", "/admin/v1/tokens/revoke", json!({ "token": token })).await;
                    Some(token)
                }
                Kind::Tampered => Some(forge::tampered(&good, |claims| claims["exp"] = (now + 800).into())),
                Kind::ForeignKey => Some(forge::by_foreign_key(&kid, &claims)),
                Kind::AlgNone => Some(forge::unsecured("none", &kid, &claims)),
                Kind::HmacOfJwk => Some(forge::by_hmac(jwk.to_string().as_bytes(), &kid, &claims)),
                Kind::HmacOfPoint => Some(forge::by_hmac(&point, &kid, &claims)),
                Kind::WrongTyp => Some(forge::by_broker(&broker, "JWT", &claims)),
                Kind::WrongAud => {
                    let aud = json!("https://elsewhere.example.com");
                    Some(forge::by_broker(&broker, "at+jwt", &forge::with(claims.clone(), "aud", aud)))
                }
            };
            tokens.push((kind, token));
        }
        Self { broker, agent, good, tokens, upstream }
    }

    /// Over TCP, at one of the two listeners.
    async fn tcp(&self, listener: Listener, method: &str, target: &str, form: &str, token: Option<&str>) -> Answer {
        let url = match listener {
            Listener::Public => self.broker.url(target),
            Listener::Ops => self.broker.ops_url(target),
            Listener::Admin | Listener::RemoteAdmin => panic!("no admin comes that way here"),
        };
        let mut request = self.broker.http.request(method.parse().unwrap(), url);
        if method == "POST" {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        decent(Answer { status, headers, body: answer.text().await.unwrap() })
    }

    /// Over the unix socket.
    async fn unix(&self, method: &str, target: &str, token: Option<&str>) -> Answer {
        let stream = tokio::net::UnixStream::connect(self.broker.dir.path().join("data/admin.sock")).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::builder().method(method).uri(target).header("host", "hallpass");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = sender.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        decent(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// What holds for every answer: a request id, and no 500.
fn decent(answer: Answer) -> Answer {
    let id = answer.headers.get("x-request-id").unwrap_or_else(|| panic!("no request id: {answer:?}"));
    assert!(id.to_str().unwrap().starts_with("rq_"), "{answer:?}");
    assert!(answer.status.as_u16() < 500, "{answer:?}");
    answer
}

fn coordinate(jwk: &Value, name: &str) -> Vec<u8> {
    BASE64URL.decode(jwk[name].as_str().unwrap()).unwrap()
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let text = |path: &str, listener: Listener, access: Access| format!("{listener:?} {access:?} {path}");
    let routes: BTreeSet<_> = table().iter().map(|route| text(route.path, route.listener, route.access)).collect();
    let expected: BTreeSet<_> = rows().iter().map(|row| text(row.path, row.listener, row.access)).collect();
    let without_row: Vec<_> = routes.difference(&expected).collect();
    let without_route: Vec<_> = expected.difference(&routes).collect();
    assert!(without_row.is_empty(), "routes that the denial table does not know: {without_row:#?}");
    assert!(without_route.is_empty(), "rows of routes that are not there: {without_route:#?}");
    assert_eq!(table().len(), rows().len(), "a path is there twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_every_bad_token_as_it_should() {
    let scene = Scene::new().await;
    for row in rows() {
        for (kind, token) in &scene.tokens {
            check(&scene, &row, *kind, token.as_deref()).await;
        }
    }
    assert!(scene.upstream.seen().is_empty(), "nothing that was denied reached the upstream");
}

async fn check(scene: &Scene, row: &Row, kind: Kind, token: Option<&str>) {
    let at = format!("{:?} {} with {kind:?}", row.listener, row.path);
    if matches!(row.manner, Manner::TakesPeers | Manner::IsElsewhere) {
        return admin_only(scene, row, &at, token).await;
    }
    let answer = scene.tcp(row.listener, row.method, row.target, row.form, token).await;
    let (status, challenge) = (answer.status.as_u16(), answer.challenge());
    match row.manner {
        Manner::Ignores => assert_eq!((status, challenge), (200, None), "{at}: {answer:?}"),
        Manner::Refuses => assert_eq!((status, challenge), (400, None), "{at}: {answer:?}"),
        Manner::TakesClients => client_needed(&answer, &at),
        Manner::TakesClientsAndScope(_) if kind == Kind::NoToken => client_needed(&answer, &at),
        Manner::TakesScope(_) if kind == Kind::NoToken => {
            // RFC 6750 §3.1: no error attribute where there was no token. Where to get one (RFC 9728).
            let metadata = metadata_of_crm(scene);
            let wanted = [BASIC.to_owned(), format!(r#"Bearer realm="hallpass", {metadata}"#)];
            assert_eq!((status, answer.challenges()), (401, wanted.iter().map(String::as_str).collect()), "{at}");
        }
        Manner::TakesClientsAndScope(scope) | Manner::TakesScope(scope) if kind == Kind::WrongScope => {
            let mut wanted = format!(r#"Bearer realm="hallpass", error="insufficient_scope", scope="{scope}""#);
            if let Manner::TakesScope(_) = row.manner {
                wanted = format!("{wanted}, {}", metadata_of_crm(scene));
            }
            assert_eq!((status, challenge), (403, Some(&*wanted)), "{at}: {answer:?}");
        }
        Manner::TakesClientsAndScope(_) | Manner::TakesScope(_) => {
            let wanted = r#"Bearer realm="hallpass", error="invalid_token", error_description=""#;
            assert_eq!(status, 401, "{at}: {answer:?}");
            assert!(challenge.is_some_and(|text| text.starts_with(wanted)), "{at}: {answer:?}");
            if let Manner::TakesScope(_) = row.manner {
                assert!(challenge.unwrap().ends_with(&metadata_of_crm(scene)), "{at}: {answer:?}");
            }
        }
        Manner::TakesPeers | Manner::IsElsewhere => {}
    }
    if let (Manner::TakesClientsAndScope(_), true) = (row.manner, kind != Kind::NoToken) {
        let json = answer.json();
        let error = if kind == Kind::WrongScope { "insufficient_scope" } else { "invalid_token" };
        assert_eq!(json["error"], error, "{at}: {answer:?}");
        assert!(json["error_description"].as_str().unwrap().contains("token"), "{at}: {answer:?}");
    }
    if let Manner::TakesScope(_) = row.manner {
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{at}");
        assert_eq!(answer.json()["code"], kind.code(), "{at}: {answer:?}");
    }
    if status >= 400 {
        let json = answer.json();
        assert_eq!(json["request_id"], answer.headers["x-request-id"].to_str().unwrap(), "{at}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{at}");
        assert!(token.is_none_or(|token| !answer.body.contains(token)), "{at}: the token comes back");
    }
    let other = if row.listener == Listener::Public { Listener::Ops } else { Listener::Public };
    let elsewhere = scene.tcp(other, row.method, row.target, row.form, token).await;
    assert_eq!(elsewhere.status, 404, "{at}: at the other listener: {elsewhere:?}");
}

fn metadata_of_crm(scene: &Scene) -> String {
    format!(r#"resource_metadata="{}""#, scene.broker.url("/.well-known/oauth-protected-resource/exchange/crm"))
}

fn client_needed(answer: &Answer, at: &str) {
    assert_eq!((answer.status.as_u16(), answer.challenge()), (401, Some(BASIC)), "{at}: {answer:?}");
    assert_eq!(answer.json()["error"], "invalid_client", "{at}: {answer:?}");
}

/// Neither TCP listener knows the path, whatever the method; the unix socket does, and no token changes anything there.
async fn admin_only(scene: &Scene, row: &Row, at: &str, token: Option<&str>) {
    for listener in [Listener::Public, Listener::Ops] {
        for method in ["GET", "POST", "DELETE", "PATCH"] {
            let answer = scene.tcp(listener, method, row.target, "", token).await;
            assert_eq!(answer.status, 404, "{at}: {method} at {listener:?}: {answer:?}");
            assert_eq!(answer.json()["code"], "no_such_route", "{at}");
            assert_eq!(answer.challenge(), None, "{at}");
        }
    }
    if row.manner == Manner::IsElsewhere {
        let answer = scene.unix("GET", row.target, token).await;
        return assert_eq!(answer.status, 404, "{at}: {answer:?}");
    }
    // A method that no route takes: 405 says that the path is there, and nothing is changed.
    let answer = scene.unix("PATCH", row.target, token).await;
    assert_eq!(answer.status, 405, "{at}: {answer:?}");
    let (with, without) = (scene.unix("GET", row.target, token).await, scene.unix("GET", row.target, None).await);
    assert_eq!(with.status, without.status, "{at}: {with:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7662_s2_2_a_bad_token_is_inactive_and_nothing_else_is_said() {
    let scene = Scene::new().await;
    let introspect = async |token: &str| {
        let (id, secret) = (&scene.agent.client_id, Some(&scene.agent.client_secret));
        let request = scene.broker.http.post(scene.broker.url("/oauth2/introspect")).basic_auth(id, secret);
        let answer = request.form(&[("token", token)]).send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        decent(Answer { status, headers, body: answer.text().await.unwrap() })
    };
    for (kind, token) in &scene.tokens {
        // A narrower token is a good one.
        let Some(token) = token.as_deref().filter(|_| *kind != Kind::WrongScope) else { continue };
        let answer = introspect(token).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, r#"{"active":false}"#), "{kind:?}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{kind:?}");
    }
    for nonsense in ["x", "..", "a.b.c", "eyJhbGciOiJub25lIn0..", &"x".repeat(20_000)] {
        let answer = introspect(nonsense).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, r#"{"active":false}"#), "{nonsense:.40}");
    }
    assert_eq!(introspect(&scene.good).await.json()["active"], true);
}

/// Without this, a broker that refuses everything would pass the matrix.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_matrix_denies_a_good_token_or_client_gets() {
    let scene = Scene::new().await;
    for row in rows() {
        let (id, secret) = (&scene.agent.client_id, &scene.agent.client_secret);
        let answer = match row.manner {
            Manner::TakesPeers | Manner::IsElsewhere | Manner::Refuses => continue,
            Manner::TakesClients => {
                let form = format!("{}&client_id={id}&client_secret={secret}", row.form);
                scene.tcp(row.listener, row.method, row.target, &form, None).await
            }
            _ => scene.tcp(row.listener, row.method, row.target, row.form, Some(&scene.good)).await,
        };
        if row.path == "/oauth2/certificate" {
            // Authenticated; but only a certificate renews a certificate (`mtls.rs` has one).
            assert_eq!(answer.json()["error"], "unauthorized_client", "{answer:?}");
            continue;
        }
        assert_eq!(answer.status, 200, "{}: {answer:?}", row.path);
    }
    assert_eq!(scene.upstream.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_spelling_of_none_is_refused() {
    let scene = Scene::new().await;
    let kid = scene.broker.running.state.manager.registry.keys().active_kid().to_owned();
    let claims = forge::claims(&scene.broker, &scene.agent.client_id, "crm:contacts.read");
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let token = forge::unsecured(none, &kid, &claims);
        let answer = scene.tcp(Listener::Public, "GET", "/exchange/crm/v1/contacts", "", Some(&token)).await;
        assert_eq!(answer.status, 401, "{none}: {answer:?}");
    }
    // A signature cut off from a good token, and an empty one in front of good claims.
    let (signed, _) = scene.good.rsplit_once('.').unwrap();
    for token in [format!("{signed}."), signed.to_owned(), format!("{}.", scene.good)] {
        let answer = scene.tcp(Listener::Public, "GET", "/exchange/crm/v1/contacts", "", Some(&token)).await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
}
