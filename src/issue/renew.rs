//! Certificates of the broker's own authority: the first by an admin's hand, the next by the one before it.

use crate::error::{Error, Kind, Result};
use crate::issue::certificates::{Authority, IssuedCertificate, Leaf};
use crate::issue::{Authenticated, Caller, Issuer, TokenError};
use crate::model::{Agent, AgentStatus, Event, EventKind, Origin};

impl Issuer {
    /// The broker's own authority.
    pub fn authority(&self) -> &Authority {
        &self.certificates.authority
    }

    /// A certificate for an agent that may act. Who asked, and that it was recorded, is the caller's concern.
    ///
    /// # Errors
    /// The agent is stopped, or what is wrong with the request.
    pub fn certificate(&self, agent: &Agent, csr: &str) -> Result<IssuedCertificate> {
        match agent.status {
            AgentStatus::Active => {}
            AgentStatus::Suspended => {
                let text =
                    "this agent is suspended: it gets no certificate until it is resumed ('hallpass agent resume')";
                return Err(Error::conflict("agent_suspended", text));
            }
            AgentStatus::Revoked => {
                let text = "this agent is revoked for good: it gets no certificate; register a new one";
                return Err(Error::conflict("agent_revoked", text));
            }
        }
        // In whole seconds, and never before what ended the earlier ones.
        let now = self.world.now() / 1000 * 1000;
        let after = agent.identity.certificates_after.unwrap_or(0);
        let not_before = if now < after { now + 1000 } else { now };
        self.authority().issue(&agent.id, csr, not_before, self.world.entropy.as_ref())
    }

    /// The next certificate for an agent that proved who it is by the one before. Only by one that this broker issued:
    /// a certificate of another CA must not turn into one that outlives its revocation.
    pub async fn renew(
        &self,
        agent: &Authenticated,
        caller: &Caller,
        csr: &str,
        origin: &Origin,
    ) -> std::result::Result<IssuedCertificate, TokenError> {
        let agent = agent.agent();
        let chain = caller.certificates.as_deref().unwrap_or_default();
        let leaf = chain.first().and_then(|own| Leaf::read(own).ok());
        let by_certificate = matches!(caller.presented, crate::issue::Presented::Certificate { .. });
        let now = self.world.now();
        let is_ours = leaf.is_some_and(|leaf| self.is_issued_to(agent, &leaf, chain, now).is_ok());
        if !by_certificate || !is_ours {
            return Err(TokenError::UnauthorizedClient(
                "only a certificate that this broker issued is renewed, on a connection that shows it".into(),
            ));
        }
        let issued = self.certificate(agent, csr).map_err(|error| match error.kind {
            Kind::Internal => TokenError::Internal(error.detail.unwrap_or(error.message)),
            _ => TokenError::InvalidRequest(error.message),
        })?;
        let mut event = Event::new(EventKind::Broker);
        event.decision = Some("allow");
        event.agent = Some(agent.id.clone());
        event.agent_name = Some(agent.name.clone());
        event.action = Some("renew certificate".into());
        event.object = Some(format!("serial {}", issued.serial).into());
        event.came_by(origin);
        self.ledger.commit(vec![event], Vec::new()).await?;
        // Stopped while the record was on its way to disk (P3)? It would be refused anyway: it is older than the stop.
        self.still_active(&agent.id)?;
        metrics::counter!("hallpass_certificates_issued_total").increment(1);
        Ok(issued)
    }
}
