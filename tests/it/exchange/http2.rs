//! Upstreams that speak HTTP/2: what is promised of a call holds there, too.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{HEADER, SECRET, crm, outcome};
use crate::support::{Engine, TestBroker};

const OVER_HTTP2: &str = "http2: prior_knowledge";

/// An upstream of HTTP/2 alone, without TLS.
struct Http2Upstream {
    url: String,
    seen: Arc<Mutex<Vec<(Version, String, HeaderMap)>>>,
    /// Told when an answer that never ends was given up by the other side.
    given_up: mpsc::UnboundedReceiver<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Tells when it is dropped.
struct Tells(mpsc::UnboundedSender<()>);

impl Drop for Tells {
    fn drop(&mut self) {
        _ = self.0.send(()).is_ok();
    }
}

async fn answer(request: Request<Incoming>, given_up: mpsc::UnboundedSender<()>) -> Answer {
    let (parts, body) = request.into_parts();
    let key = parts.headers.get("x-api-key").map(|key| key.as_bytes().to_vec()).unwrap_or_default();
    let whole = |bytes: Vec<u8>| Response::new(Full::new(Bytes::from(bytes)).boxed_unsync());
    match parts.uri.path() {
        "/endless" => {
            let tells = Tells(given_up);
            let pieces = stream::unfold(tells, |tells| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok(Frame::data(Bytes::from_static(b"data: one\n\n"))), tells))
            });
            Response::new(StreamBody::new(pieces).boxed_unsync())
        }
        "/trailers" => {
            let trailers = HeaderMap::from_iter([("x-leak".parse().unwrap(), "a trailer".parse().unwrap())]);
            let body = Full::new(Bytes::from_static(b"with trailers"));
            Response::new(body.with_trailers(async { Some(Ok(trailers)) }).boxed_unsync())
        }
        "/echo" => {
            let sent = body.collect().await.map(|body| body.to_bytes().len()).unwrap_or_default();
            let mut answer = whole([b"your key is ", &*key, format!(", {sent} bytes came").as_bytes()].concat());
            answer.headers_mut().insert("x-echo", String::from_utf8(key).unwrap().parse().unwrap());
            answer
        }
        _ => whole(b"hello".to_vec()),
    }
}

impl Http2Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<_>>> = Arc::default();
        let (tell, given_up) = mpsc::unbounded_channel();
        let all = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, tell) = (all.clone(), tell.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let head = (request.version(), request.uri().to_string(), request.headers().clone());
                    seen.lock().unwrap().push(head);
                    let tell = tell.clone();
                    async move { Ok::<_, Infallible>(answer(request, tell).await) }
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, seen, given_up, task }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_p8_a_call_over_http2_is_what_it_is_over_http1() {
    let upstream = Http2Upstream::start().await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url, HEADER, OVER_HTTP2).await;
    let call = broker.call(Method::POST, "/crm/echo?a=1", &token);
    let call = call.header("connection", "x-mine").header("x-mine", "1").header("te", "trailers").body("0123456789");
    let answer = call.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-echo"], "[redacted by hallpass]");
    assert_eq!(answer.text().await.unwrap(), "your key is [redacted by hallpass], 10 bytes came");
    let seen = upstream.seen.lock().unwrap().remove(0);
    assert_eq!((seen.0, &*seen.1), (Version::HTTP_2, &*format!("{}/echo?a=1", upstream.url)));
    let of_http1 = ["host", "connection", "te", "x-mine", "transfer-encoding", "keep-alive", "authorization"];
    assert!(of_http1.iter().all(|name| !seen.2.contains_key(*name)), "{:?}", seen.2);
    assert_eq!(seen.2["x-api-key"], SECRET);
    let answer = broker.call(Method::GET, "/crm/trailers", &token).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "with trailers");
    let outcome = outcome(&broker, 1).await;
    assert_eq!((&outcome["status"], &outcome["reason"]), (&Value::from(200), &Value::from("completed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_revocation_resets_the_stream_and_no_other() {
    let mut upstream = Http2Upstream::start().await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url, HEADER, OVER_HTTP2).await;
    let other = broker.register("other", &["support"]).await;
    let others = broker.token(&other).await;
    let mut stays = broker.call(Method::GET, "/crm/endless", &others).send().await.unwrap();
    stays.chunk().await.unwrap().unwrap();
    let mut ends = broker.call(Method::GET, "/crm/endless", &token).send().await.unwrap();
    ends.chunk().await.unwrap().unwrap();
    broker.admin_ok("POST", "/admin/v1/agents/helpdesk/revoke", Value::Null).await;
    let given_up = tokio::time::timeout(Duration::from_secs(5), upstream.given_up.recv()).await;
    assert_eq!(given_up.expect("the upstream was not told"), Some(()));
    while let Ok(Some(_)) = ends.chunk().await {}
    for _ in 0..5 {
        assert!(stays.chunk().await.unwrap().is_some(), "the other agent's call goes on");
    }
    assert!(upstream.given_up.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_too_large_is_cut_and_the_connection_goes_on() {
    let upstream = Http2Upstream::start().await;
    let broker = TestBroker::start().await;
    let more = format!("{OVER_HTTP2}\n    limits: {{ max_request_bytes: 100000 }}");
    let token = crm(&broker, &upstream.url, HEADER, &more).await;
    let pieces = stream::iter((0..100).map(|_| Ok::<_, Infallible>(Bytes::from(vec![b'x'; 10_000]))));
    let call = broker.call(Method::POST, "/crm/echo", &token).body(reqwest::Body::wrap_stream(pieces));
    let refused = call.send().await.unwrap();
    assert_eq!(super::problem(refused, 413).await, "request_too_large");
    assert_eq!(broker.call(Method::GET, "/crm/more", &token).send().await.unwrap().text().await.unwrap(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_http2_is_written_it_can_be() {
    let broker = TestBroker::start_with(Engine::Sqlite, Default::default(), &[]).await.unwrap();
    for (base, more, at) in [
        ("https://crm.example.com", "http2: prior_knowledge", "upstreams[0].http2"),
        ("http://crm.example.com", "http2: always", "document"),
        ("http://crm.example.com", "limits: { max_connections: 0 }", "upstreams[0].limits.max_connections"),
    ] {
        let document = super::document(base, HEADER, more);
        let answer = broker.admin("POST", "/admin/v1/apply", serde_json::json!({ "document": document })).await;
        assert_eq!(answer.1["mistakes"][0]["at"], at, "{answer:?}");
    }
}
