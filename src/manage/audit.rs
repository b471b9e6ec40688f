//! What is said of the audit log. Records come byte for byte as they were hashed.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::error::Result;
use crate::manage::{Admin, unrecorded};
use crate::world::Millis;

/// The nodes that keep a log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditNodes {
    /// The nodes.
    pub nodes: Vec<AuditNode>,
}

/// A node that keeps a log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditNode {
    /// Its name.
    pub node: String,
    /// The number of its last record.
    pub last: i64,
}

/// Which page.
#[derive(Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// The number of the record before the page. Default: 0.
    #[serde(default)]
    pub after: i64,
}

/// The next records of a node's log, at most 1,000. None: that was the last page.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// In order.
    pub records: Vec<AuditRecord>,
}

/// A record.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// Its number.
    pub seq: i64,
    /// The record, byte for byte as it was hashed.
    pub body: String,
}

/// The signed checkpoints of a node's log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Checkpoints {
    /// In order.
    pub checkpoints: Vec<StoredCheckpoint>,
}

/// A signed checkpoint.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StoredCheckpoint {
    /// The number of the record that it covers up to.
    pub seq: i64,
    /// When it was made, in unix milliseconds.
    pub at: Millis,
    /// The checkpoint, signed (RFC 7515).
    pub jws: String,
}

/// Every public key that this broker has had, as a JWKS: old checkpoints were signed with old keys.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditKeys {
    /// RFC 7517.
    #[schema(value_type = Vec<Object>)]
    pub keys: Vec<Value>,
}

/// A checkpoint that was made now.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Checkpoint {
    /// Signed (RFC 7515).
    pub checkpoint: String,
}

/// Signs the end of the log as it is now.
///
/// # Errors
/// Nothing can be recorded.
pub async fn checkpoint(admin: Admin) -> Result<Checkpoint> {
    let jws = admin.manager.ledger.checkpoint().await.map_err(unrecorded)?;
    Ok(Checkpoint { checkpoint: jws })
}
