//! `POST /oauth2/token`: client credentials (RFC 6749 §4.4) and token exchange (RFC 8693 §2).

use axum::extract::{Request, State as AxumState};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;
use zeroize::Zeroizing;

use crate::http::PublicState;
use crate::http::dpop;
use crate::http::extract::{Form, RequestId, caller, origin};
use crate::http::reply::{OAuthError, no_store};
use crate::issue::{ExchangeRequest, IssuedToken, Presented, TokenError, TokenRequest, TokenType};

/// The grant type of RFC 8693 §2.1.
pub(super) const GRANT_TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// RFC 7523 §2.1.
pub(super) const JWT_BEARER_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

pub(super) async fn token(
    AxumState(state): AxumState<PublicState>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Response {
    let is_spoken = dpop::is_spoken(request.headers());
    let answer = answer(&state, request).await.map_err(|error| OAuthError::new(error, &id.0)).into_response();
    dpop::with_nonce(&state, is_spoken, answer)
}

async fn answer(state: &PublicState, request: Request) -> Result<Response, TokenError> {
    let (parts, form) = Form::read(request, state.form_timeout).await?;
    let (mut caller, origin) = (caller(&parts, &form)?, origin(&parts.extensions));
    caller.proof = dpop::of_token_request(state, &parts)?;
    let is_exchange = match form.get("grant_type") {
        Some("client_credentials") => false,
        Some(GRANT_TOKEN_EXCHANGE) => true,
        // RFC 7523 §2.1: the workload's own token is the grant, and says who the client is.
        Some(JWT_BEARER_GRANT) => {
            caller.presented = grant(&form, &caller.presented)?;
            false
        }
        Some(_) => return Err(TokenError::UnsupportedGrantType),
        None => return Err(TokenError::InvalidRequest("grant_type is missing; send client_credentials".into())),
    };
    let session_expires_in = match form.get("session_expires_in") {
        Some(text) => Some(
            text.parse().map_err(|_| TokenError::InvalidRequest("session_expires_in is a number of seconds".into()))?,
        ),
        None => None,
    };
    let mut request = TokenRequest {
        scope: form.take("scope"),
        resources: form.all("resource"),
        session_id: form.take("session_id"),
        session_expires_in,
        task: form.take("task"),
        purpose: form.take("purpose"),
    };
    // RFC 8693 §2.1, and clients of other servers with any grant: where it is to be used, by URI or by a name. The names of
    // APIs here are URIs. Passed over, the token would be one for another audience than the client thinks.
    request.resources.extend(form.all("audience"));
    if !is_exchange {
        let issued = state.issuer.token(&caller, &request, &origin).await?;
        return Ok(render(&issued, None));
    }
    let request = exchange(&form, request)?;
    let (issued, kind) = state.issuer.exchange(&caller, &request, &origin).await?;
    Ok(render(&issued, Some(kind)))
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

/// RFC 8693 §2.1.
fn exchange(form: &Form, token: TokenRequest) -> Result<ExchangeRequest, TokenError> {
    let missing = |name: &str| TokenError::InvalidRequest(format!("{name} is missing"));
    let secret = |name: &str| form.take(name).map(Zeroizing::new);
    Ok(ExchangeRequest {
        subject_token: secret("subject_token").ok_or_else(|| missing("subject_token"))?,
        subject_token_type: form.take("subject_token_type").ok_or_else(|| missing("subject_token_type"))?,
        actor_token: secret("actor_token"),
        actor_token_type: form.take("actor_token_type"),
        requested_token_type: form.take("requested_token_type"),
        token,
    })
}

/// `exchanged`: the type that it was exchanged into (RFC 8693 §2.2.1).
fn render(issued: &IssuedToken, exchanged: Option<TokenType>) -> Response {
    // RFC 9449 §5. A token that is bound to a certificate stays a Bearer one (RFC 8705 §3).
    let is_dpop = issued.cnf.as_ref().is_some_and(|cnf| cnf.jkt.is_some());
    let mut body = json!({
        "access_token": issued.token,
        "token_type": if is_dpop { "DPoP" } else { "Bearer" },
        "expires_in": issued.expires_in,
        "scope": issued.scope,
        "session_id": &*issued.session,
        "session_expires_in": issued.session_expires_in,
    });
    if let (Some(kind), Some(body)) = (exchanged, body.as_object_mut()) {
        body.insert("issued_token_type".into(), kind.as_str().into());
    }
    let mut response = Json(body).into_response();
    no_store(response.headers_mut());
    response
}
