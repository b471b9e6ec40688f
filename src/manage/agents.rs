//! Agents: register, list, show, suspend, resume, revoke, remove, rotate-secret.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::audit::LedgerError;
use crate::error::{Error, Result};
use crate::manage::held::OnceShown;
use crate::manage::{Admin, Manager, Reason, changed, once, unrecorded};
use crate::model::{Agent, AgentStatus, AuthMethod, Change, Identity, StoredSecret, check_name};
use crate::policy;
use crate::secret::{ClientSecret, client_secret_digest, random_id};
use crate::world::Millis;

/// A new agent.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Its name; no other agent has it.
    pub name: String,
    /// The roles that give it its scopes. Each must be declared already.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What it may prove itself with, besides a client secret.
    #[serde(default)]
    pub identity: Identity,
    /// Whether it gets no client secret: it proves itself by what `identity` says.
    #[serde(default)]
    pub no_secret: bool,
    /// Whether it is registered only once its secret was confirmed to be shown (`POST /admin/v1/held/{id}/confirm`).
    #[serde(default)]
    pub hold: bool,
}

/// An agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// What it calls itself at the token endpoint.
    pub client_id: String,
    /// What people call it.
    pub name: String,
    /// Whether it may act.
    pub status: AgentStatus,
    /// The roles that give it its scopes.
    pub roles: Vec<String>,
    /// Whether each of its tokens must be bound to a key.
    pub require_bound: bool,
    /// What it may prove itself with, besides a client secret.
    pub identity: Identity,
    /// When it was registered, in unix milliseconds.
    pub created_at: Millis,
}

/// All agents.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentList {
    /// By name.
    pub agents: Vec<AgentView>,
}

/// An agent that was registered, with all that a client needs to be told.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Registered {
    /// The agent.
    #[serde(flatten)]
    pub agent: AgentView,
    /// Where it asks for tokens.
    pub issuer: String,
    /// Its client secret, shown this once. Not there if it has none.
    #[serde(default, with = "once::client_secret", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub client_secret: Option<ClientSecret>,
    /// Confirm this, and it is registered. Not there if it is already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
}

/// An agent with a new client secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Rotated {
    /// The agent, with what a client needs to be told.
    #[serde(flatten)]
    pub agent: Registered,
    /// Until when the secret before it is valid, in unix milliseconds.
    pub old_secret_valid_until: Millis,
}

/// All that is known of an agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentDetail {
    /// The agent.
    #[serde(flatten)]
    pub agent: AgentView,
    /// The scopes that its roles give it now, separated by spaces.
    pub scope: String,
    /// How many sessions it has.
    pub sessions: usize,
    /// How it may prove itself.
    pub methods: Vec<String>,
    /// Its client secrets that are valid; never the secrets themselves.
    pub secrets: Vec<SecretDates>,
}

/// Of a client secret, when it was made and when it ends.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SecretDates {
    /// In unix milliseconds.
    pub created_at: Millis,
    /// In unix milliseconds; null: it has no end.
    pub expires_at: Option<Millis>,
}

/// An agent that is no more.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentRemoved {
    /// Its name.
    pub name: String,
    /// Its client id.
    pub client_id: String,
    /// Always true.
    pub removed: bool,
}

/// How a client secret is replaced.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// For how many seconds the old secret stays valid: 0 to 2592000. Default: `tokens.secret_grace_seconds`.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 2_592_000)]
    pub grace_seconds: Option<i64>,
    /// Whether it is in force only once it was confirmed to be shown (`POST /admin/v1/held/{id}/confirm`).
    #[serde(default)]
    pub hold: bool,
}

impl Registered {
    /// Its client id and secret, as HTTP Basic takes them; the secret is empty if it has none.
    pub fn client(&self) -> (&str, &str) {
        (&self.agent.client_id, self.client_secret.as_ref().map_or("", ClientSecret::expose))
    }
}

