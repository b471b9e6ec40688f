//! Listening: TCP, TLS, unix socket; limits on connections; an end that lets calls in flight finish.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::audit::Haste;
use crate::http::State;
use crate::http::admin::{door::Peer, peer};
use crate::http::client_cert::behind;
use crate::http::connection::Connection;
use crate::http::fair::Fair;
use crate::http::places::Places;
use crate::http::routes::{Listener, router};
use crate::http::strangers::{Standing, Strangers};
use crate::http::streams::{Paced, Streams};
use crate::issue::AdminIdentity;
use crate::model::AdminRole;
use crate::supervise::Phase;
use crate::yield_queue::YieldQueue;

/// Headers of one request, at most.
const MAX_HEADERS: usize = 128;

/// Connections that are accepted before others get their turn: a flood of them is never at an end.
const ACCEPTED_AT_ONCE: usize = 16;

/// Connections to the ops listener, at most.
const OPS_CONNECTIONS: usize = 64;

/// Streams on one HTTP/2 connection, at most.
pub(super) const MAX_STREAMS: u32 = 100;

/// Connections to the admin listener, at most.
const ADMIN_CONNECTIONS: usize = 64;

/// Of these, from one address, at most: whoever opens connections and says nothing does not lock the admins out.
const ADMIN_CONNECTIONS_OF_ONE: usize = 16;

/// For how long the ops listener still answers when all else has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// A listener with the TLS that it speaks.
#[derive(Debug)]
pub struct Secured {
    /// The socket, bound.
    pub listener: TcpListener,
    /// Its TLS.
    pub tls: Arc<rustls::ServerConfig>,
}

/// The sockets, bound.
#[derive(Debug)]
pub struct Listeners {
    /// Agents and gateways.
    pub public: TcpListener,
    /// TLS of the public listener, if it speaks that.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Admins who come over the network.
    pub remote_admin: Option<Secured>,
    /// Health and metrics.
    pub ops: TcpListener,
    /// Admins.
    pub admin: UnixListener,
}

/// How connections are served, and when that ends.
#[derive(Clone)]
struct Manner {
    header_timeout: Duration,
    write_timeout: Duration,
    max_header_bytes: usize,
    http2: bool,
    trusted_proxies: Vec<IpNet>,
    strangers: Strangers,
    /// Among those who are known.
    turns: YieldQueue,
    stop: watch::Receiver<Phase>,
}

/// Serves until the broker drains; then takes no more connections and waits for what is in flight, at most `listen.drain`.
/// Health is told until the end of that: whoever sends us agents must see that we are stopping, and why.
pub async fn serve(listeners: Listeners, state: State) {
    let listen = &state.config.listen;
    let life = &state.supervisor;
    let last = watch::Sender::new(Phase::Serving);
    // Not by address: agents may all come from behind one.
    let shared = |all: usize| Places::new(all, all);
    let (places, ops_places) = (shared(listen.max_connections), shared(OPS_CONNECTIONS));
    let manner = Manner {
        header_timeout: listen.header_timeout,
        write_timeout: state.config.exchange.idle_timeout,
        max_header_bytes: listen.max_header_bytes,
        http2: listen.http2,
        trusted_proxies: listen.trusted_proxies.clone(),
        strangers: Strangers::new(life),
        turns: state.yields.clone(),
        stop: life.phases(),
    };
    // Admins come by themselves: a proxy that may speak for agents must not say who is an admin. And
    // what floods the agents' door does not keep them waiting: each command is a connection of its own.
    let direct =
        Manner { http2: false, trusted_proxies: Vec::new(), strangers: Strangers::new(life), ..manner.clone() };
    // Nobody is known there: health and metrics do not stand in line with the agents' strangers.
    let apart = Manner { strangers: Strangers::new(life), stop: last.subscribe(), ..manner.clone() };
    let remote_admin = async {
        if let Some(Secured { listener, tls }) = listeners.remote_admin {
            let router = router(Listener::RemoteAdmin, state.clone());
            let places = Places::new(ADMIN_CONNECTIONS, ADMIN_CONNECTIONS_OF_ONE);
            finish(tcp(listener, Some(TlsAcceptor::from(tls)), router, places, direct).await, &state).await;
        }
    };
    let public = router(Listener::Public, state.clone());
    let ops = router(Listener::Ops, state.clone());
    let agents = async {
        let tls = listeners.tls.map(TlsAcceptor::from);
        finish(tcp(listeners.public, tls, public, places, manner.clone()).await, &state).await;
    };
    let operators = async {
        let Open { graceful, mut connections } = tcp(listeners.ops, None, ops, ops_places, apart).await;
        if tokio::time::timeout(FAREWELL, graceful.shutdown()).await.is_err() {
            tracing::debug!("somebody stays connected to the ops listener; that is cut");
        }
        connections.shutdown().await;
    };
    let admins = router(Listener::Admin, state.clone());
    let admins = async { finish(unix(listeners.admin, admins, manner.clone()).await, &state).await };
    let work = async {
        tokio::join!(agents, remote_admin, admins);
        if life.failure().is_some() {
            // Where nothing was in flight, nobody would have had the time to ask what is wrong.
            tokio::time::sleep(FAREWELL).await;
        }
        last.send_replace(Phase::Draining);
    };
    tokio::join!(work, operators);
}

