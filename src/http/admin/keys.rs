//! Signing keys: list, rotate, retire.

use axum::extract::{Path, State as AxumState};
use axum::response::Response;
use serde_json::{Value, json};

use crate::error::Error;
use crate::http::State;
use crate::http::admin::{Admin, Input, Reason, json as reply};
use crate::http::reply::Problem;
use crate::keyring::KeyState;

pub(in crate::http) async fn list(AxumState(state): AxumState<State>, _: Admin) -> Response {
    reply(&view(&state))
}

pub(in crate::http) async fn rotate(AxumState(state): AxumState<State>, admin: Admin) -> Result<Response, Problem> {
    let worker = state.clone();
    let event = admin.event("key rotate", "signing keys");
    // A task of its own: an admin who hangs up must not leave the database with keys that the registry does not have.
    let rotated = tokio::spawn(async move { worker.keys.rotate(event).await }).await;
    let ready_at = rotated.map_err(Error::internal).and_then(|done| done).map_err(|error| admin.problem(error))?;
    let mut answer = view(&state);
    if let Some((object, ready_at)) = answer.as_object_mut().zip(ready_at) {
        let text = "the new key was published later than keys.publish_ahead_hours asks: verifiers that keep an old JWKS and do not look again at an unknown kid will refuse its tokens until then";
        object.insert("warning".into(), json!({ "until": ready_at, "text": text }));
    }
    Ok(reply(&answer))
}

pub(in crate::http) async fn retire(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(kid): Path<String>,
    Input(reason): Input<Reason>,
) -> Result<Response, Problem> {
    let reason = reason.checked().map_err(|error| admin.problem(error))?;
    let (event, revocation) = state.issuer.key_revocation(&kid, &admin.actor(reason));
    let worker = state.clone();
    let name = kid.clone();
    let retired = tokio::spawn(async move { worker.keys.retire(&name, vec![event], revocation).await }).await;
    retired.map_err(Error::internal).and_then(|done| done).map_err(|error| admin.problem(error))?;
    Ok(reply(&view(&state)))
}

fn view(state: &State) -> Value {
    let keys = state.registry.keys();
    let shown = keys.records().iter().filter(|record| record.state != KeyState::Gone || record.revoked);
    json!({ "active": keys.active_kid(), "keys": shown.collect::<Vec<_>>() })
}
