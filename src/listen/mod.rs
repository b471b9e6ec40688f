//! Transport: sockets, TLS, HTTP/1.1 and HTTP/2, limits on connections, and an end that lets calls in flight finish.
//!
//! It serves any [`HttpService`] and knows nothing of what that does. It tells the service who is at the other end
//! ([`Connection`], in the extensions of each request), and the service tells it which answers went to somebody who is
//! [`Authenticated`] (in the extensions of the answer).

mod accept;
mod budgeted;
mod client_cert;
mod connection;
mod connection_limit;
mod drain;
mod protocol;
mod socket;
mod streams;
mod tls;
mod untrusted;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use ipnet::IpNet;
use tokio::sync::watch;

use crate::supervise::Phase;
use crate::yield_queue::YieldQueue;

pub use accept::{tcp, unix};
pub use connection::Connection;
pub use connection_limit::ConnectionLimit;
pub use drain::OpenConnections;
pub use socket::{bind_tcp, bind_unix};
pub use tls::{ServerCertificate, server_config};
pub use untrusted::{Authenticated, UntrustedLimiter};

/// An error of a body, whatever it is.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A hyper service that answers HTTP requests, with the bounds that a listener needs.
pub trait HttpService: Clone + Send + Sync + 'static {
    /// The body of its answers.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static;
    /// The answer to come.
    type Future: Future<Output = Result<Response<Self::Body>, Infallible>> + Send + 'static;

    /// Answers one request.
    fn answer(&self, request: Request<Incoming>) -> Self::Future;
}

impl<S, B> HttpService for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Body = B;
    type Future = S::Future;

    fn answer(&self, request: Request<Incoming>) -> Self::Future {
        self.call(request)
    }
}

/// How the connections of a listener are served, and when that ends.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// In which a TLS handshake, and the head of the next request, must have come.
    pub header_timeout: Duration,
    /// For how long a client may take nothing of an answer that is ready for it.
    pub write_timeout: Duration,
    /// Bytes of a request's head.
    pub max_header_bytes: usize,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Peers whose `Client-Cert` and `X-Forwarded-For` count.
    pub trusted_proxies: Arc<[IpNet]>,
    /// What unauthenticated connections may take of the threads.
    pub untrusted: UntrustedLimiter,
    /// Where trusted connections wait for their next share of the threads.
    pub yields: YieldQueue,
    /// Connections are taken while this is [`Phase::Serving`].
    pub phase: watch::Receiver<Phase>,
}

impl ServeOptions {
    /// Resolves when it is time to stop.
    async fn stopped(&mut self) {
        // An error only says that nobody is left who could say so: then it is time, too.
        _ = self.phase.wait_for(|phase| *phase != Phase::Serving).await.is_ok();
    }
}
