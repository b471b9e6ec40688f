//! `private_key_jwt`: a client's signed assertion (RFC 7521 §4.2, RFC 7523 §3, and rfc7523bis on `aud` and `typ`).

use std::sync::Arc;

use hallpass_verify::{ForeignClaims, ForeignToken, Refusal, Seconds};

use crate::issue::Issuer;
use crate::issue::authenticate::replay::{Use, name_of};
use crate::model::{Agent, AuthMethod, UsedAssertion};
use crate::trust::Untrusted;
use crate::world::Millis;

/// The longest life of an assertion. Authlib makes them an hour long, others a minute.
pub(crate) const MAX_ASSERTION_SECONDS: Seconds = 3_600;

/// Longer ids are refused: 36 characters are a UUID.
const MAX_JTI: usize = 256;

pub(in crate::issue) const ASSERTION_REPLAYED: &str =
    "the client assertion was used before: make a new one, with a new jti, for each request";

/// What the sender of an assertion is told whose signature was good. Before that is known, nobody is told anything.
pub(super) fn client_message(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "assertion_replayed" => ASSERTION_REPLAYED,
        "assertion_without_jti" => "the client assertion has no jti: give each its own",
        "assertion_lives_too_long" => {
            "the client assertion lives too long: an hour at most from iat, or from now, to exp"
        }
        "assertion_expired" => "the client assertion has expired: make a new one for each request",
        "assertion_not_yet_valid" => {
            "the client assertion is from the future: its iat or nbf is later than the broker's clock"
        }
        "assertion_wrong_audience" => {
            "the client assertion's aud is not this issuer alone: write the issuer of the metadata"
        }
        "assertion_from_before_they_were_kept" => {
            "the broker was just upgraded and cannot know whether this client assertion was used before: make a new one \
             that says in iat when it was made, or try again in an hour"
        }
        _ => return None,
    })
}

impl Issuer {
    /// `iss` = `sub` = the client id, and the one that was sent beside it, if any.
    pub(super) async fn by_private_key(
        &self,
        id: Option<&str>,
        token: &ForeignToken<'_>,
        now: Millis,
    ) -> Result<(Arc<Agent>, UsedAssertion), &'static str> {
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
        let made = claims.time("iat").map_err(|refusal| Untrusted::from(refusal).0)?;
        let most = MAX_ASSERTION_SECONDS.saturating_add(leeway);
        if made.is_some_and(|made| exp.saturating_sub(made) > most) {
            return Err("assertion_lives_too_long");
        }
        // What is used is kept across restarts. A version that did not do so left nothing of what it saw: what may have been
        // used then is not taken. `iat` is optional (§3 item 6); without it, nothing is older than its longest life.
        let made = made.unwrap_or_else(|| exp.saturating_sub(most));
        if agent.created_at < self.assertions_since && made.saturating_sub(leeway) < self.assertions_since / 1000 {
            return Err("assertion_from_before_they_were_kept");
        }
        match self.replay.once(&agent.id, jti, exp, now) {
            Use::First => {
                let used = UsedAssertion {
                    digest: name_of(&agent.id, jti),
                    agent_id: agent.id.clone(),
                    expires_at: exp.saturating_mul(1000),
                };
                Ok((agent, used))
            }
            Use::Again => Err("assertion_replayed"),
            Use::Full => Err("assertion_cache_full"),
        }
    }

    /// By one of the keys that are registered for the agent; each of its methods is asked, as each is enough.
    async fn signed_by(&self, agent: &Arc<Agent>, token: &ForeignToken<'_>) -> Result<ForeignClaims, Untrusted> {
        let mut refusal = Untrusted("method_not_registered");
        for (n, method) in agent.identity.methods.iter().enumerate() {
            if matches!(method, AuthMethod::PrivateKeyJwt { .. }) {
                match self.trust.of_agent(agent, n, token, &self.settings.client_auth.assertion_algorithms).await {
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
