//! Dialling: look the name up, check every address, connect to one of exactly those, and send.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::broker::body::{BodyError, Upload};
use crate::broker::inject::Injected;
use crate::error::{Error, Result};
use crate::policy::{BaseUrl, CompiledUpstream, address};

/// How long an idle connection to an upstream is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// How many idle connections to an upstream are kept.
const POOL_SIZE: usize = 512;

/// Looks names up.
pub trait Resolve: Send + Sync {
    /// The addresses of `host`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The operating system's look-up.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.map(|found| found.ip()).collect()) })
    }
}

/// The connections to one upstream, as one version of its definition allows them.
#[derive(Clone)]
pub(super) struct UpstreamClient {
    upstream: Arc<CompiledUpstream>,
    connector: Connector,
    client: Client<Connector, Upload>,
}

impl UpstreamClient {
    pub(super) fn new(upstream: Arc<CompiledUpstream>, resolver: Arc<dyn Resolve>, timeout: Duration) -> Result<Self> {
        let tls = if upstream.base().tls { Some(tls_config(upstream.definition().ca_pem.as_deref())?) } else { None };
        let connector = Connector {
            base: Arc::new(upstream.base().clone()),
            allow_private: upstream.definition().allow_private,
            resolver,
            tls,
            timeout,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .set_host(false)
            .build(connector.clone());
        Ok(Self { upstream, connector, client })
    }

    /// Connects as a call would, and hangs up.
    pub(super) async fn probe(&self) -> Result<()> {
        match tokio::time::timeout(self.connector.timeout, self.connector.connect()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(told(&error).because(error)),
            Err(_) => Err(told(&DialError::Timeout)),
        }
    }

    /// Whether these connections belong to this very definition.
    pub(super) fn is_for(&self, upstream: &Arc<CompiledUpstream>) -> bool {
        Arc::ptr_eq(&self.upstream, upstream)
    }
}

fn tls_config(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| bad_ca(&error))?;
                roots.add(certificate).map_err(|error| bad_ca(&error))?;
            }
            if roots.is_empty() {
                return Err(bad_ca(&"no certificate in it"));
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // HTTP/1.1 to the upstream: one request, one line and one set of headers that we wrote ourselves.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Whether a CA file can be used; asked by `apply`, so that a call need not find out.
pub fn check_ca(pem: &str) -> Result<()> {
    tls_config(Some(pem)).map(drop)
}

fn bad_ca(error: &dyn fmt::Display) -> Error {
    Error::unavailable("upstream_ca", "the upstream's CA file cannot be used; the operator has to apply it again")
        .because(error)
}

/// Sends a request that has the secret in it. Takes nothing but an [`Injected`].
pub(super) async fn send(
    client: &UpstreamClient,
    injected: Injected,
    response_timeout: Duration,
) -> Result<http::Response<Incoming>> {
    let request = injected.into_request();
    let meter = request.body().meter();
    let mut answer = client.client.request(request);
    let mut wait = response_timeout;
    loop {
        match tokio::time::timeout(wait, &mut answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => return Err(explain(&error)),
            Err(_) => {
                // A gigabyte may take its time: only the upstream's own silence counts.
                let still = meter.moved().elapsed();
                match response_timeout.checked_sub(still).filter(|left| !left.is_zero()) {
                    Some(left) => wait = left,
                    None => {
                        return Err(Error::gateway_timeout("upstream_timeout", "the upstream did not answer in time"));
                    }
                }
            }
        }
    }
}

/// Why a connection was not made.
#[derive(Debug)]
enum DialError {
    Dns(io::Error),
    NoAddress,
    Address(address::AddressRefusal),
    Connect(io::Error),
    Tls(io::Error),
    Timeout,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(error) => write!(f, "name look-up: {error}"),
            Self::NoAddress => f.write_str("the name has no address"),
            Self::Address(refusal) => write!(f, "{refusal}"),
            Self::Connect(error) => write!(f, "connect: {error}"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Timeout => f.write_str("connecting took too long"),
        }
    }
}

impl std::error::Error for DialError {}

