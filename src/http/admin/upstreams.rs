//! Upstreams: list, show, remove, test. They are declared by `apply`.

use std::sync::Arc;

use axum::extract::{Path, State as AxumState};
use axum::response::Response;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http::State;
use crate::http::admin::{Admin, changed, json as reply, unrecorded};
use crate::http::reply::Problem;
use crate::model::{Change, DefinitionKind};
use crate::policy::CompiledUpstream;

pub(in crate::http) async fn list(AxumState(state): AxumState<State>, _: Admin) -> Response {
    let definitions = state.registry.definitions();
    let view = |upstream: &Arc<CompiledUpstream>| {
        let credential = upstream.definition().inject.credential().map(|(name, _)| name);
        let is_stored = |name| state.registry.credential(name).is_some_and(|one| one.revoked_at.is_none());
        json!({
            "name": &**upstream.name(),
            "base_url": upstream.definition().base_url,
            "credential": credential,
            "credential_stored": credential.map(is_stored),
            "operations": upstream.definition().operations.len(),
        })
    };
    let upstreams: Vec<Value> = definitions.upstreams().map(view).collect();
    reply(&json!({ "upstreams": upstreams }))
}

pub(in crate::http) async fn show(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let upstream = find(&state, &name).map_err(|error| admin.problem(error))?;
    let shown = serde_json::to_value(upstream.definition()).map_err(|error| admin.problem(Error::internal(error)))?;
    Ok(reply(&shown))
}

pub(in crate::http) async fn remove(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let removed = async {
        let _turn = state.one_admin_at_a_time.lock().await;
        let upstream = find(&state, &name)?;
        let mut event = admin.event("upstream remove", &name);
        changed::tell(&mut event, Some(upstream.definition()), None);
        let change = Change::RemoveDefinition { kind: DefinitionKind::Upstream, name: name.clone() };
        state.ledger.commit(vec![event], vec![change]).await.map_err(unrecorded)
    };
    removed.await.map_err(|error| admin.problem(error))?;
    Ok(reply(&json!({ "name": name, "removed": true })))
}

pub(in crate::http) async fn test(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let upstream = find(&state, &name).map_err(|error| admin.problem(error))?;
    let started = crate::world::monotonic();
    let outcome = state.broker.test_upstream(&upstream).await;
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(reply(&match outcome {
        Ok(()) => json!({ "name": name, "reachable": true, "milliseconds": millis }),
        // To the admin the whole chain of causes: no request was sent, so there is no secret in it.
        Err(error) => json!({ "name": name, "reachable": false, "code": error.code, "why": error.to_string() }),
    }))
}

fn find(state: &State, name: &str) -> Result<Arc<CompiledUpstream>> {
    state.registry.definitions().upstream(name).cloned().ok_or_else(|| {
        Error::not_found(
            "upstream_unknown",
            format!("there is no upstream '{}'; see 'hallpass upstream list'", name.escape_debug()),
        )
    })
}
