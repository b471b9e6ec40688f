//! HTTPS for the command line: to the admin listener, and to the issuer where admins log in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use crate::cli::Failure;
use crate::config::is_loopback;
use crate::model::public::{self, NotPublic};
use crate::outbound::{of_tls_within, plain};

/// For one request with its answer. No command of an admin takes longer.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A certificate to show, and its key: two PEM files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) certificate: &'a Path,
    pub(super) key: &'a Path,
}

/// A client that trusts the public CAs and those in `ca_pem`, and follows no redirect: where a token goes is not for an
/// answer to say.
pub(super) fn client(ca_pem: Option<&str>, shown: Option<Shown<'_>>) -> Result<reqwest::Client, Failure> {
    build(ca_pem, shown, true)
}

/// The same for an issuer. Nothing goes in the clear, whatever endpoints its metadata names, except on this machine.
pub(super) fn issuer_client(issuer: &Url, ca_pem: Option<&str>) -> Result<reqwest::Client, Failure> {
    build(ca_pem, None, !is_loopback(issuer) || issuer.scheme() == "https")
}

fn build(ca_pem: Option<&str>, shown: Option<Shown<'_>>, https_only: bool) -> Result<reqwest::Client, Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::Failed(format!("{what}: {error}"));
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for certificate in CertificateDer::pem_slice_iter(ca_pem.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(|error| failed("the CA file", &error))?;
        roots.add(certificate).map_err(|error| failed("the CA file", &plain(&error)))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("TLS", &error))?
        .with_root_certificates(roots);
    let config = match shown {
        None => config.with_no_client_auth(),
        Some(Shown { certificate, key }) => {
            let named = |path: &Path, error: &dyn std::fmt::Display| failed(&path.display().to_string(), error);
            let chain = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| named(certificate, &error))?;
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
            config.with_client_auth_cert(chain, key_der).map_err(|error| named(certificate, &plain(&error)))?
        }
    };
    let client = reqwest::Client::builder().tls_backend_preconfigured(config).redirect(Policy::none());
    client.https_only(https_only).timeout(TIMEOUT).build().map_err(|error| failed("TLS", &error))
}

/// CA certificates, PEM, and nothing else of the file: `login` keeps them.
pub(super) fn ca_file(path: &Path) -> Result<String, Failure> {
    public_file(path, public::certificates)
}

/// Reads a file and leaves nothing of it but the public things that it is read for; else nothing is sent or kept.
pub(super) fn public_file(
    path: &Path,
    keep: impl FnOnce(&[u8]) -> Result<String, NotPublic>,
) -> Result<String, Failure> {
    let file =
        std::fs::read(path).map_err(|error| Failure::Failed(format!("{} cannot be read: {error}", path.display())))?;
    keep(&file).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}

/// The body of an answer, at most so much of it, and whether that is all: an answer may be as long as somebody likes.
pub(super) async fn read(mut answer: reqwest::Response, most: usize) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > most {
            return Ok((body, false));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, true))
}

/// What reqwest says, with what is behind it: "certificate has expired" stands at the bottom.
pub(super) fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(text) = of_tls_within(error) {
        return text;
    }
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
