//! `ANY /exchange/{upstream}/{path…}`: the brokered call.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hallpass_verify::{DpopRefusal, Possession};
use http::{Request, Uri};

use crate::audit::Haste;
use crate::broker::{Call, Reached, StreamBody};
use crate::error::Error;
use crate::http::agent_token::{self, AgentToken, Found};
use crate::http::extract::proof_token;
use crate::http::problem::FromUpstream;
use crate::http::reply::Problem;
use crate::http::{PublicState, dpop, lost, resource};
use crate::listen::{Authenticated, Connection};
use crate::model::{Origin, Target};
use crate::policy::CompiledUpstream;

/// Whether this path is one of the exchange endpoint's, as its rows in the route table say.
pub(super) fn is_path(path: &str) -> bool {
    path.strip_prefix("/exchange/").is_some_and(|below| !below.is_empty())
}

/// No layer of axum stands before this: each would cost every call.
pub(super) async fn exchange(state: &PublicState, origin: &Origin, request: Request<StreamBody>) -> Response {
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
    request: Request<StreamBody>,
    asked: Asked<'_>,
    metadata: impl Fn() -> String,
) -> Response {
    let is_spoken = dpop::is_spoken(request.headers());
    let mut is_authenticated = false;
    let by_proof = proof_token(request.headers()).is_some();
    let answer = brokered(state, origin, request, asked, &mut is_authenticated).await;
    let answer = answer.map_err(|problem| {
        let problem = problem.with_resource_metadata(&metadata());
        // Libraries for DPoP look for the one challenge that is theirs.
        if by_proof { problem } else { problem.with_password_place() }
    });
    let mut answer = answer.into_response();
    if is_authenticated {
        answer.extensions_mut().insert(Authenticated);
    }
    dpop::with_nonce(state, is_spoken, answer)
}

/// `is_authenticated`: whether the caller showed a good token, whatever comes of the call.
async fn brokered(
    state: &PublicState,
    origin: &Origin,
    request: Request<StreamBody>,
    asked: Asked<'_>,
    is_authenticated: &mut bool,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let gives_way = parts.extensions.get::<Connection>().is_some_and(|connection| connection.gives_way);
    let Asked { name, path, upstream, public_host } = asked;
    let id = &origin.request;
    let problem = |error: Error| Problem::new(error, id);

    // Who, before what: a stranger learns nothing of upstreams and paths.
    let mut target = Target::parse(path, parts.uri.query());
    let definition = upstream.as_ref().map(|upstream| upstream.definition());
    let ours = |text: &str| state.broker.is_claimed(text);
    let found = agent_token::take(&mut parts.headers, target.as_mut().ok(), definition, ours).map_err(problem)?;
    let known = upstream.as_ref().map(|_| name);
    let token = match found {
        Found::Token(token) => token,
        Found::Nothing => return Err(Problem::no_token(dpop::is_spoken(&parts.headers), id)),
        Found::Differ(tokens) => return Err(differ(state, &tokens, known, name, origin).await),
    };
    let expected = dpop::Expected::at(public_host.as_deref().unwrap_or(&state.issuer_url), &parts);
    let claims = if token.by_proof() {
        state.broker.authenticate_by_proof(&token.text, known, &state.dpop, &expected.request())
    } else {
        let possession = Possession { certificate: expected.request().certificate, proof: None };
        state.broker.authenticate(&token.text, known, &possession).map_err(DpopRefusal::Token)
    };
    let claims = match claims {
        Ok(claims) => {
            *is_authenticated = true;
            claims
        }
        Err(refusal) => {
            state.broker.token_refused(&token.text, refusal, name, origin).await;
            let problem = match refusal {
                DpopRefusal::Token(refusal) if !token.by_proof() => Problem::of_token(refusal, id),
                refusal => Problem::of_proof(refusal, expected.url(), id),
            };
            return Err(problem.about(token.where_it_stood()));
        }
    };

    let target = target.map_err(|error| problem(Error::invalid(error.code(), error.to_string())))?;
    let upstream = upstream.ok_or_else(|| problem(lost::no_such_upstream(state, &claims, below(&parts.uri))))?;
    agent_token::stays_here(&token.text, &parts.headers, &target).map_err(problem)?;
    let by_authorization = token.only_in_authorization();
    let scheme = if token.by_proof() { "DPoP" } else { "Bearer" };
    drop(token);

    let call = Call {
        claims,
        upstream,
        method: parts.method,
        target,
        headers: parts.headers,
        body,
        origin: origin.clone(),
        haste: if gives_way { Haste::WithOthers } else { Haste::Now },
        reached: Reached { public_host, by_authorization },
    };
    match state.broker.call(call).await {
        Ok(answer) => {
            let mut answer = answer.map(Body::new).into_response();
            answer.extensions_mut().insert(FromUpstream);
            Ok(answer)
        }
        Err(error) => Err(Problem::of_call(error, scheme, id)),
    }
}

/// Tokens of ours that differ. A bad one among them is what is told: whoever renews it sends two that are alike again.
async fn differ(
    state: &PublicState,
    tokens: &[AgentToken],
    known: Option<&str>,
    name: &str,
    origin: &Origin,
) -> Problem {
    let id = &origin.request;
    for token in tokens {
        if let Some(refusal) = state.broker.refusal_of(&token.text, known) {
            state.broker.token_refused(&token.text, DpopRefusal::Token(refusal), name, origin).await;
            return Problem::of_token(refusal, id).about(Some(token.place.to_string()));
        }
    }
    let places: Vec<String> = tokens.iter().map(|token| token.place.to_string()).collect();
    let text = format!("there are tokens that differ, in {}; send one of them", places.join(" and "));
    Problem::new(Error::invalid("token_twice", text), id)
}
