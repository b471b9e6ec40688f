//! The files of the listeners' TLS: certificates, keys, and the CAs that vouch for clients.

use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::config::{ClientCertificates, Tls};
use crate::error::{Error, Result};
use crate::issue::ClientCas;
use crate::outbound::plain;

/// Reads certificate and key; they must belong together.
pub(super) fn server_certificate(tls: &Tls) -> Result<CertifiedKey> {
    let chain = CertificateDer::pem_file_iter(&tls.cert_file)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| unusable(&tls.cert_file, &error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key_file).map_err(|error| unusable(&tls.key_file, &error))?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map_err(|error| unusable(&tls.cert_file, &plain(&error)))
}

/// Reads the CAs that vouch for clients, and their revocation lists.
pub(super) fn client_cas(files: &ClientCertificates) -> Result<ClientCas> {
    let Some(ca_file) = &files.ca_file else { return Ok(ClientCas::default()) };
    let read = |path: &Path| std::fs::read(path).map_err(|error| unusable(path, &error));
    let crl = files.crl_file.as_deref().map(read).transpose()?;
    ClientCas::parse(&read(ca_file)?, crl.as_deref()).map_err(|error| unusable(ca_file, &error))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::unavailable("tls", format!("{} cannot be used for TLS: {error}", path.display()))
}
