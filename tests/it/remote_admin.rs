//! Admins who come over the network: logins by OpenID Connect, certificates, roles, and what the audit log says of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use hallpass::app::Surroundings;
use hallpass::http::routes::{Access, Listener, Route, table};
use hallpass::model::AdminRole;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::{Ca, Holder, email, uri};
use crate::support::broker::client;
use crate::support::idp::{Idp, Mode, Signer};
use crate::support::{Binary, Engine, TestBroker, TestClock};

const CLI: &str = "hallpass-cli";

/// `tokens.leeway_seconds`, as it is by default.
const LEEWAY: i64 = 5;

/// A broker with an admin listener, the issuer where its admins log in, and the CA of their certificates.
struct Scene {
    broker: TestBroker,
    clock: Arc<TestClock>,
    idp: Idp,
    signer: Signer,
    ca: Ca,
    server_pem: String,
    _files: TempDir,
}

impl Scene {
    async fn new(engine: Engine) -> Option<Self> {
        drop(client());
        let (clock, ca, files) = (TestClock::new(), Ca::new("Example Admin CA"), tempfile::tempdir().unwrap());
        let signer = Signer::new("ES256", "idp-1");
        let idp = Idp::start(signer.jwks()).await;
        let server = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let write = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path.display().to_string()
        };
        let certificate = write("admin.crt", &server.cert.pem());
        let key = write("admin.key", &server.signing_key.serialize_pem());
        let ca_file = write("admin-ca.crt", &ca.pem);
        let issuer = idp.issuer();
        let settings = [
            ("HALLPASS_ADMIN__LISTEN", "127.0.0.1:0"),
            ("HALLPASS_ADMIN__CERT_FILE", &*certificate),
            ("HALLPASS_ADMIN__KEY_FILE", &key),
            ("HALLPASS_ADMIN__ISSUER", &issuer),
            ("HALLPASS_ADMIN__ISSUER_ALLOW_PRIVATE", "true"),
            ("HALLPASS_ADMIN__CLIENT_ID", CLI),
            ("HALLPASS_ADMIN__LOGIN_SECONDS", "600"),
            ("HALLPASS_ADMIN__CLIENT_CA_FILE", &ca_file),
            ("HALLPASS_ADMIN__VIEWERS", "groups=auditors; cert.san_email=eve@example.com"),
            ("HALLPASS_ADMIN__APPROVERS", "groups=on-call; email=otto@example.com"),
            ("HALLPASS_ADMIN__OPERATORS", "realm/roles=hallpass-operator; cert.san_email=ada@example.com"),
            ("HALLPASS_ADMIN__OWNERS", "sub=root-1; cert.san_uri=urn:example:owner"),
        ];
        let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
        let broker = TestBroker::start_with(engine, surroundings, &settings).await?;
        Some(Self { broker, clock, idp, signer, ca, server_pem: server.cert.pem(), _files: files })
    }

    async fn sqlite() -> Self {
        Self::new(Engine::Sqlite).await.unwrap()
    }

    fn http(&self, holder: Option<&Holder>) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(self.server_pem.as_bytes()).unwrap();
        let builder = reqwest::Client::builder().tls_certs_only([root]).pool_max_idle_per_host(0);
        holder.into_iter().fold(builder, |builder, holder| builder.identity(holder.identity())).build().unwrap()
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Value,
        token: Option<&str>,
        holder: Option<&Holder>,
    ) -> (u16, Value) {
        let url = format!("https://{}{path}", self.broker.running.remote_admin.unwrap());
        let mut request = self.http(holder).request(Method::from_bytes(method.as_bytes()).unwrap(), url).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        assert!(answer.headers().contains_key("x-request-id"));
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    fn now(&self) -> i64 {
        self.clock.world().now() / 1000
    }

    /// What an ID token says of this person.
    fn claims(&self, sub: &str) -> Value {
        let now = self.now();
        json!({ "iss": self.idp.issuer(), "aud": CLI, "sub": sub, "iat": now, "exp": now + 3600, "jti": format!("{sub}-{now}") })
    }

    async fn log_in(&self, claims: &Value) -> (u16, Value) {
        self.present(&self.signer.sign(claims)).await
    }

    async fn present(&self, id_token: &str) -> (u16, Value) {
        self.ask("POST", "/admin/v1/login", json!({ "id_token": id_token }), None, None).await
    }

    /// A login with this role: its token.
    async fn token_of(&self, role: AdminRole) -> String {
        let mut claims = self.claims(if role == AdminRole::Owner { "root-1" } else { "somebody" });
        claims["jti"] = role.as_str().into();
        match role {
            AdminRole::Viewer => claims["groups"] = json!(["staff", "auditors"]),
            AdminRole::Approver => claims["groups"] = json!("on-call"),
            AdminRole::Operator => claims["realm"] = json!({ "roles": ["hallpass-operator"] }),
            AdminRole::Owner => {}
        }
        let (status, answer) = self.log_in(&claims).await;
        assert_eq!((status, &answer["role"]), (200, &json!(role.as_str())), "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    /// The newest admin record.
    async fn last(&self) -> Value {
        self.broker.records().await.into_iter().rfind(|record| record["kind"] == "admin").unwrap()
    }
}

async fn a_person_logs_in_works_and_logs_out(engine: Engine) {
    let Some(scene) = Scene::new(engine).await else { return };
    let (status, answer) = scene.ask("GET", "/admin/v1/login", Value::Null, None, None).await;
    assert_eq!((status, &answer["client_id"], &answer["issuer"]), (200, &json!(CLI), &json!(scene.idp.issuer())));
    let mut claims = scene.claims("u-17");
    claims["email"] = "ada@example.com".into();
    claims["email_verified"] = true.into();
    claims["realm"] = json!({ "roles": ["hallpass-operator"] });
    let (status, login) = scene.log_in(&claims).await;
    assert_eq!((status, &login["name"]), (200, &json!("oidc:ada@example.com (u-17)")), "{login}");
    let token = login["token"].as_str().unwrap();
    assert!(token.starts_with("hp_ad_"));
    let record = scene.last().await;
    assert_eq!(
        (&record["action"], &record["object"], &record["admin"], &record["client"]),
        (&json!("login"), &json!("operator"), &login["name"], &json!("127.0.0.1"))
    );

    let (status, agent) = scene.ask("POST", "/admin/v1/agents", json!({ "name": "helpdesk" }), Some(token), None).await;
    assert_eq!(status, 200, "{agent}");
    let record = scene.last().await;
    assert_eq!((&record["action"], &record["admin"]), (&json!("agent register"), &login["name"]), "{record}");
    assert_eq!((&record["agent_name"], &record["client"]), (&json!("helpdesk"), &json!("127.0.0.1")));

    let (status, answer) = scene.ask("POST", "/admin/v1/logout", Value::Null, Some(token), None).await;
    assert_eq!((status, &answer["logged_out"]), (200, &json!(true)));
    let (status, answer) = scene.ask("GET", "/admin/v1/agents", Value::Null, Some(token), None).await;
    assert_eq!((status, &answer["code"]), (401, &json!("not_admin")), "{answer}");
    // Nothing of it is kept: neither in the database nor in the log.
    assert!(scene.broker.records().await.iter().all(|record| !record.to_string().contains(token)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_works_and_logs_out_on_sqlite() {
    a_person_logs_in_works_and_logs_out(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_works_and_logs_out_on_postgresql() {
    a_person_logs_in_works_and_logs_out(Engine::Postgres).await;
}

/// Every admin route × nobody, what is no login, and each role.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_takes_its_role_and_nobody_below() {
    let scene = Scene::sqlite().await;
    let (_, agents_token) = scene.broker.with_crm("http://127.0.0.1:9", "sk-live-0123456789abcdef").await;
    let mut logins = Vec::new();
    for role in AdminRole::ALL {
        logins.push((role, scene.token_of(role).await));
    }
    for route in table().iter().filter(|route| matches!(route.listener, Listener::Admin | Listener::RemoteAdmin)) {
        let Access::Admin(needed) = route.access else { continue };
        let path = route.path.replace("{name}", "nobody-there").replace("{id}", "se_x").replace("{kid}", "x");
        for (what, token) in
            [("nobody", None), ("an agent's token", Some(&*agents_token)), ("nonsense", Some("hp_ad_x"))]
        {
            for method in ["GET", "POST", "DELETE"] {
                let (status, answer) = scene.ask(method, &path, json!({ "unknown": 1 }), token, None).await;
                let refused = (status, answer["code"].as_str());
                // Where a path does not take the method, that is all that is said.
                let wanted = [(401, Some("not_admin")), (405, Some("method_not_allowed"))];
                assert!(wanted.contains(&refused), "{method} {path} by {what}: {answer}");
            }
        }
        for (role, token) in logins.iter().filter(|_| route.path != "/admin/v1/logout") {
            for method in ["GET", "POST", "DELETE"] {
                // What nobody asks for: a body that every handler with an input refuses.
                let (status, answer) = scene.ask(method, &path, json!({ "unknown": 1 }), Some(token), None).await;
                let is_low = method != "GET" && *role < needed;
                let code = answer["code"].as_str();
                assert_ne!(status, 401, "{method} {path} as {role}: {answer}");
                assert_eq!(
                    status == 403 && code == Some("role_too_low"),
                    is_low && status != 405,
                    "{method} {path} as {role}: {answer}"
                );
                assert!(status < 500, "{method} {path} as {role}: {answer}");
            }
        }
    }
    let (status, answer) = scene.ask("GET", "/admin/v1/agents/%ff", Value::Null, Some(&logins[0].1), None).await;
    assert_eq!((status, &answer["code"]), (400, &json!("bad_path")), "{answer}");
    let refusals = scene.broker.records().await;
    let low = refusals.iter().find(|record| record["reason"] == "role_too_low").unwrap();
    assert_eq!((&low["kind"], &low["decision"]), (&json!("admin"), &json!("deny")));
    assert!(low["admin"].as_str().unwrap().starts_with("oidc:"), "{low}");
}

/// What the listener takes (a 405 says that it does not) against what the document says, for each path and method.
#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_has_every_operation_of_the_admin_api_and_no_other() {
    let scene = Scene::sqlite().await;
    let viewer = scene.token_of(AdminRole::Viewer).await;
    let (status, document) = scene.ask("GET", "/admin/v1/openapi.json", Value::Null, Some(&viewer), None).await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")), "{document}");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let admins = |route: &&Route| matches!(route.listener, Listener::Admin | Listener::RemoteAdmin);
    let routes = table();
    let paths: BTreeSet<&str> = routes.iter().filter(admins).map(|route| route.path).collect();
    let described: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(paths, described);
    let mut ids = BTreeSet::new();
    for route in routes.iter().filter(admins) {
        let path = route.path.replace(['{', '}'], "");
        for method in ["GET", "POST", "DELETE", "PUT", "PATCH"] {
            // By nobody, so that nothing is done.
            let (status, answer) = scene.ask(method, &path, Value::Null, None, None).await;
            let operation = &document["paths"][route.path][method.to_lowercase()];
            assert_eq!(status != 405, operation.is_object(), "{method} {}: {answer}", route.path);
            if operation.is_null() {
                continue;
            }
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            assert!(
                operation["responses"][status.to_string()].is_object(),
                "{method} {path}: {status} is not declared"
            );
            let role = match route.access {
                Access::Admin(_) if method == "GET" => Some(AdminRole::Viewer),
                Access::Admin(role) => Some(role),
                _ => None,
            };
            let wanted = match role {
                Some(role) => json!([{ "login": [role.as_str()] }, { "certificate": [role.as_str()] }]),
                None => json!([{}]),
            };
            assert_eq!(operation["security"], wanted, "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_connect_core_s3_1_3_7_what_an_id_token_says_is_held_to() {
    let scene = Scene::sqlite().await;
    let now = scene.now();
    let good = || {
        let mut claims = scene.claims("root-1");
        claims["jti"] = rand().into();
        claims
    };
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        scene.signer.sign(&claims)
    };
    let header = |header: Value| scene.signer.sign_with(header, &good());
    let strangers = Signer::new("ES256", "idp-1");
    let mut without_iat = good();
    without_iat.as_object_mut().unwrap().remove("iat");
    let mut without_sub = good();
    without_sub.as_object_mut().unwrap().remove("sub");
    for (what, id_token, reason) in [
        ("another client's", with("aud", json!("another-cli")), "assertion_wrong_audience"),
        ("a stranger among the audiences", with("aud", json!([CLI, "another-cli"])), "assertion_wrong_audience"),
        ("made for another client", with("azp", json!("another-cli")), "assertion_wrong_audience"),
        ("another issuer's", with("iss", json!("https://evil.example.com")), "assertion_wrong_issuer"),
        ("expired", with("exp", json!(now - 60)), "assertion_expired"),
        ("from the future", with("iat", json!(now + 600)), "assertion_not_yet_valid"),
        ("of ten minutes ago", with("iat", json!(now - 600)), "id_token_too_old"),
        ("without iat", scene.signer.sign(&without_iat), "assertion_malformed"),
        ("without sub", scene.signer.sign(&without_sub), "assertion_malformed"),
        ("of nobody with a role", with("sub", json!("root-2")), "no_admin_role"),
        ("a sub with a line break", with("sub", json!("root-1\nroot-1")), "assertion_malformed"),
        ("signed by another", strangers.sign(&good()), "assertion_bad_signature"),
        ("an access token", header(json!({ "typ": "at+jwt", "alg": "ES256", "kid": "idp-1" })), "assertion_wrong_type"),
        ("unsigned", header(json!({ "alg": "none" })), "assertion_wrong_algorithm"),
        ("HS256", header(json!({ "alg": "HS256", "kid": "idp-1" })), "assertion_wrong_algorithm"),
        ("nonsense", "x".to_owned(), "assertion_malformed"),
    ] {
        let (status, answer) = scene.present(&id_token).await;
        let wanted = if reason == "no_admin_role" { 403 } else { 401 };
        assert_eq!(status, wanted, "{what}: {answer}");
        assert!(answer.get("token").is_none());
        let record = scene.last().await;
        assert_eq!((&record["action"], &record["reason"]), (&json!("login"), &json!(reason)), "{what}: {record}");
        assert_eq!(record["decision"], "deny");
    }
    // Once.
    let id_token = scene.signer.sign(&good());
    assert_eq!(scene.present(&id_token).await.0, 200);
    let (status, answer) = scene.present(&id_token).await;
    assert_eq!((status, &answer["code"]), (401, &json!("login_refused")), "{answer}");
    assert_eq!(scene.last().await["reason"], "id_token_used_before");
    // `email` counts where it is verified, for a role as for a name.
    let mut claims = good();
    claims["sub"] = "u-3".into();
    claims["email"] = "otto@example.com".into();
    for verified in [Value::Null, json!(false), json!("true")] {
        claims["email_verified"] = verified.clone();
        assert_eq!(scene.log_in(&claims).await.0, 403, "{verified}");
    }
    claims["sub"] = "root-1".into();
    let (_, answer) = scene.log_in(&claims).await;
    assert_eq!(answer["name"], "oidc:root-1", "an address that nobody verified names nobody");
    claims["email_verified"] = true.into();
    let (_, answer) = scene.log_in(&claims).await;
    assert_eq!(answer["name"], "oidc:otto@example.com (root-1)");
    assert_eq!(answer["role"], "owner", "the greatest role counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_with_its_time_and_with_the_broker() {
    let mut scene = Scene::sqlite().await;
    let token = scene.token_of(AdminRole::Viewer).await;
    let status =
        async |scene: &Scene, token: &str| scene.ask("GET", "/admin/v1/status", Value::Null, Some(token), None).await.0;
    scene.clock.add_seconds(590);
    assert_eq!(status(&scene, &token).await, 200);
    scene.clock.add_seconds(10);
    assert_eq!(status(&scene, &token).await, 401);
    let token = scene.token_of(AdminRole::Viewer).await;
    assert_eq!(status(&scene, &token).await, 200);
    scene.broker = scene.broker.restart().await;
    assert_eq!(status(&scene, &token).await, 401, "settings that were changed hold for everybody");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_down_is_no_refusal_and_no_login() {
    let scene = Scene::sqlite().await;
    scene.idp.set(Mode::Down);
    let (status, answer) = scene.log_in(&scene.claims("root-1")).await;
    assert_eq!((status, &answer["code"]), (503, &json!("issuer_unavailable")), "{answer}");
    scene.idp.set(Mode::Good);
    scene.clock.add_seconds(11);
    assert_eq!(scene.log_in(&scene.claims("root-1")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_an_admins_by_its_ca_and_its_name() {
    let scene = Scene::sqlite().await;
    let status = async |holder: &Holder| scene.ask("GET", "/admin/v1/status", Value::Null, None, Some(holder)).await.0;
    let register = async |holder: &Holder, name: &str| {
        scene.ask("POST", "/admin/v1/agents", json!({ "name": name }), None, Some(holder)).await
    };
    let ada = scene.ca.holder(|params| params.subject_alt_names = vec![email("ada@example.com")]);
    let eve = scene.ca.holder(|params| params.subject_alt_names = vec![email("eve@example.com")]);
    assert_eq!(register(&ada, "one").await.0, 200);
    let record = scene.last().await;
    assert_eq!((&record["action"], &record["admin"]), (&json!("agent register"), &json!("cert:ada@example.com")));
    assert_eq!(status(&eve).await, 200);
    let (code, answer) = register(&eve, "two").await;
    assert_eq!((code, &answer["code"]), (403, &json!("role_too_low")), "{answer}");
    let record = scene.last().await;
    assert_eq!((&record["admin"], &record["reason"]), (&json!("cert:eve@example.com"), &json!("role_too_low")));
    let owner = scene.ca.holder(|params| params.subject_alt_names = vec![uri("urn:example:owner")]);
    assert_eq!(scene.ask("POST", "/admin/v1/keys/rotate", Value::Null, None, Some(&owner)).await.0, 200);

    let other = Ca::new("Example Admin CA");
    let now = time::OffsetDateTime::now_utc();
    let day = time::Duration::days(1);
    for (what, holder, reason) in [
        (
            "of another CA",
            other.holder(|params| params.subject_alt_names = vec![email("ada@example.com")]),
            "client_certificate_of_unknown_ca",
        ),
        (
            "self-signed",
            Holder::self_signed(|params| params.subject_alt_names = vec![email("ada@example.com")]),
            "client_certificate_of_unknown_ca",
        ),
        (
            "without a role",
            scene.ca.holder(|params| params.subject_alt_names = vec![email("mallory@example.com")]),
            "no_admin_role",
        ),
        (
            "with its name elsewhere",
            scene.ca.holder(|params| params.subject_alt_names = vec![uri("ada@example.com")]),
            "no_admin_role",
        ),
        (
            "expired",
            scene.ca.holder(|params| {
                params.subject_alt_names = vec![email("ada@example.com")];
                (params.not_before, params.not_after) = (now - day * 3, now - day);
            }),
            "client_certificate_expired",
        ),
    ] {
        assert_eq!(status(&holder).await, 401, "{what}");
        let record = scene.last().await;
        assert_eq!((&record["reason"], &record["decision"]), (&json!(reason), &json!("deny")), "{what}: {record}");
    }
    // What was presented and failed is not made up for by something else.
    let (code, _) = scene.ask("GET", "/admin/v1/status", Value::Null, Some("hp_ad_over"), Some(&ada)).await;
    assert_eq!(code, 401);
    // A header says nothing: no proxy stands before admins.
    let url = format!("https://{}/admin/v1/status", scene.broker.running.remote_admin.unwrap());
    let answer = scene.http(None).get(url).header("client-cert", ada.header()).send().await.unwrap();
    assert_eq!(answer.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_do_not_fill_the_log() {
    let scene = Scene::sqlite().await;
    let before = scene.broker.records().await.len();
    for _ in 0..80 {
        assert_eq!(scene.ask("GET", "/admin/v1/status", Value::Null, None, None).await.0, 401);
    }
    assert_eq!(scene.broker.records().await.len() - before, 60);
}

/// Something that no other ID token says.
fn rand() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst).to_string()
}

/// The other signature of the same token: with ECDSA, `n − s` is as good as `s`, and whoever has one makes the other.
fn resigned(id_token: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
    const N: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let (message, signature) = id_token.rsplit_once('.').unwrap();
    let (mut signature, n) =
        (BASE64URL.decode(signature).unwrap(), data_encoding::HEXLOWER.decode(N.as_bytes()).unwrap());
    let mut borrow = 0;
    for at in (0..32).rev() {
        let digit = i32::from(n[at]) - i32::from(signature[32 + at]) - borrow;
        borrow = i32::from(digit < 0);
        signature[32 + at] = u8::try_from(digit + 256 * borrow).unwrap();
    }
    format!("{message}.{}", BASE64URL.encode(signature))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_opens_one_login_under_whatever_signature_and_across_a_start() {
    let mut scene = Scene::sqlite().await;
    let first = scene.signer.sign(&scene.claims("root-1"));
    let again = resigned(&first);
    assert_ne!(first, again);
    assert_eq!(scene.present(&first).await.0, 200);
    let (status, answer) = scene.present(&again).await;
    assert_eq!((status, &answer["code"]), (401, &json!("login_refused")), "{answer}");
    assert_eq!(scene.last().await["reason"], "id_token_used_before");
    // To its very last second: an issuer's clock may be ahead by the leeway, and ours may have been behind.
    let mut claims = scene.claims("root-1");
    (claims["jti"], claims["iat"]) = ("ahead".into(), (scene.now() + LEEWAY).into());
    let ahead = scene.signer.sign(&claims);
    assert_eq!(scene.present(&ahead).await.0, 200);
    scene.clock.add_seconds(300 + 2 * LEEWAY);
    assert_eq!(scene.present(&ahead).await.0, 401);
    // What was used is not remembered across a start, so nothing from before it counts.
    let first = scene.signer.sign(&scene.claims("root-1"));
    assert_eq!(scene.present(&first).await.0, 200);
    scene.clock.add_seconds(2);
    scene.broker = scene.broker.restart().await;
    assert_eq!(scene.present(&first).await.0, 401);
    assert_eq!(scene.last().await["reason"], "id_token_from_before_the_start");
    let claims = scene.claims("root-1");
    assert_eq!(scene.log_in(&claims).await.0, 200);
    let other = resigned(&scene.signer.sign(&claims));
    assert_eq!(scene.present(&other).await.0, 401, "signed anew, it says the same");
    scene.clock.add_seconds(1);
    let other = resigned(&scene.signer.sign(&scene.claims("root-1")));
    assert_eq!(scene.present(&other).await.0, 200, "it is a good signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_in_over_and_over_ends_no_login_but_their_own() {
    let scene = Scene::sqlite().await;
    let status = async |token: &str| scene.ask("GET", "/admin/v1/status", Value::Null, Some(token), None).await.0;
    let owner = scene.token_of(AdminRole::Owner).await;
    let mut tokens = Vec::new();
    for n in 0..17 {
        let mut claims = scene.claims("flooder");
        (claims["jti"], claims["groups"]) = (n.into(), json!(["auditors"]));
        // Another name changes nothing: `sub` says who it is.
        (claims["email"], claims["email_verified"]) = (format!("flooder{n}@example.com").into(), true.into());
        let (code, login) = scene.log_in(&claims).await;
        assert_eq!(code, 200, "{login}");
        tokens.push(login["token"].as_str().unwrap().to_owned());
        scene.clock.add_seconds(1);
    }
    assert_eq!(status(&tokens[0]).await, 401);
    assert_eq!((status(&tokens[1]).await, status(&tokens[16]).await, status(&owner).await), (200, 200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_send_is_short_and_from_few_connections() {
    let scene = Scene::sqlite().await;
    let (status, answer) =
        scene.ask("POST", "/admin/v1/login", json!({ "id_token": "x".repeat(40_000) }), None, None).await;
    assert_eq!((status, &answer["code"]), (400, &json!("bad_body")), "{answer}");
    // Somebody opens connections and says nothing.
    let address = scene.broker.running.remote_admin.unwrap();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let url = format!("https://{address}/admin/v1/login");
    assert!(scene.http(None).get(&url).send().await.is_err(), "from there no more");
    let root = reqwest::Certificate::from_pem(scene.server_pem.as_bytes()).unwrap();
    let elsewhere = reqwest::Client::builder().tls_certs_only([root]);
    let elsewhere = elsewhere.local_address(std::net::IpAddr::from([127, 0, 0, 2])).build().unwrap();
    assert_eq!(elsewhere.get(&url).send().await.unwrap().status(), 200);
    drop(silent);
    crate::support::real::until("a place", 5, async || scene.http(None).get(&url).send().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_looks_like_another() {
    let scene = Scene::sqlite().await;
    for (n, (email, wanted)) in [
        ("ada\u{202e}@example.com", "oidc:root-1"),
        ("ada\u{200b}@example.com", "oidc:root-1"),
        ("ada@example.com\u{2028}", "oidc:root-1"),
        ("ada@example.com\u{9b}2J", "oidc:root-1"),
        ("ada@example.com (u-17) agent register", "oidc:ada@example.com [u-17] agent register (root-1)"),
        ("\u{e4}da@example.com", "oidc:\u{e4}da@example.com (root-1)"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut claims = scene.claims("root-1");
        (claims["email"], claims["email_verified"], claims["jti"]) = (email.into(), true.into(), n.into());
        let (status, login) = scene.log_in(&claims).await;
        assert_eq!((status, &login["name"]), (200, &json!(wanted)), "{login}");
    }
    let mut claims = scene.claims("root-1\u{202e}");
    claims["jti"] = "hidden".into();
    assert_eq!(scene.log_in(&claims).await.0, 401);
    // Who is known and has no role is named, too.
    let mut claims = scene.claims("u-9");
    (claims["email"], claims["email_verified"]) = ("mallory@example.com".into(), true.into());
    assert_eq!(scene.log_in(&claims).await.0, 403);
    let record = scene.last().await;
    assert_eq!(
        (&record["admin"], &record["reason"]),
        (&json!("oidc:mallory@example.com (u-9)"), &json!("no_admin_role"))
    );
}

/// A node may be named as one pleases.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_node_named_checkpoint_is_read() {
    let scene = Scene::sqlite().await;
    let token = scene.token_of(AdminRole::Viewer).await;
    let of = async |node: &str| {
        let path = format!("/admin/v1/audit/{node}/records");
        scene.ask("GET", &path, Value::Null, Some(&token), None).await
    };
    assert_eq!(of("checkpoint").await, (200, json!({ "records": [] })));
    assert!(!of("node-1").await.1["records"].as_array().unwrap().is_empty());
}

#[test]
fn an_issuers_ca_file_that_vouches_for_nobody_is_told_at_the_start() {
    let mut binary = Binary::init(None);
    let keys = binary.dir.path().join("keys");
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    for (name, text) in [
        ("admin.crt", made.cert.pem()),
        ("admin.key", made.signing_key.serialize_pem()),
        ("none.crt", "no certificate\n".to_owned()),
        ("odd.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(keys.join(name), text).unwrap();
        std::fs::set_permissions(keys.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    binary.set("HALLPASS_ADMIN__LISTEN", "127.0.0.1:0");
    binary.set("HALLPASS_ADMIN__CERT_FILE", "keys/admin.crt");
    binary.set("HALLPASS_ADMIN__KEY_FILE", "keys/admin.key");
    binary.set("HALLPASS_ADMIN__ISSUER", "https://login.example.com");
    binary.set("HALLPASS_ADMIN__CLIENT_ID", CLI);
    binary.set("HALLPASS_ADMIN__OWNERS", "sub=root-1");
    for file in ["keys/none.crt", "keys/odd.crt"] {
        binary.set("HALLPASS_ADMIN__ISSUER_CA_FILE", file);
        let output = binary.run(&["serve", "--listen", "127.0.0.1:0"], "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("admin.issuer_ca_file") && said.contains(file), "{said}");
        assert!(said.contains("or remove it to trust the public CAs"), "{said}");
    }
    binary.set("HALLPASS_ADMIN__ISSUER_CA_FILE", "keys/admin.crt");
    binary.serve(None);
}
