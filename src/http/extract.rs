//! Reading requests: strictly, once, here.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use http::Extensions;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts as RequestParts;
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use crate::issue::{Caller, Presented, TokenError};
use crate::listen::Connection;
use crate::model::Origin;
use crate::model::authorization::basic;

pub(super) use crate::model::authorization::{bearer, proof_token};

/// Where an answer says which request it answers.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What may stand in a form more than once: RFC 8707 §2, RFC 8693 §2.1.
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// Form bodies above this are refused unread.
pub(super) const MAX_FORM: usize = 64 * 1024;

/// Parameters of a form, at most. Each is compared with all before it: ten thousand would take a fifth of a second, of
/// whoever asks and before it is known who that is.
const MAX_PARAMETERS: usize = 64;

/// The id of a request: made here, never taken from the caller, who could otherwise write into our log.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// Which request it is, and from where; the front door has put it there.
pub(super) fn origin(extensions: &Extensions) -> Origin {
    extensions.get().cloned().unwrap_or_else(|| Origin { request: Arc::from("?"), client: None })
}

/// A form that was read by RFC 6749's rules.
#[derive(Debug)]
pub(super) struct Form {
    pairs: Vec<(String, Zeroizing<String>)>,
}

impl Form {
    /// Reads `application/x-www-form-urlencoded` (RFC 6749 §3.2): an empty value counts as left out; a repeated
    /// parameter is an error, except [`REPEATABLE`]. The whole body must be there within `patience`: nobody
    /// holds a connection by sending a byte now and then.
    pub(super) async fn read(request: Request, patience: Duration) -> Result<(RequestParts, Self), TokenError> {
        let (parts, body) = request.into_parts();
        let content_type =
            parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(invalid("send the parameters as application/x-www-form-urlencoded"));
        }
        if parts.uri.query().is_some() {
            // §3.2: credentials in a URL end up in logs.
            return Err(invalid("send the parameters in the body, not in the URL"));
        }
        let too_large = |_| invalid("the request body could not be read, or is larger than 64 KiB");
        let body = tokio::time::timeout(patience, Limited::new(body, MAX_FORM).collect()).await;
        let body = body.map_err(|_| invalid("the request body did not come in time"))?.map_err(too_large)?.to_bytes();
        Ok((parts, Self { pairs: parse_form(&body)? }))
    }

    /// A parameter's value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A parameter's value, owned.
    pub(super) fn take(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.to_string()).collect()
    }
}

fn parse_form(body: &Bytes) -> Result<Vec<(String, Zeroizing<String>)>, TokenError> {
    let mut pairs: Vec<(String, Zeroizing<String>)> = Vec::new();
    for piece in body.split(|b| *b == b'&').filter(|piece| !piece.is_empty()) {
        let (key, value) = match piece.iter().position(|b| *b == b'=').and_then(|at| piece.split_at_checked(at)) {
            Some((key, value)) => (key, value.get(1..).unwrap_or_default()),
            None => (piece, &[][..]),
        };
        let key = form_decode(key).ok_or_else(|| invalid("a parameter name is not form-urlencoded UTF-8"))?;
        let value = form_decode(value).ok_or_else(|| invalid("a parameter value is not form-urlencoded UTF-8"))?;
        if value.is_empty() {
            continue;
        }
        if pairs.len() == MAX_PARAMETERS {
            return Err(invalid("there are more than 64 parameters; send only those that this endpoint knows"));
        }
        if pairs.iter().any(|(there, _)| *there == *key) && !REPEATABLE.contains(&key.as_str()) {
            return Err(invalid("a parameter is there twice"));
        }
        pairs.push((key.to_string(), value));
    }
    Ok(pairs)
}

/// `application/x-www-form-urlencoded` decoding, strict: a stray percent sign or what is not UTF-8 is an error.
fn form_decode(raw: &[u8]) -> Option<Zeroizing<String>> {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|b| *b == b'%') {
        let hex = rest.get(at + 1..at + 3)?;
        if !hex.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        rest = rest.get(at + 3..)?;
    }
    let spaced: Zeroizing<Vec<u8>> = Zeroizing::new(raw.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect());
    String::from_utf8(percent_decode(&spaced).collect()).ok().map(Zeroizing::new)
}

fn invalid(message: &str) -> TokenError {
    TokenError::InvalidRequest(message.to_owned())
}

/// Who knocks at the token, introspection or revocation endpoint.
pub(super) fn caller(parts: &RequestParts, form: &Form) -> Result<Caller, TokenError> {
    let Connection { address, certificates, .. } = parts.extensions.get::<Connection>().cloned().unwrap_or_default();
    let presented = presented(&parts.headers, form, certificates.is_some())?;
    Ok(Caller { presented, address, certificates, proof: None })
}

/// Client authentication (RFC 6749 §2.3): Basic, or `client_id` and `client_secret` in the body, or an assertion
/// (RFC 7521 §4.2), or the certificate of the connection (RFC 8705 §2); never two.
pub(super) fn presented(headers: &HeaderMap, form: &Form, has_certificate: bool) -> Result<Presented, TokenError> {
    let (in_body, assertion) = (form.get("client_secret"), form.get("client_assertion"));
    let authorization = headers.get(header::AUTHORIZATION);
    let count = [authorization.is_some(), in_body.is_some(), assertion.is_some()].into_iter().filter(|is| *is).count();
    if count > 1 {
        let text = "authenticate by one method: Authorization, or client_secret in the body, or client_assertion";
        return Err(invalid(text));
    }
    if assertion.is_some() != form.get("client_assertion_type").is_some() {
        return Err(invalid("client_assertion and client_assertion_type go together"));
    }
    let Some(authorization) = authorization else {
        let id = form.take("client_id");
        return Ok(match (id, in_body, assertion) {
            (id, _, Some(assertion)) => Presented::Assertion {
                id,
                kind: form.take("client_assertion_type").unwrap_or_default(),
                assertion: Zeroizing::new(assertion.to_owned()),
            },
            (Some(id), Some(secret), None) => Presented::Secret { id, secret: Zeroizing::new(secret.to_owned()) },
            (Some(id), None, None) if has_certificate => Presented::Certificate { id },
            _ => Presented::Nothing,
        });
    };
    let Some((id, secret)) = basic(authorization) else { return Ok(Presented::Nothing) };
    // §2.3.1: both halves are form-urlencoded inside.
    let (Some(id), Some(secret)) = (form_decode(id.as_bytes()), form_decode(secret.as_bytes())) else {
        return Ok(Presented::Nothing);
    };
    if form.get("client_id").is_some_and(|in_body| *in_body != **id) {
        return Err(invalid("client_id in the body is another one than in Authorization"));
    }
    Ok(Presented::Secret { id: id.to_string(), secret })
}
