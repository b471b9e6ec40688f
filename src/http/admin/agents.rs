//! Agents: register, list, show, suspend, resume, revoke, rotate-secret.

use std::sync::Arc;

use axum::extract::{Path, State as AxumState};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::audit::LedgerError;
use crate::error::{Error, Result};
use crate::http::State;
use crate::http::admin::held::OnceShown;
use crate::http::admin::{Admin, Input, Reason, changed, json as reply, unrecorded};
use crate::http::reply::Problem;
use crate::model::{Agent, AgentStatus, AuthMethod, Change, Identity, StoredSecret, check_name};
use crate::policy::{self, Trusted};
use crate::secret::{ClientSecret, client_secret_digest, random_id};
use crate::world::Millis;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Register {
    name: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    identity: Identity,
    /// Whether it gets no client secret: it proves itself by what `identity` says.
    #[serde(default)]
    no_secret: bool,
    /// Whether it is registered only once its secret was confirmed to be shown.
    #[serde(default)]
    hold: bool,
}

pub(in crate::http) async fn register(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Input(input): Input<Register>,
) -> Result<Response, Problem> {
    do_register(&state, &admin, input).await.map_err(|error| admin.problem(error))
}

async fn do_register(state: &State, admin: &Admin, mut input: Register) -> Result<Response> {
    check_name("agent", &input.name).map_err(|problem| Error::invalid("bad_name", problem))?;
    let _turn = state.one_admin_at_a_time.lock().await;
    is_free(state, &input.name)?;
    check_roles(state, &input.roles)?;
    check_identity(state, &input.identity)?;
    input.identity.keep_public();
    if input.no_secret && input.identity.methods.is_empty() {
        let text = "an agent without a secret needs another way to prove itself; declare one, or leave no_secret out";
        return Err(Error::invalid("no_method", text));
    }
    let now = state.world.now();
    let id = random_id("ag_", state.world.entropy.as_ref());
    let (secret, stored) = if input.no_secret { None } else { Some(new_secret(state, &id)) }.unzip();
    let agent = Agent {
        id: id.into(),
        name: input.name.into(),
        status: AgentStatus::Active,
        roles: input.roles,
        secrets: stored.into_iter().collect(),
        identity: input.identity,
        created_at: now,
    };
    let mut answer = view(&agent);
    let agent = Arc::new(agent);
    match (&secret, input.hold) {
        (Some(_), true) => hold(state, admin, &mut answer, OnceShown::Register(agent))?,
        _ => put_registered(state, admin, agent).await?,
    }
    with_issuer(state, &mut answer);
    if let Some(secret) = &secret {
        show_once(&mut answer, secret);
    }
    Ok(reply(&answer))
}

/// An agent that was held comes into force.
pub(super) async fn set_registered(state: &State, admin: &Admin, agent: Arc<Agent>) -> Result<()> {
    let _turn = state.one_admin_at_a_time.lock().await;
    is_free(state, &agent.name)?;
    check_roles(state, &agent.roles)?;
    put_registered(state, admin, agent).await
}

async fn put_registered(state: &State, admin: &Admin, agent: Arc<Agent>) -> Result<()> {
    let mut event = admin.event_of("agent register", &agent);
    changed::tell(&mut event, None, Some(&view(&agent)));
    state.ledger.commit(vec![event], vec![Change::PutAgent(agent)]).await.map_err(unrecorded)
}

fn is_free(state: &State, name: &str) -> Result<()> {
    match state.registry.find_agent(name) {
        None => Ok(()),
        Some(_) => {
            Err(Error::conflict("agent_exists", format!("there is an agent '{name}' already; pick another name")))
        }
    }
}

/// Nothing is changed until the secret is confirmed. Where that could not be recorded, nobody gets one that comes to nothing.
fn hold(state: &State, admin: &Admin, answer: &mut Value, what: OnceShown) -> Result<()> {
    if !state.ledger.is_healthy() {
        return Err(unrecorded(LedgerError::Unavailable("the database is not available".into())));
    }
    let id = state.held.keep(state, admin, what)?;
    if let Some(object) = answer.as_object_mut() {
        object.insert("hold".into(), id.into());
    }
    Ok(())
}

/// Where the agent asks for tokens: together with its id and secret, all that a client needs to be told.
fn with_issuer(state: &State, answer: &mut Value) {
    if let Some(object) = answer.as_object_mut() {
        object.insert("issuer".into(), (&*state.issuer_url).into());
    }
}

/// The one place where a client secret leaves in the clear.
fn show_once(answer: &mut Value, secret: &ClientSecret) {
    if let Some(object) = answer.as_object_mut() {
        object.insert("client_secret".into(), secret.expose().into());
    }
}

