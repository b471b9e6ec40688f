//! Health and metrics.

use std::time::Duration;

use axum::Json;
use axum::extract::State as AxumState;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;

use crate::http::State;
use crate::model::{Event, EventKind};

/// The process runs.
pub(super) async fn healthz() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// The process can do its work: the audit log can be written, now.
pub(super) async fn readyz(AxumState(state): AxumState<State>) -> Response {
    // An empty commit goes the way of every record. Where one has failed, only a record can tell whether records go
    // through again: on a full disk there is often room for less.
    let events = if state.ledger.is_healthy() { Vec::new() } else { vec![recovered()] };
    let probe = tokio::time::timeout(Duration::from_secs(6), state.ledger.commit(events, Vec::new())).await;
    match probe {
        Ok(Ok(())) => Json(json!({ "status": "ready", "database": state.store.engine() })).into_response(),
        Ok(Err(error)) => not_ready(&error.to_string()),
        Err(_) => not_ready("the database does not answer"),
    }
}

fn recovered() -> Event {
    let mut event = Event::new(EventKind::Broker);
    event.action = Some("audit log writable again".into());
    event
}

fn not_ready(reason: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "reason": reason }))).into_response()
}

/// Prometheus text.
pub(super) async fn metrics(AxumState(state): AxumState<State>) -> Response {
    let list = state.registry.revoked().list();
    metrics::gauge!("hallpass_revocation_entries").set(list.entries.len() as f64);
    metrics::gauge!("hallpass_revocation_version").set(list.epoch as f64);
    metrics::gauge!("hallpass_sessions").set(state.registry.session_count(state.world.now()) as f64);
    metrics::gauge!("hallpass_calls_under_way").set(state.broker.under_way() as f64);
    metrics::gauge!("hallpass_audit_healthy").set(if state.ledger.is_healthy() { 1.0 } else { 0.0 });
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], state.metrics.render()).into_response()
}
