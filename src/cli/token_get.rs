//! `hallpass token get`: an access token on standard output, for scripts.
//!
//! It talks to the public listener as any OAuth client does: metadata (RFC 8414), then the token endpoint (RFC 6749 §4.4).
//! The agent's secret comes from a file or the environment. There is no option for it: others can read a command line.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::StatusCode;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use crate::cli::https::{self, read, whole};
use crate::cli::{Context, Failure, Outcome};

/// Answers above this are not taken.
const MAX_ANSWER: usize = 1024 * 1024;

/// A longer file holds no agent's credentials.
const MAX_FILE: u64 = 64 * 1024;

/// Get an access token as an agent, and print it
///
/// The agent's client id and secret come from --credentials FILE (what 'hallpass agent register NAME --json' printed), or
/// from HALLPASS_CLIENT_ID and HALLPASS_CLIENT_SECRET. Nothing but the token is on standard output.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// The file that 'hallpass agent register --json' was written to (chmod 600)
    #[arg(long, env = "HALLPASS_CREDENTIALS", value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// The broker's issuer, where the file does not name it
    #[arg(long, env = "HALLPASS_ISSUER", value_name = "URL")]
    issuer: Option<String>,
    /// CA certificates (PEM) to trust for it beside the public ones
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A scope; repeatable, or several in one, separated by spaces [default: all that the agent's roles give]
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// What the token is for: the URI of an upstream (ISSUER/exchange/NAME) or of an API; repeatable [default: all upstreams]
    #[arg(long, value_name = "URI")]
    resource: Vec<String>,
    /// Another token in this session, instead of a new session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// What the agent is doing, for the audit log
    #[arg(long)]
    task: Option<String>,
}

/// Who asks, and where.
struct Client {
    issuer: Option<String>,
    id: String,
    secret: Zeroizing<String>,
}

impl Get {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let client = match &self.credentials {
            Some(path) => of_file(path)?,
            None => of_environment()?,
        };
        let nowhere = || Failure::Usage("which broker? give its issuer by --issuer URL, or HALLPASS_ISSUER".into());
        let issuer = self.issuer.or(client.issuer).ok_or_else(nowhere)?;
        let issuer_url = issuer_url(&issuer)?;
        let ca = self.ca.as_deref().or(context.remote.server_ca.as_deref());
        let ca_pem = ca.map(https::ca_file).transpose()?;
        let http = https::issuer_client(&issuer_url, ca_pem.as_deref())?;
        let endpoint = token_endpoint(&http, &issuer, &issuer_url).await?;

        let scope = self.scope.join(" ");
        let mut form = vec![("grant_type", "client_credentials")];
        if !scope.is_empty() {
            form.push(("scope", &scope));
        }
        form.extend(self.resource.iter().map(|one| ("resource", one.as_str())));
        form.extend(self.session.as_deref().map(|id| ("session_id", id)));
        form.extend(self.task.as_deref().map(|task| ("task", task)));
        // RFC 6749 §2.3.1: both halves are form-urlencoded inside of Basic.
        let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let secret = Zeroizing::new(encoded(&client.secret));
        let request = http.post(endpoint.clone()).basic_auth(encoded(&client.id), Some(secret.as_str())).form(&form);
        let (status, wait, answer) = send(request, &issuer).await?;
        let Some(token) = answer.get("access_token").and_then(Value::as_str).filter(|_| status.is_success()) else {
            return Err(refused(&answer, status, wait));
        };
        context.output.show(&answer, |output, _| output.exact(token));
        Ok(())
    }
}

/// What `hallpass agent register --json` printed.
fn of_file(path: &Path) -> Result<Client, Failure> {
    let failed = |what: &dyn std::fmt::Display| {
        Failure::Failed(format!("{} holds no agent's credentials: {what}", path.display()))
    };
    let metadata = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(failed(&"it is no file, or a very long one"));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let text =
            format!("others than its owner have access to it (mode {mode:03o}); run chmod 600 {}", path.display());
        return Err(failed(&text));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| failed(&error))?);
    // The message names no value: one of them is the secret.
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        failed(&format!(
            "it is not JSON at line {}; write it by 'hallpass agent register NAME --json > FILE'",
            error.line()
        ))
    })?;
    let member = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let missing = |name: &str| failed(&format!("it has no {name}"));
    Ok(Client {
        issuer: member("issuer"),
        id: member("client_id").ok_or_else(|| missing("client_id"))?,
        secret: member("client_secret").map(Zeroizing::new).ok_or_else(|| missing("client_secret"))?,
    })
}

