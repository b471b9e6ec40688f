use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use http::header::HOST;
use http::{Method, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::outbound::{SystemResolver, offering_http2, tls_config};

type Sent = Full<Bytes>;

/// What a server saw.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    /// How often each target came.
    targets: Mutex<HashMap<String, usize>>,
    heads: Mutex<Vec<(Version, Option<String>, bool)>>,
}

/// A real server of both protocols.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    /// Says GOAWAY or `Connection: close` to all who are connected.
    shut: Arc<Mutex<GracefulShutdown>>,
    task: tokio::task::JoinHandle<()>,
    ca: Option<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answered(seen: &Seen, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.uri().path().to_owned();
    *lock(&seen.targets).entry(target.clone()).or_default() += 1;
    let authority = request.uri().authority().map(ToString::to_string);
    lock(&seen.heads).push((request.version(), authority, request.headers().contains_key(HOST)));
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if target.starts_with("/slow") {
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let body = if target == "/large" { Bytes::from(vec![b'x'; 4 * 1024 * 1024]) } else { body };
    Ok(Response::new(Full::new(body)))
}

impl Server {
    async fn start(is_tls: bool, most_streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let shut = Arc::new(Mutex::new(GracefulShutdown::new()));
        let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let tls = is_tls.then(|| {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![own.cert.der().clone()], key)
                .unwrap();
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            TlsAcceptor::from(Arc::new(config))
        });
        let ca = is_tls.then(|| own.cert.pem());
        let (all, watched) = (seen.clone(), shut.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, tls, watched) = (all.clone(), tls.clone(), watched.clone());
                tokio::spawn(async move {
                    seen.connections.fetch_add(1, Ordering::Relaxed);
                    let open = seen.open.fetch_add(1, Ordering::Relaxed) + 1;
                    seen.most_open.fetch_max(open, Ordering::Relaxed);
                    let service = {
                        let seen = seen.clone();
                        service_fn(move |request| {
                            let seen = seen.clone();
                            async move { answered(&seen, request).await }
                        })
                    };
                    let mut builder = auto::Builder::new(TokioExecutor::new());
                    builder.http2().max_concurrent_streams(most_streams);
                    let ended = if let Some(tls) = tls {
                        let stream = tls.accept(stream).await.unwrap();
                        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                        let connection = lock(&watched).watch(connection);
                        connection.await
                    } else {
                        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                        let connection = lock(&watched).watch(connection);
                        connection.await
                    };
                    drop(ended);
                    seen.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, seen, shut, task, ca }
    }

    fn pool(&self, protocol: Protocol, most: usize, limits: &Arc<ConnectionLimits>) -> Pool<Sent> {
        let tls = self.ca.as_ref().map(|pem| offering_http2(&tls_config(Some(pem)).unwrap()));
        pool(self.address, tls, protocol, most, limits)
    }

    fn request(&self, method: Method, target: &str) -> Request<Sent> {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        request(&format!("{scheme}://{}", self.address), method, target)
    }

    fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }
}

fn pool(
    address: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    protocol: Protocol,
    most: usize,
    limits: &Arc<ConnectionLimits>,
) -> Pool<Sent> {
    pool_within(Duration::from_secs(5), address, tls, protocol, most, limits)
}

fn pool_within(
    timeout: Duration,
    address: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    protocol: Protocol,
    most: usize,
    limits: &Arc<ConnectionLimits>,
) -> Pool<Sent> {
    let dialer = Dialer {
        host: address.ip().to_string().into(),
        port: address.port(),
        allow_private: true,
        resolver: Arc::new(SystemResolver),
        tls,
        timeout,
    };
    Pool::new(dialer, protocol, most, limits)
}

fn request(base: &str, method: Method, target: &str) -> Request<Sent> {
    let host = base.rsplit('/').next().unwrap();
    let request = Request::builder().method(method).uri(format!("{base}{target}")).header(HOST, host);
    request.body(Full::new(Bytes::from_static(b"a body"))).unwrap()
}