/// Connections that are still open when no more are taken.
struct Open {
    graceful: GracefulShutdown,
    connections: JoinSet<()>,
}

async fn tcp(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    places: Arc<Places>,
    mut manner: Manner,
) -> Open {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut accepted_at_once = 0;
    loop {
        if accepted_at_once == ACCEPTED_AT_ONCE {
            accepted_at_once = 0;
            tokio::task::yield_now().await;
        }
        accepted_at_once += 1;
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            },
            () = stopped(&mut manner.stop) => break,
        };
        // Full: the connection is closed at once, which costs less than any answer.
        let Some(place) = places.take(peer.ip()) else {
            metrics::counter!("hallpass_connections_refused_total").increment(1);
            continue;
        };
        let (tls, router, manner, watcher) = (tls.clone(), router.clone(), manner.clone(), graceful.watcher());
        while connections.try_join_next().is_some() {}
        let standing = manner.strangers.standing();
        let ours = standing.clone();
        connections.spawn(standing.work(async move {
            if let Err(error) = connection(stream, peer, tls, router, manner, ours, watcher).await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        }));
    }
    Open { graceful, connections }
}

/// Resolves when it is time to stop.
async fn stopped(stop: &mut watch::Receiver<Phase>) {
    // An error only says that nobody is left who could say so: then it is time, too.
    _ = stop.wait_for(|phase| *phase != Phase::Serving).await.is_ok();
}

/// Waits for connections to finish what they are doing; then ends those that do not, so that the outcomes of their
/// calls are recorded before the log closes.
async fn finish(open: Open, state: &State) {
    let Open { graceful, mut connections } = open;
    let mut phases = state.supervisor.phases();
    let cut = tokio::select! {
        drained = tokio::time::timeout(state.config.listen.drain, graceful.shutdown()) => {
            drained.is_err().then_some("connections were still busy after listen.drain_seconds; they are cut")
        }
        _ = phases.wait_for(|phase| *phase == Phase::Aborting) => {
            Some("connections that were still busy are cut, as a second signal asked for")
        }
    };
    if let Some(text) = cut {
        tracing::warn!("{text}");
        state.broker.stopping();
    }
    connections.shutdown().await;
}

/// Out of file descriptors: wait a moment instead of spinning.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    manner: Manner,
    standing: Standing,
    watcher: Watcher,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let local = Some(stream.local_addr()?);
    let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "no request came in time");
    match tls {
        Some(tls) => {
            let stream =
                tokio::time::timeout(manner.header_timeout, tls.accept(stream)).await.map_err(|_| timed_out())??;
            let (_, session) = stream.get_ref();
            let is_http2 = manner.http2 && session.alpn_protocol() == Some(b"h2");
            let certificates =
                session.peer_certificates().map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect());
            let connection = Connection { address: Some(peer.ip()), local, certificates, malformed: false };
            speak(stream, is_http2, connection, router, manner, standing, watcher).await
        }
        None => {
            let is_http2 =
                tokio::time::timeout(manner.header_timeout, begins_http2(&stream)).await.map_err(|_| timed_out())??;
            let is_http2 = is_http2 && manner.http2;
            let connection = Connection { address: Some(peer.ip()), local, ..Connection::default() };
            speak(stream, is_http2, connection, router, manner, standing, watcher).await
        }
    }
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
        // What was peeked at stays readable, so readiness tells nothing: ask again, ever more seldom. Whoever sends one
        // byte `P` and then nothing must not keep us asking.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

