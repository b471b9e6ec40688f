//! Metadata of the issuer (RFC 8414) and of the exchange endpoint (RFC 9728), and the JWKS.

use axum::extract::{Path, State as AxumState};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use data_encoding::HEXLOWER;
use hallpass_verify::DPOP_ALGORITHMS;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use serde_json::json;

use crate::error::Error;
use crate::http::State;
use crate::http::extract::{RequestId, no_such_route};
use crate::http::reply::Problem;
use crate::model::check_name;

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

/// The authorization endpoint, which is there to be named in the metadata. It redirects nowhere: no `redirect_uri` is
/// registered, and one that is not must not be followed (RFC 6749 §4.1.2.1).
pub(super) async fn authorize(Extension(RequestId(id)): Extension<RequestId>) -> Problem {
    let advice =
        "nobody is asked for consent here; an agent gets its token at the token endpoint, by client_credentials";
    Problem::new(Error::invalid("unsupported_response_type", advice), &id)
}

/// Of the exchange endpoint as a whole.
pub(super) async fn resource(AxumState(state): AxumState<State>) -> Response {
    resource_metadata(&state.issuer_url, "")
}

/// Of the exchange endpoint, or of one upstream behind it: the resource's path stands after the well-known part
/// (RFC 9728 §3.1), with the issuer's own path before it where it has one.
pub(super) async fn resource_at(
    AxumState(state): AxumState<State>,
    Extension(id): Extension<RequestId>,
    Path(path): Path<String>,
) -> Response {
    let issuer = &*state.issuer_url;
    let own = issuer.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, own)| own);
    let below = path.strip_prefix(own).and_then(|below| below.strip_prefix('/')).unwrap_or(&path);
    if below == "exchange" {
        return resource_metadata(issuer, "");
    }
    // Every name is answered alike: whoever has no token does not learn here which upstreams there are.
    match below.strip_prefix("exchange/").filter(|name| check_name("upstream", name).is_ok()) {
        Some(name) => resource_metadata(issuer, &format!("/{name}")),
        None => no_such_route(Extension(id)).await.into_response(),
    }
}

fn resource_metadata(issuer: &str, below: &str) -> Response {
    let body = json!({
        "resource": format!("{issuer}/exchange{below}"),
        "resource_name": "Hallpass exchange",
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": DPOP_ALGORITHMS,
    });
    ([(CACHE_CONTROL, "public, max-age=300")], Json(body)).into_response()
}

/// Where a refused call finds the metadata of what it called (RFC 9728 §5.1). `path` is the call's: what is not a name
/// in it does not come back in a header.
pub(super) fn resource_metadata_url(issuer: &str, path: &str) -> String {
    let name = path.strip_prefix("/exchange/").and_then(|rest| rest.split('/').next());
    let url = format!("{issuer}/.well-known/oauth-protected-resource/exchange");
    match name.filter(|name| check_name("upstream", name).is_ok()) {
        Some(name) => format!("{url}/{name}"),
        None => url,
    }
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
