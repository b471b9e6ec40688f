//! `POST /oauth2/introspect` (RFC 7662), for agents that hold `hallpass:introspect`.

use std::sync::Arc;

use axum::extract::{Request, State as AxumState};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hallpass_verify::{Claims, Possession};
use http::request::Parts as RequestParts;
use serde_json::json;

use crate::http::PublicState;
use crate::http::dpop;
use crate::http::extract::{Form, RequestId, bearer, caller, origin, proof_token};
use crate::http::reply::{OAuthError, no_store};
use crate::issue::TokenError;
use crate::model::INTROSPECT_SCOPE;

pub(super) async fn introspect(
    AxumState(state): AxumState<PublicState>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Response {
    let is_spoken = dpop::is_spoken(request.headers());
    let answer = answer(&state, &id, request).await.into_response();
    dpop::with_nonce(&state, is_spoken, answer)
}

async fn answer(state: &PublicState, id: &RequestId, request: Request) -> Result<Response, OAuthError> {
    let refuse = |error| OAuthError::new(error, &id.0);
    let (parts, form) = Form::read(request, state.form_timeout).await.map_err(refuse)?;
    // §2.1: the endpoint must not be a place to try stolen tokens out.
    let holder = form.get("client_secret").is_none().then(|| holder(state, &parts, &id.0)).flatten();
    let allowed = match holder {
        Some(claims) => {
            let claims = claims?;
            state.issuer.keep_spent(&claims).await.map_err(|error| match error {
                TokenError::Proof(refusal) => OAuthError::of_proof(refusal.into(), &id.0),
                error => refuse(error),
            })?;
            if !state.issuer.token_may_introspect(&claims) {
                return Err(OAuthError::of_scope(INTROSPECT_SCOPE, &id.0));
            }
            true
        }
        None => {
            let caller = caller(&parts, &form).map_err(refuse)?;
            let agent =
                state.issuer.client(&caller, Some("introspect"), &origin(&parts.extensions)).await.map_err(refuse)?;
            state.issuer.may_introspect(&agent)
        }
    };
    if !allowed {
        let text = "this agent's roles do not give hallpass:introspect";
        return Err(refuse(TokenError::UnauthorizedClient(text.into())));
    }
    let token = form.get("token").ok_or_else(|| refuse(TokenError::InvalidRequest("token is missing".into())))?;
    let body = match state.issuer.introspect(token) {
        Ok(claims) => {
            let is_dpop = claims.cnf.as_ref().is_some_and(|cnf| cnf.jkt.is_some());
            let mut body = json!({
            "active": true,
            "iss": claims.iss,
            "sub": claims.sub,
            "client_id": claims.client_id,
            "aud": claims.aud,
            "exp": claims.exp,
            "iat": claims.iat,
            "jti": claims.jti,
            "scope": claims.scope,
            "sid": claims.sid,
            "cnf": claims.cnf,
            "act": claims.act,
            "sub_id": claims.sub_id,
            "token_type": if is_dpop { "DPoP" } else { "Bearer" },
            });
            if let Some(body) = body.as_object_mut() {
                body.retain(|_, value| !value.is_null());
            }
            body
        }
        // §2.2: nothing else, whatever the reason.
        Err(_) => json!({ "active": false }),
    };
    let mut response = Json(body).into_response();
    no_store(response.headers_mut());
    Ok(response)
}

/// The claims of the token that the caller introspects with, if there is one.
fn holder(state: &PublicState, parts: &RequestParts, id: &Arc<str>) -> Option<Result<Claims, OAuthError>> {
    let expected = dpop::Expected::of(state, parts);
    if let Some(token) = proof_token(&parts.headers) {
        let claims = state.issuer.introspector_by_proof(token, &state.dpop, &expected.request());
        return Some(claims.map_err(|refusal| OAuthError::of_proof(refusal, id)));
    }
    let token = bearer(&parts.headers)?;
    let possession = Possession { certificate: expected.request().certificate, proof: None };
    let claims = state.issuer.introspector(token, &possession);
    Some(claims.map_err(|refusal| OAuthError::of_bearer(refusal, id)))
}
