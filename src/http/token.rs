//! `POST /oauth2/token` (RFC 6749 §4.4).

use axum::extract::{Request, State as AxumState};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;
use zeroize::Zeroizing;

use crate::http::State;
use crate::http::extract::{Form, RequestId, caller};
use crate::http::reply::{OAuthError, no_store};
use crate::issue::{IssuedToken, Presented, TokenError, TokenRequest};

/// RFC 7523 §2.1.
pub(super) const JWT_BEARER_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

pub(super) async fn token(
    AxumState(state): AxumState<State>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Response, OAuthError> {
    answer(&state, &id, request).await.map_err(|error| OAuthError::new(error, &id.0))
}

async fn answer(state: &State, id: &RequestId, request: Request) -> Result<Response, TokenError> {
    let (parts, form) = Form::read(request, state.config.listen.header_timeout).await?;
    let mut caller = caller(&parts, &form)?;
    match form.get("grant_type") {
        Some("client_credentials") => {}
        // RFC 7523 §2.1: the workload's own token is the grant, and says who the client is.
        Some(JWT_BEARER_GRANT) => caller.presented = grant(&form, &caller.presented)?,
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

fn grant(form: &Form, presented: &Presented) -> Result<Presented, TokenError> {
    let invalid = |text: &str| TokenError::InvalidRequest(text.into());
    // Of two, one could be somebody else's; which one counts, nobody knows (RFC 6749 §2.3).
    if matches!(presented, Presented::Secret { .. } | Presented::Assertion { .. }) {
        return Err(invalid("the assertion is the authentication here; send no other"));
    }
    let assertion = form.take("assertion").ok_or_else(|| invalid("assertion is missing"))?;
    Ok(Presented::Grant { id: form.take("client_id"), assertion: Zeroizing::new(assertion) })
}

fn render(issued: &IssuedToken) -> Response {
    let body = json!({
        "access_token": issued.token,
        "token_type": "Bearer",
        "expires_in": issued.expires_in,
        "scope": issued.scope,
        "session_id": &*issued.session,
        "session_expires_in": issued.session_expires_in,
    });
    let mut response = Json(body).into_response();
    no_store(response.headers_mut());
    response
}
