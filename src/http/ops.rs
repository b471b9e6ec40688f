//! Health and metrics.

use std::time::Duration;

use axum::Json;
use axum::extract::State as AxumState;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;

use crate::http::OpsState;
use crate::supervise::Phase;

/// Longer than a commit may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// The process runs, and no part of it is lost. What a restart would not mend, such as a database that is away, does not
/// count here.
pub(super) async fn healthz(AxumState(state): AxumState<OpsState>) -> Response {
    match state.supervisor.failure() {
        None => Json(json!({ "status": "ok" })).into_response(),
        Some(lost) => {
            let text = "this part is lost, and the broker stops; its log says why";
            unavailable(&json!({ "status": "failed", "part": lost.part, "reason": text }))
        }
    }
}

/// The process can do its work: the audit log can be written, now.
pub(super) async fn readyz(AxumState(state): AxumState<OpsState>) -> Response {
    if let Some(lost) = state.supervisor.failure() {
        return unavailable(&json!({ "status": "not ready", "part": lost.part, "reason": "this part is lost" }));
    }
    if state.supervisor.phase() != Phase::Serving {
        return not_ready("the broker is stopping");
    }
    // An empty commit goes the way of every record. While the log is known to be away, the ledger says so at once, and tries
    // by itself whether records go through again.
    match tokio::time::timeout(PATIENCE, state.ledger.commit(Vec::new(), Vec::new())).await {
        Ok(Ok(())) => Json(json!({ "status": "ready", "database": state.engine })).into_response(),
        Ok(Err(error)) => not_ready(&error.to_string()),
        Err(_) => not_ready("the database does not answer"),
    }
}

fn not_ready(reason: &str) -> Response {
    unavailable(&json!({ "status": "not ready", "reason": reason }))
}

fn unavailable(body: &serde_json::Value) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

/// Prometheus text.
pub(super) async fn metrics(AxumState(state): AxumState<OpsState>) -> Response {
    let list = state.registry.revoked().list();
    metrics::gauge!("hallpass_revocation_entries").set(list.entries.len() as f64);
    metrics::gauge!("hallpass_revocation_version").set(list.epoch as f64);
    metrics::gauge!("hallpass_sessions").set(state.registry.session_count(state.world.now()) as f64);
    metrics::gauge!("hallpass_calls_in_flight").set(state.broker.under_way() as f64);
    metrics::gauge!("hallpass_audit_healthy").set(if state.ledger.is_healthy() { 1.0 } else { 0.0 });
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], state.metrics.render()).into_response()
}
