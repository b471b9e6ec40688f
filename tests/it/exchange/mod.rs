//! The brokered call over real sockets: what reaches the upstream, what comes back, and what is refused.

mod audit;
mod charsets;
mod codings;
mod headers;
mod http2;
mod injection;
mod known_forms;
mod links;
mod midway;
mod policy;
mod public_hosts;
mod redaction;
mod refusals;
mod several_placements;
mod ssrf;
mod streaming;
mod targets;
mod upstream_errors;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::TestBroker;

/// The secret of most tests: has characters that each encoding writes in its own way.
pub(super) const SECRET: &str = "sk-live/0123+\"ab\"=cdef 89";

/// An upstream of which the test writes every byte: each connection is handed to a closure.
pub(super) struct RawUpstream {
    pub(super) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawUpstream {
    /// `script` gets each connection after a request's head was read from it; its bytes, with what came behind, too.
    pub(super) async fn start<F>(script: F) -> Self
    where
        F: Fn(TcpStream, String) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (script, remembered) = (Arc::new(script), heads.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (script, heads) = (script.clone(), remembered.clone());
                tokio::spawn(async move {
                    let Some(head) = read_head(&mut stream).await else { return };
                    heads.lock().unwrap().push(head.clone());
                    script(stream, head).await;
                });
            }
        });
        Self { address, heads, task }
    }

    /// Answers every connection with these bytes and closes it.
    pub(super) async fn answering(answer: impl AsRef<[u8]>) -> Self {
        let answer: Arc<[u8]> = answer.as_ref().into();
        Self::start(move |mut stream, _| {
            let answer = answer.clone();
            Box::pin(async move {
                _ = stream.write_all(&answer).await.is_ok();
                _ = stream.shutdown().await.is_ok();
                // Closing with unread bytes would send a reset, which may overtake the answer.
                drain(&mut stream).await;
            })
        })
        .await
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of all requests so far, as they came.
    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Reads up to the empty line, and what came with it. `None` if the other side closed before.
pub(super) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => head.extend_from_slice(&piece[..n]),
        }
    }
    Some(head.iter().map(|b| char::from(*b)).collect())
}

/// Reads to the end and forgets it.
pub(super) async fn drain(stream: &mut TcpStream) {
    let mut piece = [0; 16 * 1024];
    while matches!(stream.read(&mut piece).await, Ok(n) if n > 0) {}
}

/// Sends these bytes and gives all that comes back until the broker closes (or is silent for 3 s), byte by byte as
/// Latin-1.
pub(super) async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The broker may close before it has read everything.
    _ = stream.write_all(request.as_ref()).await.is_ok();
    let mut answer = Vec::new();
    let mut piece = [0; 16 * 1024];
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_secs(3), stream.read(&mut piece)).await {
        if n == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..n]);
    }
    answer.iter().map(|b| char::from(*b)).collect()
}

/// The status in the first line of a raw answer; 0 if there was none.
pub(super) fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Declares an upstream `crm` at `base_url` with this `inject`, and these further lines in its definition; every
/// method that tests use, any path. A role, the credential `crm-key` and an agent's token come with it.
pub(super) async fn crm(broker: &TestBroker, base_url: &str, inject: &str, more: &str) -> String {
    broker.apply(&document(base_url, inject, more)).await;
    broker.put_credential("crm-key", SECRET).await;
    let agent = broker.register("helpdesk", &["support"]).await;
    broker.token(&agent).await
}

/// The document that [`crm`] applies.
pub(super) fn document(base_url: &str, inject: &str, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!("    {more}\n") };
    format!(
        r#"
upstreams:
  - name: crm
    base_url: {base_url}
    allow_private: true
    inject: {inject}
{more}    operations:
      - {{ id: all, methods: [GET, POST, PUT, DELETE, HEAD, OPTIONS], path: "/{{*rest}}", scope: any }}
      - {{ id: root, methods: [GET], path: "/", scope: any }}
roles: [ {{ name: support, scopes: ["crm:any"] }} ]
"#
    )
}

/// The usual injection.
pub(super) const HEADER: &str = "{ kind: header, name: X-Api-Key, credential: crm-key }";

/// The code of a problem, after its status was compared.
pub(super) async fn problem(answer: reqwest::Response, status: u16) -> String {
    let (found, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(found, status, "{text}");
    assert!(!text.contains(SECRET), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["status"], status);
    assert!(body["request_id"].as_str().unwrap().starts_with("rq_"));
    body["code"].as_str().unwrap().to_owned()
}

/// The outcome record number `n` (from 0), once it is there.
pub(super) async fn outcome(broker: &TestBroker, n: usize) -> Value {
    for _ in 0..500 {
        let records = broker.records().await;
        if let Some(found) = records.into_iter().filter(|record| record["kind"] == "call.outcome").nth(n) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no outcome number {n} among {:#?}", broker.records().await);
}