impl AgentView {
    fn of(agent: &Agent) -> Self {
        Self {
            client_id: agent.id.to_string(),
            name: agent.name.to_string(),
            status: agent.status,
            roles: agent.roles.clone(),
            require_bound: agent.identity.require_bound,
            identity: agent.identity.clone(),
            created_at: agent.created_at,
        }
    }
}

/// Registers an agent.
///
/// # Errors
/// Its name is bad or taken, a role is unknown, its identity is bad, it could not prove itself at all; nothing can be
/// recorded.
pub async fn register(admin: Admin, mut input: Register) -> Result<Registered> {
    check_name("agent", &input.name).map_err(|problem| Error::invalid("bad_name", problem))?;
    let manager = &*admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    is_free(manager, &input.name)?;
    check_roles(manager, &input.roles)?;
    check_identity(manager, &input.identity)?;
    input.identity.keep_public();
    if input.no_secret && input.identity.methods.is_empty() {
        let text = "an agent without a secret needs another way to prove itself; declare one, or leave no_secret out";
        return Err(Error::invalid("no_method", text));
    }
    let now = manager.world.now();
    let id = random_id("ag_", manager.world.entropy.as_ref());
    let (secret, stored) = if input.no_secret { None } else { Some(new_secret(manager, &id)) }.unzip();
    let agent = Arc::new(Agent {
        id: id.into(),
        name: input.name.into(),
        status: AgentStatus::Active,
        roles: input.roles,
        secrets: stored.into_iter().collect(),
        identity: input.identity,
        created_at: now,
    });
    let view = AgentView::of(&agent);
    let hold = match (&secret, input.hold) {
        (Some(_), true) => Some(hold(&admin, OnceShown::Register(agent))?),
        _ => {
            put_registered(&admin, agent).await?;
            None
        }
    };
    Ok(Registered { agent: view, issuer: manager.issuer_url.to_string(), client_secret: secret, hold })
}

/// An agent that was held comes into force.
pub(super) async fn set_registered(admin: &Admin, agent: Arc<Agent>) -> Result<()> {
    let _turn = admin.manager.one_at_a_time.lock().await;
    is_free(&admin.manager, &agent.name)?;
    check_roles(&admin.manager, &agent.roles)?;
    put_registered(admin, agent).await
}

async fn put_registered(admin: &Admin, agent: Arc<Agent>) -> Result<()> {
    let mut event = admin.event_of("agent register", &agent);
    changed::tell(&mut event, None, Some(&AgentView::of(&agent)));
    admin.manager.ledger.commit(vec![event], vec![Change::PutAgent(agent)]).await.map_err(unrecorded)
}

fn is_free(manager: &Manager, name: &str) -> Result<()> {
    match manager.registry.find_agent(name) {
        None => Ok(()),
        Some(_) => {
            Err(Error::conflict("agent_exists", format!("there is an agent '{name}' already; pick another name")))
        }
    }
}

/// Nothing is changed until the secret is confirmed. Where that could not be recorded, nobody gets one that comes to nothing.
fn hold(admin: &Admin, what: OnceShown) -> Result<String> {
    if !admin.manager.ledger.is_healthy() {
        return Err(unrecorded(LedgerError::Unavailable("the database is not available".into())));
    }
    admin.manager.held.keep(admin, what)
}

fn new_secret(manager: &Manager, client_id: &str) -> (ClientSecret, StoredSecret) {
    let secret = ClientSecret::generate(manager.world.entropy.as_ref());
    let digest = client_secret_digest(&manager.client_secret_key, client_id, secret.expose());
    (secret, StoredSecret { digest, created_at: manager.world.now(), expires_at: None })
}

fn check_identity(manager: &Manager, identity: &Identity) -> Result<()> {
    let mut mistakes = Vec::new();
    let known = manager.registry.definitions().known();
    policy::check_identity("identity", identity, &known, &mut mistakes);
    if mistakes.is_empty() {
        return Ok(());
    }
    let text = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Err(Error::invalid("bad_identity", text))
}

