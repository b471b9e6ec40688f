//! The OAuth endpoints, line by line of the standards: RFC 6749, 7009, 7662, 8414, 8707, 9068.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass::app::Surroundings;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::forge;
use crate::support::broker::TestAgent;
use crate::support::{Binary, Engine, TestBroker, TestClock};

const ORDERS: &str = "https://orders.example.com";
const FORM: &str = "application/x-www-form-urlencoded";

/// What the agent's roles give, for the exchange.
const EXCHANGE_SCOPES: &str = "crm:contacts.read crm:contacts.write wiki:pages.read";

/// An answer, read whole.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        assert!(headers.contains_key("x-request-id"), "{headers:?}");
        Self { status, headers, body: answer.text().await.unwrap() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// RFC 6749 §5.2 in all its parts.
    fn is_error(&self, status: u16, error: &str) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        let json = self.json();
        assert_eq!(json["error"], error, "{self:?}");
        assert_eq!(json["request_id"], self.header("x-request-id").unwrap(), "{self:?}");
        let description = json["error_description"].as_str().unwrap();
        let allowed = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
        assert!(!description.is_empty() && description.chars().all(allowed), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        assert_eq!(self.header("pragma"), Some("no-cache"), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let challenge = (status == 401).then_some(r#"Basic realm="hallpass", charset="UTF-8""#);
        assert_eq!(self.header("www-authenticate"), challenge, "{self:?}");
        self
    }

    fn is_token(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }
}

/// A broker with two upstreams, one API behind a gateway, and one agent.
struct Scene {
    broker: TestBroker,
    agent: TestAgent,
}

impl Scene {
    async fn new() -> Self {
        Self::on(TestBroker::start().await).await
    }

    async fn with(settings: &[(&str, &str)]) -> Self {
        Self::on(TestBroker::start_with(Engine::Sqlite, Surroundings::default(), settings).await.unwrap()).await
    }

    async fn clocked() -> (std::sync::Arc<TestClock>, Self) {
        let clock = TestClock::new();
        let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
        (clock, Self::on(TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap()).await)
    }

    async fn on(broker: TestBroker) -> Self {
        broker
            .apply(&format!(
                r#"
upstreams:
  - name: crm
    base_url: http://127.0.0.1:9
    allow_private: true
    inject: {{ kind: bearer, credential: crm-key }}
    operations:
      - {{ id: list, methods: [GET], path: /contacts, scope: contacts.read }}
      - {{ id: add, methods: [POST], path: /contacts, scope: contacts.write }}
  - name: wiki
    base_url: http://127.0.0.1:9
    allow_private: true
    inject: {{ kind: bearer, credential: wiki-key }}
    operations: [ {{ id: read, methods: [GET], path: /pages, scope: pages.read }} ]
resources: [ {{ name: orders, audience: "{ORDERS}", scopes: [orders.read, orders.write] }} ]
roles:
  - {{ name: support, scopes: ["crm:contacts.read", "crm:contacts.write", "wiki:pages.read", "orders:orders.read"] }}
  - {{ name: auditor, scopes: ["hallpass:introspect"] }}
"#
            ))
            .await;
        let agent = broker.register("helpdesk", &["support"]).await;
        Self { broker, agent }
    }

    fn token_endpoint(&self) -> reqwest::RequestBuilder {
        self.broker.http.post(self.broker.url("/oauth2/token"))
    }

    /// A form, byte for byte, with the agent's Basic authentication.
    async fn post(&self, body: &str) -> Answer {
        let request = self.token_endpoint().header("content-type", FORM);
        let request = request.basic_auth(&self.agent.client_id, Some(&self.agent.client_secret));
        Answer::of(request.body(body.to_owned())).await
    }

    /// `grant_type=client_credentials` and this.
    async fn ask(&self, more: &str) -> Answer {
        self.post(&format!("grant_type=client_credentials&{more}")).await
    }

    /// A token request with this `Authorization` and this further form.
    async fn authorized(&self, authorization: Option<&str>, more: &str) -> Answer {
        let mut request = self.token_endpoint().header("content-type", FORM);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        Answer::of(request.body(format!("grant_type=client_credentials&{more}"))).await
    }

    async fn endpoint(&self, path: &str, agent: &TestAgent, form: &[(&str, &str)]) -> Answer {
        let request = self.broker.http.post(self.broker.url(path));
        Answer::of(request.basic_auth(&agent.client_id, Some(&agent.client_secret)).form(form)).await
    }

    async fn introspect(&self, token: &str) -> Value {
        let auditor = match self.broker.admin("GET", "/admin/v1/agents/checker", Value::Null).await {
            (404, _) => self.broker.register("checker", &["auditor"]).await,
            _ => {
                let path = "/admin/v1/agents/checker/rotate-secret";
                let answer = self.broker.admin_ok("POST", path, Value::Null).await;
                let text = |name: &str| answer[name].as_str().unwrap().to_owned();
                TestAgent { client_id: text("client_id"), client_secret: text("client_secret") }
            }
        };
        self.endpoint("/oauth2/introspect", &auditor, &[("token", token)]).await.is_token()
    }

    fn exchange(&self, name: &str) -> String {
        format!("{}/exchange{name}", self.broker.running.issuer)
    }
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_else(|| panic!("no {name}: {answer}"))
}

fn claims(answer: &Value) -> Value {
    forge::payload(text(answer, "access_token"))
}

/// A well-formed secret that is nobody's.
fn another_secret() -> String {
    hallpass::secret::ClientSecret::generate(&hallpass::world::SystemEntropy).expose().to_owned()
}

// RFC 6749 §2.3: client authentication.

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s2_3_both_methods_work_and_two_at_once_are_an_error() {
    let scene = Scene::new().await;
    let (id, secret) = (&scene.agent.client_id, &scene.agent.client_secret);
    let in_body = format!("client_id={id}&client_secret={secret}");
    scene.authorized(Some(&basic(id, secret)), "").await.is_token();
    scene.authorized(None, &in_body).await.is_token();
    scene.authorized(Some(&basic(id, secret)), &format!("client_id={id}")).await.is_token();
    scene.authorized(Some(&basic(id, secret)), &in_body).await.is_error(400, "invalid_request");
    scene.authorized(Some("Bearer x"), &in_body).await.is_error(400, "invalid_request");
    scene.authorized(Some(&basic(id, secret)), "client_id=ag_other").await.is_error(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s2_3_1_basic_is_form_urlencoded_inside_and_decoded_strictly() {
    let scene = Scene::new().await;
    let (id, secret) = (&scene.agent.client_id, &scene.agent.client_secret);
    let percent = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    scene.authorized(Some(&basic(&percent(id), &percent(secret))), "").await.is_token();
    scene.authorized(Some(&basic(id, secret).replace("Basic ", "bAsIc ")), "").await.is_token();
    for bad in [
        basic(&format!("{id}%"), secret),
        basic(id, &format!("{secret}%2")),
        basic(id, &format!("{secret}%zz")),
        basic(id, &format!("%ff{secret}")),
        basic(id, &format!("{secret}+")),
        basic(&id.to_uppercase(), secret),
        basic("", secret),
        basic(id, ""),
        format!("Basic {}", STANDARD.encode(id)),
        format!("Basic {}", STANDARD.encode(b"\xff:\xff")),
        "Basic !!!".to_owned(),
        "Basic".to_owned(),
        "Basic ".to_owned(),
        format!("Digest {}", STANDARD.encode(format!("{id}:{secret}"))),
    ] {
        scene.authorized(Some(&bad), "").await.is_error(401, "invalid_client");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s5_2_basic_failure_is_401_with_challenge() {
    let scene = Scene::new().await;
    let wrong = basic(&scene.agent.client_id, &another_secret());
    scene.authorized(Some(&wrong), "").await.is_error(401, "invalid_client");
    scene.authorized(None, "").await.is_error(401, "invalid_client");
    scene.authorized(None, &format!("client_id={}", scene.agent.client_id)).await.is_error(401, "invalid_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_id_and_a_wrong_secret_are_answered_byte_for_byte_alike() {
    let scene = Scene::new().await;
    scene.broker.register("suspended", &[]).await;
    let suspended = scene.broker.register("gone", &["support"]).await;
    scene.broker.admin_ok("POST", "/admin/v1/agents/gone/suspend", Value::Null).await;
    let unknown = "ag_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut answers = Vec::new();
    for (id, secret) in [
        (scene.agent.client_id.as_str(), another_secret()),
        (scene.agent.client_id.as_str(), "nonsense".to_owned()),
        (scene.agent.client_id.as_str(), suspended.client_secret.clone()),
        (unknown, another_secret()),
        (unknown, scene.agent.client_secret.clone()),
        ("helpdesk", scene.agent.client_secret.clone()),
        (suspended.client_id.as_str(), suspended.client_secret.clone()),
    ] {
        for in_body in [false, true] {
            let answer = if in_body {
                scene.authorized(None, &format!("client_id={id}&client_secret={secret}")).await
            } else {
                scene.authorized(Some(&basic(id, &secret)), "").await
            };
            answer.is_error(401, "invalid_client");
            let own_id = answer.header("x-request-id").unwrap().to_owned();
            let mut headers: Vec<String> = answer
                .headers
                .iter()
                .filter(|(name, _)| *name != "date")
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap().replace(&own_id, "ID")))
                .collect();
            headers.sort();
            answers.push((headers, answer.body.replace(&own_id, "ID")));
        }
    }
    for one in &answers {
        assert_eq!(one, &answers[0]);
    }
}

/// Go's x/oauth2 finds out by trying which method a server takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_probes_basic_and_then_the_body_gets_its_token() {
    let scene = Scene::new().await;
    let (id, secret) = (&scene.agent.client_id, &scene.agent.client_secret);
    for _ in 0..20 {
        scene.authorized(Some(&basic(id, &format!("{secret}x"))), "").await.is_error(401, "invalid_client");
    }
    scene.authorized(None, &format!("client_id={id}&client_secret={secret}")).await.is_token();
}

// RFC 6749 §3.2: the token endpoint.

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s3_2_post_only() {
    let scene = Scene::new().await;
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        for method in ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"] {
            let request = scene.broker.http.request(method.parse().unwrap(), scene.broker.url(path));
            let request = request.basic_auth(&scene.agent.client_id, Some(&scene.agent.client_secret));
            let answer = Answer::of(request).await;
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            // RFC 9110 §15.5.6
            assert_eq!(answer.header("allow"), Some("POST"), "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s3_2_a_repeated_parameter_is_an_error() {
    let scene = Scene::new().await;
    for repeated in [
        "grant_type=client_credentials",
        "scope=crm:contacts.read&scope=crm:contacts.read",
        "scope=crm:contacts.read&scope=wiki:pages.read",
        "task=a&task=b",
        "session_expires_in=60&session_expires_in=60",
        "unknown=1&unknown=2",
        "sc%6fpe=crm:contacts.read&scope=crm:contacts.read",
    ] {
        scene.ask(repeated).await.is_error(400, "invalid_request");
    }
    let (id, secret) = (&scene.agent.client_id, &scene.agent.client_secret);
    let twice = format!("client_id={id}&client_secret={secret}&client_secret={secret}");
    scene.authorized(None, &twice).await.is_error(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s3_2_an_empty_parameter_counts_as_left_out_and_an_unknown_one_is_ignored() {
    let scene = Scene::new().await;
    let everything = "scope=&resource=&session_id=&session_expires_in=&task=&purpose=&client_secret=&client_id=";
    let answer = scene.ask(everything).await.is_token();
    assert_eq!(text(&answer, "scope"), EXCHANGE_SCOPES);
    let answer = scene.ask("scope=&scope=crm:contacts.read&shoe_size=43&&").await.is_token();
    assert_eq!(text(&answer, "scope"), "crm:contacts.read");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s5_2_a_missing_or_unknown_grant_type() {
    let scene = Scene::new().await;
    for missing in ["", "scope=crm:contacts.read", "grant_type="] {
        scene.post(missing).await.is_error(400, "invalid_request");
    }
    for other in ["password", "authorization_code", "Client_Credentials", "client_credentials%20", "x%22%5C%C3%A9"] {
        scene.post(&format!("grant_type={other}")).await.is_error(400, "unsupported_grant_type");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s4_4_2_the_parameters_come_as_a_form_in_the_body() {
    let scene = Scene::new().await;
    let send = async |content_type: Option<&str>, url: &str, body: &str| {
        let mut request = scene.broker.http.post(scene.broker.url(url));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.basic_auth(&scene.agent.client_id, Some(&scene.agent.client_secret));
        Answer::of(request.body(body.to_owned())).await
    };
    let good = "grant_type=client_credentials";
    for right in [FORM, "application/x-www-form-urlencoded; charset=UTF-8", "Application/X-WWW-Form-Urlencoded"] {
        send(Some(right), "/oauth2/token", good).await.is_token();
    }
    let json = r#"{"grant_type":"client_credentials"}"#;
    for (wrong, body) in [
        (None, good),
        (Some("text/plain"), good),
        (Some("application/json"), json),
        (Some("multipart/form-data"), good),
    ] {
        send(wrong, "/oauth2/token", body).await.is_error(400, "invalid_request");
    }
    for url in ["/oauth2/token?grant_type=client_credentials", "/oauth2/token?x=1", "/oauth2/token?"] {
        send(Some(FORM), url, good).await.is_error(400, "invalid_request");
    }
    for broken in ["scope=%", "scope=%zz", "scope=%ff", "%ff=1", "scope=%C3%28"] {
        scene.ask(broken).await.is_error(400, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_64_kib_is_refused_whatever_is_in_it() {
    let scene = Scene::new().await;
    let padding = |length: usize| format!("grant_type=client_credentials&padding={}", "x".repeat(length));
    scene.post(&padding(64 * 1024 - 100)).await.is_token();
    scene.post(&padding(64 * 1024)).await.is_error(400, "invalid_request");

    // Half a megabyte of nonsense: the answer, or a connection that was cut because nobody reads on.
    let nonsense: Vec<u8> = (0..512 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        let request = scene.broker.http.post(scene.broker.url(path)).header("content-type", FORM);
        if let Ok(answer) = request.body(nonsense.clone()).send().await {
            assert_eq!(answer.status(), 400, "{path}");
            assert!(answer.text().await.unwrap().contains("invalid_request"), "{path}");
        }
    }
    let short: Vec<u8> = nonsense[..60_000].to_vec();
    let request = scene.token_endpoint().header("content-type", FORM).body(short);
    Answer::of(request).await.is_error(400, "invalid_request");
    scene.ask("").await.is_token();
}

// RFC 6749 §3.3, §5.1: scope and the answer.

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s3_3_scope_is_all_of_the_roles_by_default_and_never_more() {
    let scene = Scene::new().await;
    assert_eq!(text(&scene.ask("").await.is_token(), "scope"), EXCHANGE_SCOPES);
    for asked in ["crm:contacts.read", "wiki:pages.read", "crm:contacts.read+wiki:pages.read"] {
        let answer = scene.ask(&format!("scope={asked}")).await.is_token();
        assert_eq!(text(&answer, "scope"), asked.replace('+', " "));
        assert_eq!(claims(&answer)["scope"], *asked.replace('+', " "));
    }
    let answer = scene.ask("scope=wiki:pages.read+crm:contacts.read+wiki:pages.read").await.is_token();
    assert_eq!(text(&answer, "scope"), "crm:contacts.read wiki:pages.read");
    for more in [
        "crm:contacts.delete",
        "crm:contacts.read+crm:contacts.delete",
        "hallpass:introspect",
        "contacts.read",
        "crm:*",
        "CRM:contacts.read",
        "orders:orders.read",
        "+crm:contacts.read",
        "crm:contacts.read++wiki:pages.read",
        "crm:contacts.read%0Awiki:pages.read",
        "crm:contacts.read%22",
        "%C3%A9",
    ] {
        scene.ask(&format!("scope={more}")).await.is_error(400, "invalid_scope");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s5_2_an_agent_without_roles_gets_invalid_scope() {
    let scene = Scene::new().await;
    let nobody = scene.broker.register("nobody", &[]).await;
    let (status, answer) = scene.broker.token_request(&nobody, &[]).await;
    assert_eq!((status, text(&answer, "error")), (400, "invalid_scope"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s5_1_the_answer_is_not_stored_and_says_everything() {
    let scene = Scene::new().await;
    let answer = scene.ask("").await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("pragma"), Some("no-cache"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json = answer.is_token();
    assert_eq!(json["token_type"], "Bearer");
    assert_eq!(json["expires_in"], 300);
    assert_eq!(json["session_expires_in"], 3600);
    assert!(text(&json, "session_id").starts_with("se_"));
    // §4.4.3
    assert!(json.get("refresh_token").is_none());
}

// RFC 9068: the token.

#[tokio::test(flavor = "multi_thread")]
async fn rfc9068_s2_the_token_has_the_type_and_the_claims() {
    let scene = Scene::new().await;
    let before = forge::now(&scene.broker);
    let answer = scene.ask("").await.is_token();
    let after = forge::now(&scene.broker);
    let header = forge::header(text(&answer, "access_token"));
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!(header["alg"], "ES256");
    assert_eq!(header["kid"], *scene.broker.running.state.registry.keys().active_kid());
    let claims = claims(&answer);
    assert_eq!(claims["iss"], *scene.broker.running.issuer);
    assert_eq!(claims["sub"], *scene.agent.client_id);
    assert_eq!(claims["client_id"], *scene.agent.client_id);
    assert_eq!(claims["aud"], *scene.exchange(""));
    assert_eq!(claims["scope"], EXCHANGE_SCOPES);
    assert_eq!(claims["sid"], answer["session_id"]);
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert!((before..=after).contains(&iat), "{iat}");
    assert_eq!(exp - iat, 300);
    assert!(text(&claims, "jti").starts_with("tk_"));
    let mut names: Vec<_> = claims.as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["aud", "client_id", "exp", "iat", "iss", "jti", "scope", "sid", "sub"]);

    let another = scene.ask("").await.is_token();
    assert_ne!(self::claims(&another)["jti"], claims["jti"]);
    assert_ne!(another["session_id"], answer["session_id"]);
}

// RFC 8707: resource.

#[tokio::test(flavor = "multi_thread")]
async fn rfc8707_s2_resource_narrows_audience_and_scope() {
    let scene = Scene::new().await;
    for (resources, aud, scope) in [
        (vec![scene.exchange("")], json!(scene.exchange("")), EXCHANGE_SCOPES),
        (vec![scene.exchange("/crm")], json!(scene.exchange("/crm")), "crm:contacts.read crm:contacts.write"),
        (vec![scene.exchange("/wiki")], json!(scene.exchange("/wiki")), "wiki:pages.read"),
        (vec![ORDERS.to_owned()], json!(ORDERS), "orders:orders.read"),
        (vec![ORDERS.to_owned(), ORDERS.to_owned()], json!(ORDERS), "orders:orders.read"),
        (
            vec![scene.exchange("/wiki"), scene.exchange("/crm")],
            json!([scene.exchange("/wiki"), scene.exchange("/crm")]),
            "crm:contacts.read crm:contacts.write wiki:pages.read",
        ),
    ] {
        let form: Vec<_> = resources.iter().map(|resource| ("resource", resource.as_str())).collect();
        let (status, answer) = scene.broker.token_request(&scene.agent, &form).await;
        assert_eq!(status, 200, "{resources:?}: {answer}");
        assert_eq!(claims(&answer)["aud"], aud, "{resources:?}");
        assert_eq!(text(&answer, "scope"), scope, "{resources:?}");
        assert_eq!(claims(&answer)["scope"], scope, "{resources:?}");
    }
    // The API behind the gateway could send such a token on to the exchange endpoint.
    let (wiki, orders) = (scene.exchange("/wiki"), ORDERS.to_owned());
    let (status, answer) =
        scene.broker.token_request(&scene.agent, &[("resource", &wiki), ("resource", &orders)]).await;
    assert_eq!((status, text(&answer, "error")), (400, "invalid_target"));
    // A scope of another audience does not go into the token.
    let wiki = scene.exchange("/wiki");
    for (resource, scope) in
        [(wiki.as_str(), "crm:contacts.read"), (ORDERS, "wiki:pages.read"), (ORDERS, "orders:orders.write")]
    {
        let form = [("resource", resource), ("scope", scope)];
        let (status, answer) = scene.broker.token_request(&scene.agent, &form).await;
        assert_eq!((status, text(&answer, "error")), (400, "invalid_scope"), "{resource} {scope}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8707_s2_an_unknown_resource_is_invalid_target() {
    let scene = Scene::new().await;
    for unknown in [
        "https://other.example.com".to_owned(),
        format!("{ORDERS}/"),
        format!("{ORDERS}#fragment"),
        format!("{ORDERS}?x=1"),
        "HTTPS://orders.example.com".to_owned(),
        "orders".to_owned(),
        "/exchange/crm".to_owned(),
        scene.exchange("/"),
        scene.exchange("/nobody"),
        scene.exchange("/crm/"),
        scene.exchange("/crm#x"),
        scene.exchange("/crm/contacts"),
        scene.exchange("/../exchange/crm"),
        scene.exchange("crm"),
        scene.broker.running.issuer.clone(),
    ] {
        let (status, answer) = scene.broker.token_request(&scene.agent, &[("resource", &unknown)]).await;
        assert_eq!((status, text(&answer, "error")), (400, "invalid_target"), "{unknown}");
        let mixed = [("resource", ORDERS), ("resource", unknown.as_str())];
        let (status, answer) = scene.broker.token_request(&scene.agent, &mixed).await;
        assert_eq!((status, text(&answer, "error")), (400, "invalid_target"), "one good, one {unknown}");
    }
    let many: Vec<_> = (0..50).map(|_| ("resource", ORDERS)).collect();
    let (status, answer) = scene.broker.token_request(&scene.agent, &many).await;
    assert_eq!((status, text(&answer, "error")), (400, "invalid_target"));
}

// Sessions.

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_for_its_own_agent_only() {
    let scene = Scene::new().await;
    let first = scene.ask("").await.is_token();
    let sid = text(&first, "session_id");
    let second = scene.ask(&format!("session_id={sid}&scope=wiki:pages.read")).await.is_token();
    assert_eq!(text(&second, "session_id"), sid);
    assert_eq!(claims(&second)["sid"], sid);
    assert_ne!(claims(&second)["jti"], claims(&first)["jti"]);

    let other = scene.broker.register("other", &["support"]).await;
    let (status, theirs) = scene.broker.token_request(&other, &[("session_id", sid)]).await;
    assert_eq!((status, text(&theirs, "error")), (400, "invalid_grant"));
    let unknown = scene.ask("session_id=se_aaaaaaaaaaaaaaaaaaaaaaaaaa").await;
    unknown.is_error(400, "invalid_grant");
    // Somebody else's session and none are told apart by nothing.
    assert_eq!(theirs["error_description"], unknown.json()["error_description"]);
    scene.ask(&format!("session_id={sid}&session_expires_in=60")).await.is_error(400, "invalid_request");
    scene.ask(&format!("session_id={sid}x")).await.is_error(400, "invalid_grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_sessions_end_caps_its_tokens_and_an_ended_one_does_not_go_on() {
    let (clock, scene) = Scene::clocked().await;
    let first = scene.ask("session_expires_in=120").await.is_token();
    assert!((119..=120).contains(&first["session_expires_in"].as_i64().unwrap()), "{first}");
    assert!((119..=120).contains(&first["expires_in"].as_i64().unwrap()), "{first}");
    let end = claims(&first)["exp"].as_i64().unwrap();
    let sid = text(&first, "session_id");

    clock.add_seconds(60);
    let second = scene.ask(&format!("session_id={sid}")).await.is_token();
    assert_eq!(claims(&second)["exp"], end, "never past the session's end");
    assert!(second["expires_in"].as_i64().unwrap() <= 60, "{second}");
    assert_eq!(scene.introspect(text(&second, "access_token")).await["active"], true);

    clock.add_seconds(61);
    scene.ask(&format!("session_id={sid}")).await.is_error(400, "invalid_grant");
    assert_eq!(scene.introspect(text(&second, "access_token")).await, json!({ "active": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_revoked_session_does_not_go_on() {
    let scene = Scene::new().await;
    let answer = scene.ask("").await.is_token();
    let sid = text(&answer, "session_id");
    scene.broker.admin_ok("POST", &format!("/admin/v1/sessions/{sid}/revoke"), Value::Null).await;
    scene.ask(&format!("session_id={sid}")).await.is_error(400, "invalid_grant");
    assert_eq!(scene.introspect(text(&answer, "access_token")).await, json!({ "active": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn session_expires_in_has_its_bounds() {
    let scene = Scene::new().await;
    for bad in
        ["0", "-1", "86401", "1.5", "abc", "60s", "0x10", "99999999999999999999", "9223372036854775807", "%20 60"]
    {
        scene.ask(&format!("session_expires_in={bad}")).await.is_error(400, "invalid_request");
    }
    for (good, seconds) in [("2", 2), ("86400", 86_400)] {
        let answer = scene.ask(&format!("session_expires_in={good}")).await.is_token();
        assert_eq!(answer["session_expires_in"], seconds);
        assert!(answer["expires_in"].as_i64().unwrap() <= seconds.min(300), "{answer}");
        assert!(answer["expires_in"].as_i64().unwrap() > 0, "{answer}");
    }
    let short = Scene::with(&[
        ("HALLPASS_TOKENS__SESSION_SECONDS", "60"),
        ("HALLPASS_TOKENS__SESSION_MAX_SECONDS", "120"),
        ("HALLPASS_TOKENS__LIFETIME_SECONDS", "10"),
    ])
    .await;
    let answer = short.ask("").await.is_token();
    assert_eq!((&answer["session_expires_in"], &answer["expires_in"]), (&json!(60), &json!(10)));
    short.ask("session_expires_in=121").await.is_error(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn task_and_purpose_are_in_the_audit_log() {
    let scene = Scene::new().await;
    let answer = scene.ask("task=ticket+4711&purpose=support+%C3%A9t%C3%A9").await.is_token();
    let jti = text(&claims(&answer), "jti").to_owned();
    let record = scene.broker.wait_for_record(|record| record["token"] == *jti).await;
    assert_eq!(record["kind"], "token.issued");
    assert_eq!(record["decision"], "allow");
    assert_eq!((text(&record, "task"), text(&record, "purpose")), ("ticket 4711", "support été"));
    assert_eq!(record["agent_name"], "helpdesk");
    assert_eq!(record["session"], answer["session_id"]);
    assert_eq!(record["scope"], answer["scope"]);

    // In the same session they stay, unless the request says otherwise.
    let sid = text(&answer, "session_id");
    for (more, task) in [("", "ticket 4711"), ("&task=other", "other")] {
        let again = scene.ask(&format!("session_id={sid}{more}")).await.is_token();
        let jti = text(&claims(&again), "jti").to_owned();
        let record = scene.broker.wait_for_record(|record| record["token"] == *jti).await;
        assert_eq!((text(&record, "task"), text(&record, "purpose")), (task, "support été"));
    }
    for bad in [format!("task={}", "x".repeat(201)), "purpose=a%0Ab".to_owned(), "task=%00".to_owned()] {
        scene.ask(&bad).await.is_error(400, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_recorded_with_its_reason_and_without_any_secret() {
    let scene = Scene::new().await;
    let secret = another_secret();
    let stranger = "x\"\n\u{e9}".repeat(100);
    let answer = scene.authorized(None, &format!("client_id={}&client_secret={secret}", percent(&stranger))).await;
    answer.is_error(401, "invalid_client");
    let id = answer.header("x-request-id").unwrap().to_owned();
    let record = scene.broker.wait_for_record(|record| record["request"] == *id).await;
    assert_eq!((text(&record, "kind"), text(&record, "reason")), ("token.refused", "unknown_client"));
    assert!(text(&record, "object").starts_with("claimed:x"), "{record}");
    assert!(text(&record, "object").len() < 100, "{record}");
    let answer = scene.ask("scope=crm:contacts.delete").await;
    let id = answer.header("x-request-id").unwrap().to_owned();
    let record = scene.broker.wait_for_record(|record| record["request"] == *id).await;
    assert_eq!((text(&record, "reason"), text(&record, "agent_name")), ("invalid_scope", "helpdesk"));
    let all = format!("{:?}", scene.broker.records().await);
    assert!(!all.contains(&secret) && !all.contains(&scene.agent.client_secret));
}

fn percent(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02x}")).collect()
}

// Agents over time.

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_suspended_agent_gets_nothing_until_it_is_resumed_and_a_revoked_one_never_again() {
    let scene = Scene::new().await;
    let old = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    let admin = async |what: &str| {
        scene.broker.admin("POST", &format!("/admin/v1/agents/helpdesk/{what}"), Value::Null).await.0
    };
    assert_eq!(admin("suspend").await, 200);
    scene.ask("").await.is_error(401, "invalid_client");
    assert_eq!(scene.introspect(&old).await, json!({ "active": false }));
    assert_eq!(admin("resume").await, 200);
    let new = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    assert_eq!(scene.introspect(&new).await["active"], true);
    assert_eq!(scene.introspect(&old).await, json!({ "active": false }), "what was taken back stays so");
    assert_eq!(admin("revoke").await, 200);
    scene.ask("").await.is_error(401, "invalid_client");
    assert_eq!(scene.introspect(&new).await, json!({ "active": false }));
    for what in ["resume", "suspend", "rotate-secret"] {
        assert_eq!(admin(what).await, 409, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_works_beside_the_new_one_for_the_grace_and_no_longer() {
    let (clock, scene) = Scene::clocked().await;
    let path = "/admin/v1/agents/helpdesk/rotate-secret";
    let answer = scene.broker.admin_ok("POST", path, json!({ "grace_seconds": 60 })).await;
    let id = &scene.agent.client_id;
    let (old, new) = (&scene.agent.client_secret, text(&answer, "client_secret"));
    assert_ne!(old, new);
    for secret in [old, new] {
        scene.authorized(Some(&basic(id, secret)), "").await.is_token();
    }
    clock.add_seconds(61);
    scene.authorized(Some(&basic(id, old)), "").await.is_error(401, "invalid_client");
    scene.authorized(Some(&basic(id, new)), "").await.is_token();

    // A second rotation does not bring the first secret back, and no grace means none.
    let answer = scene.broker.admin_ok("POST", path, json!({ "grace_seconds": 0 })).await;
    let newest = text(&answer, "client_secret");
    for secret in [old, new] {
        scene.authorized(Some(&basic(id, secret)), "").await.is_error(401, "invalid_client");
    }
    scene.authorized(Some(&basic(id, newest)), "").await.is_token();
    let Scene { broker, agent } = scene;
    let scene = Scene { broker: broker.restart().await, agent };
    scene
        .authorized(Some(&basic(&scene.agent.client_id, &scene.agent.client_secret)), "")
        .await
        .is_error(401, "invalid_client");
    scene.authorized(Some(&basic(&scene.agent.client_id, newest)), "").await.is_token();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rotations_within_the_grace_leave_two_secrets() {
    let (_clock, scene) = Scene::clocked().await;
    let path = "/admin/v1/agents/helpdesk/rotate-secret";
    let second = scene.broker.admin_ok("POST", path, json!({ "grace_seconds": 600 })).await;
    let third = scene.broker.admin_ok("POST", path, json!({ "grace_seconds": 600 })).await;
    let id = &scene.agent.client_id.clone();
    for secret in [text(&second, "client_secret"), text(&third, "client_secret")] {
        scene.authorized(Some(&basic(id, secret)), "").await.is_token();
    }
    let first = &scene.agent.client_secret.clone();
    scene.authorized(Some(&basic(id, first)), "").await.is_error(401, "invalid_client");
    let agent = scene.agent.clone();
    let scene = Scene { broker: scene.broker.restart().await, agent };
    scene.authorized(Some(&basic(id, first)), "").await.is_error(401, "invalid_client");
    scene.authorized(Some(&basic(id, text(&second, "client_secret"))), "").await.is_token();
}

// RFC 7009: revocation.

#[tokio::test(flavor = "multi_thread")]
async fn rfc7009_s2_an_agent_revokes_its_own_token_only() {
    let scene = Scene::new().await;
    let token = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    let other = scene.broker.register("other", &["support"]).await;
    scene.endpoint("/oauth2/revoke", &other, &[("token", &token)]).await.is_error(400, "unauthorized_client");
    assert_eq!(scene.introspect(&token).await["active"], true);

    // A wrong hint is only a hint.
    let form = [("token", token.as_str()), ("token_type_hint", "refresh_token")];
    for _ in 0..2 {
        let answer = scene.endpoint("/oauth2/revoke", &scene.agent, &form).await;
        assert_eq!((answer.status, &*answer.body), (200, ""), "{answer:?}");
    }
    assert_eq!(scene.introspect(&token).await, json!({ "active": false }));
    let jti = text(&forge::payload(&token), "jti").to_owned();
    let record = scene.broker.wait_for_record(|record| record["kind"] == "revocation" && record["token"] == *jti).await;
    assert_eq!(record["agent_name"], "helpdesk");
    // The session and its other tokens go on.
    let sid = text(&forge::payload(&token), "sid").to_owned();
    scene.ask(&format!("session_id={sid}")).await.is_token();
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7009_s2_2_an_unknown_token_is_200_and_a_missing_one_an_error() {
    let scene = Scene::new().await;
    let claims = forge::claims(&scene.broker, &scene.agent.client_id, "crm:contacts.read");
    let now = forge::now(&scene.broker);
    let dead = forge::with(forge::with(claims.clone(), "exp", now - 1), "iat", now - 300);
    for unknown in [
        "x".to_owned(),
        "a.b.c".to_owned(),
        forge::by_foreign_key("k", &claims),
        forge::by_broker(&scene.broker, "at+jwt", &dead),
    ] {
        let answer = scene.endpoint("/oauth2/revoke", &scene.agent, &[("token", &unknown)]).await;
        assert_eq!(answer.status, 200, "{unknown}: {answer:?}");
    }
    scene.endpoint("/oauth2/revoke", &scene.agent, &[]).await.is_error(400, "invalid_request");
    scene.endpoint("/oauth2/revoke", &scene.agent, &[("token", "")]).await.is_error(400, "invalid_request");
    let nobody = TestAgent { client_id: scene.agent.client_id.clone(), client_secret: another_secret() };
    scene.endpoint("/oauth2/revoke", &nobody, &[("token", "x")]).await.is_error(401, "invalid_client");
    let list = scene.broker.http.get(scene.broker.url("/revocations")).send().await.unwrap().text().await.unwrap();
    assert_eq!(forge::payload(&list)["revoked"], json!([]), "what is unknown or dead fills no list");
}

// RFC 7662: introspection.

#[tokio::test(flavor = "multi_thread")]
async fn rfc7662_s2_1_only_who_may_introspect_does_by_secret_or_by_token() {
    let scene = Scene::new().await;
    let token = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    let form = [("token", token.as_str()), ("token_type_hint", "access_token")];
    scene.endpoint("/oauth2/introspect", &scene.agent, &form).await.is_error(400, "unauthorized_client");

    let auditor = scene.broker.register("auditor", &["auditor"]).await;
    let by_secret = scene.endpoint("/oauth2/introspect", &auditor, &form).await;
    let bearer = scene.broker.token(&auditor).await;
    let request = scene.broker.http.post(scene.broker.url("/oauth2/introspect"));
    let by_token = Answer::of(request.bearer_auth(&bearer).form(&form)).await;
    let claims = forge::payload(&token);
    for answer in [&by_secret, &by_token] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let json = answer.is_token();
        assert_eq!(json["active"], true);
        assert_eq!(json["token_type"], "Bearer");
        for name in ["iss", "sub", "client_id", "aud", "exp", "iat", "jti", "scope", "sid"] {
            assert_eq!(json[name], claims[name], "{name}");
        }
    }
    scene.endpoint("/oauth2/introspect", &auditor, &[]).await.is_error(400, "invalid_request");

    // The role is gone, the token is still there: what counts is what the agent may do now.
    scene.broker.apply("agents: [ { name: auditor, roles: [support] } ]").await;
    let request = scene.broker.http.post(scene.broker.url("/oauth2/introspect"));
    let answer = Answer::of(request.bearer_auth(&bearer).form(&form)).await;
    assert_eq!((answer.status, text(&answer.json(), "error")), (403, "insufficient_scope"));
    scene.endpoint("/oauth2/introspect", &auditor, &form).await.is_error(400, "unauthorized_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7662_s4_a_token_for_an_api_behind_a_gateway_is_active_too() {
    let scene = Scene::new().await;
    let (_, answer) = scene.broker.token_request(&scene.agent, &[("resource", ORDERS)]).await;
    let introspected = scene.introspect(text(&answer, "access_token")).await;
    assert_eq!((&introspected["active"], &introspected["aud"]), (&json!(true), &json!(ORDERS)));
    let crm = scene.exchange("/crm");
    let (_, answer) = scene.broker.token_request(&scene.agent, &[("resource", &crm)]).await;
    assert_eq!(scene.introspect(text(&answer, "access_token")).await["active"], true);
}

// RFC 8414, RFC 7517: metadata and keys.

#[tokio::test(flavor = "multi_thread")]
async fn rfc8414_s2_the_metadata_names_what_is_there() {
    let scene = Scene::new().await;
    let url = scene.broker.url("/.well-known/oauth-authorization-server");
    let answer = Answer::of(scene.broker.http.get(url)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let metadata = answer.json();
    let issuer = &scene.broker.running.issuer;
    // §3.3: identical, to the byte.
    assert_eq!(metadata["issuer"], **issuer);
    assert_eq!(metadata["token_endpoint"], format!("{issuer}/oauth2/token"));
    assert_eq!(metadata["introspection_endpoint"], format!("{issuer}/oauth2/introspect"));
    assert_eq!(metadata["revocation_endpoint"], format!("{issuer}/oauth2/revoke"));
    assert_eq!(metadata["jwks_uri"], format!("{issuer}/.well-known/jwks.json"));
    let grant = |name: &str| format!("urn:ietf:params:oauth:grant-type:{name}");
    let grants = json!(["client_credentials", grant("token-exchange"), grant("jwt-bearer")]);
    assert_eq!(metadata["grant_types_supported"], grants);
    for endpoint in ["token", "introspection", "revocation"] {
        let methods = &metadata[format!("{endpoint}_endpoint_auth_methods_supported")];
        let expected = ["client_secret_basic", "client_secret_post", "private_key_jwt", "spiffe_jwt"];
        assert_eq!(*methods, json!(expected), "{endpoint}");
    }
    assert_eq!(metadata["authorization_endpoint"], format!("{issuer}/oauth2/authorize"));
    // §3.2 omits what is empty, but §2 requires this one.
    for (name, value) in metadata.as_object().unwrap().iter().filter(|(name, _)| *name != "response_types_supported") {
        assert!(value.as_array().is_none_or(|array| !array.is_empty()), "{name}");
    }
    for (name, path) in metadata.as_object().unwrap().iter().filter_map(|(name, v)| Some((name, v.as_str()?))) {
        assert!(path.starts_with(issuer.as_str()), "{name}: {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7517_s5_the_jwks_is_public_cached_and_has_an_etag() {
    let scene = Scene::new().await;
    let url = scene.broker.url("/.well-known/jwks.json");
    let get = async |held: Option<&str>| {
        let mut request = scene.broker.http.get(&url);
        if let Some(held) = held {
            request = request.header("if-none-match", held);
        }
        Answer::of(request).await
    };
    let answer = get(None).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/jwk-set+json")));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300, must-revalidate"));
    let etag = answer.header("etag").unwrap().to_owned();
    let keys = answer.json()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2, "the active key and the next");
    for key in &keys {
        let names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(!names.contains(&private), "{names:?}");
        }
        assert_eq!((text(key, "use"), text(key, "alg"), text(key, "kty")), ("sig", "ES256", "EC"));
    }
    let again = get(Some(&etag)).await;
    assert_eq!((again.status, &*again.body), (304, ""));
    assert_eq!((again.header("etag"), again.header("cache-control")), (Some(&*etag), answer.header("cache-control")));
    assert_eq!(get(Some("\"other\"")).await.status, 200);
    scene.broker.admin_ok("POST", "/admin/v1/keys/rotate", Value::Null).await;
    let rotated = get(Some(&etag)).await;
    assert_eq!(rotated.status, 200);
    assert_ne!(rotated.header("etag"), Some(&*etag));
    assert_eq!(rotated.json()["keys"].as_array().unwrap().len(), 3, "retiring, active, next");
}

// Signing keys and algorithms.

/// Verifies by ring alone, with nothing of ours between the JWKS and the signature.
fn verify_independently(jwks: &Value, token: &str) -> String {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    };
    let header = forge::header(token);
    let key = jwks["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).expect("published");
    assert_eq!(key["alg"], header["alg"]);
    let part = |name: &str| BASE64URL.decode(text(key, name)).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (message, signature) = (message.as_bytes(), BASE64URL.decode(signature).unwrap());
    let algorithm = text(&header, "alg").to_owned();
    match &*algorithm {
        "ES256" => {
            let point = [vec![4], part("x"), part("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &signature)
        }
        "EdDSA" => UnparsedPublicKey::new(&ED25519, part("x")).verify(message, &signature),
        "RS256" => RsaPublicKeyComponents { n: part("n"), e: part("e") }.verify(
            &RSA_PKCS1_2048_8192_SHA256,
            message,
            &signature,
        ),
        other => panic!("{other}"),
    }
    .expect("a good signature");
    algorithm
}

async fn jwks(broker: &TestBroker) -> Value {
    broker.http.get(broker.url("/.well-known/jwks.json")).send().await.unwrap().json().await.unwrap()
}

/// `init` made ES256 keys before the setting was there. A rotation brings the algorithm, also one that comes before
/// the first look at the schedule.
async fn algorithm_changes(algorithm: &str) {
    let scene = Scene::with(&[("HALLPASS_KEYS__ALGORITHM", algorithm)]).await;
    let old = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    assert_eq!(verify_independently(&jwks(&scene.broker).await, &old), "ES256");
    scene.broker.admin_ok("POST", "/admin/v1/keys/rotate", Value::Null).await;
    let new = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    let published = jwks(&scene.broker).await;
    assert_eq!(verify_independently(&published, &new), algorithm);
    assert_eq!(verify_independently(&published, &old), "ES256");
    for token in [&old, &new] {
        assert_eq!(scene.introspect(token).await["active"], true);
    }
    let gateway = hallpass_verify::Gateway::new(hallpass_verify::GatewaySettings::new(
        scene.broker.running.issuer.clone(),
        scene.exchange(""),
    ));
    gateway.set_jwks(&published.to_string()).unwrap();
    let list = scene.broker.http.get(scene.broker.url("/revocations")).send().await.unwrap().text().await.unwrap();
    gateway.set_revocations(&list, forge::now(&scene.broker)).unwrap();
    gateway.verify(&new, forge::now(&scene.broker)).unwrap();
    gateway.verify(&old, forge::now(&scene.broker)).unwrap();

    let Scene { broker, agent } = scene;
    let scene = Scene { broker: broker.restart().await, agent };
    let after = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    assert_eq!(verify_independently(&jwks(&scene.broker).await, &after), algorithm);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8037_s3_1_eddsa_by_setting_and_rotation() {
    algorithm_changes("EdDSA").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9068_s2_1_rs256_by_setting_and_rotation() {
    algorithm_changes("RS256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn es256_is_what_init_makes_and_what_stays_by_default() {
    algorithm_changes("ES256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_signed_just_before_a_rotation_is_good_until_it_dies() {
    let (clock, scene) = Scene::clocked().await;
    let token = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    for _ in 0..2 {
        scene.broker.admin_ok("POST", "/admin/v1/keys/rotate", Value::Null).await;
    }
    assert_eq!(scene.introspect(&token).await["active"], true);
    clock.add_seconds(280);
    assert_eq!(scene.introspect(&token).await["active"], true, "until its last minute");
    assert_eq!(verify_independently(&jwks(&scene.broker).await, &token), "ES256");
    clock.add_seconds(21);
    assert_eq!(scene.introspect(&token).await, json!({ "active": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_retired_key_kills_its_tokens_at_once() {
    let scene = Scene::new().await;
    let token = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    assert_eq!(scene.introspect(&token).await["active"], true);
    let kid = text(&forge::header(&token), "kid").to_owned();
    scene.broker.admin_ok("POST", &format!("/admin/v1/keys/{kid}/retire"), json!({ "reason": "stolen" })).await;
    assert_eq!(scene.introspect(&token).await, json!({ "active": false }));
    let call = scene.broker.call(reqwest::Method::GET, "/crm/contacts", &token).send().await.unwrap();
    assert_eq!(call.status(), 401);
    assert!(!jwks(&scene.broker).await.to_string().contains(&kid));
    let new = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    assert_ne!(text(&forge::header(&new), "kid"), kid);
    assert_eq!(scene.introspect(&new).await["active"], true);
    let (status, answer) = scene.broker.admin("POST", &format!("/admin/v1/keys/{kid}/retire"), Value::Null).await;
    assert_eq!((status, text(&answer, "code")), (409, "key_gone"));
    assert_eq!(scene.broker.admin("POST", "/admin/v1/keys/x/retire", Value::Null).await.0, 404);

    let Scene { broker, agent } = scene;
    let scene = Scene { broker: broker.restart().await, agent };
    assert!(!jwks(&scene.broker).await.to_string().contains(&kid), "nor after a restart");
    scene.ask("").await.is_token();
}

// Other people's code.

#[tokio::test(flavor = "multi_thread")]
async fn interop_the_oauth2_crate_gets_and_introspects_tokens() {
    use oauth2::basic::BasicClient;
    use oauth2::{
        AuthType, ClientId, ClientSecret, IntrospectionUrl, Scope, TokenIntrospectionResponse as _, TokenUrl,
    };
    use oauth2::{RequestTokenError, TokenResponse as _};

    let scene = Scene::new().await;
    let auditor = scene.broker.register("auditor", &["auditor", "support"]).await;
    let http = |request: oauth2::HttpRequest| {
        let http = scene.broker.http.clone();
        async move {
            let answer = http.execute(request.try_into()?).await?;
            let mut response = http::Response::builder().status(answer.status());
            *response.headers_mut().unwrap() = answer.headers().clone();
            Ok::<oauth2::HttpResponse, reqwest::Error>(response.body(answer.bytes().await?.to_vec()).unwrap())
        }
    };
    let client = |secret: &str, auth: AuthType| {
        BasicClient::new(ClientId::new(auditor.client_id.clone()))
            .set_client_secret(ClientSecret::new(secret.to_owned()))
            .set_auth_type(auth)
            .set_token_uri(TokenUrl::new(scene.broker.url("/oauth2/token")).unwrap())
            .set_introspection_url(IntrospectionUrl::new(scene.broker.url("/oauth2/introspect")).unwrap())
    };
    for auth in [AuthType::BasicAuth, AuthType::RequestBody] {
        let client = client(&auditor.client_secret, auth);
        let asked = client.exchange_client_credentials().add_scope(Scope::new("crm:contacts.read".into()));
        let token = asked.add_extra_param("task", "interop").request_async(&http).await.unwrap();
        assert_eq!(token.expires_in(), Some(std::time::Duration::from_secs(300)));
        assert!(token.refresh_token().is_none());
        assert_eq!(token.scopes().unwrap().len(), 1);
        let introspected = client.introspect(token.access_token()).request_async(&http).await.unwrap();
        assert!(introspected.active());
        assert_eq!(introspected.client_id().unwrap().as_str(), auditor.client_id);
        assert_eq!(introspected.scopes().unwrap()[0].as_str(), "crm:contacts.read");
    }
    let refused = client(&another_secret(), AuthType::BasicAuth);
    let error = refused.exchange_client_credentials().request_async(&http).await.unwrap_err();
    let RequestTokenError::ServerResponse(response) = error else { panic!("{error:?}") };
    assert_eq!(response.error().as_ref(), "invalid_client");
}

/// As an operator does it: change the setting, start again, `hallpass key rotate`.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_key_rotate_brings_the_algorithm_that_was_set() {
    let mut binary = Binary::init(None);
    binary.serve(None);
    let document = r#"
resources: [ { name: orders, audience: "https://orders.example.com", scopes: [orders.read] } ]
roles: [ { name: support, scopes: ["orders:orders.read"] } ]
"#;
    binary.ok(&["apply", "-f", "-"], document);
    let agent = binary.json(&["agent", "register", "helpdesk", "--role", "support"], "");
    assert!(binary.terminate().success());
    binary.set("HALLPASS_KEYS__ALGORITHM", "EdDSA");
    binary.serve(None);
    binary.json(&["key", "rotate"], "");

    let http = crate::support::broker::client();
    let url = if binary.public.contains("://") { binary.public.clone() } else { format!("http://{}", binary.public) };
    let request = http.post(format!("{url}/oauth2/token"));
    let request = request.basic_auth(text(&agent, "client_id"), Some(text(&agent, "client_secret")));
    let form = [("grant_type", "client_credentials"), ("resource", ORDERS)];
    let answer = Answer::of(request.form(&form)).await.is_token();
    let jwks: Value = http.get(format!("{url}/.well-known/jwks.json")).send().await.unwrap().json().await.unwrap();
    let token = text(&answer, "access_token");
    assert_eq!(verify_independently(&jwks, token), "EdDSA");

    // What `key retire` answers, holds: the token is dead, and its key is gone.
    let kid = text(&forge::header(token), "kid").to_owned();
    binary.json(&["key", "retire", &kid], "");
    let inspected = binary.run(&["token", "inspect", "--json"], token);
    let said = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(!said.contains(r#""active":true"#), "{said}");
    let jwks = http.get(format!("{url}/.well-known/jwks.json")).send().await.unwrap().text().await.unwrap();
    assert!(!jwks.contains(&kid));
}
