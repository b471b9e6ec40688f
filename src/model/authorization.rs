//! Reading `Authorization` (RFC 9110 §11.6.2), and the DPoP proofs beside it (RFC 9449 §4.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

/// Where a proof stands.
pub const DPOP: HeaderName = HeaderName::from_static("dpop");

/// `Basic base64(user:password)` (RFC 7617).
pub fn basic(value: &HeaderValue) -> Option<(Zeroizing<String>, Zeroizing<String>)> {
    let encoded = scheme(value, "Basic")?;
    let decoded = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let text = std::str::from_utf8(&decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((Zeroizing::new(user.to_owned()), Zeroizing::new(password.to_owned())))
}

/// What follows an authentication scheme; schemes are case-insensitive (RFC 9110 §11.1).
pub fn scheme<'a>(value: &'a HeaderValue, wanted: &str) -> Option<&'a str> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| rest.trim_matches(' '))
}

/// `Authorization: Bearer …` (RFC 6750 §2.1).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|value| scheme(value, "Bearer"))
}

/// `Authorization: DPoP …` (RFC 9449 §7.1).
pub fn proof_token(headers: &HeaderMap) -> Option<&str> {
    headers.get_all(header::AUTHORIZATION).iter().find_map(|value| scheme(value, "DPoP"))
}

/// The proofs that came with a request. What is not ASCII is no proof: an empty one is refused as malformed.
pub fn proofs(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(DPOP).iter().map(|value| value.to_str().unwrap_or_default()).collect()
}