fn new_secret(state: &State, client_id: &str) -> (ClientSecret, StoredSecret) {
    let secret = ClientSecret::generate(state.world.entropy.as_ref());
    let digest = client_secret_digest(&state.client_secret_key, client_id, secret.expose());
    (secret, StoredSecret { digest, created_at: state.world.now(), expires_at: None })
}

fn check_identity(state: &State, identity: &Identity) -> Result<()> {
    let mut mistakes = Vec::new();
    let trusted = Trusted::from(&state.registry.definitions().known());
    policy::check_identity("identity", identity, &trusted, &mut mistakes);
    if mistakes.is_empty() {
        return Ok(());
    }
    let text = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Err(Error::invalid("bad_identity", text))
}

pub(super) fn check_roles(state: &State, roles: &[String]) -> Result<()> {
    let definitions = state.registry.definitions();
    match roles.iter().find(|role| definitions.role(role).is_none()) {
        Some(role) => Err(Error::invalid(
            "role_unknown",
            format!("there is no role '{}'; declare it with 'hallpass apply' first", role.escape_debug()),
        )),
        None => Ok(()),
    }
}

pub(in crate::http) async fn list(AxumState(state): AxumState<State>, _: Admin) -> Response {
    let agents: Vec<Value> = state.registry.agents().iter().map(|agent| view(agent)).collect();
    reply(&json!({ "agents": agents }))
}

pub(in crate::http) async fn show(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let agent = find(&state, &name).map_err(|error| admin.problem(error))?;
    let mut answer = view(&agent);
    if let Some(object) = answer.as_object_mut() {
        let scopes = state.registry.definitions().scopes_of(&agent);
        object.insert("scope".into(), scopes.to_string().into());
        let now = state.world.now();
        let sessions = state.registry.sessions(now).iter().filter(|session| session.agent_id == agent.id).count();
        object.insert("sessions".into(), sessions.into());
        let good = agent.secrets.iter().filter(|secret| secret.expires_at.is_none_or(|end| now < end));
        let secret = good.clone().next().map(|_| "client_secret");
        let mut methods: Vec<_> =
            secret.into_iter().chain(agent.identity.methods.iter().map(AuthMethod::name)).collect();
        methods.dedup();
        object.insert("methods".into(), methods.into());
        object.insert(
            "secrets".into(),
            good.map(|secret| json!({ "created_at": secret.created_at, "expires_at": secret.expires_at })).collect(),
        );
    }
    Ok(reply(&answer))
}

pub(in crate::http) async fn suspend(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
    Input(reason): Input<Reason>,
) -> Result<Response, Problem> {
    stop(&state, &admin, &name, AgentStatus::Suspended, reason).await.map_err(|error| admin.problem(error))
}

pub(in crate::http) async fn revoke(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
    Input(reason): Input<Reason>,
) -> Result<Response, Problem> {
    stop(&state, &admin, &name, AgentStatus::Revoked, reason).await.map_err(|error| admin.problem(error))
}

async fn stop(state: &State, admin: &Admin, name: &str, status: AgentStatus, reason: Reason) -> Result<Response> {
    let reason = reason.checked()?;
    let _turn = state.one_admin_at_a_time.lock().await;
    let agent = find(state, name)?;
    if agent.status == AgentStatus::Revoked && status == AgentStatus::Suspended {
        return Err(Error::conflict("agent_revoked", "this agent is revoked for good; there is nothing to suspend"));
    }
    state.issuer.stop_agent(&agent, status, &admin.actor(reason)).await.map_err(unrecorded)?;
    Ok(reply(&view(&Agent { status, ..Agent::clone(&agent) })))
}

pub(in crate::http) async fn resume(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    do_resume(&state, &admin, &name).await.map_err(|error| admin.problem(error))
}

async fn do_resume(state: &State, admin: &Admin, name: &str) -> Result<Response> {
    let _turn = state.one_admin_at_a_time.lock().await;
    let agent = find(state, name)?;
    if agent.status == AgentStatus::Revoked {
        return Err(Error::conflict("agent_revoked", "a revoked agent does not come back; register a new one"));
    }
    let resumed = Agent { status: AgentStatus::Active, ..Agent::clone(&agent) };
    let mut event = admin.event_of("agent resume", &resumed);
    let answer = view(&resumed);
    changed::tell(&mut event, Some(&view(&agent)), Some(&answer));
    state.ledger.commit(vec![event], vec![Change::PutAgent(Arc::new(resumed))]).await.map_err(unrecorded)?;
    Ok(reply(&answer))
}

/// Forgets an agent. One that may still act is stopped first, for good.
pub(in crate::http) async fn remove(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    do_remove(&state, &admin, &name).await.map_err(|error| admin.problem(error))
}

