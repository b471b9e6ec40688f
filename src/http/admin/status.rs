//! What the broker is doing; and a checkpoint of its log.

use axum::extract::State as AxumState;
use axum::response::Response;
use serde_json::json;

use crate::http::State;
use crate::http::admin::{Admin, json as reply, unrecorded};
use crate::http::reply::Problem;

pub(in crate::http) async fn status(AxumState(state): AxumState<State>, _: Admin) -> Response {
    let now = state.world.now();
    let list = state.registry.revoked().list();
    reply(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "issuer": &*state.issuer_url,
        "node": state.config.node,
        "database": state.store.engine(),
        "audit_log_writable": state.ledger.is_healthy(),
        "agents": state.registry.agent_count(),
        "sessions": state.registry.session_count(now),
        "upstreams": state.registry.definitions().upstreams().count(),
        "credentials": state.registry.credentials().len(),
        "revocations": list.entries.len(),
        "revocation_version": list.epoch,
        "signing_key": state.registry.keys().active_kid(),
        "signing_algorithm": state.registry.keys().algorithm(),
        "master_key": state.vault.load().current_id().to_string(),
        "time": now,
    }))
}

pub(in crate::http) async fn checkpoint(AxumState(state): AxumState<State>, admin: Admin) -> Result<Response, Problem> {
    let jws = state.ledger.checkpoint().await.map_err(|error| admin.problem(unrecorded(error)))?;
    Ok(reply(&json!({ "checkpoint": jws })))
}
