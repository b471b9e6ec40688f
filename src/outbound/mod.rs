//! Connections to others: look the name up, check every address, connect to one of exactly those. Upstreams and the
//! issuers whose keys are fetched are dialled through here, and nobody is dialled in another way. Connections to upstreams are
//! kept in a [`Pool`].

mod plain;
mod pool;
mod proxy;
mod wire;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::policy::address;

pub use plain::{of_tls_within, plain};
pub use pool::{BoxError, ConnectionLimits, Pool, PooledBody, Protocol, SendBody, SendError};
pub use proxy::{Hop, Proxied};
pub use wire::Wire;

use wire::Stream;

/// Looks names up.
pub trait Resolve: Send + Sync {
    /// The addresses of `host`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;

    /// The proxy on the way to this place, if there is one.
    fn hop(&self, _tls: bool, _host: &str, _port: u16) -> Option<Hop> {
        None
    }
}

/// The operating system's look-up.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.map(|found| found.ip()).collect()) })
    }
}

/// TLS towards those whom a CA file vouches for, or the public CAs.
///
/// # Errors
/// What is wrong with the CA file.
pub fn tls_config(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| error.to_string())?;
                roots.add(certificate).map_err(|error| plain(&error))?;
            }
            if roots.is_empty() {
                return Err("no certificate in it".into());
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP1.to_vec()];
    Ok(Arc::new(config))
}

/// The same, and the other end may choose HTTP/2 (ALPN, RFC 7301).
pub fn offering_http2(config: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = vec![wire::HTTP2.to_vec(), HTTP1.to_vec()];
    Arc::new(config)
}

/// HTTP/1.1 by its name in ALPN.
const HTTP1: &[u8] = b"http/1.1";

/// Why a connection was not made.
#[derive(Debug)]
pub enum DialError {
    /// The look-up failed.
    Dns(io::Error),
    /// The name has no address.
    NoAddress,
    /// The name leads to an address that is not dialled.
    Address(address::AddressRefusal),
    /// Nobody answers there.
    Connect(io::Error),
    /// TLS failed: most often, the certificate is none of the trusted CAs' or for another name.
    Tls(io::Error),
    /// The proxy on the way out did not let it through.
    Proxy(String),
    /// It took too long.
    Timeout,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(error) => write!(f, "name look-up: {error}"),
            Self::NoAddress => f.write_str("the name has no address"),
            Self::Address(refusal) => write!(f, "{refusal}"),
            Self::Connect(error) => write!(f, "connect: {error}"),
            Self::Tls(error) => write!(f, "TLS: {}", plain(error)),
            Self::Proxy(why) => write!(f, "outbound proxy: {why}"),
            Self::Timeout => f.write_str("connecting took too long"),
        }
    }
}

impl std::error::Error for DialError {}

/// Makes connections to one place.
#[derive(Clone)]
pub struct Dialer {
    /// A name or an address.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// Whether loopback and private addresses may be dialled.
    pub allow_private: bool,
    /// Looks the name up.
    pub resolver: Arc<dyn Resolve>,
    /// None: plain TCP.
    pub tls: Option<Arc<ClientConfig>>,
    /// For look-up, TCP and TLS together.
    pub timeout: Duration,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Dialer {
    /// Connects, in time.
    pub async fn dial(&self) -> Result<Wire, DialError> {
        tokio::time::timeout(self.timeout, self.connect()).await.unwrap_or(Err(DialError::Timeout))
    }

    async fn connect(&self) -> Result<Wire, DialError> {
        let stream = match self.resolver.hop(self.tls.is_some(), &self.host, self.port) {
            None => self.tcp(&self.addresses().await?).await?,
            Some(hop) => {
                self.check_named().await?;
                hop.connect(&self.host, self.port).await?
            }
        };
        // Small requests must not wait for Nagle's algorithm.
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        let Some(tls) = &self.tls else { return Ok(Wire(Stream::Plain(TokioIo::new(stream)))) };
        let name =
            ServerName::try_from(self.host.to_string()).map_err(|error| DialError::Tls(io::Error::other(error)))?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(DialError::Tls)?;
        Ok(Wire(Stream::Tls(Box::new(TokioIo::new(stream)))))
    }

    /// What goes through a proxy is dialled by it. So what is named is checked: an address, all addresses of a name that can
    /// be looked up here, and of one that cannot, whether it is a name of the inside.
    async fn check_named(&self) -> Result<(), DialError> {
        match self.addresses().await {
            Ok(_) => Ok(()),
            Err(DialError::Dns(_) | DialError::NoAddress)
                if self.allow_private || !proxy::is_local_name(&self.host) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// One look-up; every address in it must be allowed, and only these are dialled. A name that changes its answer
    /// between a check and a dial (DNS rebinding) finds no second look-up to lie to (P7).
    async fn addresses(&self) -> Result<Vec<SocketAddr>, DialError> {
        let found = match self.host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) => self.resolver.resolve(&self.host, self.port).await.map_err(DialError::Dns)?,
        };
        if found.is_empty() {
            return Err(DialError::NoAddress);
        }
        for ip in &found {
            address::check(*ip, self.allow_private).map_err(DialError::Address)?;
        }
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect())
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
