//! `ANY /exchange/{upstream}/{path…}`: the brokered call.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State as AxumState};
use axum::response::{IntoResponse, Response};
use hallpass_verify::{DpopRefusal, Possession};
use http_body_util::BodyExt as _;

use crate::audit::Haste;
use crate::broker::{BodyError, Call};
use crate::error::Error;
use crate::http::State;
use crate::http::extract::{RequestId, agent_token, token_stays_here};
use crate::http::problem::FromUpstream;
use crate::http::reply::Problem;
use crate::http::strangers::Known;
use crate::http::{dpop, resource};
use crate::model::Target;

pub(super) async fn exchange(
    AxumState(state): AxumState<State>,
    Extension(RequestId(id)): Extension<RequestId>,
    request: Request,
) -> Response {
    let is_spoken = dpop::is_spoken(request.headers());
    let uri = request.uri().clone();
    let mut is_known = false;
    let answer = brokered(&state, &id, request, &mut is_known).await;
    let metadata = || resource::metadata_url(&state.issuer_url, uri.path());
    let mut answer = answer.map_err(|problem| problem.with_resource_metadata(&metadata())).into_response();
    if is_known {
        answer.extensions_mut().insert(Known);
    }
    dpop::with_nonce(&state, is_spoken, answer)
}

/// `is_known`: whether the caller showed a good token, whatever comes of the call.
async fn brokered(state: &State, id: &Arc<str>, request: Request, is_known: &mut bool) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let problem = |error: Error| Problem::new(error, id);

    // The path as it came: nothing on the way here has decoded or cleaned it.
    let below = parts.uri.path().strip_prefix("/exchange/").unwrap_or_default();
    let (name, path) =
        below.split_once('/').map_or((below, ""), |(name, _)| (name, below.get(name.len()..).unwrap_or("")));
    let upstream = state.registry.definitions().upstream(name).cloned();
    let injection = upstream.as_ref().map(|upstream| &upstream.definition().inject);

    // Who, before what: a stranger learns nothing of upstreams and paths.
    let mut target = Target::parse(path, parts.uri.query());
    let token = agent_token(&parts.headers, target.as_mut().ok(), injection).map_err(problem)?;
    let token = token.ok_or_else(|| Problem::no_token(id))?;
    let known = upstream.as_ref().map(|_| name);
    let expected = dpop::Expected::of(state, &parts);
    let claims = if token.by_proof {
        state.broker.authenticate_by_proof(&token.text, known, &state.dpop, &expected.request())
    } else {
        let possession = Possession { certificate: expected.request().certificate, proof: None };
        state.broker.authenticate(&token.text, known, &possession).map_err(DpopRefusal::Token)
    };
    let claims = match claims {
        Ok(claims) => {
            *is_known = true;
            claims
        }
        Err(refusal) => {
            state.broker.token_refused(&token.text, refusal, name, id).await;
            return Err(match refusal {
                DpopRefusal::Token(refusal) if !token.by_proof => Problem::of_token(refusal, id),
                refusal => Problem::of_proof(refusal, expected.url(), id),
            });
        }
    };

    let target = target.map_err(|error| problem(Error::invalid(error.code(), error.to_string())))?;
    let unknown = || {
        problem(Error::not_found(
            "upstream_unknown",
            "there is no upstream of this name; see the paths that the admin gave you",
        ))
    };
    let upstream = upstream.ok_or_else(unknown)?;
    token_stays_here(&token.text, &parts.headers, &target, Some(&upstream.definition().inject)).map_err(problem)?;
    let scheme = if token.by_proof { "DPoP" } else { "Bearer" };
    drop(token);

    let call = Call {
        claims,
        upstream,
        method: parts.method,
        target,
        headers: parts.headers,
        body: body.map_err(|_| BodyError::Broken).boxed_unsync(),
        request_id: id.clone(),
        haste: parts.extensions.get().copied().unwrap_or(Haste::Now),
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
