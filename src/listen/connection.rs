//! What is known of the other end of a connection before it has said a word of HTTP; or, for one request, what a trusted proxy
//! says of its client instead.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hallpass_verify::CertificateThumbprint;
use rustls::pki_types::CertificateDer;

/// In the extensions of each request.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// Where it comes from; none on a unix socket.
    pub address: Option<IpAddr>,
    /// Which of our addresses it came to; none on a unix socket.
    pub local: Option<SocketAddr>,
    /// The certificate chain that the client showed in the TLS handshake, its own certificate first.
    pub certificates: Option<Arc<[CertificateDer<'static>]>>,
    /// Whether a trusted proxy said something of its client that cannot be read.
    pub malformed: bool,
    /// Whether the connection is untrusted while trusted ones are there: what it asks can wait for what those ask.
    pub gives_way: bool,
}

impl Connection {
    /// The thumbprint of the client's own certificate (RFC 8705 §3.1).
    pub fn thumbprint(&self) -> Option<CertificateThumbprint> {
        let certificate = self.certificates.as_ref().and_then(|chain| chain.first());
        certificate.map(|certificate| CertificateThumbprint::of_der(certificate))
    }
}