async fn speak<S>(
    stream: S,
    is_http2: bool,
    connection: Connection,
    router: Router,
    mut manner: Manner,
    standing: Standing,
    watcher: Watcher,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let trusted_proxies = manner.trusted_proxies.clone();
    let (asking, answering) = (standing.clone(), standing.clone());
    let router = router.map_request(move |mut request: http::Request<Incoming>| {
        asking.asked();
        if asking.can_wait() {
            request.extensions_mut().insert(Haste::WithOthers);
        }
        let connection = behind(&connection, request.headers_mut(), &trusted_proxies);
        request.extensions_mut().insert(connection);
        request
    });
    let router = TowerToHyperService::new(router.map_response(move |response: axum::response::Response| {
        answering.answered(&response);
        response
    }));
    // A client that does not read holds a call, a connection and the upstream's: not for longer than a body may pause.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(manner.write_timeout));
    let stream = Box::pin(stream);
    let served = if is_http2 {
        let stream = TokioIo::new(Fair::new(stream, &manner.turns, &standing));
        let streams = Streams::new(standing, manner.write_timeout);
        let service = service_fn(move |request| {
            let answer = router.call(request);
            async move { Ok::<_, Infallible>(answer.await?.map(Paced::new)) }
        });
        let connection = http2::Builder::new(streams.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(manner.max_header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(Some(64))
            .max_local_error_reset_streams(Some(256))
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(20))
            .serve_connection(stream, service);
        let mut connection = pin!(connection);
        // As in HTTP/1.1, where the next head must come in time: whoever only answers pings, or floods us with frames
        // that open no stream, does not keep a place among the connections.
        let served = tokio::select! {
            served = connection.as_mut() => Some(served),
            () = streams.idle(manner.header_timeout) => None,
            () = stopped(&mut manner.stop) => None,
        };
        let served = match served {
            Some(served) => served,
            None => {
                // GOAWAY: what was sent before it came is still answered (RFC 9113 §6.8).
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    served = connection => served,
                    () = streams.idle(manner.header_timeout) => Ok(()),
                }
            }
        };
        drop(watcher);
        served
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(manner.header_timeout)
            .max_buf_size(manner.max_header_bytes.max(8192))
            .max_headers(MAX_HEADERS)
            .pipeline_flush(false)
            .serve_connection(TokioIo::new(stream), router);
        watcher.watch(connection).await
    };
    served.map_err(io::Error::other)
}

async fn unix(listener: UnixListener, router: Router, mut manner: Manner) -> Open {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            },
            () = stopped(&mut manner.stop) => break,
        };
        let Some(peer) = admin_peer(&stream) else { continue };
        let router = router.clone().layer(axum::Extension(peer));
        let (manner, standing, watcher) = (manner.clone(), manner.strangers.standing(), graceful.watcher());
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            if let Err(error) = speak(stream, false, Connection::default(), router, manner, standing, watcher).await {
                tracing::debug!(%error, "an admin connection ended early");
            }
        });
    }
    Open { graceful, connections }
}

/// Root and the server's own user, by what the kernel says of the other end (SO_PEERCRED); nobody else is heard.
fn admin_peer(stream: &UnixStream) -> Option<Peer> {
    let credentials = stream.peer_cred().ok()?;
    let uid = credentials.uid();
    if uid == 0 || uid == rustix::process::geteuid().as_raw() {
        return Some(Peer(AdminIdentity { name: peer::name(uid, credentials.pid()), role: AdminRole::Owner }));
    }
    tracing::warn!(uid, "somebody else than root and the server's own user knocked at the admin socket");
    None
}

/// Binds the admin socket, mode 0600. A socket that a dead server left is replaced; a living one's is not.
pub async fn bind_admin(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another hallpass listens there"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use axum::Extension;
    use axum::body::Body;
    use axum::routing::get;
    use http::Request;
    use hyper::client::conn;
    use hyper_util::rt::TokioExecutor;

    use super::*;
    use crate::http::strangers::Known;
    use crate::supervise::Supervisor;

    /// Longer than a busy machine takes.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A client of one connection, by either protocol.
    enum Client {
        Http1(conn::http1::SendRequest<Body>),
        Http2(conn::http2::SendRequest<Body>),
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
            let request = |uri: &str| Request::builder().uri(uri).header("host", "b").body(Body::empty()).unwrap();
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

    #[tokio::test(flavor = "multi_thread")]
    async fn a_known_connection_is_served_while_strangers_have_no_thread_and_a_new_one_is_not() {
        let life = Supervisor::new();
        let strangers = Strangers::new(&life);
        let threads = tokio::runtime::Handle::current().metrics().num_workers().saturating_sub(1).max(1);
        let manner = Manner {
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            max_header_bytes: 8192,
            http2: true,
            trusted_proxies: Vec::new(),
            strangers: strangers.clone(),
            turns: YieldQueue::start(&life),
            stop: life.phases(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { (Extension(Known), "well?") }));
        tokio::spawn(async move { drop(tcp(listener, None, router, Places::new(100, 100), manner).await) });
        for is_http2 in [false, true] {
            let mut known = Client::connect(address, is_http2).await;
            // Newcomers are served where nobody known is about, and else where a thread is free.
            assert!(known.is_answered(PATIENCE).await && known.is_answered(PATIENCE).await, "{is_http2}");
            // The end of an earlier connection may still have one.
            let mut held = Vec::new();
            while held.len() < threads {
                held.extend(strangers.thread());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let mut new = Client::connect(address, is_http2).await;
            assert!(!new.is_answered(Duration::from_millis(250)).await, "{is_http2}: a newcomer goes before strangers");
            assert!(known.is_answered(PATIENCE).await, "{is_http2}: somebody known waits for strangers");
            drop(held);
            let mut new = Client::connect(address, is_http2).await;
            assert!(new.is_answered(PATIENCE).await, "{is_http2}: a newcomer gets no thread though one is free");
        }
    }
}
