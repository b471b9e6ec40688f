//! Tokens: inspect, revoke.

use axum::extract::State as AxumState;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use crate::error::{Error, Result};
use crate::http::State;
use crate::http::admin::{Admin, Input, json as reply, unrecorded};
use crate::http::reply::Problem;
use crate::issue::MAX_TOKEN_MILLIS;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    jti: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

pub(in crate::http) async fn inspect(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Input(input): Input<Token>,
) -> Result<Response, Problem> {
    let missing = || admin.problem(Error::invalid("token_missing", "send the token to inspect"));
    let token = input.token.ok_or_else(missing)?;
    let claims = state.issuer.identify(token.trim()).map_err(|refusal| {
        admin.problem(Error::invalid(refusal.code(), format!("{refusal}; only tokens of this broker can be inspected")))
    })?;
    let why = state.issuer.introspect(token.trim()).err();
    Ok(reply(&json!({
        "active": why.is_none(),
        "why_not": why.map(|refusal| refusal.to_string()),
        "kid": claims.kid(),
        "claims": *claims,
    })))
}

pub(in crate::http) async fn revoke(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Input(input): Input<Token>,
) -> Result<Response, Problem> {
    let revoked = async {
        let Token { token, jti, reason } = input;
        let actor = admin.actor(super::Reason { reason }.checked()?);
        let (jti, exp, claims) = match (token, jti) {
            (Some(token), None) => {
                let claims = state.issuer.identify(token.trim()).map_err(|refusal| {
                    Error::invalid(refusal.code(), format!("{refusal}; only a token of this broker can be revoked"))
                })?;
                (claims.jti.clone(), claims.exp.saturating_mul(1000), Some(claims))
            }
            (None, Some(jti)) if jti.starts_with("tk_") && jti.len() <= 64 => {
                (jti, state.world.now() + MAX_TOKEN_MILLIS, None)
            }
            _ => return Err(Error::invalid("token_missing", "send either the token or its jti (tk_…)")),
        };
        state.issuer.revoke_token(&jti, exp, claims.as_ref(), &actor).await.map_err(unrecorded)?;
        Ok(jti)
    };
    let jti = revoked.await.map_err(|error: Error| admin.problem(error))?;
    Ok(reply(&json!({ "jti": jti, "revoked": true })))
}
