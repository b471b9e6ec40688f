//! `client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1).

use std::net::IpAddr;
use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};

use crate::issue::Issuer;
use crate::issue::authenticate::Failed;
use crate::model::Agent;
use crate::secret::{ClientSecret, client_secret_digest};
use crate::world::Millis;

impl Issuer {
    /// As [`Self::by_secret`], unless too many of this client were wrong: then none is looked at for a while, right or
    /// wrong. Where too many of the address were wrong, only a right one passes.
    pub(super) fn by_slowed_secret(
        &self,
        id: &str,
        secret: &str,
        address: Option<IpAddr>,
        now: Millis,
    ) -> Result<Arc<Agent>, Failed> {
        let is_known = self.registry.agent(id).is_some();
        let wait = self.guesses.wait_of_client(id, is_known, address, now);
        if wait > 0 {
            return Err(Failed { reason: "client_secret_slowed", wait, told: None });
        }
        let wait = self.guesses.wait_of_address(address, now);
        match self.by_secret(id, secret, now) {
            Ok(agent) => {
                self.guesses.succeeded(id, address);
                Ok(agent)
            }
            // Nonsense is no guess: its checksum tells that it was never a secret.
            Err(reason @ "client_secret_malformed") => Err(reason.into()),
            Err(reason) => {
                self.guesses.failed(id, is_known, address, now);
                Err(Failed { reason, wait, told: None })
            }
        }
    }

    fn by_secret(&self, id: &str, secret: &str, now: Millis) -> Result<Arc<Agent>, &'static str> {
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
        if bool::from(good) { Ok(agent) } else { Err("wrong_client_secret") }
    }
}