/// What the agent is told of a connection that was not made.
fn told(dial: &DialError) -> Error {
    match dial {
        DialError::Dns(_) | DialError::NoAddress => {
            Error::bad_gateway("upstream_dns", "the upstream's name could not be looked up")
        }
        DialError::Address(_) => Error::bad_gateway(
            "upstream_address",
            "the upstream's name leads to an address that its definition does not allow",
        ),
        DialError::Connect(_) => Error::bad_gateway("upstream_connect", "the upstream could not be reached"),
        DialError::Tls(_) => Error::bad_gateway("upstream_tls", "the upstream's TLS could not be verified"),
        DialError::Timeout => {
            Error::gateway_timeout("upstream_connect_timeout", "connecting to the upstream took too long")
        }
    }
}

/// What the agent is told; the log gets the whole chain of causes. Neither holds the request.
fn explain(error: &ClientError) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut chain = String::new();
    let mut told = None;
    while let Some(one) = source {
        chain.push_str(if chain.is_empty() { "" } else { ": " });
        chain.push_str(&one.to_string());
        if let Some(dial) = one.downcast_ref::<DialError>() {
            told = Some(self::told(dial));
        }
        if let Some(body) = one.downcast_ref::<BodyError>() {
            told = Some(match body {
                BodyError::TooLarge => {
                    Error::too_large("request_too_large", "the body is larger than this upstream's limit")
                }
                _ => Error::invalid("request_broken", "the request's body broke off"),
            });
        }
        if let Some(hyper) = one.downcast_ref::<hyper::Error>()
            && told.is_none()
        {
            if hyper.is_parse() || hyper.is_parse_too_large() {
                told =
                    Some(Error::bad_gateway("upstream_protocol", "the upstream's answer is not HTTP as it should be"));
            } else if hyper.is_incomplete_message() || hyper.is_canceled() || hyper.is_closed() {
                told =
                    Some(Error::bad_gateway("upstream_reset", "the upstream closed the connection without an answer"));
            }
        }
        source = one.source();
    }
    let told = told.unwrap_or_else(|| Error::bad_gateway("upstream_reset", "the connection to the upstream broke off"));
    told.because(chain)
}

/// Makes connections to one upstream, and to nowhere else: the URI that the pool hands in names only the pool's slot.
#[derive(Clone)]
struct Connector {
    base: Arc<BaseUrl>,
    allow_private: bool,
    resolver: Arc<dyn Resolve>,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

impl tower::Service<Uri> for Connector {
    type Response = Wire;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Wire, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(connector.timeout, connector.connect()).await {
                Ok(wire) => Ok(wire?),
                Err(_) => Err(DialError::Timeout.into()),
            }
        })
    }
}

impl Connector {
    async fn connect(&self) -> Result<Wire, DialError> {
        let stream = self.tcp(&self.addresses().await?).await?;
        // Small requests must not wait for Nagle's algorithm.
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        let Some(tls) = &self.tls else { return Ok(Wire(Stream::Plain(TokioIo::new(stream)))) };
        let name =
            ServerName::try_from(self.base.host.clone()).map_err(|error| DialError::Tls(io::Error::other(error)))?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(DialError::Tls)?;
        Ok(Wire(Stream::Tls(Box::new(TokioIo::new(stream)))))
    }

    /// One look-up; every address in it must be allowed, and only these are dialled. A name that changes its answer
    /// between a check and a dial (DNS rebinding) finds no second look-up to lie to (P7).
    async fn addresses(&self) -> Result<Vec<SocketAddr>, DialError> {
        let found = match self.base.host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) => self.resolver.resolve(&self.base.host, self.base.port).await.map_err(DialError::Dns)?,
        };
        if found.is_empty() {
            return Err(DialError::NoAddress);
        }
        for ip in &found {
            address::check(*ip, self.allow_private).map_err(DialError::Address)?;
        }
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, self.base.port)).collect())
    }

    /// The first address that answers; each gets its share of the time.
    async fn tcp(&self, addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
        let share = self.timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut last = DialError::NoAddress;
        for address in addresses {
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = DialError::Connect(error),
                Err(_) => last = DialError::Timeout,
            }
        }
        Err(last)
    }
}

/// A connection to an upstream.
struct Wire(Stream);

enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }
}
