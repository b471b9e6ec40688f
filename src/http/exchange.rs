//! `ANY /exchange/{upstream}/{path…}`: the brokered call.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Request, Uri};

use crate::audit::Priority;
use crate::broker::{Ask, CallBody, Refused};
use crate::http::problem::FromUpstream;
use crate::http::reply::Problem;
use crate::http::{PublicState, dpop, lost, resource};
use crate::listen::{Authenticated, Connection};
use crate::model::Origin;
use crate::model::authorization::{DPOP, proof_token};
use crate::policy::CompiledUpstream;

/// Whether this path is one of the exchange endpoint's, as its rows in the route table say.
pub(super) fn is_path(path: &str) -> bool {
    path.strip_prefix("/exchange/").is_some_and(|below| !below.is_empty())
}

/// No layer of axum stands before this: each would cost every call.
pub(super) async fn exchange(state: &PublicState, origin: &Origin, request: Request<CallBody>) -> Response {
    // The path as it came: nothing on the way here has decoded or cleaned it.
    let uri = request.uri().clone();
    let below = below(&uri);
    let (name, path) =
        below.split_once('/').map_or((below, ""), |(name, _)| (name, below.get(name.len()..).unwrap_or("")));
    let upstream = state.registry.definitions().upstream(name).cloned();
    let metadata = || resource::metadata_url(&state.issuer_url, uri.path());
    answer(state, origin, request, Asked { name, path, upstream, public_host: None }, metadata).await
}

/// What stands behind `/exchange/`.
fn below(uri: &Uri) -> &str {
    uri.path().strip_prefix("/exchange/").unwrap_or_default()
}

/// What is asked of which upstream.
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    /// Below the upstream, as it came.
    pub(super) path: &'a str,
    /// If there is one of this name.
    pub(super) upstream: Option<Arc<CompiledUpstream>>,
    /// `scheme://host[:port]` of the upstream itself, if the request came by it.
    pub(super) public_host: Option<Arc<str>>,
}

/// The brokered call by whatever address it came; `metadata` gives where a refused client learns who issues tokens.
pub(super) async fn answer(
    state: &PublicState,
    origin: &Origin,
    request: Request<CallBody>,
    asked: Asked<'_>,
    metadata: impl Fn() -> String,
) -> Response {
    let (parts, body) = request.into_parts();
    let is_spoken = dpop::is_spoken(&parts.headers);
    let has_proof = parts.headers.contains_key(DPOP);
    let by_proof = proof_token(&parts.headers).is_some();
    let connection = parts.extensions.get::<Connection>();
    let Asked { name, path, upstream, public_host } = asked;
    let ask = Ask {
        name,
        upstream,
        path,
        query: parts.uri.query(),
        method: parts.method,
        headers: parts.headers,
        body,
        url: format!("{}{}", public_host.as_deref().unwrap_or(&state.issuer_url), parts.uri.path()),
        certificate: connection.and_then(Connection::thumbprint),
        public_host,
        origin: origin.clone(),
        priority: if connection.is_some_and(|connection| connection.gives_way) {
            Priority::WithOthers
        } else {
            Priority::Now
        },
    };
    let mut is_authenticated = true;
    let mut answer = match state.broker.call(ask, &state.dpop).await {
        Ok(answer) => {
            let mut answer = answer.map(Body::new);
            answer.extensions_mut().insert(FromUpstream);
            answer
        }
        Err(refused) => {
            is_authenticated = refused.is_authenticated();
            let problem = problem_of(state, refused, below(&parts.uri), has_proof, &origin.request);
            let problem = problem.with_resource_metadata(&metadata());
            // Libraries for DPoP look for the one challenge that is theirs.
            let problem = if by_proof { problem } else { problem.with_password_place() };
            problem.into_response()
        }
    };
    if is_authenticated {
        answer.extensions_mut().insert(Authenticated);
    }
    dpop::with_nonce(state, is_spoken, answer)
}

/// `below`: what stood behind `/exchange/`. `has_proof`: whether a DPoP proof came.
fn problem_of(state: &PublicState, refused: Refused, below: &str, has_proof: bool, id: &Arc<str>) -> Problem {
    match refused {
        Refused::NoToken => Problem::no_token(has_proof, id),
        Refused::Ambiguous(error) | Refused::Malformed(error) => Problem::new(error, id),
        Refused::Token { refusal, place } => Problem::of_token(refusal, id).about(place),
        Refused::Proof { refusal, url, place } => Problem::of_proof(refusal, &url, id).about(place),
        Refused::NoUpstream(claims) => Problem::new(lost::no_such_upstream(state, &claims, below), id),
        Refused::Call { error, scheme } => Problem::of_call(error, scheme, id),
    }
}
