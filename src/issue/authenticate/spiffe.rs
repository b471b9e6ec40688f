//! JWT-SVIDs as client assertions (draft-ietf-oauth-spiffe-client-auth, SPIFFE JWT-SVID).

use std::sync::Arc;

use hallpass_verify::ForeignToken;

use crate::issue::Issuer;
use crate::model::{Agent, AuthMethod};
use crate::trust::Untrusted;
use crate::world::Millis;

impl Issuer {
    /// `sub` = the SPIFFE ID that is registered for the agent, `aud` = our issuer alone, signed by the registered trust
    /// domain of that id. No `jti` is used up: SVIDs are cached and shown again by design.
    pub(super) async fn by_svid(
        &self,
        id: Option<&str>,
        token: &ForeignToken<'_>,
        now: Millis,
    ) -> Result<Arc<Agent>, &'static str> {
        let subject = token.claimed_subject().ok_or("assertion_without_sub")?;
        let domain = subject.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).map(|(domain, _)| domain);
        let domain = domain.ok_or("assertion_sub_is_no_spiffe_id")?;
        let definitions = self.registry.definitions();
        let domain = definitions.trust_domain(domain).ok_or("trust_domain_unknown")?;
        let claims = self.trust.of_domain(domain, token).await.map_err(|Untrusted(reason)| reason)?;
        claims.check_times(now / 1000, self.trust.leeway()).map_err(|refusal| Untrusted::from(refusal).0)?;
        if !self.is_for_us_alone(&claims) {
            return Err("assertion_wrong_audience");
        }
        let has = |agent: &Agent| {
            agent.identity.methods.iter().any(|one| matches!(one, AuthMethod::Spiffe { id } if id == subject))
        };
        if let Some(id) = id {
            let agent = self.registry.agent(id).ok_or("unknown_client")?;
            return if has(&agent) { Ok(agent) } else { Err("method_not_registered") };
        }
        only_one(self.registry.agents_where(has))
    }
}

/// The one agent whom all this points to. Of two, which one is meant nobody knows: the client has to say.
pub(super) fn only_one(mut found: Vec<Arc<Agent>>) -> Result<Arc<Agent>, &'static str> {
    match (found.pop(), found.is_empty()) {
        (Some(agent), true) => Ok(agent),
        (Some(_), false) => Err("several_agents_match"),
        (None, _) => Err("no_agent_matches"),
    }
}
