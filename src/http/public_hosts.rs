//! Host names of upstreams at the public listener (`public_hosts`): a request to one of them is a brokered call of that
//! upstream, with its path as it is. Every check of the exchange endpoint holds, and nothing else of the broker is there.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::header::HOST;
use http::uri::Authority;
use http::{Method, Request};
use url::Url;

use crate::broker::CallBody;
use crate::error::Error;
use crate::http::exchange::{self, Asked};
use crate::http::reply::Problem;
use crate::http::{PublicState, resource};
use crate::model::Origin;
use crate::policy::CompiledUpstream;

/// Where OAuth libraries look for a resource's metadata (RFC 9728 §3.1).
const METADATA: &str = "/.well-known/oauth-protected-resource";

/// An upstream as it was reached by a host name of its own.
#[derive(Debug, Clone)]
pub(super) struct AtPublicHost {
    pub(super) upstream: Arc<CompiledUpstream>,
    /// `scheme://host[:port]`: from the definition and the issuer, never from the request.
    pub(super) origin: Arc<str>,
}

/// The upstream that a request's own host name means, if it means one. Only `:authority`, the authority of an absolute
/// target, and `Host` count: what a proxy says of another host (`X-Forwarded-Host`) anybody can say.
pub(super) fn of<B>(state: &PublicState, request: &Request<B>) -> Option<AtPublicHost> {
    if !state.registry.definitions().has_public_hosts() {
        return None;
    }
    if let Some(authority) = request.uri().authority() {
        return at(state, authority);
    }
    let authority = Authority::try_from(request.headers().get(HOST)?.as_bytes()).ok()?;
    at(state, &authority)
}

/// The upstream whose public host this is.
pub(super) fn at(state: &PublicState, authority: &Authority) -> Option<AtPublicHost> {
    let issuer = Url::parse(&state.issuer_url).ok()?;
    let definitions = state.registry.definitions();
    let (upstream, origin) = definitions.at_public_host(&issuer, authority.host(), authority.port_u16())?;
    Some(AtPublicHost { upstream: upstream.clone(), origin: origin.into() })
}

/// Answers a request that came to an upstream's own host name.
pub(super) async fn answer(
    state: &PublicState,
    origin: &Origin,
    request: Request<CallBody>,
    place: AtPublicHost,
) -> Response {
    let uri = request.uri().clone();
    if uri.path() == METADATA {
        // What a 401 here points to. The upstream's own document would name another issuer.
        return match *request.method() {
            Method::GET | Method::HEAD => resource::metadata_of(state, &place.origin),
            _ => {
                let error = Error::method_not_allowed("method_not_allowed", "this path takes GET");
                Problem::new(error, &origin.request).into_response()
            }
        };
    }
    let metadata = || format!("{}{METADATA}", place.origin);
    let asked = Asked {
        name: place.upstream.name(),
        // HTTP has no emptier path (RFC 9110 §4.2.3): what is meant is the base URL itself, as it was written.
        path: if uri.path() == "/" { "" } else { uri.path() },
        upstream: Some(place.upstream.clone()),
        public_host: Some(place.origin.clone()),
    };
    exchange::answer(state, origin, request, asked, metadata).await
}
