//! What is known of the other end of a connection, before it has said a word of HTTP; or, for one
//! request, what a trusted proxy says of its client instead.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hallpass_verify::CertificateThumbprint;
use rustls::pki_types::CertificateDer;

/// Put into each request by the listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Connection {
    /// Where it comes from; none on a unix socket.
    pub(super) address: Option<IpAddr>,
    /// Which of our addresses it came to; none on a unix socket.
    pub(super) local: Option<SocketAddr>,
    /// The certificate chain that the client showed in the TLS handshake, its own certificate first.
    pub(super) certificates: Option<Arc<[CertificateDer<'static>]>>,
    /// Whether a trusted proxy said something of its client that cannot be read.
    pub(super) malformed: bool,
}

impl Connection {
    /// The thumbprint of the client's own certificate (RFC 8705 §3.1).
    pub(super) fn thumbprint(&self) -> Option<CertificateThumbprint> {
        let certificate = self.certificates.as_ref().and_then(|chain| chain.first());
        certificate.map(|certificate| CertificateThumbprint::of_der(certificate))
    }
}
