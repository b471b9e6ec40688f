//! The program itself with everything around it that a test of a whole broker needs.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;

use super::broker::client;
use super::postgres::postgres_url;
use super::{Binary, Engine};

/// The issuer of every [`Real`]: tokens outlive a restart on another port.
pub(crate) const ISSUER: &str = "http://127.0.0.1:8600";

/// `hallpass init` was done; `serve` comes and goes.
pub(crate) struct Real {
    pub(crate) binary: Binary,
    /// The database, to be reached behind the broker's back.
    pub(crate) database: String,
    pub(crate) http: reqwest::Client,
}

/// `client_id` and `client_secret`.
#[derive(Debug, Clone)]
pub(crate) struct Client(pub(crate) String, pub(crate) String);

impl Real {
    /// `None` (said loudly) where PostgreSQL is asked for and not installed.
    pub(crate) fn init(engine: Engine) -> Option<Self> {
        let url = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(postgres_url()?),
        };
        Some(Self::init_at(url.as_deref()))
    }

    /// On this PostgreSQL database, or on SQLite.
    pub(crate) fn init_at(url: Option<&str>) -> Self {
        let mut binary = Binary::init(url);
        binary.set("HALLPASS_ISSUER", ISSUER);
        let sqlite = || format!("sqlite:{}", binary.dir.path().join("data/hallpass.db").display());
        let database = url.map_or_else(sqlite, str::to_owned);
        Self { binary, database, http: client() }
    }

    /// Served, with the upstream `crm` at `base_url`, the credential `crm-key` and the agent `helpdesk`.
    pub(crate) fn with_crm(&mut self, base_url: &str, secret: &str) -> Client {
        self.binary.serve(None);
        self.binary.ok(&["apply", "-f", "-"], &crm_document(base_url));
        self.binary.ok(&["credential", "put", "crm-key"], secret);
        self.register("helpdesk")
    }

    /// An agent with the role `support`.
    pub(crate) fn register(&self, name: &str) -> Client {
        let answer = self.binary.json(&["agent", "register", name, "--role", "support"], "");
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        Client(text("client_id"), text("client_secret"))
    }

    /// A token request: status and JSON; an error where nobody answers.
    pub(crate) async fn token_request(&self, agent: &Client, form: &[(&str, &str)]) -> reqwest::Result<(u16, Value)> {
        let mut all = vec![("grant_type", "client_credentials")];
        all.extend_from_slice(form);
        let request = self.http.post(format!("{}/oauth2/token", self.binary.public));
        let answer = request.basic_auth(&agent.0, Some(&agent.1)).form(&all).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    pub(crate) async fn token(&self, agent: &Client) -> String {
        let (status, answer) = self.token_request(agent, &[]).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// A brokered GET.
    pub(crate) async fn call(&self, path: &str, token: &str) -> reqwest::Result<Response> {
        let url = format!("{}/exchange{path}", self.binary.public);
        self.http.request(Method::GET, url).bearer_auth(token).send().await
    }

    /// The status of a brokered GET.
    pub(crate) async fn call_status(&self, path: &str, token: &str) -> u16 {
        self.call(path, token).await.unwrap().status().as_u16()
    }

    /// The status of `/readyz`.
    pub(crate) async fn ready(&self) -> u16 {
        self.http.get(format!("{}/readyz", self.binary.ops)).send().await.unwrap().status().as_u16()
    }

    /// What `audit verify` with these further arguments ends with, and all that it says.
    pub(crate) fn verify(&self, more: &[&str]) -> (i32, String) {
        let mut all = vec!["audit", "verify"];
        all.extend_from_slice(more);
        said(&self.binary.run(&all, ""))
    }

    /// `kill -STOP`, `kill -CONT`, …
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.binary.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

/// The exit code, and standard output and error together.
pub(crate) fn said(output: &Output) -> (i32, String) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), text)
}

/// Any command with another configuration file.
pub(crate) fn hallpass(config: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
    said(&command.arg("--config").arg(config).args(arguments).output().unwrap())
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, seconds: u64, mut is_so: impl AsyncFnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(seconds), "waited {seconds} s in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn crm_document(base_url: &str) -> String {
    format!(
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
      - {{ id: any, methods: [GET, POST], path: "/any/{{*rest}}", scope: any }}
roles: [ {{ name: support, scopes: ["crm:contacts.read", "crm:any"] }} ]
"#
    )
}

/// A folder with all that is in it, copied.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        let place = to.join(entry.file_name());
        if kind.is_dir() {
            copy_folder(&entry.path(), &place);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), place).unwrap();
        }
    }
}
