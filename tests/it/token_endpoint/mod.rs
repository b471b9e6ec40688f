//! The OAuth endpoints, line by line of the standards: RFC 6749, 7009, 7662, 8414, 8707, 9068.

mod client;
mod grant;
mod keys;
mod secrets;
mod taking_back;

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
