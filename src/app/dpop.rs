//! What checks DPoP proofs: its settings, and the secret that its nonces are derived from.

use hallpass_verify::{Dpop, DpopNonces, DpopSettings};

use crate::app::master_key::{broker_secret, new_broker_secret};
use crate::audit::Ledger;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::issue::DPOP_NONCE_KEY;
use crate::model::{Event, EventKind};
use crate::secret::SecretBytes;
use crate::store::Everything;
use crate::vault::Vault;
use crate::world::World;

/// The secret, if the database has it: brokers that were made by the first version do not.
pub(super) fn kept_nonce_key(everything: &Everything, vault: &Vault) -> Result<Option<SecretBytes>> {
    let is_kept = everything.broker_secrets.contains_key(DPOP_NONCE_KEY);
    is_kept.then(|| broker_secret(everything, DPOP_NONCE_KEY, vault)).transpose()
}

/// Makes the secret where there was none.
pub(super) async fn make_nonce_key(ledger: &Ledger, vault: &Vault, world: &World) -> Result<SecretBytes> {
    let (value, put) = new_broker_secret(DPOP_NONCE_KEY, vault, world)?;
    let mut event = Event::new(EventKind::Broker);
    event.action = Some("make the DPoP nonce key".into());
    ledger.commit(vec![event], vec![put]).await.map_err(Error::internal)?;
    Ok(value)
}

pub(super) fn dpop(config: &Config, nonce_key: &SecretBytes, world: &World) -> Result<Dpop> {
    let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let key: &[u8; 32] =
        nonce_key.expose().try_into().map_err(|_| Error::internal("the DPoP nonce key is not 32 bytes long"))?;
    Ok(Dpop::new(DpopSettings {
        window: seconds(config.dpop.window),
        leeway: seconds(config.tokens.leeway),
        remembered: config.dpop.replay_entries,
        since: world.now() / 1000,
        nonces: config.dpop.require_nonce.then(|| DpopNonces::new(key)),
    }))
}
