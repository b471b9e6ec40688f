//! Workload identity: a token of a registered issuer that one of an agent's trust entries describes.

use std::sync::Arc;

use hallpass_verify::{ForeignClaims, ForeignToken, Refusal};

use crate::issue::Issuer;
use crate::issue::authenticate::spiffe::only_one;
use crate::model::{Agent, AuthMethod, TrustedIssuer};
use crate::trust::Untrusted;
use crate::world::Millis;

impl Issuer {
    /// The agent that was named, if one of its trust entries matches. Only issuers that its own entries name are asked.
    pub(super) async fn by_federation(
        &self,
        id: &str,
        token: &ForeignToken<'_>,
        now: Millis,
    ) -> Result<Arc<Agent>, &'static str> {
        let agent = self.registry.agent(id).ok_or("unknown_client")?;
        let issuers = self.issuers_of(token);
        let issuers = issuers.into_iter().filter(|issuer| {
            let named = |method: &AuthMethod| matches!(method, AuthMethod::Federated { issuer: name, .. } if *name == issuer.name);
            agent.identity.methods.iter().any(named)
        });
        let mut reason = "no_trust_entry_matches";
        for issuer in issuers {
            match self.vouched(&issuer, token, now).await {
                Ok(claims) if self.matches(&agent, &issuer, &claims) => return Ok(agent),
                Ok(_) => reason = "no_trust_entry_matches",
                Err(Untrusted(other)) => reason = other,
            }
        }
        Err(reason)
    }

    /// The only agent with a trust entry that matches (RFC 7523 §2.1, where `client_id` is optional).
    pub(super) async fn by_own_assertion(
        &self,
        token: &ForeignToken<'_>,
        now: Millis,
    ) -> Result<Arc<Agent>, &'static str> {
        let mut reason = "issuer_not_registered";
        let mut found: Vec<Arc<Agent>> = Vec::new();
        for issuer in self.issuers_of(token) {
            match self.vouched(&issuer, token, now).await {
                Ok(claims) => {
                    reason = "no_trust_entry_matches";
                    let more = self.registry.agents_where(|agent| self.matches(agent, &issuer, &claims));
                    found.extend(more);
                }
                Err(Untrusted(other)) => reason = other,
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found.dedup_by(|a, b| a.id == b.id);
        if found.is_empty() { Err(reason) } else { only_one(found) }
    }

    /// The registrations of the issuer that the token names.
    fn issuers_of(&self, token: &ForeignToken<'_>) -> Vec<Arc<TrustedIssuer>> {
        let definitions = self.registry.definitions();
        let all = definitions.issuers().filter(|issuer| token.claimed_issuer() == Some(&*issuer.issuer));
        all.cloned().collect()
    }

    async fn vouched(
        &self,
        issuer: &Arc<TrustedIssuer>,
        token: &ForeignToken<'_>,
        now: Millis,
    ) -> Result<ForeignClaims, Untrusted> {
        let claims = self.trust.of_issuer(issuer, token).await?;
        claims.check_times(now / 1000, self.trust.leeway())?;
        // RFC 7523 §3: required, whatever the trust entry looks at.
        claims.text("sub").filter(|sub| !sub.is_empty()).ok_or(Refusal::Malformed)?;
        Ok(claims)
    }

    /// Whether one of the agent's trust entries describes it: issuer, audience, and each claim.
    fn matches(&self, agent: &Agent, from: &TrustedIssuer, token: &ForeignClaims) -> bool {
        agent.identity.methods.iter().any(|method| match method {
            AuthMethod::Federated { issuer, audience, claims } => {
                let audience = audience.as_deref().unwrap_or(&self.issuer);
                *issuer == from.name
                    && token.audience().contains(&audience)
                    && !claims.is_empty()
                    && claims.iter().all(|(path, wanted)| token.matches(path, wanted))
            }
            _ => false,
        })
    }
}
