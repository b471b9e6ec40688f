//! `POST /oauth2/token` (RFC 6749 §4.4).

use axum::extract::{Request, State as AxumState};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use crate::http::State;
use crate::http::dpop;
use crate::http::extract::{Form, RequestId, caller};
use crate::http::reply::{OAuthError, no_store};
use crate::issue::{IssuedToken, TokenError, TokenRequest};

pub(super) async fn token(
    AxumState(state): AxumState<State>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Response {
    let is_spoken = dpop::is_spoken(request.headers());
    let answer = answer(&state, &id, request).await.map_err(|error| OAuthError::new(error, &id.0)).into_response();
    dpop::with_nonce(&state, is_spoken, answer)
}

async fn answer(state: &State, id: &RequestId, request: Request) -> Result<Response, TokenError> {
    let (parts, form) = Form::read(request, state.config.listen.header_timeout).await?;
    let mut caller = caller(&parts, &form)?;
    caller.proof = dpop::of_token_request(state, &parts)?;
    match form.get("grant_type") {
        Some("client_credentials") => {}
        Some(_) => return Err(TokenError::UnsupportedGrantType),
        None => return Err(TokenError::InvalidRequest("grant_type is missing; send client_credentials".into())),
    }
    let session_expires_in = match form.get("session_expires_in") {
        Some(text) => Some(
            text.parse().map_err(|_| TokenError::InvalidRequest("session_expires_in is a number of seconds".into()))?,
        ),
        None => None,
    };
    let request = TokenRequest {
        scope: form.take("scope"),
        resources: form.all("resource"),
        session_id: form.take("session_id"),
        session_expires_in,
        task: form.take("task"),
        purpose: form.take("purpose"),
    };
    let issued = state.issuer.token(&caller, &request, &id.0).await?;
    Ok(render(&issued))
}

fn render(issued: &IssuedToken) -> Response {
    // RFC 9449 §5. A token that is bound to a certificate stays a Bearer one (RFC 8705 §3).
    let is_dpop = issued.cnf.as_ref().is_some_and(|cnf| cnf.jkt.is_some());
    let body = json!({
        "access_token": issued.token,
        "token_type": if is_dpop { "DPoP" } else { "Bearer" },
        "expires_in": issued.expires_in,
        "scope": issued.scope,
        "session_id": &*issued.session,
        "session_expires_in": issued.session_expires_in,
    });
    let mut response = Json(body).into_response();
    no_store(response.headers_mut());
    response
}