fn of_environment() -> Result<Client, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    match (variable("HALLPASS_CLIENT_ID"), variable("HALLPASS_CLIENT_SECRET").map(Zeroizing::new)) {
        (Some(id), Some(secret)) => Ok(Client { issuer: None, id, secret }),
        (None, None) => Err(Failure::Usage(
            "as which agent? give --credentials FILE, or set HALLPASS_CLIENT_ID and HALLPASS_CLIENT_SECRET".into(),
        )),
        (None, Some(_)) => Err(Failure::Usage("HALLPASS_CLIENT_ID is not set, HALLPASS_CLIENT_SECRET is".into())),
        (Some(_), None) => Err(Failure::Usage("HALLPASS_CLIENT_SECRET is not set, HALLPASS_CLIENT_ID is".into())),
    }
}

/// Nothing goes in the clear, except on this machine.
fn issuer_url(issuer: &str) -> Result<Url, Failure> {
    let wrong =
        |fix: &str| Failure::Usage(format!("'{}' is no issuer that is asked here: {fix}", issuer.escape_debug()));
    let url = Url::parse(issuer).map_err(|_| wrong("write https://HOST"))?;
    let is_bare =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "https" | "http") || !is_bare {
        return Err(wrong("write https://HOST, without user, password, query and fragment"));
    }
    if url.scheme() == "http" && !crate::config::is_loopback(&url) {
        return Err(wrong("a secret is not sent over plain http, except to this machine"));
    }
    Ok(url)
}

/// RFC 8414 §3.1: the well-known part stands before the issuer's own path.
async fn token_endpoint(http: &reqwest::Client, issuer: &str, url: &Url) -> Result<Url, Failure> {
    let mut place = url.clone();
    place.set_path(&format!("/.well-known/oauth-authorization-server{}", url.path().trim_end_matches('/')));
    let (status, _, metadata) = send(http.get(place.clone()), issuer).await?;
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default();
    if !status.is_success() {
        return Err(Failure::Failed(format!("{place} answered {status}; is this the broker's issuer?")));
    }
    // §3.3: exactly. Otherwise the secret goes to another server's endpoint (mix-up).
    if text("issuer") != issuer {
        let other = text("issuer").escape_debug().to_string();
        return Err(Failure::Failed(format!(
            "{place} is of another issuer, '{other}'; give that one if it is the broker's"
        )));
    }
    let endpoint = Url::parse(text("token_endpoint"));
    let endpoint = endpoint.map_err(|_| Failure::Failed(format!("{place} names no token_endpoint")))?;
    let is_as_safe = endpoint.scheme() == "https" || (url.scheme() == "http" && crate::config::is_loopback(&endpoint));
    if !is_as_safe {
        return Err(Failure::Failed(format!("{place} names a token_endpoint without https")));
    }
    Ok(endpoint)
}

/// Status, `Retry-After`, and what came as JSON.
async fn send(request: reqwest::RequestBuilder, issuer: &str) -> Result<(StatusCode, Option<String>, Value), Failure> {
    let unreachable = |error: reqwest::Error| {
        let error = whole(&error.without_url());
        let hint =
            if error.contains("UnknownIssuer") { "; a CA that is not a public one is given by --ca FILE" } else { "" };
        Failure::Unreachable(format!("no broker answers at {issuer} ({error}){hint}"))
    };
    let answer = request.header("accept", "application/json").send().await.map_err(unreachable)?;
    let status = answer.status();
    let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (body, is_all) = read(answer, MAX_ANSWER).await.map_err(unreachable)?;
    if !is_all {
        return Err(Failure::Failed(format!("{issuer} answers without end")));
    }
    Ok((status, wait, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

/// RFC 6749 §5.2.
fn refused(answer: &Value, status: StatusCode, wait: Option<String>) -> Failure {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let code = text("code").or_else(|| text("error"));
    let mut message = match (code, text("error_description")) {
        (Some(code), Some(description)) => format!("{code}: {description}"),
        (Some(code), None) => code.to_owned(),
        _ => format!("the token endpoint answered {status}"),
    };
    if let Some(wait) = wait {
        message.push_str(&format!(" (Retry-After: {wait})"));
    }
    Failure::Failed(message)
}
