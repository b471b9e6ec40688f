use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{Empty, Full};
use hyper::client::conn;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

use super::*;
use crate::listen::{Authenticated, ConnectionLimit, UntrustedLimiter, tcp};
use crate::supervise::Supervisor;
use crate::yield_queue::YieldQueue;

/// Longer than a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client of one connection, by either protocol.
enum Client {
    Http1(conn::http1::SendRequest<Empty<Bytes>>),
    Http2(conn::http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    async fn connect(address: SocketAddr, is_http2: bool) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        if is_http2 {
            let (client, connection) = conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            Self::Http2(client)
        } else {
            let (client, connection) = conn::http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            Self::Http1(client)
        }
    }

    /// Asks; gives whether an answer came in time.
    async fn is_answered(&mut self, patience: Duration) -> bool {
        let request = |uri: &str| Request::builder().uri(uri).header("host", "b").body(Empty::new()).unwrap();
        let answer = async {
            match self {
                // After an answer, a connection takes the next request only when its own task has run.
                Self::Http1(client) => {
                    client.ready().await.unwrap();
                    client.send_request(request("/")).await.unwrap()
                }
                Self::Http2(client) => {
                    client.ready().await.unwrap();
                    client.send_request(request("http://b/")).await.unwrap()
                }
            }
        };
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer.status().is_success(),
            Err(_) => false,
        }
    }
}

/// A listener where everybody is authenticated.
async fn listening(untrusted: UntrustedLimiter) -> SocketAddr {
    let supervisor = Supervisor::new();
    let options = ServeOptions {
        header_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
        max_header_bytes: 8192,
        http2: true,
        trusted_proxies: Arc::default(),
        untrusted,
        yields: YieldQueue::start(&supervisor),
        phase: supervisor.phases(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = service_fn(|_: Request<Incoming>| async {
        let mut answer = Response::new(Full::from("well?"));
        answer.extensions_mut().insert(Authenticated);
        Ok(answer)
    });
    tokio::spawn(async move {
        let _supervisor = supervisor;
        drop(tcp(listener, None, service, ConnectionLimit::new(100, 100), options).await);
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_connection_is_served_while_the_untrusted_have_no_thread_and_a_new_one_is_not() {
    let limiter = UntrustedLimiter::new(true, &Supervisor::new());
    let threads = tokio::runtime::Handle::current().metrics().num_workers().saturating_sub(1).max(1);
    let address = listening(limiter.clone()).await;
    for is_http2 in [false, true] {
        let mut trusted = Client::connect(address, is_http2).await;
        // Newcomers are served where nobody trusted is about, and else where a thread is free.
        assert!(trusted.is_answered(PATIENCE).await && trusted.is_answered(PATIENCE).await, "{is_http2}");
        // The end of an earlier connection may still have one.
        let mut held = Vec::new();
        while held.len() < threads {
            held.extend(limiter.thread());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut new = Client::connect(address, is_http2).await;
        assert!(!new.is_answered(Duration::from_millis(250)).await, "{is_http2}: a newcomer goes before others");
        assert!(trusted.is_answered(PATIENCE).await, "{is_http2}: a trusted connection waits for untrusted ones");
        drop(held);
        let mut new = Client::connect(address, is_http2).await;
        assert!(new.is_answered(PATIENCE).await, "{is_http2}: a newcomer gets no thread though one is free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_limiter_a_newcomer_is_served_beside_a_trusted_connection() {
    let limiter = UntrustedLimiter::new(false, &Supervisor::new());
    assert!(limiter.thread().is_none());
    let address = listening(limiter).await;
    for is_http2 in [false, true] {
        let mut first = Client::connect(address, is_http2).await;
        assert!(first.is_answered(PATIENCE).await && first.is_answered(PATIENCE).await, "{is_http2}");
        let mut new = Client::connect(address, is_http2).await;
        assert!(new.is_answered(PATIENCE).await, "{is_http2}");
    }
}
