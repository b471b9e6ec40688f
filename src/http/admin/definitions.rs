//! Roles, resources, issuers and trust domains: list, show, remove. They are declared by `apply`.

use std::sync::Arc;

use axum::extract::{Path, State as AxumState};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http::State;
use crate::http::admin::{Admin, changed, json as reply, unrecorded};
use crate::http::reply::Problem;
use crate::model::{Agent, Change, DefinitionKind, Resource, Role, TrustDomain, TrustedIssuer};
use crate::registry::Definitions;

/// A kind of definition that has no more to it than being listed, shown and removed.
pub(in crate::http) trait Noun {
    /// What it is.
    type Item: Serialize + 'static;
    /// As it is stored.
    const KIND: DefinitionKind;
    /// One, for people.
    const ONE: &'static str;
    /// The member of the list's answer.
    const MANY: &'static str;
    /// The command that lists them.
    const COMMAND: &'static str;

    /// All of them, by name.
    fn all(definitions: &Definitions) -> Vec<(&str, &Self::Item)>;

    /// What else changes when it goes.
    fn with_it(_state: &State, _name: &str) -> Vec<Change> {
        Vec::new()
    }

    /// What an admin sees of one.
    fn view(_state: &State, item: &Self::Item) -> Value {
        serde_json::to_value(item).unwrap_or_default()
    }
}

/// Roles.
pub(in crate::http) struct Roles;
/// Resources.
pub(in crate::http) struct Resources;
/// Issuers of foreign tokens.
pub(in crate::http) struct Issuers;
/// SPIFFE trust domains.
pub(in crate::http) struct TrustDomains;

impl Noun for Roles {
    type Item = Role;
    const KIND: DefinitionKind = DefinitionKind::Role;
    const ONE: &'static str = "role";
    const MANY: &'static str = "roles";
    const COMMAND: &'static str = "role";

    fn all(definitions: &Definitions) -> Vec<(&str, &Role)> {
        definitions.roles().map(|one| (one.name.as_str(), &**one)).collect()
    }

    /// It is taken from those who hold it: else another role of this name would give itself to them.
    fn with_it(state: &State, name: &str) -> Vec<Change> {
        without_roles(state, &[name])
    }

    fn view(state: &State, role: &Role) -> Value {
        let holders = holders(state, &role.name);
        json!({
            "name": role.name,
            "scopes": role.scopes,
            "agents": holders.iter().map(|agent| agent.name.to_string()).collect::<Vec<_>>(),
        })
    }
}

fn holders(state: &State, role: &str) -> Vec<Arc<Agent>> {
    let mut holders = state.registry.agents();
    holders.retain(|agent| agent.roles.iter().any(|one| one == role));
    holders
}

/// Takes these roles from all agents that hold one of them.
pub(super) fn without_roles(state: &State, gone: &[&str]) -> Vec<Change> {
    let stays = |role: &String| !gone.contains(&role.as_str());
    let mut holders = state.registry.agents();
    holders.retain(|agent| !agent.roles.iter().all(stays));
    let without = |agent: Arc<Agent>| {
        let roles = agent.roles.iter().filter(|role| stays(role)).cloned().collect();
        Change::PutAgent(Arc::new(Agent { roles, ..Agent::clone(&agent) }))
    };
    holders.into_iter().map(without).collect()
}

impl Noun for Resources {
    type Item = Resource;
    const KIND: DefinitionKind = DefinitionKind::Resource;
    const ONE: &'static str = "resource";
    const MANY: &'static str = "resources";
    const COMMAND: &'static str = "resource";

    fn all(definitions: &Definitions) -> Vec<(&str, &Resource)> {
        definitions.resources().map(|one| (one.name.as_str(), &**one)).collect()
    }
}

impl Noun for Issuers {
    type Item = TrustedIssuer;
    const KIND: DefinitionKind = DefinitionKind::Issuer;
    const ONE: &'static str = "issuer";
    const MANY: &'static str = "issuers";
    const COMMAND: &'static str = "issuer";

    fn all(definitions: &Definitions) -> Vec<(&str, &TrustedIssuer)> {
        definitions.issuers().map(|one| (one.name.as_str(), &**one)).collect()
    }
}

impl Noun for TrustDomains {
    type Item = TrustDomain;
    const KIND: DefinitionKind = DefinitionKind::TrustDomain;
    const ONE: &'static str = "trust domain";
    const MANY: &'static str = "trust_domains";
    const COMMAND: &'static str = "trust-domain";

    fn all(definitions: &Definitions) -> Vec<(&str, &TrustDomain)> {
        definitions.trust_domains().map(|one| (one.name.as_str(), &**one)).collect()
    }
}

pub(in crate::http) async fn list<N: Noun>(AxumState(state): AxumState<State>, _: Admin) -> Response {
    let definitions = state.registry.definitions();
    let all: Vec<Value> = N::all(&definitions).into_iter().map(|(_, item)| N::view(&state, item)).collect();
    reply(&json!({ N::MANY: all }))
}

pub(in crate::http) async fn show<N: Noun>(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let definitions = state.registry.definitions();
    let found = N::all(&definitions).into_iter().find(|(one, _)| *one == name);
    let (_, item) = found.ok_or_else(|| admin.problem(unknown::<N>(&name)))?;
    Ok(reply(&N::view(&state, item)))
}

pub(in crate::http) async fn remove<N: Noun>(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    // Nobody is asked: what goes only takes rights away, and `show -o yaml` keeps it for another day.
    let removed = async {
        let _turn = state.one_admin_at_a_time.lock().await;
        let definitions = state.registry.definitions();
        let found = N::all(&definitions).into_iter().find(|(one, _)| *one == name);
        let (_, item) = found.ok_or_else(|| unknown::<N>(&name))?;
        let mut event = admin.event(&format!("{} remove", N::COMMAND), &name);
        changed::tell(&mut event, Some(item), None);
        let mut changes = N::with_it(&state, &name);
        let taken_from: Vec<String> = changes
            .iter()
            .filter_map(|change| match change {
                Change::PutAgent(agent) => Some(agent.name.to_string()),
                _ => None,
            })
            .collect();
        changes.push(Change::RemoveDefinition { kind: N::KIND, name: name.clone() });
        state.ledger.commit(vec![event], changes).await.map_err(unrecorded)?;
        Ok(taken_from)
    };
    let taken_from = removed.await.map_err(|error| admin.problem(error))?;
    Ok(reply(&json!({ "name": name, "removed": true, "taken_from": taken_from })))
}

fn unknown<N: Noun>(name: &str) -> Error {
    let code = match N::KIND {
        DefinitionKind::Role => "role_unknown",
        DefinitionKind::Resource => "resource_unknown",
        DefinitionKind::Issuer => "issuer_unknown",
        DefinitionKind::TrustDomain => "trust_domain_unknown",
        DefinitionKind::Upstream => "upstream_unknown",
    };
    let text = format!("there is no {} '{}'; see 'hallpass {} list'", N::ONE, name.escape_debug(), N::COMMAND);
    Error::not_found(code, text)
}
