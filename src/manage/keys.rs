//! Signing keys: list, rotate, retire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::keyring::{KeyRecord, KeyState};
use crate::manage::{Admin, Manager, Reason};
use crate::world::Millis;

/// The signing keys.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// The id of the one that signs.
    pub active: String,
    /// All that verifiers may still meet, and those that were retired before their time.
    pub keys: Vec<KeyRecord>,
    /// What to watch after a rotation. Not there if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<KeyWarning>,
}

/// What to watch after a rotation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyWarning {
    /// Until when, in unix milliseconds.
    pub until: Millis,
    /// What, for people.
    pub text: String,
}

/// The keys.
///
/// # Errors
/// None.
pub async fn list(admin: Admin) -> Result<KeyList> {
    Ok(view(&admin.manager, None))
}

/// Signs with the next key from now on.
///
/// # Errors
/// Nothing can be recorded.
pub async fn rotate(admin: Admin) -> Result<KeyList> {
    let worker = admin.manager.clone();
    let event = admin.event("key rotate", "signing keys");
    // A task of its own: an admin who hangs up must not leave the database with keys that the registry does not have.
    let rotated = tokio::spawn(async move { worker.keys.rotate(event).await }).await;
    let ready_at = rotated.map_err(Error::internal).and_then(|done| done)?;
    Ok(view(&admin.manager, ready_at))
}

/// Removes a key at once: every token that it signed is refused.
///
/// # Errors
/// There is no such key, it is the only one, the reason is bad, or nothing can be recorded.
pub async fn retire(admin: Admin, kid: String, reason: Reason) -> Result<KeyList> {
    let reason = reason.checked()?;
    let worker = admin.manager.clone();
    let (event, revocation) = worker.issuer.key_revocation(&kid, &admin.actor(reason));
    let retired = tokio::spawn(async move { worker.keys.retire(&kid, vec![event], revocation).await }).await;
    retired.map_err(Error::internal).and_then(|done| done)?;
    Ok(view(&admin.manager, None))
}

fn view(manager: &Manager, ready_at: Option<Millis>) -> KeyList {
    let keys = manager.registry.keys();
    let shown = keys.records().iter().filter(|record| record.state != KeyState::Gone || record.revoked);
    let text = "the new key was published later than keys.publish_ahead_hours asks: verifiers that keep an old JWKS and do not look again at an unknown kid will refuse its tokens until then";
    KeyList {
        active: keys.active_kid().to_owned(),
        keys: shown.cloned().collect(),
        warning: ready_at.map(|until| KeyWarning { until, text: text.into() }),
    }
}
