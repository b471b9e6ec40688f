//! Talking to the broker's admin interface: by its unix socket, or by its admin listener.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use url::Url;
use zeroize::Zeroizing;

use crate::cli::https::{read, whole};
use crate::cli::{Failure, Refusal};
use crate::manage::Details;
use crate::policy::Mistake;

/// Answers above this are not taken. The longest is a page of the audit log, and far shorter.
const MAX_ANSWER: usize = 128 * 1024 * 1024;

/// The admin API of one broker.
pub(super) struct AdminClient(Way);

enum Way {
    Socket(PathBuf),
    Remote { base: Url, http: reqwest::Client, token: Option<Zeroizing<String>> },
}

impl AdminClient {
    /// By the socket on this machine.
    pub(super) fn new(socket: PathBuf) -> Self {
        Self(Way::Socket(socket))
    }

    /// By the admin listener at `server`, with a login's token, or with the certificate that `http` shows.
    pub(super) fn remote(
        server: &str,
        http: reqwest::Client,
        token: Option<Zeroizing<String>>,
    ) -> Result<Self, Failure> {
        Ok(Self(Way::Remote { base: listener(server)?, http, token }))
    }

    /// Where it talks to.
    pub(super) fn place(&self) -> String {
        match &self.0 {
            Way::Socket(socket) => socket.display().to_string(),
            Way::Remote { base, .. } => shown(base),
        }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(Method::GET, path, String::new()).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_string(body).map_err(|error| Failure::Failed(error.to_string()))?;
        self.send(Method::POST, path, body).await
    }

    /// A POST that takes nothing.
    pub(super) async fn act<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(Method::POST, path, "{}".to_owned()).await
    }

    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(Method::DELETE, path, String::new()).await
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: String) -> Result<T, Failure> {
        let (status, body) = match &self.0 {
            Way::Socket(socket) => by_socket(socket, method, path, body).await?,
            Way::Remote { base, http, token } => {
                let unreachable = |error: reqwest::Error| {
                    let (place, error) = (self.place(), whole(&error.without_url()));
                    let is_unknown = error.contains("UnknownIssuer");
                    let hint =
                        if is_unknown { "; a CA that is not a public one is given by --server-ca FILE" } else { "" };
                    Failure::Unreachable(format!("no broker answers at {place} ({error}){hint}"))
                };
                let url =
                    base.join(path).map_err(|error| Failure::Usage(format!("this name cannot be sent: {error}")))?;
                let request = http.request(method, url).header("content-type", "application/json").body(body);
                let request = match token {
                    Some(token) => request.bearer_auth(&**token),
                    None => request,
                };
                let answer = request.send().await.map_err(unreachable)?;
                let status = answer.status();
                let (body, is_all) = read(answer, MAX_ANSWER).await.map_err(unreachable)?;
                if !is_all {
                    return Err(Failure::Failed(format!("{} answers without end", self.place())));
                }
                (status, body.into())
            }
        };
        if !status.is_success() {
            return Err(refused(serde_json::from_slice(&body).unwrap_or_default(), status));
        }
        // Nothing that looks like "there is none".
        serde_json::from_slice(&body).map_err(|error| {
            let place = self.place();
            Failure::Failed(match error.is_data() {
                true => format!("what answers at {place} is no broker of this version ({error})"),
                false => format!("what answers at {place} is no broker"),
            })
        })
    }
}

/// The URL of an admin listener. Nothing else in it: a password there would be sent along.
fn listener(server: &str) -> Result<Url, Failure> {
    let is_bare = |url: &Url| {
        let is_host_alone = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        is_host_alone && url.username().is_empty() && url.password().is_none()
    };
    let url = Url::parse(server).ok().filter(|url| url.scheme() == "https" && url.has_host() && is_bare(url));
    let wrong = || Failure::Usage(format!("'{}' is no admin listener; write https://HOST:PORT", server.escape_debug()));
    url.ok_or_else(wrong)
}

/// As it is kept and told.
fn shown(listener: &Url) -> String {
    listener.as_str().trim_end_matches('/').to_owned()
}

/// The one way to write an admin listener's URL, to compare by.
pub(super) fn canonical(server: &str) -> Result<String, Failure> {
    Ok(shown(&listener(server)?))
}

async fn by_socket(socket: &Path, method: Method, path: &str, body: String) -> Result<(StatusCode, Bytes), Failure> {
    let place = socket.display();
    let unreachable = |error: &dyn std::fmt::Display| {
        Failure::Unreachable(format!(
            "no broker answers at {place} ({error}); is 'hallpass serve' running with this configuration?"
        ))
    };
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Failure::Failed(format!("{place}: only root and the server's own user may use the admin socket"))
        }
        _ => unreachable(&error),
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "hallpass")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| Failure::Usage(format!("this name cannot be sent: {error}")))?;
    let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|error| unreachable(&error))?.to_bytes();
    driver.abort();
    Ok((status, body))
}

/// A refusal as the broker writes it (RFC 9457). What is no refusal of a broker has none of these members.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    detail: String,
    request_id: String,
    #[serde(flatten)]
    details: Details,
}

fn refused(problem: Problem, status: StatusCode) -> Failure {
    let Problem { code, detail, request_id, details } = problem;
    let mut text = if detail.is_empty() { format!("the broker answered {status}") } else { detail };
    for Mistake { at, problem, fix } in &details.mistakes {
        text.push_str(&format!("\n  {at}: {problem}; {fix}"));
    }
    if status.is_server_error() {
        text.push_str(&format!(" [{code} {request_id}]"));
    }
    Failure::Refused(Refusal { text, code, used_by: details.used_by })
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