async fn do_remove(state: &State, admin: &Admin, name: &str) -> Result<Response> {
    let _turn = state.one_admin_at_a_time.lock().await;
    let agent = find(state, name)?;
    if agent.status != AgentStatus::Revoked {
        let actor = admin.actor(Some("removed".into()));
        state.issuer.stop_agent(&agent, AgentStatus::Revoked, &actor).await.map_err(unrecorded)?;
    }
    let mut event = admin.event_of("agent remove", &agent);
    changed::tell(&mut event, Some(&view(&agent)), None);
    let change = Change::RemoveAgent { id: agent.id.clone(), name: agent.name.clone() };
    state.ledger.commit(vec![event], vec![change]).await.map_err(unrecorded)?;
    Ok(reply(&json!({ "name": &*agent.name, "client_id": &*agent.id, "removed": true })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RotateSecret {
    #[serde(default)]
    grace_seconds: Option<i64>,
    /// Whether it is in force only once it was confirmed to be shown.
    #[serde(default)]
    hold: bool,
}

pub(in crate::http) async fn rotate_secret(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
    Input(input): Input<RotateSecret>,
) -> Result<Response, Problem> {
    do_rotate(&state, &admin, &name, input).await.map_err(|error| admin.problem(error))
}

async fn do_rotate(state: &State, admin: &Admin, name: &str, input: RotateSecret) -> Result<Response> {
    let default = i64::try_from(state.config.tokens.secret_grace.as_secs()).unwrap_or(0);
    let grace = input.grace_seconds.unwrap_or(default);
    if !(0..=30 * 86_400).contains(&grace) {
        return Err(Error::invalid("bad_grace", "grace_seconds is 0 to 2592000 (30 days)"));
    }
    let _turn = state.one_admin_at_a_time.lock().await;
    let agent = find(state, name)?;
    if agent.status == AgentStatus::Revoked {
        return Err(Error::conflict("agent_revoked", "a revoked agent gets no new secret; register a new one"));
    }
    let (secret, stored) = new_secret(state, &agent.id);
    let others_end = state.world.now() + grace * 1000;
    let mut answer = view(&agent);
    if input.hold {
        let what = OnceShown::Rotate { agent_id: agent.id.clone(), secret: stored, others_end };
        hold(state, admin, &mut answer, what)?;
    } else {
        put_rotated(state, admin, &agent, stored, others_end).await?;
    }
    with_issuer(state, &mut answer);
    show_once(&mut answer, &secret);
    if let Some(object) = answer.as_object_mut() {
        object.insert("old_secret_valid_until".into(), others_end.into());
    }
    Ok(reply(&answer))
}

/// A secret that was held comes into force.
pub(super) async fn set_rotated(
    state: &State,
    admin: &Admin,
    agent_id: &str,
    secret: StoredSecret,
    others_end: Millis,
) -> Result<()> {
    let _turn = state.one_admin_at_a_time.lock().await;
    let agent = find(state, agent_id)?;
    if agent.status == AgentStatus::Revoked {
        return Err(Error::conflict("agent_revoked", "this agent was revoked meanwhile and gets no new secret"));
    }
    put_rotated(state, admin, &agent, secret, others_end).await
}

async fn put_rotated(
    state: &State,
    admin: &Admin,
    agent: &Agent,
    secret: StoredSecret,
    others_end: Millis,
) -> Result<()> {
    let mut event = admin.event_of("agent rotate-secret", agent);
    let secrets = |ends: Option<i64>, new: usize| {
        let there = agent.secrets.iter().filter(|one| one.expires_at.is_none_or(|end| end > state.world.now())).count();
        json!({ "secrets": there + new, "old_secret_valid_until": ends })
    };
    changed::tell(&mut event, Some(&secrets(None, 0)), Some(&secrets(Some(others_end), 1)));
    let change = Change::AddSecret { agent_id: agent.id.clone(), secret, others_end };
    state.ledger.commit(vec![event], vec![change]).await.map_err(unrecorded)
}

pub(super) fn find(state: &State, name: &str) -> Result<Arc<Agent>> {
    state.registry.find_agent(name).ok_or_else(|| {
        Error::not_found(
            "agent_unknown",
            format!("there is no agent '{}'; see 'hallpass agent list'", name.escape_debug()),
        )
    })
}

fn view(agent: &Agent) -> Value {
    json!({
        "client_id": &*agent.id,
        "name": &*agent.name,
        "status": agent.status,
        "roles": agent.roles,
        "require_bound": agent.identity.require_bound,
        "identity": agent.identity,
        "created_at": agent.created_at,
    })
}