fn check_roles(manager: &Manager, roles: &[String]) -> Result<()> {
    let definitions = manager.registry.definitions();
    match roles.iter().find(|role| definitions.role(role).is_none()) {
        Some(role) => Err(Error::invalid(
            "role_unknown",
            format!("there is no role '{}'; declare it with 'hallpass apply' first", role.escape_debug()),
        )),
        None => Ok(()),
    }
}

/// All agents.
///
/// # Errors
/// None.
pub async fn list(admin: Admin) -> Result<AgentList> {
    Ok(AgentList { agents: admin.manager.registry.agents().iter().map(|agent| AgentView::of(agent)).collect() })
}

/// One agent, by its name or client id.
///
/// # Errors
/// There is none.
pub async fn show(admin: Admin, name: String) -> Result<AgentDetail> {
    let manager = &admin.manager;
    let agent = find(manager, &name)?;
    let scope = manager.registry.definitions().scopes_of(&agent).to_string();
    let now = manager.world.now();
    let sessions = manager.registry.sessions(now).iter().filter(|session| session.agent_id == agent.id).count();
    let good = agent.secrets.iter().filter(|secret| secret.expires_at.is_none_or(|end| now < end));
    let secret = good.clone().next().map(|_| "client_secret");
    let mut methods: Vec<_> = secret.into_iter().chain(agent.identity.methods.iter().map(AuthMethod::name)).collect();
    methods.dedup();
    Ok(AgentDetail {
        agent: AgentView::of(&agent),
        scope,
        sessions,
        methods: methods.into_iter().map(str::to_owned).collect(),
        secrets: good.map(|one| SecretDates { created_at: one.created_at, expires_at: one.expires_at }).collect(),
    })
}

/// Stops an agent until it is resumed.
///
/// # Errors
/// There is none, it is revoked, the reason is bad, or nothing can be recorded.
pub async fn suspend(admin: Admin, name: String, reason: Reason) -> Result<AgentView> {
    stop(&admin, &name, AgentStatus::Suspended, reason).await
}

/// Stops an agent for good.
///
/// # Errors
/// There is none, the reason is bad, or nothing can be recorded.
pub async fn revoke(admin: Admin, name: String, reason: Reason) -> Result<AgentView> {
    stop(&admin, &name, AgentStatus::Revoked, reason).await
}

async fn stop(admin: &Admin, name: &str, status: AgentStatus, reason: Reason) -> Result<AgentView> {
    let reason = reason.checked()?;
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    let agent = find(manager, name)?;
    if agent.status == AgentStatus::Revoked && status == AgentStatus::Suspended {
        return Err(Error::conflict("agent_revoked", "this agent is revoked for good; there is nothing to suspend"));
    }
    manager.issuer.stop_agent(&agent, status, &admin.actor(reason)).await.map_err(unrecorded)?;
    Ok(AgentView::of(&Agent { status, ..Agent::clone(&agent) }))
}

/// Lets a suspended agent ask for new tokens again.
///
/// # Errors
/// There is none, it is revoked, or nothing can be recorded.
pub async fn resume(admin: Admin, name: String) -> Result<AgentView> {
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    let agent = find(manager, &name)?;
    if agent.status == AgentStatus::Revoked {
        return Err(Error::conflict("agent_revoked", "a revoked agent does not come back; register a new one"));
    }
    let resumed = Agent { status: AgentStatus::Active, ..Agent::clone(&agent) };
    let mut event = admin.event_of("agent resume", &resumed);
    let view = AgentView::of(&resumed);
    changed::tell(&mut event, Some(&AgentView::of(&agent)), Some(&view));
    manager.ledger.commit(vec![event], vec![Change::PutAgent(Arc::new(resumed))]).await.map_err(unrecorded)?;
    Ok(view)
}

