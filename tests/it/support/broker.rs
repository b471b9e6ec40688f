//! A broker in this process, through its real listeners.

use std::net::SocketAddr;
use std::path::PathBuf;

use hallpass::app::{self, Running, Surroundings};
use hallpass::config::{self, Overrides};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::admin::admin;
use super::postgres::postgres_url;

/// On which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// A running broker with its folder.
pub(crate) struct TestBroker {
    pub(crate) running: Running,
    pub(crate) dir: TempDir,
    pub(crate) http: reqwest::Client,
    surroundings: Surroundings,
    overrides: Vec<(String, String)>,
}

/// An agent as it was registered.
#[derive(Debug, Clone)]
pub(crate) struct TestAgent {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
}

impl TestBroker {
    /// On SQLite, in the real world.
    pub(crate) async fn start() -> Self {
        Self::start_with(Engine::Sqlite, Surroundings::default(), &[]).await.expect("SQLite is always there")
    }

    /// With settings as environment variables would give them, for example `("HALLPASS_TOKENS__LIFETIME_SECONDS", "60")`.
    /// `None` (said loudly) where PostgreSQL is asked for and not installed.
    pub(crate) async fn start_with(
        engine: Engine,
        surroundings: Surroundings,
        settings: &[(&str, &str)],
    ) -> Option<Self> {
        let url = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(postgres_url()?),
        };
        let dir = tempfile::tempdir().unwrap();
        app::init(dir.path(), url.as_deref()).await.unwrap();
        let overrides: Vec<_> = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let running = Self::run(&dir, &surroundings, &overrides).await.unwrap();
        Some(Self { running, dir, http: client(), surroundings, overrides })
    }

    async fn run(
        dir: &TempDir,
        surroundings: &Surroundings,
        settings: &[(String, String)],
    ) -> hallpass::error::Result<Running> {
        let file = dir.path().join("hallpass.toml");
        let overrides = Overrides { listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))) };
        let config = config::load(Some(&file), settings.iter().cloned(), overrides).unwrap();
        app::start(config, surroundings.clone()).await
    }

    /// Stops it gracefully and starts it again on the same files; the port, and so the issuer, changes.
    pub(crate) async fn restart(self) -> Self {
        let Self { running, dir, http, surroundings, overrides } = self;
        running.stop().await;
        let running = Self::run(&dir, &surroundings, &overrides).await.unwrap();
        Self { running, dir, http, surroundings, overrides }
    }

    /// `http://127.0.0.1:PORT`, also the issuer.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.public)
    }

    pub(crate) fn ops_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.ops)
    }

    pub(crate) fn database_file(&self) -> PathBuf {
        self.dir.path().join("data/hallpass.db")
    }

    /// The admin API, over the unix socket: status and JSON.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        admin(&self.dir.path().join("data/admin.sock"), method, path, &body).await.unwrap()
    }

    /// The admin API; anything but success fails the test.
    pub(crate) async fn admin_ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.admin(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Declares what a YAML document says.
    pub(crate) async fn apply(&self, document: &str) -> Value {
        self.admin_ok("POST", "/admin/v1/apply", json!({ "document": document })).await
    }

    /// Stores a credential.
    pub(crate) async fn put_credential(&self, name: &str, value: &str) {
        use base64::Engine as _;
        let value = base64::engine::general_purpose::STANDARD.encode(value);
        self.admin_ok(
            "POST",
            &format!("/admin/v1/credentials/{name}"),
            json!({ "value_base64": value, "allow_short": true, "as_is": true }),
        )
        .await;
    }

    pub(crate) async fn register(&self, name: &str, roles: &[&str]) -> TestAgent {
        let answer = self.admin_ok("POST", "/admin/v1/agents", json!({ "name": name, "roles": roles })).await;
        TestAgent {
            client_id: answer["client_id"].as_str().unwrap().to_owned(),
            client_secret: answer["client_secret"].as_str().unwrap().to_owned(),
        }
    }

    /// A token request with `client_secret_basic` and these further parameters: status and JSON.
    pub(crate) async fn token_request(&self, agent: &TestAgent, parameters: &[(&str, &str)]) -> (u16, Value) {
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend_from_slice(parameters);
        let request =
            self.http.post(self.url("/oauth2/token")).basic_auth(&agent.client_id, Some(&agent.client_secret));
        let answer = request.form(&form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// An access token for everything that the agent's roles give.
    pub(crate) async fn token(&self, agent: &TestAgent) -> String {
        let (status, answer) = self.token_request(agent, &[]).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// One upstream `crm` at `base_url` with the header injection `X-Api-Key`, a role `support`, the credential
    /// `crm-key`, and an agent `helpdesk` with its token: what most tests begin with. Operations:
    /// `GET /v1/contacts` and `GET /v1/contacts/{id}` (contacts.read), `POST /v1/contacts` (contacts.write),
    /// `GET|POST|PUT|HEAD /any/{*rest}` (any); the role gives contacts.read and any.
    pub(crate) async fn with_crm(&self, base_url: &str, secret: &str) -> (TestAgent, String) {
        self.apply(&format!(
            r#"
upstreams:
  - name: crm
    base_url: {base_url}
    allow_private: true
    inject: {{ kind: header, name: X-Api-Key, credential: crm-key }}
    operations:
      - {{ id: list-contacts, methods: [GET], path: /v1/contacts, scope: contacts.read }}
      - {{ id: get-contact, methods: [GET], path: "/v1/contacts/{{id}}", scope: contacts.read }}
      - {{ id: add-contact, methods: [POST], path: /v1/contacts, scope: contacts.write }}
      - {{ id: any, methods: [GET, POST, PUT, HEAD], path: "/any/{{*rest}}", scope: any }}
roles: [ {{ name: support, scopes: ["crm:contacts.read", "crm:any"] }} ]
"#
        ))
        .await;
        self.put_credential("crm-key", secret).await;
        let agent = self.register("helpdesk", &["support"]).await;
        let token = self.token(&agent).await;
        (agent, token)
    }

    /// A brokered call with the token as Bearer.
    pub(crate) fn call(&self, method: reqwest::Method, path: &str, token: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(&format!("/exchange{path}"))).bearer_auth(token)
    }

    /// The audit records of this node so far, parsed. Outcomes follow their answer: see [`Self::wait_for_record`].
    pub(crate) async fn records(&self) -> Vec<Value> {
        let state = &self.running.state;
        let mut all = Vec::new();
        loop {
            let page = state.manager.store.audit_page("node-1", all.len() as i64, 1000).await.unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page.iter().map(|row| serde_json::from_str::<Value>(&row.body).unwrap()));
        }
    }

    /// The first record that `wanted` says yes to, as soon as it is there (5 s at most).
    pub(crate) async fn wait_for_record(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..250 {
            if let Some(found) = self.records().await.into_iter().find(&wanted) {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("no such record among {:#?}", self.records().await);
    }
}

/// A plain HTTP client that follows no redirects.
pub(crate) fn client() -> reqwest::Client {
    // Fails only if it was done before.
    _ = rustls::crypto::ring::default_provider().install_default().is_ok();
    // A connection that the broker is about to close for being idle is not one to send the next request on: where the
    // machine is busy, a test may pause for longer than that takes.
    let idle = std::time::Duration::from_millis(500);
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).pool_idle_timeout(idle).build().unwrap()
}
