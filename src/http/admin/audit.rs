//! The audit log, read page by page, byte for byte as it was hashed.

use axum::extract::{Path, Query, State as AxumState};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use crate::error::Error;
use crate::http::State;
use crate::http::admin::{Admin, json as reply};
use crate::http::reply::Problem;
use crate::store::StoreError;

/// Records of one page, at most.
const PAGE: i64 = 1_000;

/// How long the database may take for a page.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// The nodes that keep a log, and the number of the last record of each.
pub(in crate::http) async fn nodes(AxumState(state): AxumState<State>, admin: Admin) -> Result<Response, Problem> {
    let read = async {
        let mut nodes = Vec::new();
        for node in state.store.audit_nodes().await? {
            let last = state.store.audit_last_seq(&node).await?;
            nodes.push(json!({ "node": node, "last": last }));
        }
        Ok(nodes)
    };
    let nodes = in_time(read).await.map_err(|error| admin.problem(unreadable(error)))?;
    Ok(reply(&json!({ "nodes": nodes })))
}

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct After {
    /// The number of the record before the page.
    #[serde(default)]
    after: i64,
}

/// The next records of a node's log.
pub(in crate::http) async fn records(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(node): Path<String>,
    query: Result<Query<After>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let bad =
        |_| admin.problem(Error::invalid("bad_query", "write ?after=N, the number of the last record that you have"));
    let Query(After { after }) = query.map_err(bad)?;
    let page = in_time(state.store.audit_page(&node, after.max(0), PAGE))
        .await
        .map_err(|error| admin.problem(unreadable(error)))?;
    let rows: Vec<_> = page.iter().map(|row| json!({ "seq": row.seq, "body": row.body })).collect();
    Ok(reply(&json!({ "records": rows })))
}

/// The signed checkpoints of a node's log, in order.
pub(in crate::http) async fn checkpoints(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(node): Path<String>,
) -> Result<Response, Problem> {
    let all = in_time(state.store.checkpoints(&node)).await.map_err(|error| admin.problem(unreadable(error)))?;
    let all: Vec<_> = all.iter().map(|one| json!({ "seq": one.seq, "at": one.at, "jws": one.jws })).collect();
    Ok(reply(&json!({ "checkpoints": all })))
}

/// Every public key that this broker has had, as a JWKS: old checkpoints were signed with old keys.
pub(in crate::http) async fn keys(AxumState(state): AxumState<State>, admin: Admin) -> Result<Response, Problem> {
    let rows = in_time(state.store.signing_keys()).await.map_err(|error| admin.problem(unreadable(error)))?;
    let keys: Vec<serde_json::Value> =
        rows.iter().filter_map(|row| serde_json::from_str(&row.public_jwk).ok()).collect();
    Ok(reply(&json!({ "keys": keys })))
}

/// A connection whose other end is gone without a word would keep an admin waiting for ever.
async fn in_time<T>(reading: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or(Err(StoreError::Timeout))
}

fn unreadable(error: StoreError) -> Error {
    Error::unavailable("database_unavailable", "the database does not answer; try again").because(error)
}
