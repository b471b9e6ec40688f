//! `POST /oauth2/certificate`: an agent renews the certificate that this broker issued to it, over mTLS itself.

use axum::extract::{Request, State as AxumState};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use crate::http::PublicState;
use crate::http::extract::{Form, RequestId, caller, origin};
use crate::http::reply::{OAuthError, no_store};
use crate::issue::TokenError;

pub(super) async fn renew(
    AxumState(state): AxumState<PublicState>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Response, OAuthError> {
    answer(&state, request).await.map_err(|error| OAuthError::new(error, &id.0))
}

async fn answer(state: &PublicState, request: Request) -> Result<Response, TokenError> {
    let (parts, form) = Form::read(request, state.form_timeout).await?;
    let (caller, origin) = (caller(&parts, &form)?, origin(&parts.extensions));
    let agent = state.issuer.client(&caller, Some("certificate"), &origin).await?;
    let csr = form
        .get("csr")
        .ok_or_else(|| TokenError::InvalidRequest("csr is missing; send a certification request in PEM".into()))?;
    let issued = state.issuer.renew(&agent, &caller, csr, &origin).await?;
    let body = json!({
        "certificate": issued.pem,
        "serial": issued.serial,
        "expires_at": issued.expires_at,
    });
    let mut response = Json(body).into_response();
    no_store(response.headers_mut());
    Ok(response)
}
