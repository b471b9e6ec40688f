//! What the broker is doing.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Result;
use crate::manage::Admin;
use crate::world::Millis;

/// What the broker is doing.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// `iss` of its tokens.
    pub issuer: String,
    /// Its name in the audit log.
    pub node: String,
    /// The database's engine.
    pub database: String,
    /// Whether the audit log can be written; if not, everything is refused that must be recorded.
    pub audit_log_writable: bool,
    /// How many of this node's audit records are not in the search index yet.
    pub audit_index_lag: i64,
    /// How many there are.
    pub agents: usize,
    /// How many have not ended.
    pub sessions: usize,
    /// How many there are.
    pub upstreams: usize,
    /// How many are stored.
    pub credentials: usize,
    /// How many lines the revocation list has.
    pub revocations: usize,
    /// The revocation list's version.
    pub revocation_version: i64,
    /// The id of the key that signs.
    pub signing_key: String,
    /// Its algorithm.
    pub signing_algorithm: String,
    /// The id of the master key.
    pub master_key: String,
    /// The broker's clock, in unix milliseconds.
    pub time: Millis,
}

/// What the broker is doing.
///
/// # Errors
/// None.
pub async fn status(admin: Admin) -> Result<Status> {
    let manager = &admin.manager;
    let registry = &manager.registry;
    let now = manager.world.now();
    let list = registry.revoked().list();
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        issuer: manager.issuer_url.to_string(),
        node: manager.node.clone(),
        database: manager.store.engine().to_string(),
        audit_log_writable: manager.ledger.is_healthy(),
        audit_index_lag: manager.ledger.index_lag(),
        agents: registry.agent_count(),
        sessions: registry.session_count(now),
        upstreams: registry.definitions().upstreams().count(),
        credentials: registry.credentials().len(),
        revocations: list.entries.len(),
        revocation_version: list.epoch,
        signing_key: registry.keys().active_kid().to_owned(),
        signing_algorithm: registry.keys().algorithm().to_owned(),
        master_key: manager.vault.load().current_id().to_string(),
        time: now,
    })
}
