//! Roles: list, show. They are declared by `apply`.

use axum::extract::{Path, State as AxumState};
use axum::response::Response;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http::State;
use crate::http::admin::{Admin, json as reply};
use crate::http::reply::Problem;
use crate::model::Role;

pub(in crate::http) async fn list(AxumState(state): AxumState<State>, _: Admin) -> Response {
    let roles: Vec<Value> = state.registry.definitions().roles().map(|role| view(&state, role)).collect();
    reply(&json!({ "roles": roles }))
}

pub(in crate::http) async fn show(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let definitions = state.registry.definitions();
    let unknown = || {
        let text = format!("there is no role '{}'; see 'hallpass role list'", name.escape_debug());
        admin.problem(Error::not_found("role_unknown", text))
    };
    Ok(reply(&view(&state, definitions.role(&name).ok_or_else(unknown)?)))
}

fn view(state: &State, role: &Role) -> Value {
    let agents = state.registry.agents();
    let holders = agents.iter().filter(|agent| agent.roles.contains(&role.name));
    json!({
        "name": role.name,
        "scopes": role.scopes,
        "agents": holders.map(|agent| agent.name.to_string()).collect::<Vec<_>>(),
    })
}
