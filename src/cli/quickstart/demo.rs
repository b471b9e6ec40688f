//! The demo API: it lets nobody in without its secret key, and is careless enough to repeat that key in its answers.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::secret::{SecretBytes, random_id};
use crate::world::Entropy;

/// Where it wants its key.
pub(super) const KEY_HEADER: &str = "x-api-key";

/// A server on loopback, until it is dropped.
pub(super) struct DemoApi {
    address: SocketAddr,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

/// What its connections share.
struct Desk {
    key: SecretBytes,
    book: Mutex<Book>,
}

/// What it remembers of its callers.
#[derive(Default)]
struct Book {
    calls: u64,
    last_key: Option<SecretBytes>,
}

impl Drop for DemoApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl DemoApi {
    /// On a free port, with a key of its own.
    pub(super) async fn open(entropy: &dyn Entropy) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let key = SecretBytes::new(random_id("demo_sk_", entropy).into_bytes());
        let desk = Arc::new(Desk { key, book: Mutex::default() });
        let task = tokio::spawn(serve(listener, desk.clone()));
        Ok(Self { address, desk, task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn key(&self) -> &SecretBytes {
        &self.desk.key
    }

    /// How many requests have come, with or without a key.
    pub(super) fn calls(&self) -> u64 {
        self.desk.book().calls
    }

    /// Whether the last request brought the real key: by the API's own record.
    pub(super) fn saw_the_key(&self) -> bool {
        self.desk.book().last_key.as_ref().is_some_and(|seen| seen.expose() == self.desk.key.expose())
    }
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let given = request.headers().get(KEY_HEADER).map(|value| SecretBytes::new(value.as_bytes().to_vec()));
        let known = given.as_ref().is_some_and(|given| given.expose() == self.key.expose());
        {
            let mut book = self.book();
            book.calls += 1;
            book.last_key = given;
        }
        if !known {
            return reply(StatusCode::UNAUTHORIZED, &json!({ "error": "this API wants its secret key in X-Api-Key" }));
        }
        if (request.method(), request.uri().path()) != (&Method::GET, "/v1/contacts") {
            return reply(StatusCode::NOT_FOUND, &json!({ "error": "no such thing" }));
        }
        let key = String::from_utf8_lossy(self.key.expose());
        let mut response = reply(
            StatusCode::OK,
            &json!({
                "contacts": [{ "id": 1, "name": "Ada Lovelace" }, { "id": 2, "name": "Grace Hopper" }],
                "debug": {
                    "your_key": key,
                    "in_base64": STANDARD.encode(format!("key={key}")),
                    "in_hex": HEXLOWER.encode(self.key.expose()),
                },
            }),
        );
        if let Ok(value) = HeaderValue::from_bytes(self.key.expose()) {
            response.headers_mut().insert("x-debug-your-key", value);
        }
        response
    }
}

async fn serve(listener: TcpListener, desk: Arc<Desk>) {
    while let Ok((stream, _)) = listener.accept().await {
        let desk = desk.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let desk = desk.clone();
                async move { Ok::<_, Infallible>(desk.answer(&request)) }
            });
            // A connection that breaks off is its client's affair.
            _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .is_ok();
        });
    }
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
