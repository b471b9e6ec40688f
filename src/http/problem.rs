//! What a refusal of ours looks like on the wire: RFC 9457, and what SDKs of other APIs look for.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::{Map, Value, json};

use crate::http::accept;

/// Says whether an answer is ours or the upstream's: an agent that takes the upstream's 401 for ours would renew a good
/// token for ever.
pub(super) const SOURCE: HeaderName = HeaderName::from_static("x-hallpass-source");

/// In the extensions of an answer that is the upstream's. Headers prove nothing: an upstream writes what it likes into them.
#[derive(Debug, Clone, Copy)]
pub(super) struct FromUpstream;

/// In the extensions of an answer whose body is problem details.
#[derive(Debug, Clone, Copy)]
struct IsProblem;

/// Problem details: the members of RFC 9457, `code` and `request_id`, and then what SDKs read. Those of Stripe, OpenAI and
/// Anthropic throw on `error` and show its `message`; GitHub's shows `message`. Without these they resolve, or say "403".
pub(super) fn problem(
    status: StatusCode,
    code: &str,
    message: &str,
    request_id: &str,
    more: Map<String, Value>,
) -> Response {
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": code,
        "detail": message,
        "request_id": request_id,
        "message": message,
        "error": { "type": kind(status), "code": code, "message": message },
    });
    if let Some(members) = body.as_object_mut() {
        members.extend(more);
    }
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(accept::PROBLEM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response.extensions_mut().insert(IsProblem);
    response
}

/// `error.type`, in the words that the APIs of Anthropic, OpenAI and Stripe have for it.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    }
}

/// Calls a problem by the name under which its reader takes it.
pub(super) fn name_for(name: &'static str, response: &mut Response) {
    if response.extensions().get::<IsProblem>().is_some() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(name));
    }
}

/// Says whose answer it is.
pub(super) fn say_source(response: &mut Response) {
    let is_theirs = response.extensions().get::<FromUpstream>().is_some();
    let source = HeaderValue::from_static(if is_theirs { "upstream" } else { "broker" });
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(SOURCE, source);
}
