//! Headers: what may travel, and what never does.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::broker::CallBody;
use crate::broker::scrub::{Needles, charset};
use crate::error::Error;
use crate::policy::{HeaderPass, Passing};

/// Hop-by-hop (RFC 9110 §7.6.1): about this connection, not about the message.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Credentials: an upstream that sends one in a header of its answer means somebody else's.
const CREDENTIALS: [&str; 15] = [
    "authorization",
    "cookie",
    "cookie2",
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-token",
    "x-access-token",
    "x-goog-api-key",
    "x-amz-security-token",
    "private-token",
    "client-cert",
    "client-cert-chain",
    "x-forwarded-client-cert",
    "dpop",
];

/// What an upstream says to a browser or about its own login; for an agent behind the broker it would be wrong.
const ANSWER_ONLY: [&str; 10] = [
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    "authentication-info",
    "proxy-authentication-info",
    "alt-svc",
    "clear-site-data",
    "strict-transport-security",
    // RFC 9449 §9: a nonce for proofs to the upstream. The agent's proofs are for us, and take ours.
    "dpop-nonce",
    "content-length",
];

/// Refuses a request that is ambiguous, or larger than it may be, before anything is recorded or dialled.
pub(super) fn check_request(headers: &HeaderMap, body: &CallBody, max_bytes: u64) -> Result<(), Error> {
    if headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(Error::invalid("duplicate_header", "Content-Length is there twice; send it once"));
    }
    if wants_another_protocol(headers) {
        return Err(Error::not_implemented(
            "upgrade_not_supported",
            "connections are not switched to WebSocket or another protocol here; use the API's plain HTTP form, for example \
             server-sent events",
        ));
    }
    if body.size_hint().lower() > max_bytes {
        return Err(Error::too_large(
            "request_too_large",
            format!("the body is larger than {max_bytes} bytes, which is this upstream's limit"),
        ));
    }
    Ok(())
}

/// Whether the agent means to speak another protocol on this connection. Without its handshake's headers the upstream would
/// answer a request that nobody meant. An offer of another HTTP, or of TLS, may be passed over (RFC 9110 §7.8).
fn wants_another_protocol(headers: &HeaderMap) -> bool {
    if headers.contains_key("sec-websocket-key") {
        return true;
    }
    let mut offered = headers.get_all(header::UPGRADE).iter().peekable();
    if offered.peek().is_none() || !named_by_connection(headers).iter().any(|name| name == "upgrade") {
        return false;
    }
    let is_http = |protocol: &str| {
        let name = protocol.trim().split('/').next().unwrap_or_default();
        ["", "h2c", "http", "tls"].iter().any(|one| name.eq_ignore_ascii_case(one))
    };
    offered.any(|value| value.to_str().map_or(true, |list| !list.split(',').all(is_http)))
}

/// The agent's headers that this upstream gets, and the names of those that its definition does not let through.
pub(super) fn strip_request(headers: HeaderMap, pass: &HeaderPass) -> (HeaderMap, Vec<HeaderName>) {
    let named = named_by_connection(&headers);
    let mut unlisted = Vec::new();
    let mut kept = retain(headers, |name| match pass.of(name) {
        Passing::Pass => !named.iter().any(|one| one == name.as_str()),
        Passing::Never => false,
        Passing::Unlisted => {
            unlisted.push(name.clone());
            false
        }
    });
    for (name, value) in pass.constants() {
        kept.insert(name.clone(), value.clone());
    }
    // Compressed answers would have to be decompressed to be searched for the secret. They are, if one comes.
    kept.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    (kept, unlisted)
}

/// The upstream's headers without all that must not travel, and without the secret. Gives how often it was there.
pub(super) fn strip_answer(headers: HeaderMap, needles: Option<&Needles>, decoded: bool) -> (HeaderMap, u64) {
    let named = named_by_connection(&headers);
    let stripped = |name: &str| {
        HOP_BY_HOP.contains(&name)
            || ANSWER_ONLY.contains(&name)
            // Ours, and so nobody else's.
            || name.starts_with("x-hallpass-")
            || CREDENTIALS.contains(&name)
            || (decoded && name == "content-encoding")
            || named.iter().any(|one| one == name)
    };
    let mut kept = retain(headers, |name| !stripped(name.as_str()));
    let mut redactions = 0;
    if let Some(needles) = needles {
        let named: Vec<_> = kept.keys().filter(|name| needles.in_name(name.as_str().as_bytes())).cloned().collect();
        for name in named {
            kept.remove(name);
            redactions += 1;
        }
        for value in kept.values_mut() {
            if let Some(clean) = needles.scrub_value(value.as_bytes()) {
                redactions += 1;
                *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static("[redacted by hallpass]"));
            }
        }
    }
    (kept, redactions)
}

/// Whether the answer's body is what it seems: compression below HTTP's content codings (`Transfer-Encoding: gzip`),
/// a delta (RFC 3229), or a character set in which ASCII looks otherwise would hide an echoed secret from the search.
pub(super) fn searchable(headers: &HeaderMap) -> Result<(), &'static str> {
    framed(headers)?;
    if headers.contains_key("im") {
        return Err("an instance manipulation (RFC 3229)");
    }
    // Whoever reads the answer may take any one of them.
    let mut labels = headers.get_all(header::CONTENT_TYPE).iter().flat_map(|value| charset::labels(value.as_bytes()));
    if labels.any(|label| !charset::is_searched(&label)) {
        return Err("a character set that is no superset of ASCII, or an unknown one");
    }
    Ok(())
}

/// Whether the body is framed by HTTP alone: what another transfer coding is has to be undone by whoever reads the
/// connection, which is us.
pub(super) fn framed(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut transfer = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked_or_none = transfer.next().is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !chunked_or_none || transfer.next().is_some() {
        return Err("a transfer coding other than chunked");
    }
    Ok(())
}

/// Headers that `Connection` names are hop-by-hop too (RFC 9110 §7.6.1).
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// Moves what `keep` says yes to; nothing is copied.
fn retain(headers: HeaderMap, mut keep: impl FnMut(&HeaderName) -> bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    let mut current = None;
    for (name, value) in headers {
        if name.is_some() {
            current = name;
        }
        if let Some(name) = current.as_ref().filter(|name| keep(name)) {
            kept.append(name.clone(), value);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
