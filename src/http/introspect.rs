//! `POST /oauth2/introspect` (RFC 7662), for agents that hold `hallpass:introspect`.

use axum::extract::{Request, State as AxumState};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hallpass_verify::Possession;
use serde_json::json;

use crate::http::State;
use crate::http::connection::Connection;
use crate::http::extract::{Form, RequestId, bearer, caller};
use crate::http::reply::{OAuthError, no_store};
use crate::issue::TokenError;
use crate::model::INTROSPECT_SCOPE;

pub(super) async fn introspect(
    AxumState(state): AxumState<State>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Response, OAuthError> {
    let refuse = |error| OAuthError::new(error, &id.0);
    let (parts, form) = Form::read(request, state.config.listen.header_timeout).await.map_err(refuse)?;
    // §2.1: the endpoint must not be a place to try stolen tokens out.
    let allowed = match bearer(&parts.headers) {
        Some(token) if form.get("client_secret").is_none() => {
            let connection = parts.extensions.get::<Connection>();
            let possession = Possession { certificate: connection.and_then(Connection::thumbprint), proof: None };
            let claims = state
                .issuer
                .introspector(token, &possession)
                .map_err(|refusal| OAuthError::of_bearer(refusal, &id.0))?;
            if !state.issuer.token_may_introspect(&claims) {
                return Err(OAuthError::of_scope(INTROSPECT_SCOPE, &id.0));
            }
            true
        }
        _ => {
            let caller = caller(&parts, &form).map_err(refuse)?;
            let agent = state.issuer.client(&caller, Some("introspect"), &id.0).await.map_err(refuse)?;
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
