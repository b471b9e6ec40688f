//! The broker as its users run it: the program itself, with the settings that it comes with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::Value;

use crate::contestant::Algorithm;
use crate::fill::{self, Client, Contents};
use crate::load::{Shot, collect};
use crate::process::{Contestant, first_line};

/// The secret of the API, which every proxy adds.
pub(crate) const API_KEY: &str = "sk-live-4c0f9a1d7e2b58366f1e";

/// The header that it goes into.
pub(crate) const API_KEY_HEADER: &str = "x-api-key";

/// The form of a token request.
const TOKEN_FORM: (&str, Bytes) =
    ("application/x-www-form-urlencoded", Bytes::from_static(b"grant_type=client_credentials"));

/// A broker's folder, made by `hallpass init`.
#[derive(Debug)]
pub(crate) struct Broker {
    program: PathBuf,
    folder: PathBuf,
    /// The agents that it knows, with their secrets.
    pub(crate) clients: Vec<Client>,
}

impl Broker {
    /// A new one, filled as `contents` says. `api` is what it proxies to.
    pub(crate) fn init(
        program: &Path,
        folder: &Path,
        algorithm: Algorithm,
        api: SocketAddr,
        contents: Contents,
    ) -> Result<Self> {
        let mut broker = Self { program: program.to_owned(), folder: folder.to_owned(), clients: Vec::new() };
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        std::fs::create_dir_all(folder)?;
        let mut init = broker.command();
        init.env("HALLPASS_KEYS__ALGORITHM", algorithm.as_str()).args(["init", "--dir"]).arg(folder);
        succeed(&mut init, "")?;
        let served = broker.serve()?;
        succeed(broker.command().args(["apply", "-f", "-"]), &document(api))?;
        succeed(broker.command().args(["credential", "put", "crm-key"]), API_KEY)?;
        drop(served);
        broker.clients = fill::fill(&broker.config(), contents)?;
        Ok(broker)
    }

    /// `hallpass serve`, once it is ready.
    pub(crate) fn serve(&self) -> Result<Contestant> {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("serve.log"))?;
        let mut child = self
            .command()
            .args(["serve", "--json", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let line = first_line(&mut child)?;
        let ready: Value = serde_json::from_str(&line)
            .with_context(|| format!("the broker is not ready; see {}", self.folder.join("serve.log").display()))?;
        let address = ready["public"].as_str().and_then(|url| url.strip_prefix("http://")).context("no address")?;
        Contestant::listening("hallpass", address.parse()?, child)
    }

    /// `hallpass audit verify --json`.
    pub(crate) fn verify_audit(&self) -> Result<Value> {
        Ok(serde_json::from_str(&succeed(self.command().args(["audit", "verify", "--json"]), "")?)?)
    }

    /// A token request of each client in turn, with client id and secret as Basic.
    pub(crate) fn token_shot(&self) -> Result<Shot> {
        Ok(Shot {
            method: Method::POST,
            path: "/oauth2/token".into(),
            authorizations: self.basics(self.clients.len())?,
            body: Some(TOKEN_FORM),
        })
    }

    /// A token for each of the first `count` clients, as `Authorization` values.
    pub(crate) fn tokens(&self, served: &Contestant, count: usize) -> Result<Rc<Vec<HeaderValue>>> {
        let shot = Shot { authorizations: self.basics(count)?, ..self.token_shot()? };
        let bearer = |answer: &Bytes| -> Result<HeaderValue> {
            let answer: Value = serde_json::from_slice(answer)?;
            let token = answer["access_token"].as_str().context("no token in the answer")?;
            Ok(HeaderValue::from_str(&format!("Bearer {token}"))?)
        };
        Ok(Rc::new(collect(served.address, &shot)?.iter().map(bearer).collect::<Result<_>>()?))
    }

    fn basics(&self, count: usize) -> Result<Rc<Vec<HeaderValue>>> {
        let first = self.clients.iter().take(count);
        Ok(Rc::new(first.map(|client| basic(&client.id, &client.secret)).collect::<Result<_>>()?))
    }

    fn config(&self) -> PathBuf {
        self.folder.join("hallpass.toml")
    }

    /// The program, with nothing set but where its files are: whoever runs the benchmark may have settings of their own.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HALLPASS_") {
                command.env_remove(name);
            }
        }
        command.env("HALLPASS_CONFIG", self.config());
        command
    }
}

/// Client id and secret as `Authorization` (RFC 6749 §2.3.1; neither has a character that needs escaping).
pub(crate) fn basic(id: &str, secret: &str) -> Result<HeaderValue> {
    Ok(HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))?)
}

fn succeed(command: &mut Command, input: &str) -> Result<String> {
    use std::io::Write as _;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that reads no input may be gone before it is written.
        _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn document(api: SocketAddr) -> String {
    format!(
        r#"
upstreams:
  - name: crm
    base_url: http://{api}
    allow_private: true
    inject: {{ kind: header, name: {API_KEY_HEADER}, credential: crm-key }}
    operations:
      - {{ id: list-contacts, methods: [GET], path: /v1/contacts, scope: contacts.read }}
      - {{ id: get-contact, methods: [GET], path: "/v1/contacts/{{id}}", scope: contacts.read }}
      - {{ id: add-contact, methods: [POST], path: /v1/contacts, scope: contacts.write }}
      - {{ id: export, methods: [GET], path: /v1/source, scope: contacts.read }}
      - {{ id: import, methods: [POST], path: /v1/sink, scope: contacts.write }}
roles: [ {{ name: support, scopes: ["crm:contacts.read", "crm:contacts.write"] }} ]
"#
    )
}
