//! What is said of the audit log. Records come byte for byte as they were hashed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::audit::{self, Query};
use crate::error::{Error, Result};
use crate::manage::{Admin, unrecorded};
use crate::model::AuditRow;
use crate::store::{self, StoreError};
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

/// What is searched for, all of which has to fit; and from where on.
#[derive(Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditSearch {
    /// Behind the record of this number. Default: 0.
    #[serde(default)]
    pub after: i64,
    /// From this time on, in unix milliseconds.
    pub since: Option<Millis>,
    /// Before this time, in unix milliseconds.
    pub until: Option<Millis>,
    /// Client id or name of an agent.
    pub agent: Option<String>,
    /// Id of a session.
    pub session: Option<String>,
    /// Name of an upstream.
    pub upstream: Option<String>,
    /// Id of an operation.
    pub operation: Option<String>,
    /// `allow` or `deny`.
    pub decision: Option<String>,
    /// A stable code.
    pub reason: Option<String>,
    /// Id of a request.
    pub request: Option<String>,
}

/// Some of what was found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditFound {
    /// In order.
    pub records: Vec<AuditRecord>,
    /// Where to go on, if there may be more: `after` of the next question. A part may hold no records and have a next one.
    #[serde(default)]
    pub next: Option<i64>,
}

impl From<AuditRow> for AuditRecord {
    fn from(row: AuditRow) -> Self {
        Self { seq: row.seq, body: row.body }
    }
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

/// Records of one page, at most.
const PAGE: i64 = 1_000;

/// How long the database may take for a page.
const PATIENCE: Duration = Duration::from_secs(10);

/// The nodes that keep a log, and the number of the last record of each.
///
/// # Errors
/// The database does not answer.
pub async fn nodes(admin: Admin) -> Result<AuditNodes> {
    let store = &admin.manager.store;
    let read = async {
        let mut nodes = Vec::new();
        for node in store.audit_nodes().await? {
            let last = store.audit_last_seq(&node).await?;
            nodes.push(AuditNode { node, last });
        }
        Ok(AuditNodes { nodes })
    };
    in_time(read).await
}

/// The next records of a node's log.
///
/// # Errors
/// The database does not answer.
pub async fn records(admin: Admin, node: String, After { after }: After) -> Result<AuditPage> {
    let rows = in_time(admin.manager.store.audit_page(&node, after.max(0), PAGE)).await?;
    Ok(AuditPage { records: rows.into_iter().map(AuditRecord::from).collect() })
}

/// The next records of a node's log that fit, and where to go on.
///
/// # Errors
/// The database does not answer.
pub async fn search(admin: Admin, node: String, searched: AuditSearch) -> Result<AuditFound> {
    let AuditSearch { after, since, until, agent, session, upstream, operation, decision, reason, request } = searched;
    let query = Query { since, until, agent, session, upstream, operation, decision, reason, request };
    let found = in_time(audit::search(&admin.manager.store, &node, after.max(0), &query)).await?;
    Ok(AuditFound { records: found.records.into_iter().map(AuditRecord::from).collect(), next: found.next })
}

/// The signed checkpoints of a node's log, in order.
///
/// # Errors
/// The database does not answer.
pub async fn checkpoints(admin: Admin, node: String) -> Result<Checkpoints> {
    let all = in_time(admin.manager.store.checkpoints(&node)).await?;
    let one = |one: store::StoredCheckpoint| StoredCheckpoint { seq: one.seq, at: one.at, jws: one.jws };
    Ok(Checkpoints { checkpoints: all.into_iter().map(one).collect() })
}

/// Every public key that this broker has had, as a JWKS: old checkpoints were signed with old keys.
///
/// # Errors
/// The database does not answer.
pub async fn keys(admin: Admin) -> Result<AuditKeys> {
    let rows = in_time(admin.manager.store.signing_keys()).await?;
    let keys: Result<Vec<Value>, _> = rows.iter().map(|row| serde_json::from_str(&row.public_jwk)).collect();
    Ok(AuditKeys { keys: keys.map_err(Error::internal)? })
}

/// A connection whose other end is gone without a word would keep an admin waiting for ever.
async fn in_time<T>(reading: impl Future<Output = Result<T, StoreError>>) -> Result<T> {
    let read = tokio::time::timeout(PATIENCE, reading).await.unwrap_or(Err(StoreError::Timeout));
    read.map_err(|error| {
        Error::unavailable("database_unavailable", "the database does not answer; try again").because(error)
    })
}

/// Signs the end of the log as it is now.
///
/// # Errors
/// Nothing can be recorded.
pub async fn checkpoint(admin: Admin) -> Result<Checkpoint> {
    let jws = admin.manager.ledger.checkpoint().await.map_err(unrecorded)?;
    Ok(Checkpoint { checkpoint: jws })
}
