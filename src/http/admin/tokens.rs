//! Tokens: inspect, revoke.

use axum::extract::State as AxumState;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http::State;
use crate::http::admin::{Admin, Input, json as reply, unrecorded};
use crate::http::reply::Problem;
use crate::issue::MAX_TOKEN_MILLIS;
use crate::secret::made_at;
use crate::world::Millis;

/// Clocks of nodes differ: a record may seem to be a little older than the token that it tells of.
const MARGIN: Millis = 60_000;

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
    let answer = do_revoke(&state, &admin, input).await.map_err(|error| admin.problem(error))?;
    Ok(reply(&answer))
}

async fn do_revoke(state: &State, admin: &Admin, input: Token) -> Result<Value> {
    let Token { token, jti, reason } = input;
    let actor = admin.actor(super::Reason { reason }.checked()?);
    let now = state.world.now();
    let (jti, exp, claims) = match (token, jti) {
        (Some(token), None) => {
            let claims = state.issuer.identify(token.trim()).map_err(|refusal| {
                Error::invalid(refusal.code(), format!("{refusal}; only a token of this broker can be revoked"))
            })?;
            (claims.jti.clone(), claims.exp.saturating_mul(1000), Some(claims))
        }
        (None, Some(jti)) => {
            let exp = end_of(state, &jti, now).await?;
            (jti, exp, None)
        }
        _ => return Err(Error::invalid("token_missing", "send either the token or its jti (tk_…)")),
    };
    if state.registry.revoked().with_set(|set| set.has_token(&jti)) {
        return Ok(json!({ "jti": jti, "revoked": true, "already": true }));
    }
    if exp <= now {
        return Ok(json!({ "jti": jti, "revoked": false, "expired": true }));
    }
    state.issuer.revoke_token(&jti, exp, claims.as_ref(), &actor).await.map_err(unrecorded)?;
    Ok(json!({ "jti": jti, "revoked": true }))
}

/// When a token of this id ends, at the latest. The id says when it was made; whether it was issued, only the log knows.
async fn end_of(state: &State, jti: &str, now: Millis) -> Result<Millis> {
    let made = made_at("tk_", jti).ok_or_else(|| {
        let text =
            "this is no token id: one is tk_ and 26 of 0-9 and a-v (the claim jti; 'hallpass token inspect' shows it)";
        Error::invalid("token_id_malformed", text)
    })?;
    // One second more: `exp` counts in seconds.
    let end = made.saturating_add(MAX_TOKEN_MILLIS + 1000);
    if end <= now {
        return Ok(end);
    }
    let issued = crate::audit::issued_at(&state.store, jti, made.saturating_sub(MARGIN)).await.map_err(|error| {
        let text = "the audit log, which knows the ids of tokens, cannot be read; try again, or send the token itself";
        Error::unavailable("database", text).because(error)
    })?;
    match issued {
        Some(_) => Ok(end),
        None => Err(Error::not_found("token_unknown", "no token of this id was issued here; nothing was changed")),
    }
}
