//! An upstream: a real HTTP/1.1 server that does what a closure says and remembers what it saw.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

/// A body that an upstream answers with.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The server.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// One whose answers begin at once and end when `open` says so.
    pub(crate) async fn waiting(open: tokio::sync::watch::Receiver<bool>) -> Self {
        Self::start(move |_| {
            let mut open = open.clone();
            let body = futures_util::stream::once(async move {
                _ = open.wait_for(|open| *open).await.is_ok();
                Ok(http_body::Frame::data(Bytes::from_static(b"at last")))
            });
            let mut response = text(StatusCode::OK, "");
            *response.body_mut() = StreamBody::new(body).boxed_unsync();
            response
        })
        .await
    }

    /// Answers what `answer` makes of each request, whose body was read whole first.
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Response<AnswerBody> + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let answer = Arc::new(answer);
        let remembered = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen) = (answer.clone(), remembered.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (answer, seen) = (answer.clone(), seen.clone());
                        async move {
                            let (parts, body) = request.into_parts();
                            let Ok(body) = body.collect().await else {
                                return Ok(text(StatusCode::BAD_REQUEST, "the body broke off"));
                            };
                            let one = Seen {
                                method: parts.method,
                                uri: parts.uri,
                                headers: parts.headers,
                                body: body.to_bytes(),
                            };
                            seen.lock().unwrap().push(one.clone());
                            Ok::<_, Infallible>(answer(&one))
                        }
                    });
                    _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .is_ok();
                });
            }
        });
        Self { address, seen, task }
    }

    /// Answers 200 with a JSON of what it saw: method, uri, headers, body as text.
    pub(crate) async fn echo() -> Self {
        Self::start(|seen| {
            let headers: serde_json::Map<String, serde_json::Value> = seen
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned().into()))
                .collect();
            let body = serde_json::json!({
                "method": seen.method.as_str(),
                "uri": seen.uri.to_string(),
                "headers": headers,
                "body": String::from_utf8_lossy(&seen.body),
            });
            let mut response = text(StatusCode::OK, &body.to_string());
            response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
            response
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// A whole answer.
pub(crate) fn text(status: StatusCode, body: &str) -> Response<AnswerBody> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
