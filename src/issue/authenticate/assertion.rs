//! `private_key_jwt`: a client's signed assertion (RFC 7521 §4.2, RFC 7523 §3, and rfc7523bis on `aud` and `typ`).

use std::sync::Arc;

use hallpass_verify::{ForeignClaims, ForeignToken, Refusal, Seconds};

use crate::issue::Issuer;
use crate::issue::authenticate::replay::Use;
use crate::model::{Agent, AuthMethod};
use crate::trust::Untrusted;
use crate::world::Millis;

/// The longest life of an assertion. Authlib makes them an hour long, others a minute.
pub(crate) const MAX_ASSERTION_SECONDS: Seconds = 3_600;

/// Longer ids are refused: 36 characters are a UUID.
const MAX_JTI: usize = 256;

impl Issuer {
    /// `iss` = `sub` = the client id, and the one that was sent beside it, if any.
    pub(super) async fn by_private_key(
        &self,
        id: Option<&str>,
        token: &ForeignToken<'_>,
        now: Millis,
    ) -> Result<Arc<Agent>, &'static str> {
        let now = now / 1000;
        let subject = token.claimed_subject().ok_or("assertion_without_sub")?;
        if token.claimed_issuer() != Some(subject) {
            return Err("assertion_iss_is_not_sub");
        }
        if id.is_some_and(|id| id != subject) {
            return Err("assertion_of_another_client");
        }
        // rfc7523bis: typed, or untyped as before. An access token, or a proof, is no client authentication.
        if !matches!(token.typ().as_deref(), None | Some("jwt" | "client-authentication+jwt")) {
            return Err("assertion_wrong_type");
        }
        let agent = self.registry.agent(subject).ok_or("unknown_client")?;
        let claims = self.signed_by(&agent, token).await.map_err(|Untrusted(reason)| reason)?;
        if !self.is_for_us_alone(&claims) {
            return Err("assertion_wrong_audience");
        }
        let leeway = self.trust.leeway();
        let exp = claims.check_times(now, leeway).map_err(|refusal| Untrusted::from(refusal).0)?;
        if exp > now.saturating_add(MAX_ASSERTION_SECONDS).saturating_add(leeway) {
            return Err("assertion_lives_too_long");
        }
        let jti = claims.text("jti").filter(|jti| !jti.is_empty()).ok_or("assertion_without_jti")?;
        if jti.len() > MAX_JTI {
            return Err("assertion_malformed");
        }
        // What was used before we started is not remembered. So what was made before then is not taken, and of what does
        // not say when it was made, nothing that may have been.
        let made = claims.time("iat").map_err(|refusal| Untrusted::from(refusal).0)?;
        let made = made.unwrap_or_else(|| now.saturating_sub(MAX_ASSERTION_SECONDS));
        if made < self.started / 1000 {
            return Err("assertion_from_before_the_start");
        }
        match self.replay.once(&agent.id, jti, exp, now) {
            Use::First => Ok(agent),
            Use::Again => Err("assertion_replayed"),
            Use::Full => Err("assertion_cache_full"),
        }
    }

    /// By one of the keys that are registered for the agent; each of its methods is asked, as each is enough.
    async fn signed_by(&self, agent: &Arc<Agent>, token: &ForeignToken<'_>) -> Result<ForeignClaims, Untrusted> {
        let mut refusal = Untrusted("method_not_registered");
        for (n, method) in agent.identity.methods.iter().enumerate() {
            if matches!(method, AuthMethod::PrivateKeyJwt { .. }) {
                match self.trust.of_agent(agent, n, token, &self.settings.client_auth.algorithms).await {
                    Ok(claims) => return Ok(claims),
                    Err(error) => refusal = error,
                }
            }
        }
        Err(refusal)
    }

    /// rfc7523bis: `aud` is our issuer and nothing else, as text or as an array of one. With the token endpoint's URL, or
    /// with somebody else beside us, the assertion could be made for, or used at, another server.
    pub(super) fn is_for_us_alone(&self, claims: &ForeignClaims) -> bool {
        claims.audience() == [&*self.issuer]
    }

    /// Reads an assertion, trusting nothing of it.
    pub(super) fn read_assertion(text: &str) -> Result<ForeignToken<'_>, &'static str> {
        ForeignToken::parse(text).map_err(|refusal: Refusal| Untrusted::from(refusal).0)
    }
}
