//! Sessions: list, show, revoke; and all that acts on behalf of a subject.

use std::sync::Arc;

use hallpass_verify::{Actor, Audience, Confirmation};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{Error, Result};
use crate::manage::{Admin, Manager, Reason, agents, unrecorded};
use crate::model::{Delegation, Session};
use crate::world::Millis;

/// Which sessions.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OfAgent {
    /// Only those of this agent, by its name or client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// `sid` in its tokens.
    pub id: String,
    /// Whose.
    pub client_id: String,
    /// The agent's name; null where it is no more.
    pub agent: Option<String>,
    /// When it was opened, in unix milliseconds.
    pub created_at: Millis,
    /// When it ends, in unix milliseconds.
    pub expires_at: Millis,
    /// What the agent said it is doing.
    pub task: Option<String>,
    /// What the agent said it is for.
    pub purpose: Option<String>,
    /// When it was revoked, in unix milliseconds.
    pub revoked_at: Option<Millis>,
    /// The session that it hangs under: it ends with that one.
    pub parent: Option<String>,
    /// `sub` of its tokens: a person, or an agent's client id.
    pub subject: String,
    /// The registered issuer that vouches for the person; null: the subject is an agent.
    pub subject_issuer: Option<String>,
    /// Who acts, nested (RFC 8693 §4.1).
    #[schema(value_type = Option<Object>)]
    pub act: Option<Actor>,
    /// The keys that its tokens are bound to (RFC 7800).
    #[schema(value_type = Option<Object>)]
    pub cnf: Option<Confirmation>,
    /// What an exchange granted at most, separated by spaces.
    pub scope: Option<String>,
    /// For whom an exchange granted it: one text, or several.
    #[schema(value_type = Option<OneOrMore>)]
    pub audience: Option<Audience>,
}

/// One text, or several (RFC 7519 §4.1.3).
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

/// The sessions that have not ended.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionList {
    /// The sessions.
    pub sessions: Vec<SessionView>,
}

/// On whose behalf nobody shall act any more.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OfSubject {
    /// The `sub` that tokens carry: 1 to 255 bytes without control characters.
    #[schema(min_length = 1, max_length = 255)]
    pub subject: String,
    /// A registered issuer's name; without it, whoever vouches for the subject.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Why, in the admin's words: at most 200 characters and no control characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What was ended.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SubjectRevoked {
    /// The subject.
    pub subject: String,
    /// The issuer, where one was named.
    pub issuer: Option<String>,
    /// How many sessions are over.
    pub sessions: usize,
}

/// The sessions that have not ended.
///
/// # Errors
/// There is no such agent.
pub async fn list(admin: Admin, of: OfAgent) -> Result<SessionList> {
    let manager = &admin.manager;
    let agent = match &of.agent {
        Some(name) => Some(agents::find(manager, name)?),
        None => None,
    };
    let sessions = manager.registry.sessions(manager.world.now());
    let wanted = sessions.iter().filter(|session| agent.as_ref().is_none_or(|agent| agent.id == session.agent_id));
    Ok(SessionList { sessions: wanted.map(|session| view(manager, session)).collect() })
}

/// One session.
///
/// # Errors
/// There is none.
pub async fn show(admin: Admin, id: String) -> Result<SessionView> {
    let session = find(&admin.manager, &id)?;
    Ok(view(&admin.manager, &session))
}

/// Ends a session and all below it.
///
/// # Errors
/// There is none, the reason is bad, or nothing can be recorded.
pub async fn revoke(admin: Admin, id: String, reason: Reason) -> Result<SessionView> {
    let reason = reason.checked()?;
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    let session = find(manager, &id)?;
    manager.issuer.revoke_session(&session, &admin.actor(reason)).await.map_err(unrecorded)?;
    let session = find(manager, &id)?;
    Ok(view(manager, &session))
}

/// Ends all that acts on behalf of a subject; its earlier tokens open no session any more.
///
/// # Errors
/// The subject or the reason is bad, there is no such issuer, or nothing can be recorded.
pub async fn revoke_subject(admin: Admin, input: OfSubject) -> Result<SubjectRevoked> {
    let OfSubject { subject, issuer, reason } = input;
    let reason = Reason { reason }.checked()?;
    if !(1..=255).contains(&subject.len()) || subject.chars().any(char::is_control) {
        let text = "subject is the sub that tokens carry: 1 to 255 bytes without control characters";
        return Err(Error::invalid("bad_subject", text));
    }
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    if let Some(name) = issuer.as_deref().filter(|name| manager.registry.definitions().issuer(name).is_none()) {
        let text = format!("there is no issuer '{}'; it takes the name that 'apply' gave it", name.escape_debug());
        return Err(Error::not_found("issuer_unknown", text));
    }
    let ended = manager.issuer.revoke_subject(issuer.as_deref(), &subject, &admin.actor(reason)).await;
    Ok(SubjectRevoked { sessions: ended.map_err(unrecorded)?, subject, issuer })
}

fn find(manager: &Manager, id: &str) -> Result<Arc<Session>> {
    manager.registry.session(id).ok_or_else(|| {
        Error::not_found(
            "session_unknown",
            "there is no such session, or it ended long ago; see 'hallpass session list'",
        )
    })
}

fn view(manager: &Manager, session: &Session) -> SessionView {
    let owned = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let delegation: Option<&Delegation> = session.delegation.as_deref();
    SessionView {
        id: session.id.to_string(),
        client_id: session.agent_id.to_string(),
        agent: manager.registry.agent(&session.agent_id).map(|agent| agent.name.to_string()),
        created_at: session.created_at,
        expires_at: session.expires_at,
        task: owned(&session.task),
        purpose: owned(&session.purpose),
        revoked_at: session.revoked_at,
        parent: owned(&session.parent),
        subject: delegation.map_or(&session.agent_id, |delegation| &delegation.subject).to_string(),
        subject_issuer: delegation.and_then(|delegation| owned(&delegation.issuer)),
        act: delegation.and_then(Delegation::act),
        cnf: session.cnf.clone(),
        scope: delegation.map(|delegation| delegation.scope.to_string()),
        audience: delegation.map(|delegation| delegation.audience.clone()),
    }
}
