//! DPoP at the endpoints (RFC 9449): where proofs stand in requests, which URL they are for, and nonces in answers.

use axum::response::Response;
use hallpass_verify::{CertificateThumbprint, DpopRequest, Proof};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts as RequestParts;

use crate::http::PublicState;
use crate::issue::TokenError;
use crate::listen::Connection;
use crate::model::authorization::{DPOP, proof_token, proofs};

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// What a proof that came with a request must be for.
pub(super) struct Expected<'a> {
    proofs: Vec<&'a str>,
    method: &'a str,
    url: String,
    certificate: Option<CertificateThumbprint>,
}

impl<'a> Expected<'a> {
    /// The URL is the issuer and the path as it came. `Host` is the sender's to choose, and behind a proxy not the name
    /// that clients know; the query does not count (RFC 9449 §4.3).
    pub(super) fn of(state: &PublicState, parts: &'a RequestParts) -> Self {
        let certificate = parts.extensions.get::<Connection>().and_then(Connection::thumbprint);
        let url = format!("{}{}", state.issuer_url, parts.uri.path());
        Self { proofs: proofs(&parts.headers), method: parts.method.as_str(), url, certificate }
    }

    /// For the verifier.
    pub(super) fn request(&self) -> DpopRequest<'_> {
        let certificate = self.certificate.clone();
        DpopRequest { proofs: &self.proofs, method: self.method, url: &self.url, certificate }
    }
}

/// The proof of a token request, if there is one; checked, and not spent yet (RFC 9449 §5). A proof that is there and
/// not good ends the request: no falling back to a token for bearers.
pub(super) fn of_token_request(state: &PublicState, parts: &RequestParts) -> Result<Option<Proof>, TokenError> {
    if !parts.headers.contains_key(DPOP) {
        return Ok(None);
    }
    let expected = Expected::of(state, parts);
    state.dpop.check(&expected.request(), None, state.world.now() / 1000).map(Some).map_err(|refusal| {
        // Whoever sent it has not proved who they are: counted, and not recorded.
        metrics::counter!("hallpass_tokens_refused_total", "reason" => refusal.reason()).increment(1);
        TokenError::Proof(refusal)
    })
}

/// Whether the sender speaks DPoP.
pub(super) fn is_spoken(headers: &HeaderMap) -> bool {
    headers.contains_key(DPOP) || proof_token(headers).is_some()
}

/// The answer with the nonce to use from now on (RFC 9449 §8.2), if its reader speaks DPoP. On good answers too, so that
/// nobody who calls at least every other minute is ever turned away for an old one.
pub(super) fn with_nonce(state: &PublicState, is_spoken: bool, mut answer: Response) -> Response {
    let nonce = state.dpop.nonce(state.world.now() / 1000).filter(|_| is_spoken);
    if let Some(nonce) = nonce.and_then(|nonce| HeaderValue::from_str(&nonce).ok()) {
        answer.headers_mut().insert(DPOP_NONCE, nonce);
    }
    answer
}