/// Forgets an agent. One that may still act is stopped first, for good.
///
/// # Errors
/// There is none, or nothing can be recorded.
pub async fn remove(admin: Admin, name: String) -> Result<AgentRemoved> {
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    let agent = find(manager, &name)?;
    if agent.status != AgentStatus::Revoked {
        let actor = admin.actor(Some("removed".into()));
        manager.issuer.stop_agent(&agent, AgentStatus::Revoked, &actor).await.map_err(unrecorded)?;
    }
    let mut event = admin.event_of("agent remove", &agent);
    changed::tell(&mut event, Some(&AgentView::of(&agent)), None);
    let change = Change::RemoveAgent { id: agent.id.clone(), name: agent.name.clone() };
    manager.ledger.commit(vec![event], vec![change]).await.map_err(unrecorded)?;
    Ok(AgentRemoved { name: agent.name.to_string(), client_id: agent.id.to_string(), removed: true })
}

/// Gives an agent a new client secret; the old one stays valid for a while.
///
/// # Errors
/// There is none, it is revoked, the grace is out of range, or nothing can be recorded.
pub async fn rotate_secret(admin: Admin, name: String, input: RotateSecret) -> Result<Rotated> {
    let manager = &admin.manager;
    let grace = input.grace_seconds.unwrap_or(manager.secret_grace_seconds);
    if !(0..=30 * 86_400).contains(&grace) {
        return Err(Error::invalid("bad_grace", "grace_seconds is 0 to 2592000 (30 days)"));
    }
    let _turn = manager.one_at_a_time.lock().await;
    let agent = find(manager, &name)?;
    if agent.status == AgentStatus::Revoked {
        return Err(Error::conflict("agent_revoked", "a revoked agent gets no new secret; register a new one"));
    }
    let (secret, stored) = new_secret(manager, &agent.id);
    let others_end = manager.world.now() + grace * 1000;
    let hold = if input.hold {
        let what = OnceShown::Rotate { agent_id: agent.id.clone(), secret: stored, others_end };
        Some(hold(&admin, what)?)
    } else {
        put_rotated(&admin, &agent, stored, others_end).await?;
        None
    };
    let (issuer, client_secret) = (manager.issuer_url.to_string(), Some(secret));
    let agent = Registered { agent: AgentView::of(&agent), issuer, client_secret, hold };
    Ok(Rotated { agent, old_secret_valid_until: others_end })
}

/// A secret that was held comes into force.
pub(super) async fn set_rotated(admin: &Admin, agent_id: &str, secret: StoredSecret, others_end: Millis) -> Result<()> {
    let _turn = admin.manager.one_at_a_time.lock().await;
    let agent = find(&admin.manager, agent_id)?;
    if agent.status == AgentStatus::Revoked {
        return Err(Error::conflict("agent_revoked", "this agent was revoked meanwhile and gets no new secret"));
    }
    put_rotated(admin, &agent, secret, others_end).await
}

async fn put_rotated(admin: &Admin, agent: &Agent, secret: StoredSecret, others_end: Millis) -> Result<()> {
    let manager = &admin.manager;
    let mut event = admin.event_of("agent rotate-secret", agent);
    let secrets = |ends: Option<i64>, new: usize| {
        let now = manager.world.now();
        let there = agent.secrets.iter().filter(|one| one.expires_at.is_none_or(|end| end > now)).count();
        json!({ "secrets": there + new, "old_secret_valid_until": ends })
    };
    changed::tell(&mut event, Some(&secrets(None, 0)), Some(&secrets(Some(others_end), 1)));
    let change = Change::AddSecret { agent_id: agent.id.clone(), secret, others_end };
    manager.ledger.commit(vec![event], vec![change]).await.map_err(unrecorded)
}

pub(super) fn find(manager: &Manager, name: &str) -> Result<Arc<Agent>> {
    manager.registry.find_agent(name).ok_or_else(|| {
        Error::not_found(
            "agent_unknown",
            format!("there is no agent '{}'; see 'hallpass agent list'", name.escape_debug()),
        )
    })
}
