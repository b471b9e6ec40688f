//! Metadata (RFC 8414) and the JWKS.

use axum::Json;
use axum::extract::State as AxumState;
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use hallpass_verify::DPOP_ALGORITHMS;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use serde_json::json;

use crate::http::State;

/// How long a JWKS may be kept. A new key is published at least an hour before it signs (`keys.publish_ahead_hours`).
const JWKS_MAX_AGE: HeaderValue = HeaderValue::from_static("public, max-age=300, must-revalidate");

pub(super) async fn metadata(AxumState(state): AxumState<State>) -> Response {
    let issuer = &*state.issuer_url;
    let methods = ["client_secret_basic", "client_secret_post"];
    let body = json!({
        "issuer": issuer,
        // RFC 8414 §2 lets a server without such a grant leave it out. The MCP SDKs refuse metadata without it.
        "authorization_endpoint": format!("{issuer}/oauth2/authorize"),
        "token_endpoint": format!("{issuer}/oauth2/token"),
        "introspection_endpoint": format!("{issuer}/oauth2/introspect"),
        "revocation_endpoint": format!("{issuer}/oauth2/revoke"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "grant_types_supported": ["client_credentials"],
        // REQUIRED by RFC 8414 §2, and empty: the authorization endpoint gives nothing to anybody.
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        // RFC 9449 §5.1
        "dpop_signing_alg_values_supported": DPOP_ALGORITHMS,
        "hallpass_exchange_endpoint": format!("{issuer}/exchange"),
        "hallpass_revocations_endpoint": format!("{issuer}/revocations"),
    });
    ([(CACHE_CONTROL, "public, max-age=300")], Json(body)).into_response()
}

pub(super) async fn jwks(AxumState(state): AxumState<State>, headers: HeaderMap) -> Response {
    let keys = state.registry.keys();
    let digest = ring::digest::digest(&ring::digest::SHA256, keys.jwks().as_bytes());
    let etag = format!("\"{}\"", HEXLOWER.encode(digest.as_ref().get(..16).unwrap_or_default()));
    let mut response = if is_current(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, "application/jwk-set+json")], keys.jwks().to_string()).into_response()
    };
    response.headers_mut().insert(CACHE_CONTROL, JWKS_MAX_AGE);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

/// Whether `If-None-Match` names this entity tag (RFC 9110 §13.1.2).
pub(super) fn is_current(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|one| matches!(one.trim(), "*") || one.trim().trim_start_matches("W/") == etag)
}
