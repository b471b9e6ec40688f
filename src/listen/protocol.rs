//! One connection: TLS if the listener speaks it, then HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use crate::listen::budgeted::BudgetedStream;
use crate::listen::client_cert::of_request;
use crate::listen::streams::{Paced, Streams};
use crate::listen::untrusted::Trust;
use crate::listen::{BoxError, Connection, HttpService, ServeOptions};

/// Headers of one request, at most.
const MAX_HEADERS: usize = 128;

/// Streams on one HTTP/2 connection, at most.
pub(super) const MAX_STREAMS: u32 = 100;

/// Streams of HTTP/2 that the client reset and that were not yet accepted, at most (CVE-2023-44487, "rapid reset").
const MAX_PENDING_RESETS: usize = 64;

/// Streams of HTTP/2 that were reset for the client's faults, at most.
const MAX_FAULTY_STREAMS: usize = 256;

/// How long an HTTP/2 connection may be silent until it is pinged, and how long the client has to answer.
const PING_AFTER: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// What watches one connection.
pub(super) struct Watched {
    pub(super) trust: Trust,
    pub(super) watcher: Watcher,
}

/// Serves a connection that came over TCP.
pub(super) async fn serve_tcp<S: HttpService>(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    service: S,
    options: ServeOptions,
    watched: Watched,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let connection =
        Connection { address: Some(peer.ip()), local: Some(stream.local_addr()?), ..Connection::default() };
    let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "no request came in time");
    let patience = options.header_timeout;
    let Some(tls) = tls else {
        let begins = tokio::time::timeout(patience, begins_http2(&stream)).await.map_err(|_| timed_out())??;
        let is_http2 = begins && options.http2;
        return serve(stream, is_http2, connection, service, options, watched).await;
    };
    let stream = tokio::time::timeout(patience, tls.accept(stream)).await.map_err(|_| timed_out())??;
    let (_, session) = stream.get_ref();
    let is_http2 = options.http2 && session.alpn_protocol() == Some(b"h2");
    let certificates =
        session.peer_certificates().map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect());
    let connection = Connection { certificates, ..connection };
    serve(stream, is_http2, connection, service, options, watched).await
}

/// Whether the client begins with HTTP/2's preface, `PRI * HTTP/2.0` (RFC 9113 §3.4). No HTTP/1.1 method begins so.
async fn begins_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; 3];
    let mut pause = Duration::from_millis(5);
    loop {
        let seen = stream.peek(&mut first).await?;
        let seen = first.get(..seen).unwrap_or_default();
        if seen.is_empty() || !b"PRI".starts_with(seen) {
            return Ok(false);
        }
        if seen.len() == 3 {
            return Ok(true);
        }
        // What was peeked at stays readable, so readiness tells nothing: ask again, less and less often. A client that sends
        // one byte `P` and then nothing must not keep us asking.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Serves a connection whose bytes are HTTP.
pub(super) async fn serve<T, S>(
    stream: T,
    is_http2: bool,
    connection: Connection,
    service: S,
    options: ServeOptions,
    watched: Watched,
) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService,
{
    let Watched { trust, watcher } = watched;
    let service = {
        let (trust, trusted_proxies) = (trust.clone(), options.trusted_proxies.clone());
        service_fn(move |mut request: Request<Incoming>| {
            trust.asked();
            let mut connection = of_request(&connection, request.headers_mut(), &trusted_proxies);
            connection.gives_way = trust.gives_way();
            request.extensions_mut().insert(connection);
            let (answer, trust) = (service.answer(request), trust.clone());
            async move {
                let answer = answer.await?;
                trust.answered(answer.extensions());
                Ok::<_, Infallible>(answer)
            }
        })
    };
    // A client that does not read holds a call, a connection and the upstream's: not for longer than a body may pause.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(options.write_timeout));
    let stream = Box::pin(stream);
    let served = if is_http2 {
        serve_http2(stream, service, options, trust, watcher).await
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .max_buf_size(options.max_header_bytes.max(8192))
            .max_headers(MAX_HEADERS)
            .pipeline_flush(false)
            .serve_connection(TokioIo::new(stream), service);
        watcher.watch(connection).await
    };
    served.map_err(io::Error::other)
}

async fn serve_http2<T, S, B>(
    stream: Pin<Box<TimeoutStream<T>>>,
    service: S,
    mut options: ServeOptions,
    trust: Trust,
    watcher: Watcher,
) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let stream = TokioIo::new(BudgetedStream::new(stream, &options.yields, &trust));
    let streams = Streams::new(trust, options.write_timeout);
    let service = service_fn(move |request| {
        let answer = service.call(request);
        async move { Ok::<_, Infallible>(answer.await?.map(Paced::new)) }
    });
    let connection = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .max_local_error_reset_streams(Some(MAX_FAULTY_STREAMS))
        .keep_alive_interval(Some(PING_AFTER))
        .keep_alive_timeout(PONG_WITHIN)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let idle = options.header_timeout;
    // As in HTTP/1.1, where the next head must come in time. A client that only answers pings, or floods us with frames that
    // open no stream, does not keep a place among the connections.
    let served = tokio::select! {
        served = connection.as_mut() => Some(served),
        () = streams.idle(idle) => None,
        () = options.stopped() => None,
    };
    let served = match served {
        Some(served) => served,
        None => {
            // GOAWAY: what was sent before it came is still answered (RFC 9113 §6.8).
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                () = streams.idle(idle) => Ok(()),
            }
        }
    };
    // Until now the watcher had the listener wait for this connection.
    drop(watcher);
    served
}

#[cfg(test)]
mod tests;
