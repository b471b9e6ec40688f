//! Metadata of the exchange endpoint (RFC 9728), where OAuth libraries learn who issues tokens for it.

use axum::extract::{Path, State as AxumState};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hallpass_verify::DPOP_ALGORITHMS;
use http::header::CACHE_CONTROL;
use serde_json::json;

use crate::http::PublicState;
use crate::http::extract::RequestId;
use crate::http::front::no_such_route;
use crate::model::check_name;

/// Of the exchange endpoint as a whole.
pub(super) async fn metadata(AxumState(state): AxumState<PublicState>) -> Response {
    render(&state, "")
}

/// Of the exchange endpoint, or of one upstream behind it: the resource's path stands after the well-known part
/// (RFC 9728 §3.1), with the issuer's own path before it where it has one.
pub(super) async fn metadata_at(
    AxumState(state): AxumState<PublicState>,
    Extension(id): Extension<RequestId>,
    Path(path): Path<String>,
) -> Response {
    let issuer = &*state.issuer_url;
    let own = issuer.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, own)| own);
    let below = path.strip_prefix(own).and_then(|below| below.strip_prefix('/')).unwrap_or(&path);
    if below == "exchange" {
        return render(&state, "");
    }
    // Every name is answered alike: whoever has no token does not learn here which upstreams there are.
    match below.strip_prefix("exchange/").filter(|name| check_name("upstream", name).is_ok()) {
        Some(name) => render(&state, &format!("/{name}")),
        None => no_such_route(Extension(id)).await.into_response(),
    }
}

fn render(state: &PublicState, below: &str) -> Response {
    metadata_of(state, &format!("{}/exchange{below}", state.issuer_url))
}

/// Of this resource. It is the URL that the client used, or the client must not trust the document (RFC 9728 §3.3): an
/// upstream that is reached by a host name of its own is a resource by that name.
pub(super) fn metadata_of(state: &PublicState, resource: &str) -> Response {
    let issuer = &*state.issuer_url;
    let body = json!({
        "resource": resource,
        "resource_name": "Hallpass exchange",
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": DPOP_ALGORITHMS,
        "tls_client_certificate_bound_access_tokens": state.sees_certificates,
    });
    ([(CACHE_CONTROL, "public, max-age=300")], Json(body)).into_response()
}

/// Where a refused call finds the metadata of what it called (RFC 9728 §5.1). `path` is the call's: what is not a name
/// in it does not come back in a header.
pub(super) fn metadata_url(issuer: &str, path: &str) -> String {
    let name = path.strip_prefix("/exchange/").and_then(|rest| rest.split('/').next());
    let url = format!("{issuer}/.well-known/oauth-protected-resource/exchange");
    match name.filter(|name| check_name("upstream", name).is_ok()) {
        Some(name) => format!("{url}/{name}"),
        None => url,
    }
}
