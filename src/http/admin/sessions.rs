//! Sessions: list, show, revoke.

use std::sync::Arc;

use axum::extract::{Path, Query, State as AxumState};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http::State;
use crate::http::admin::{Admin, Input, Reason, agents, json as reply, unrecorded};
use crate::http::reply::Problem;
use crate::model::Session;

#[derive(Debug, Deserialize)]
pub(in crate::http) struct Of {
    agent: Option<String>,
}

pub(in crate::http) async fn list(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Query(of): Query<Of>,
) -> Result<Response, Problem> {
    let agent = match &of.agent {
        Some(name) => Some(agents::find(&state, name).map_err(|error| admin.problem(error))?),
        None => None,
    };
    let sessions = state.registry.sessions(state.world.now());
    let wanted = sessions.iter().filter(|session| agent.as_ref().is_none_or(|agent| agent.id == session.agent_id));
    let sessions: Vec<Value> = wanted.map(|session| view(&state, session)).collect();
    Ok(reply(&json!({ "sessions": sessions })))
}

pub(in crate::http) async fn show(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let session = find(&state, &id).map_err(|error| admin.problem(error))?;
    Ok(reply(&view(&state, &session)))
}

pub(in crate::http) async fn revoke(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(id): Path<String>,
    Input(reason): Input<Reason>,
) -> Result<Response, Problem> {
    let revoked = async {
        let reason = reason.checked()?;
        let _turn = state.one_admin_at_a_time.lock().await;
        let session = find(&state, &id)?;
        state.issuer.revoke_session(&session, &admin.actor(reason)).await.map_err(unrecorded)?;
        find(&state, &id)
    };
    let session = revoked.await.map_err(|error| admin.problem(error))?;
    Ok(reply(&view(&state, &session)))
}

fn find(state: &State, id: &str) -> Result<Arc<Session>> {
    state.registry.session(id).ok_or_else(|| {
        Error::not_found(
            "session_unknown",
            "there is no such session, or it ended long ago; see 'hallpass session list'",
        )
    })
}

fn view(state: &State, session: &Session) -> Value {
    json!({
        "id": &*session.id,
        "client_id": &*session.agent_id,
        "agent": state.registry.agent(&session.agent_id).map(|agent| agent.name.to_string()),
        "created_at": session.created_at,
        "expires_at": session.expires_at,
        "task": session.task.as_deref(),
        "purpose": session.purpose.as_deref(),
        "revoked_at": session.revoked_at,
        "parent": session.parent.as_deref(),
        "cnf": session.cnf,
        "delegation": session.delegation.as_deref(),
    })
}
