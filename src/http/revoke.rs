//! `POST /oauth2/revoke` (RFC 7009): an agent takes back a token of its own.

use axum::Extension;
use axum::extract::{Request, State as AxumState};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::http::PublicState;
use crate::http::extract::{Form, RequestId, caller, origin};
use crate::http::reply::{OAuthError, no_store};
use crate::issue::TokenError;

pub(super) async fn revoke(
    AxumState(state): AxumState<PublicState>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Response, OAuthError> {
    answer(&state, request).await.map_err(|error| OAuthError::new(error, &id.0))
}

async fn answer(state: &PublicState, request: Request) -> Result<Response, TokenError> {
    let (parts, form) = Form::read(request, state.form_timeout).await?;
    let (caller, origin) = (caller(&parts, &form)?, origin(&parts.extensions));
    let agent = state.issuer.client(&caller, Some("revoke"), &origin).await?;
    // §2.1: `token_type_hint` is a hint; there is one place to look.
    let token = form.get("token").ok_or_else(|| TokenError::InvalidRequest("token is missing".into()))?;
    state.issuer.revoke_own(&agent, token, &origin).await?;
    let mut response = StatusCode::OK.into_response();
    no_store(response.headers_mut());
    Ok(response)
}