async fn whole(answer: Response<PooledBody<Sent>>) -> Bytes {
    assert_eq!(answer.status(), StatusCode::OK);
    answer.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_used_again_and_closed_if_an_answer_was_not_read() {
    let (server, limits) = (Server::start(false, 100).await, ConnectionLimits::new(10));
    let pool = server.pool(Protocol::Negotiated, 10, &limits);
    for n in 0..20 {
        let answer = pool.send(server.request(Method::POST, &format!("/{n}"))).await.unwrap();
        assert_eq!(whole(answer).await, "a body");
        // As between two calls of an agent.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(server.connections(), 1);
    assert!(lock(&server.seen.heads).iter().all(|head| *head == (Version::HTTP_11, None, true)));
    drop(pool.send(server.request(Method::GET, "/large")).await.unwrap());
    whole(pool.send(server.request(Method::GET, "/after")).await.unwrap()).await;
    assert_eq!(server.connections(), 2, "the rest of the answer did not go into the next one");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_sent_twice_to_a_server_that_hangs_up_at_any_moment() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let all = seen.clone();
    tokio::spawn(async move {
        for n in 0_u64.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let seen = all.clone();
            tokio::spawn(async move {
                // One or two answers; then it hangs up at once or a little later, without a word.
                for _ in 0..=n % 2 {
                    let (mut head, mut byte) = (Vec::new(), [0]);
                    while !head.ends_with(b"a body") {
                        match stream.read(&mut byte).await {
                            Ok(1) => head.push(byte[0]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8(head).unwrap();
                    *lock(&seen).entry(head.split(' ').nth(1).unwrap().to_owned()).or_default() += 1;
                    if n % 7 == 3 {
                        return;
                    }
                    let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
                tokio::time::sleep(Duration::from_micros(n * 37 % 900)).await;
            });
        }
    });
    let limits = ConnectionLimits::new(10);
    let pool = pool(address, None, Protocol::Negotiated, 10, &limits);
    let mut answered = 0;
    for n in 0..600_u64 {
        let method = if n % 2 == 0 { Method::GET } else { Method::POST };
        if let Ok(answer) = pool.send(request(&format!("http://{address}"), method, &format!("/{n}"))).await {
            answered += usize::from(answer.into_body().collect().await.is_ok());
        }
        tokio::time::sleep(Duration::from_micros(n * 53 % 700)).await;
    }
    let seen = lock(&seen);
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    assert!((300..600).contains(&answered), "{answered} of 600 were answered; a seventh never is");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_on_everybody_is_asked_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            drop(stream);
        }
    });
    let limits = ConnectionLimits::new(10);
    let pool = pool(address, None, Protocol::Negotiated, 10, &limits);
    for n in 1..=50 {
        let sent = pool.send(request(&format!("http://{address}"), Method::GET, "/"));
        let sent = tokio::time::timeout(Duration::from_secs(10), sent).await.expect("it hangs");
        assert!(matches!(sent, Err(SendError::Http(_) | SendError::Closed)));
        assert_eq!(accepted.load(Ordering::Relaxed), n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_never_more_connections_than_may_be() {
    let (server, limits) = (Server::start(false, 100).await, ConnectionLimits::new(10));
    let two = server.pool(Protocol::Negotiated, 2, &limits);
    let all = (0..12).map(|_| async { whole(two.send(server.request(Method::GET, "/slow")).await.unwrap()).await });
    join_all(all).await;
    assert!(server.seen.most_open.load(Ordering::Relaxed) <= 2);
    assert!(server.connections() <= 4, "{}", server.connections());

    let short = pool_within(Duration::from_secs(1), server.address, None, Protocol::Negotiated, 1, &limits);
    let held = short.send(server.request(Method::GET, "/large")).await.unwrap();
    let started = monotonic();
    let refused = short.send(server.request(Method::GET, "/")).await;
    assert!(matches!(refused, Err(SendError::Busy)) && started.elapsed() < Duration::from_secs(4), "{refused:?}");
    whole(held).await;
    whole(short.send(server.request(Method::GET, "/")).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_give_way_to_another_place() {
    let (one, other, limits) = (Server::start(false, 9).await, Server::start(false, 9).await, ConnectionLimits::new(1));
    let (to_one, to_other) = (one.pool(Protocol::Negotiated, 5, &limits), other.pool(Protocol::Negotiated, 5, &limits));
    for _ in 0..3 {
        whole(to_one.send(one.request(Method::GET, "/")).await.unwrap()).await;
        whole(to_other.send(other.request(Method::GET, "/")).await.unwrap()).await;
    }
    drop(to_other);
    whole(to_one.send(one.request(Method::GET, "/")).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_a_connection_of_http2() {
    for is_tls in [false, true] {
        let (server, limits) = (Server::start(is_tls, 100).await, ConnectionLimits::new(10));
        let pool = server.pool(if is_tls { Protocol::Negotiated } else { Protocol::Http2 }, 10, &limits);
        let all = (0..50).map(|n| {
            let (pool, server) = (&pool, &server);
            async move { whole(pool.send(server.request(Method::POST, &format!("/slow/{n}"))).await.unwrap()).await }
        });
        assert!(join_all(all).await.into_iter().all(|body| body == "a body"));
        assert_eq!(server.connections(), 1, "TLS: {is_tls}");
        let authority = Some(server.address.to_string());
        assert!(lock(&server.seen.heads).iter().all(|head| *head == (Version::HTTP_2, authority.clone(), false)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_where_it_is_wanted_and_where_nothing_else_is_spoken() {
    let (server, limits) = (Server::start(true, 100).await, ConnectionLimits::new(10));
    let mut dialer_tls = tls_config(server.ca.as_deref()).unwrap();
    let never = pool(server.address, Some(dialer_tls.clone()), Protocol::Http1, 5, &limits);
    whole(never.send(server.request(Method::GET, "/")).await.unwrap()).await;
    Arc::make_mut(&mut dialer_tls).alpn_protocols.clear();
    let without = pool(server.address, Some(dialer_tls), Protocol::Negotiated, 5, &limits);
    whole(without.send(server.request(Method::GET, "/")).await.unwrap()).await;
    assert!(lock(&server.seen.heads).iter().all(|head| head.0 == Version::HTTP_11));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_few_streams_are_allowed_there_are_more_connections_and_all_is_answered() {
    let (server, limits) = (Server::start(false, 5).await, ConnectionLimits::new(10));
    let pool = server.pool(Protocol::Http2, 10, &limits);
    whole(pool.send(server.request(Method::GET, "/")).await.unwrap()).await;
    let all = (0..20).map(|_| async { whole(pool.send(server.request(Method::GET, "/slow")).await.unwrap()).await });
    join_all(all).await;
    assert!((1..=5).contains(&server.connections()), "{}", server.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_goaway_a_new_connection_is_made() {
    let (server, limits) = (Server::start(false, 100).await, ConnectionLimits::new(10));
    let pool = server.pool(Protocol::Http2, 10, &limits);
    for n in 1..=10 {
        whole(pool.send(server.request(Method::GET, &format!("/{n}"))).await.unwrap()).await;
        assert_eq!(server.connections(), n);
        let leaving = std::mem::replace(&mut *lock(&server.shut), GracefulShutdown::new());
        leaving.shutdown().await;
    }
    assert!(lock(&server.seen.targets).values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_its_answer_keeps_nobody_from_theirs() {
    let (server, limits) = (Server::start(false, 100).await, ConnectionLimits::new(10));
    let pool = server.pool(Protocol::Http2, 1, &limits);
    let mut stalled = Vec::new();
    for _ in 0..MOST_STALLED {
        stalled.push(pool.send(server.request(Method::GET, "/large")).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let good = async { whole(pool.send(server.request(Method::GET, "/large")).await.unwrap()).await };
    let good = tokio::time::timeout(Duration::from_secs(20), good).await.expect("it stands still");
    assert_eq!(good.len(), 4 * 1024 * 1024);
    assert_eq!(server.connections(), 1);
    // And each of them can still be read.
    assert_eq!(whole(stalled.pop().unwrap()).await.len(), 4 * 1024 * 1024);
}

/// One place is left on the connection.
const MOST_STALLED: usize = 99;

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_down_is_told_as_that() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let limits = ConnectionLimits::new(1);
    let pool = pool(address, None, Protocol::Negotiated, 1, &limits);
    for _ in 0..3 {
        let refused = pool.send(request(&format!("http://{address}"), Method::GET, "/")).await;
        assert!(matches!(refused, Err(SendError::Dial(DialError::Connect(_)))), "{refused:?}");
    }
    assert_eq!(limits.left(), 1, "what was not made occupies nothing");
}
