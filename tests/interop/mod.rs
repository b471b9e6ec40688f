//! Clients that others wrote, against the program itself: each script beside is one, and fails where a stock library is
//! not served as it expects.
//!
//! What they need is installed once into `target/interop`, from the lock files here and by their hashes.

mod clients;
mod login;
mod openapi;
mod readme_example;
mod runtime;
mod stock;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::postgres::postgres_url;
use crate::support::real::crm_document;
use crate::support::{Binary, Upstream};

/// What no client may see.
const SECRET: &str = "sk-live-0123456789abcdef";

/// The program with an upstream and an agent whose roles let it read contacts and introspect.
struct Scene {
    binary: Binary,
    upstream: Upstream,
    client_id: String,
    client_secret: String,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Binary::init(None)).await
    }

    /// On each engine that is there.
    async fn on_each() -> Vec<Self> {
        let postgres = postgres_url().map(|url| Binary::init(Some(&url)));
        let mut scenes = vec![Self::new().await];
        if let Some(binary) = postgres {
            scenes.push(Self::with(binary).await);
        }
        scenes
    }

    /// A broker that speaks TLS, with `tls.crt` in its folder.
    async fn over_tls() -> Self {
        let mut binary = Binary::init(None);
        let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let files =
            [("CERT_FILE", "tls.crt", own.cert.pem()), ("KEY_FILE", "tls.key", own.signing_key.serialize_pem())];
        for (setting, name, pem) in files {
            let path = binary.dir.path().join(name);
            login::write(&path, &pem);
            binary.set(&format!("HALLPASS_TLS__{setting}"), &path.display().to_string());
        }
        Self::with(binary).await
    }

    async fn with(mut binary: Binary) -> Self {
        let upstream = Upstream::echo().await;
        binary.serve(None);
        binary.ok(&["apply", "-f", "-"], &crm_document(&upstream.url()));
        binary.ok(&["apply", "-f", "-"], "roles: [ { name: auditor, scopes: [\"hallpass:introspect\"] } ]");
        binary.ok(&["credential", "put", "crm-key"], SECRET);
        let agent = binary.json(&["agent", "register", "helpdesk", "--role", "support", "--role", "auditor"], "");
        let text = |name: &str| agent[name].as_str().unwrap().to_owned();
        let (client_id, client_secret) = (text("client_id"), text("client_secret"));
        Self { binary, upstream, client_id, client_secret }
    }

    /// Runs a client, which must succeed, reach the upstream, and show no secret; what it printed.
    async fn run(&self, mut command: Command) -> String {
        command.env("BROKER", &self.binary.public).current_dir(self.binary.dir.path());
        command.env("CLIENT_ID", &self.client_id).env("CLIENT_SECRET", &self.client_secret);
        command.env("HALLPASS", env!("CARGO_BIN_EXE_hallpass")).env("HALLPASS_CONFIG", self.binary.config());
        let said = tokio::task::spawn_blocking(move || runtime::run(&mut command, Duration::from_secs(120)));
        let said = said.await.unwrap();
        let log = || std::fs::read_to_string(self.binary.log_file()).unwrap_or_default();
        let said = said.unwrap_or_else(|why| panic!("{why}\nThe broker said:\n{}", log()));
        assert!(!said.contains(SECRET), "{said}");
        said
    }

    async fn run_and_reach(&self, command: Command) {
        self.run(command).await;
        let seen = self.upstream.seen();
        assert!(!seen.is_empty(), "no call came through");
        assert!(
            seen.iter().all(|one| one.headers["x-api-key"] == SECRET && !one.headers.contains_key("authorization"))
        );
    }
}

async fn node(script: &str) {
    if let Some(command) = runtime::node(script) {
        Scene::new().await.run_and_reach(command).await;
    }
}

async fn python(script: &str) {
    if let Some(command) = runtime::python(&format!("tests/interop/python/{script}")) {
        Scene::new().await.run_and_reach(command).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_gets_uses_introspects_and_revokes_tokens() {
    node("secret.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_binds_tokens_by_dpop_and_repeats_with_the_nonce() {
    node("dpop.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi_finds_the_way_from_a_refused_call_to_a_token() {
    node("discovery.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jose_follows_the_rotation_of_signing_keys() {
    if let Some(command) = runtime::node("jwks.mjs") {
        Scene::new().await.run(command).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_gets_uses_introspects_and_revokes_tokens() {
    python("authlib_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_oauthlib_gets_and_uses_tokens() {
    python("requests_oauthlib_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mcp_sdk_finds_the_way_from_a_refused_call_to_a_token() {
    python("mcp_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_proves_itself_by_a_key() {
    node("private_key_jwt.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_proves_itself_by_a_certificate_and_its_tokens_are_bound_to_it() {
    if let Some(mut command) = runtime::node("certificate.mjs") {
        let scene = Scene::over_tls().await;
        command.env("CA", scene.binary.dir.path().join("tls.crt"));
        scene.run_and_reach(command).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_and_the_mcp_sdk_prove_themselves_by_a_key() {
    python("private_key_jwt_clients.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_of_stripe_openai_anthropic_and_github_show_a_refusal() {
    node("refusals.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_of_openai_and_anthropic_in_python_and_urllib_show_a_refusal() {
    python("refusals.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_uses_introspects_and_revokes_tokens() {
    if !runtime::is_there("curl", "--version") {
        return runtime::not_here("curl");
    }
    let mut command = Command::new("bash");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/curl.sh"));
    Scene::new().await.run_and_reach(command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_agent_in_python_does_what_it_says() {
    for scene in Scene::on_each().await {
        let Some(command) = runtime::python("examples/agent.py") else { return };
        let said = scene.run(command).await;
        assert!(said.starts_with("200 {") && said.contains("[redacted by hallpass]"), "{said}");
        assert!(said.contains("\n403 this call takes the scope 'crm:contacts.write'"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_agent_in_typescript_does_what_it_says() {
    for scene in Scene::on_each().await {
        let Some(command) = runtime::node("agent.mjs") else { return };
        let said = scene.run(command).await;
        let lines: Vec<_> = said.lines().collect();
        assert!(lines[0] == "dpop" && lines[1].starts_with("200 {"), "{said}");
        assert!(lines[1].contains("[redacted by hallpass]"), "{said}");
        assert_eq!(&lines[2..], ["403 insufficient_scope", "401 invalid_token"], "{said}");
    }
}
