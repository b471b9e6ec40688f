//! Fetching one document from a place that an admin registered, or that a registered issuer's own discovery document
//! names. What a client sends never gets here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, HOST, HeaderMap, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::outbound::{Dialer, Resolve, tls_config};
use crate::policy::is_fetchable;

/// A longer document is refused: a JWKS has a few kilobytes, and whoever serves it does not decide what we hold.
pub const MAX_DOCUMENT: usize = 1024 * 1024;

/// For look-up, connection, TLS and the whole answer: an endpoint that hangs holds nobody for longer.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// How a place may be reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach<'a> {
    pub(super) ca_pem: Option<&'a str>,
    pub(super) allow_private: bool,
}

/// A document as it came.
pub(super) struct Document {
    pub(super) body: Bytes,
    /// `Cache-Control: max-age`, in seconds (RFC 9111 §5.2.2.1).
    pub(super) max_age: Option<i64>,
}

/// Why there is no document.
#[derive(Debug)]
pub(super) enum FetchError {
    /// Another status than 200. Redirects are among them: where a document is, is not for its server to change.
    Status(StatusCode),
    /// Anything else; the text is for the log.
    Failed(String),
}

impl std::fmt::Display for FetchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "answered {status}"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl From<String> for FetchError {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// Fetches.
#[derive(Clone)]
pub(super) struct Fetcher {
    pub(super) resolver: Arc<dyn Resolve>,
}

impl Fetcher {
    /// The document at `url`, by one GET.
    pub(super) async fn get(&self, url: &str, reach: Reach<'_>) -> Result<Document, FetchError> {
        let answer = tokio::time::timeout(FETCH_TIMEOUT, self.answer(url, reach)).await;
        answer.unwrap_or_else(|_| Err("no answer in time".to_owned().into()))
    }

    async fn answer(&self, url: &str, reach: Reach<'_>) -> Result<Document, FetchError> {
        let failed = |error: &dyn std::fmt::Display| FetchError::Failed(error.to_string());
        if !is_fetchable(url) {
            return Err("it is no https URL".to_owned().into());
        }
        let url = Url::parse(url).map_err(|error| failed(&error))?;
        let host = url.host_str().unwrap_or_default();
        let tls = if url.scheme() == "https" { Some(tls_config(reach.ca_pem)?) } else { None };
        let dialer = Dialer {
            host: host.trim_start_matches('[').trim_end_matches(']').into(),
            port: url.port_or_known_default().unwrap_or(443),
            allow_private: reach.allow_private,
            resolver: self.resolver.clone(),
            tls,
            timeout: FETCH_TIMEOUT,
        };
        let wire = dialer.dial().await.map_err(|error| failed(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(wire).await.map_err(|error| failed(&error))?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let request = Request::get(target)
            .header(HOST, authority)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, "hallpass")
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let max_age = max_age(answer.headers());
        let body = Limited::new(answer.into_body(), MAX_DOCUMENT).collect().await.map_err(|error| failed(&error))?;
        Ok(Document { body: body.to_bytes(), max_age })
    }
}

fn max_age(headers: &HeaderMap) -> Option<i64> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(','));
    directives.find_map(|one| one.trim().to_ascii_lowercase().strip_prefix("max-age=")?.trim_matches('"').parse().ok())
}
