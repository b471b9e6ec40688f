//! Who asks: client authentication (RFC 6749 §2.3).

use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::issue::Issuer;
use crate::model::{Agent, AgentStatus};
use crate::secret::{ClientSecret, client_secret_digest};
use crate::world::Millis;

/// What the client presented. Exactly one method: two in one request are refused before this is built (§2.3).
pub enum Presented {
    /// Nothing.
    Nothing,
    /// `client_secret_basic` or `client_secret_post`.
    Secret {
        /// `client_id`.
        id: String,
        /// `client_secret`.
        secret: Zeroizing<String>,
    },
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presented({:?})", self.client_id())
    }
}

impl Presented {
    /// Who it claims to be.
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::Secret { id, .. } => Some(id),
        }
    }
}

/// The proof that an agent proved who it is, and is active. Only [`Issuer::authenticate`] builds one.
#[derive(Debug, Clone)]
pub struct Authenticated(Arc<Agent>);

impl Authenticated {
    /// The agent.
    pub fn agent(&self) -> &Arc<Agent> {
        &self.0
    }
}

impl Issuer {
    /// Checks what was presented.
    ///
    /// # Errors
    /// A reason for the audit log. The caller is told none of them apart: whoever guesses must not learn which
    /// client ids there are.
    pub fn authenticate(&self, presented: &Presented, now: Millis) -> Result<Authenticated, &'static str> {
        let Presented::Secret { id, secret } = presented else { return Err("no_client_authentication") };
        // A typing error is told by the checksum, which is public: nonsense costs no HMAC.
        if !ClientSecret::is_well_formed(secret) {
            return Err("client_secret_malformed");
        }
        // The same work for an unknown client, so that the time taken does not tell.
        let digest = client_secret_digest(&self.secret_key, id, secret);
        let agent = self.registry.agent(id);
        let stored = agent.as_deref().map(|agent| agent.secrets.as_slice()).unwrap_or_default();
        let mut good = Choice::from(0);
        for one in stored.iter().filter(|one| one.expires_at.is_none_or(|end| now < end)) {
            good |= one.digest.ct_eq(&digest);
        }
        let agent = agent.ok_or("unknown_client")?;
        if !bool::from(good) {
            return Err("wrong_client_secret");
        }
        match agent.status {
            AgentStatus::Active => Ok(Authenticated(agent)),
            AgentStatus::Suspended => Err("agent_suspended"),
            AgentStatus::Revoked => Err("agent_revoked"),
        }
    }
}
