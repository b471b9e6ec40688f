//! The broker's own certificate authority: its certificate, and an agent's first one.

use axum::extract::{Path, State as AxumState};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use crate::error::Result;
use crate::http::State;
use crate::http::admin::agents::find;
use crate::http::admin::{Admin, Input, json as reply, unrecorded};
use crate::http::reply::Problem;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Request {
    /// PEM (RFC 2986, RFC 7468).
    csr: String,
}

pub(in crate::http) async fn issue(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
    Input(input): Input<Request>,
) -> Result<Response, Problem> {
    do_issue(&state, &admin, &name, &input).await.map_err(|error| admin.problem(error))
}

async fn do_issue(state: &State, admin: &Admin, name: &str, input: &Request) -> Result<Response> {
    let _turn = state.one_admin_at_a_time.lock().await;
    let agent = find(state, name)?;
    let issued = state.issuer.certificate(&agent, &input.csr)?;
    let mut event = admin.event_of("agent issue-cert", &agent);
    event.reason = Some(format!("serial {}", issued.serial).into());
    state.ledger.commit(vec![event], Vec::new()).await.map_err(unrecorded)?;
    Ok(reply(&json!({
        "client_id": &*agent.id,
        "certificate": issued.pem,
        "serial": issued.serial,
        "expires_at": issued.expires_at,
    })))
}

pub(in crate::http) async fn authority(AxumState(state): AxumState<State>, _: Admin) -> Response {
    reply(&json!({ "certificate": state.issuer.authority().pem() }))
}
