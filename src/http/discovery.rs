//! Metadata (RFC 8414) and the JWKS.

use axum::Json;
use axum::extract::State as AxumState;
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use hallpass_verify::DPOP_ALGORITHMS;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use serde_json::{Map, json};

use crate::config::ClientAuth;
use crate::http::PublicState;
use crate::http::token::{GRANT_TOKEN_EXCHANGE, JWT_BEARER_GRANT};

/// How long a JWKS may be kept. A new key is published at least an hour before it signs (`keys.publish_ahead_hours`).
const JWKS_MAX_AGE: HeaderValue = HeaderValue::from_static("public, max-age=300, must-revalidate");

pub(super) async fn metadata(AxumState(state): AxumState<PublicState>) -> Response {
    let issuer = &*state.issuer_url;
    let config = &state.client_auth;
    let sees_certificates = state.sees_certificates;
    let methods = methods(config, sees_certificates);
    let mut body = json!({
        "issuer": issuer,
        // RFC 8414 §2 lets a server without such a grant leave it out. The MCP SDKs refuse metadata without it.
        "authorization_endpoint": format!("{issuer}/oauth2/authorize"),
        "token_endpoint": format!("{issuer}/oauth2/token"),
        "introspection_endpoint": format!("{issuer}/oauth2/introspect"),
        "revocation_endpoint": format!("{issuer}/oauth2/revoke"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "grant_types_supported": grants(config),
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
    // RFC 8414 §2: there when, and only when, some method takes signed assertions.
    if config.allows("private_key_jwt") || config.allows("federated") {
        let algorithms: Vec<_> = config.assertion_algorithms.iter().map(|one| one.as_str()).collect();
        if let Some(body) = body.as_object_mut() {
            body.extend(
                ["token", "introspection", "revocation"].map(|endpoint| {
                    (format!("{endpoint}_endpoint_auth_signing_alg_values_supported"), json!(algorithms))
                }),
            );
        }
    }
    // RFC 8705 §3.3, §5. The aliases are the endpoints themselves: a certificate is asked for on the one port there is.
    let endpoints = ["token", "introspection", "revocation"].map(|name| format!("{name}_endpoint"));
    let aliases: Map<_, _> =
        endpoints.iter().filter_map(|name| Some((name.clone(), body.get(name)?.clone()))).collect();
    if let Some(body) = body.as_object_mut().filter(|_| sees_certificates) {
        body.insert("mtls_endpoint_aliases".into(), aliases.into());
        body.insert("tls_client_certificate_bound_access_tokens".into(), true.into());
        body.insert("hallpass_certificate_endpoint".into(), format!("{issuer}/oauth2/certificate").into());
    }
    ([(CACHE_CONTROL, "public, max-age=300")], Json(body)).into_response()
}

/// By their registered names (OpenID Connect Core §9, RFC 8705 §2.1.1, draft-ietf-oauth-spiffe-client-auth). A federated
/// token comes as an assertion, too, and has no name of its own.
fn methods(config: &ClientAuth, sees_certificates: bool) -> Vec<&'static str> {
    let mut names: Vec<(&str, &[&str])> = vec![
        ("client_secret", &["client_secret_basic", "client_secret_post"]),
        ("private_key_jwt", &["private_key_jwt"]),
        ("spiffe", &["spiffe_jwt"]),
    ];
    if sees_certificates {
        names.push(("tls_client_auth", &["tls_client_auth"]));
        names.push(("self_signed_tls_client_auth", &["self_signed_tls_client_auth"]));
    }
    let names = names.into_iter().filter(|(setting, _)| config.allows(setting));
    names.flat_map(|(_, names)| names.iter().copied()).collect()
}

fn grants(config: &ClientAuth) -> Vec<&'static str> {
    let federated = config.allows("federated").then_some(JWT_BEARER_GRANT);
    ["client_credentials", GRANT_TOKEN_EXCHANGE].into_iter().chain(federated).collect()
}

pub(super) async fn jwks(AxumState(state): AxumState<PublicState>, headers: HeaderMap) -> Response {
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
