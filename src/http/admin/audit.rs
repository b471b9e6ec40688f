//! The audit log, read page by page, byte for byte as it was hashed.

use axum::extract::{Path, State as AxumState};
use axum::response::Response;

use crate::error::Error;
use crate::http::State;
use crate::http::admin::{Parameters, answer};
use crate::manage::Admin;
use crate::manage::audit::{
    After, AuditKeys, AuditNode, AuditNodes, AuditPage, AuditRecord, Checkpoints, StoredCheckpoint,
};
use crate::store::StoreError;

/// Records of one page, at most.
const PAGE: i64 = 1_000;

/// How long the database may take for a page.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// The nodes that keep a log, and the number of the last record of each.
pub(in crate::http) async fn nodes(AxumState(state): AxumState<State>, admin: Admin) -> Response {
    let read = async {
        let mut nodes = Vec::new();
        for node in state.store.audit_nodes().await? {
            let last = state.store.audit_last_seq(&node).await?;
            nodes.push(AuditNode { node, last });
        }
        Ok(AuditNodes { nodes })
    };
    answer(admin.request(), in_time(read).await.map_err(unreadable))
}

/// The next records of a node's log.
pub(in crate::http) async fn records(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(node): Path<String>,
    Parameters(After { after }): Parameters<After>,
) -> Response {
    let page = in_time(state.store.audit_page(&node, after.max(0), PAGE)).await.map_err(unreadable);
    let record = |row: crate::model::AuditRow| AuditRecord { seq: row.seq, body: row.body };
    answer(admin.request(), page.map(|rows| AuditPage { records: rows.into_iter().map(record).collect() }))
}

/// The signed checkpoints of a node's log, in order.
pub(in crate::http) async fn checkpoints(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(node): Path<String>,
) -> Response {
    let all = in_time(state.store.checkpoints(&node)).await.map_err(unreadable);
    let one = |one: crate::store::StoredCheckpoint| StoredCheckpoint { seq: one.seq, at: one.at, jws: one.jws };
    answer(admin.request(), all.map(|all| Checkpoints { checkpoints: all.into_iter().map(one).collect() }))
}

/// Every public key that this broker has had, as a JWKS: old checkpoints were signed with old keys.
pub(in crate::http) async fn keys(AxumState(state): AxumState<State>, admin: Admin) -> Response {
    let rows = in_time(state.store.signing_keys()).await.map_err(unreadable);
    let keys = |rows: Vec<crate::model::StoredKey>| AuditKeys {
        keys: rows.iter().filter_map(|row| serde_json::from_str(&row.public_jwk).ok()).collect(),
    };
    answer(admin.request(), rows.map(keys))
}

/// A connection whose other end is gone without a word would keep an admin waiting for ever.
async fn in_time<T>(reading: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or(Err(StoreError::Timeout))
}

fn unreadable(error: StoreError) -> Error {
    Error::unavailable("database_unavailable", "the database does not answer; try again").because(error)
}
