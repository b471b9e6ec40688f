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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct OfSubject {
    subject: String,
    /// A registered issuer's name; without it, whoever vouches for the subject.
    #[serde(default)]
    issuer: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

pub(in crate::http) async fn revoke_subject(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Input(input): Input<OfSubject>,
) -> Result<Response, Problem> {
    let revoked = async {
        let OfSubject { subject, issuer, reason } = input;
        let reason = Reason { reason }.checked()?;
        if !(1..=255).contains(&subject.len()) || subject.chars().any(char::is_control) {
            let text = "subject is the sub that tokens carry: 1 to 255 bytes without control characters";
            return Err(Error::invalid("bad_subject", text));
        }
        let _turn = state.one_admin_at_a_time.lock().await;
        if let Some(name) = issuer.as_deref().filter(|name| state.registry.definitions().issuer(name).is_none()) {
            let text = format!("there is no issuer '{}'; it takes the name that 'apply' gave it", name.escape_debug());
            return Err(Error::not_found("issuer_unknown", text));
        }
        let ended = state.issuer.revoke_subject(issuer.as_deref(), &subject, &admin.actor(reason)).await;
        Ok(json!({ "subject": subject, "issuer": issuer, "sessions": ended.map_err(unrecorded)? }))
    };
    let answer = revoked.await.map_err(|error| admin.problem(error))?;
    Ok(reply(&answer))
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
        "subject": session.delegation.as_ref().map_or(&*session.agent_id, |delegation| &*delegation.subject),
        "subject_issuer": session.delegation.as_ref().and_then(|delegation| delegation.issuer.as_deref()),
        "act": session.delegation.as_ref().and_then(|delegation| delegation.act()),
        "cnf": session.cnf,
        "scope": session.delegation.as_ref().map(|delegation| delegation.scope.to_string()),
        "audience": session.delegation.as_ref().map(|delegation| &delegation.audience),
    })
}
