//! Tokens: inspect, revoke.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::issue::MAX_TOKEN_MILLIS;
use crate::manage::{Admin, Manager, Reason, unrecorded};
use crate::secret::made_at;
use crate::world::Millis;

/// Clocks of nodes differ: a record may seem to be a little older than the token that it tells of.
const MARGIN: Millis = 60_000;

/// Which token.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhichToken {
    /// The token itself.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub token: Option<Zeroizing<String>>,
    /// Its id (`jti`, `tk_…`) instead. Only to revoke it.
    #[serde(default)]
    pub jti: Option<String>,
    /// Why it is revoked, in the admin's words: at most 200 characters and no control characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What a token says, and whether it is valid.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenInspected {
    /// Whether it is valid now.
    pub active: bool,
    /// Why it is not.
    pub why_not: Option<String>,
    /// The key that signed it.
    pub kid: String,
    /// Its claims.
    #[schema(value_type = Object)]
    pub claims: Map<String, Value>,
}

/// A token that is refused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenRevoked {
    /// Its id.
    pub jti: String,
    /// Whether it is revoked.
    pub revoked: bool,
    /// Whether it was before. Not there if not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub already: bool,
    /// Whether it has expired, so that nothing was changed. Not there if not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub expired: bool,
}

/// What a token of this broker says.
///
/// # Errors
/// None was sent, or it is not one of this broker.
pub async fn inspect(admin: Admin, input: WhichToken) -> Result<TokenInspected> {
    let issuer = &admin.manager.issuer;
    let token = input.token.ok_or_else(|| Error::invalid("token_missing", "send the token to inspect"))?;
    let claims = issuer.identify(token.trim()).map_err(|refusal| {
        Error::invalid(refusal.code(), format!("{refusal}; only tokens of this broker can be inspected"))
    })?;
    let why = issuer.introspect(token.trim()).err();
    let said = match serde_json::to_value(&*claims).map_err(Error::internal)? {
        Value::Object(said) => said,
        _ => return Err(Error::internal("claims that are no object")),
    };
    Ok(TokenInspected {
        active: why.is_none(),
        why_not: why.map(|refusal| refusal.to_string()),
        kid: claims.kid().to_owned(),
        claims: said,
    })
}

/// Refuses a token from now on.
///
/// # Errors
/// It is not one of this broker, the reason is bad, or nothing can be recorded.
pub async fn revoke(admin: Admin, input: WhichToken) -> Result<TokenRevoked> {
    let WhichToken { token, jti, reason } = input;
    let manager = &admin.manager;
    let actor = admin.actor(Reason { reason }.checked()?);
    let now = manager.world.now();
    let (jti, exp, claims) = match (token, jti) {
        (Some(token), None) => {
            let claims = manager.issuer.identify(token.trim()).map_err(|refusal| {
                Error::invalid(refusal.code(), format!("{refusal}; only a token of this broker can be revoked"))
            })?;
            (claims.jti.clone(), claims.exp.saturating_mul(1000), Some(claims))
        }
        (None, Some(jti)) => {
            let exp = end_of(manager, &jti, now).await?;
            (jti, exp, None)
        }
        _ => return Err(Error::invalid("token_missing", "send either the token or its jti (tk_…)")),
    };
    if manager.registry.revoked().with_set(|set| set.has_token(&jti)) {
        return Ok(TokenRevoked { jti, revoked: true, already: true, expired: false });
    }
    if exp <= now {
        return Ok(TokenRevoked { jti, revoked: false, already: false, expired: true });
    }
    manager.issuer.revoke_token(&jti, exp, claims.as_ref(), &actor).await.map_err(unrecorded)?;
    Ok(TokenRevoked { jti, revoked: true, already: false, expired: false })
}

/// When a token of this id ends, at the latest. The id says when it was made; whether it was issued, only the log knows.
async fn end_of(manager: &Manager, jti: &str, now: Millis) -> Result<Millis> {
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
    let issued = crate::audit::issued_at(&manager.store, jti, made.saturating_sub(MARGIN)).await.map_err(|error| {
        let text = "the audit log, which knows the ids of tokens, cannot be read; try again, or send the token itself";
        Error::unavailable("database", text).because(error)
    })?;
    match issued {
        Some(_) => Ok(end),
        None => Err(Error::not_found("token_unknown", "no token of this id was issued here; nothing was changed")),
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}
