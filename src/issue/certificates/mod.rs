//! Client certificates: what stands in one, who vouches for it, and the broker's own small certificate authority.

mod authority;
mod chain;
mod leaf;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use authority::{Authority, CERTIFICATE_MILLIS, CLIENT_CA, IssuedCertificate};
pub use chain::ClientCas;
pub(super) use chain::verify;
pub(super) use leaf::Leaf;

/// Whose certificates count.
#[derive(Debug)]
pub struct Certificates {
    /// `tls.client_ca_file` and `tls.client_crl_file`, as they were last read.
    pub cas: Arc<ArcSwap<ClientCas>>,
    /// The broker's own.
    pub authority: Authority,
}
