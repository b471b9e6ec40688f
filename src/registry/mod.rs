//! The in-memory view that hot paths read instead of SQL: agents, definitions, credentials (sealed), sessions,
//! revocations, keys. It hears of every change from the ledger, once the change is durable.

mod definitions;
mod keys;
mod revoked;
mod rights;

use std::sync::Arc;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use hallpass_verify::{DpopRefusal, Refusal, RevokedBy, TokenVerifier};

pub use definitions::{Definitions, Registered};
pub use keys::Keys;
pub use revoked::{List, Revoked};
pub use rights::Rights;

use crate::model::{Agent, AgentStatus, Change, Credential, Rewrapped, Session};
use crate::store::Everything;
use crate::world::Millis;

/// The view.
#[derive(Debug)]
pub struct Registry {
    agents: DashMap<Arc<str>, Arc<Agent>>,
    agent_names: DashMap<Arc<str>, Arc<str>>,
    credentials: DashMap<Arc<str>, Arc<Credential>>,
    sessions: DashMap<Arc<str>, Arc<Session>>,
    /// How many of `sessions` are whose, so that no token request has to count them.
    sessions_of: DashMap<Arc<str>, usize>,
    /// Which of `sessions` hang under which.
    children: DashMap<Arc<str>, Vec<Arc<str>>>,
    definitions: ArcSwap<Definitions>,
    keys: ArcSwap<Keys>,
    revoked: Revoked,
    rights: Rights,
}

impl Registry {
    /// From what the database holds. Definitions that no longer compile are an error: better no start than a hole.
    pub fn new(everything: Everything, keys: Keys) -> crate::error::Result<Self> {
        let definitions = Definitions::new(&everything.definitions)?;
        let registry = Self {
            agents: DashMap::new(),
            agent_names: DashMap::new(),
            credentials: DashMap::new(),
            sessions: DashMap::new(),
            sessions_of: DashMap::new(),
            children: DashMap::new(),
            definitions: ArcSwap::from_pointee(definitions),
            keys: ArcSwap::from_pointee(keys),
            revoked: Revoked::new(everything.revocations, everything.epoch),
            rights: Rights::new(),
        };
        for agent in everything.agents {
            registry.put_agent(Arc::new(agent));
        }
        for credential in everything.credentials {
            registry.credentials.insert(credential.name.clone(), Arc::new(credential));
        }
        for mut session in everything.sessions {
            // One text for both: there may be a hundred thousand of them.
            if let Some(agent) = registry.agents.get(&session.agent_id) {
                session.agent_id = agent.id.clone();
            }
            registry.put_session(Arc::new(session));
        }
        Ok(registry)
    }

    /// An agent by its client id.
    pub fn agent(&self, id: &str) -> Option<Arc<Agent>> {
        self.agents.get(id).map(|entry| entry.value().clone())
    }

    /// An agent by its name, or by its client id.
    pub fn find_agent(&self, name: &str) -> Option<Arc<Agent>> {
        let id = self.agent_names.get(name).map(|entry| entry.value().clone());
        self.agent(id.as_deref().unwrap_or(name))
    }

    /// All agents, by name.
    pub fn agents(&self) -> Vec<Arc<Agent>> {
        let mut all: Vec<_> = self.agents.iter().map(|entry| entry.value().clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The agents that `wanted` says yes to, in no order.
    pub fn agents_where(&self, wanted: impl Fn(&Agent) -> bool) -> Vec<Arc<Agent>> {
        self.agents.iter().filter(|entry| wanted(entry.value())).map(|entry| entry.value().clone()).collect()
    }

    /// A credential by its name.
    pub fn credential(&self, name: &str) -> Option<Arc<Credential>> {
        self.credentials.get(name).map(|entry| entry.value().clone())
    }

    /// All credentials, by name.
    pub fn credentials(&self) -> Vec<Arc<Credential>> {
        let mut all: Vec<_> = self.credentials.iter().map(|entry| entry.value().clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// A session by its id, whether it is over or not.
    pub fn session(&self, id: &str) -> Option<Arc<Session>> {
        self.sessions.get(id).map(|entry| entry.value().clone())
    }

    /// The sessions that have not ended, newest first.
    pub fn sessions(&self, now: Millis) -> Vec<Arc<Session>> {
        let alive = self.sessions.iter().filter(|entry| entry.expires_at > now);
        let mut all: Vec<_> = alive.map(|entry| entry.value().clone()).collect();
        all.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        all
    }

    /// The sessions that hang under this one, at any depth.
    pub fn descendants(&self, id: &str) -> Vec<Arc<Session>> {
        let mut found: Vec<Arc<Session>> = Vec::new();
        let mut open: Vec<Arc<str>> = self.children_of(id);
        while let Some(id) = open.pop() {
            open.extend(self.children_of(&id));
            found.extend(self.session(&id));
        }
        found
    }

    /// The sessions that hang directly under this one.
    pub fn children(&self, id: &str) -> Vec<Arc<Session>> {
        self.children_of(id).iter().filter_map(|id| self.session(id)).collect()
    }

    /// All sessions that are kept and that `wanted` says yes to.
    pub fn sessions_where(&self, wanted: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        self.sessions.iter().filter(|entry| wanted(entry.value())).map(|entry| entry.value().clone()).collect()
    }

    fn children_of(&self, id: &str) -> Vec<Arc<str>> {
        self.children.get(id).map(|entry| entry.value().clone()).unwrap_or_default()
    }

    /// The session and those that it hangs under, itself first; `None` if one of them is missing. A parent lives at
    /// least as long as its children, so what hangs under nothing must not be trusted.
    pub fn lineage(&self, session: &Arc<Session>) -> Option<Vec<Arc<Session>>> {
        let mut line = vec![session.clone()];
        while let Some(parent) = line.last().and_then(|last| last.parent.clone()) {
            line.push(self.session(&parent)?);
        }
        Some(line)
    }

    /// Whether the session was revoked, or one that it hangs under; see [`Self::lineage`].
    pub fn is_cut_off(&self, session: &Arc<Session>) -> bool {
        session.revoked_at.is_some()
            || self.lineage(session).is_none_or(|line| line.iter().any(|one| one.revoked_at.is_some()))
    }

    /// How many sessions have not ended.
    pub fn session_count(&self, now: Millis) -> usize {
        self.sessions.iter().filter(|entry| entry.expires_at > now).count()
    }

    /// How many sessions of this agent are kept: those that were taken back, or have just ended, count until they are
    /// pruned.
    pub fn sessions_of(&self, agent_id: &str) -> usize {
        self.sessions_of.get(agent_id).map_or(0, |count| *count)
    }

    /// How many agents there are.
    pub fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// Upstreams, roles and resources.
    pub fn definitions(&self) -> Arc<Definitions> {
        self.definitions.load_full()
    }

    /// The keys of the moment.
    pub fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// Why tokens of an agent that may not act, or that is not there any more, are refused.
    pub fn why_stopped(&self, agent_id: &str) -> Refusal {
        match self.agent(agent_id).map(|agent| agent.status) {
            Some(AgentStatus::Suspended) => Refusal::Suspended,
            _ => Refusal::Revoked(RevokedBy::Agent),
        }
    }

    /// The same refusal, said exactly. "Everything of this agent that was issued before" is on the list when an agent is
    /// suspended, when it is revoked for good, and when it has taken back its tokens: what helps differs.
    pub fn exactly(&self, verifier: &TokenVerifier, token: &str, refusal: Refusal) -> Refusal {
        let Refusal::Revoked(by) = refusal else { return refusal };
        let Ok(claims) = verifier.identify(token, self.keys().verifying()) else { return refusal };
        match (self.agent(&claims.client_id).map(|agent| agent.status), by) {
            (Some(AgentStatus::Active), RevokedBy::Agent) => Refusal::Revoked(RevokedBy::Token),
            (Some(AgentStatus::Active), _) => refusal,
            (_, _) => self.why_stopped(&claims.client_id),
        }
    }

    /// As [`Self::exactly`], of a token that came with a DPoP proof.
    pub fn exactly_by_proof(&self, verifier: &TokenVerifier, token: &str, refusal: DpopRefusal) -> DpopRefusal {
        match refusal {
            DpopRefusal::Token(refusal) => DpopRefusal::Token(self.exactly(verifier, token, refusal)),
            proof => proof,
        }
    }

    /// Other keys from now on.
    pub fn install_keys(&self, keys: Keys) {
        self.keys.store(Arc::new(keys));
    }

    /// What is revoked.
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// What running calls watch.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Shows changes that are durable. Signing keys come by [`Registry::install_keys`], because opening them takes the
    /// vault. `epoch` is what the revocations among them raised the list's epoch to.
    pub fn apply_all(&self, changes: &[Change], epoch: Option<i64>) {
        // Revocations last, and together with their epoch: whoever sees an agent's cut sees that the agent was stopped,
        // and no list is signed that has the new epoch without its entries, or the other way round.
        let mut rights_may_end = false;
        for change in changes {
            let before = match change {
                Change::PutAgent(agent) => self.agent(&agent.id),
                _ => None,
            };
            rights_may_end |= rights::may_end(change, before.as_deref());
            self.apply(change);
        }
        let revocations = changes.iter().filter_map(|change| match change {
            Change::PutRevocation(revocation) => Some(revocation.clone()),
            _ => None,
        });
        self.revoked.insert(revocations.collect(), epoch);
        // Afterwards: who is woken by it must find all of it.
        if rights_may_end {
            self.rights.changed();
        }
    }

    fn apply(&self, change: &Change) {
        match change {
            Change::PutAgent(agent) => {
                let mut agent = Agent::clone(agent);
                if let Some(there) = self.agents.get(&agent.id) {
                    for secret in &there.secrets {
                        if !agent.secrets.iter().any(|one| one.digest == secret.digest) {
                            agent.secrets.push(secret.clone());
                        }
                    }
                }
                self.put_agent(Arc::new(agent));
            }
            Change::RemoveAgent { id, name } => {
                self.agents.remove(id);
                self.agent_names.remove_if(name, |_, there| there == id);
            }
            Change::AddSecret { agent_id, secret, others_end } => {
                if let Some(mut entry) = self.agents.get_mut(agent_id) {
                    let mut agent = Agent::clone(entry.value());
                    for other in &mut agent.secrets {
                        other.expires_at = Some(match other.expires_at {
                            Some(end) => end.min(secret.created_at),
                            None => *others_end,
                        });
                    }
                    agent.secrets.push(secret.clone());
                    *entry.value_mut() = Arc::new(agent);
                }
            }
            Change::PutDefinition { .. } | Change::RemoveDefinition { .. } => {
                let changed = self.definitions.load().with(change);
                self.definitions.store(Arc::new(changed));
            }
            Change::PutCredential(credential) => {
                self.credentials.insert(credential.name.clone(), credential.clone());
            }
            Change::AddCredentialVersion { credential_id, version, others_end } => {
                self.edit_credential(credential_id, |credential| {
                    for other in &mut credential.versions {
                        other.expires_at = Some(other.expires_at.map_or(*others_end, |end| end.min(*others_end)));
                    }
                    credential.versions.push(version.clone());
                });
            }
            Change::RemoveCredential { name, .. } => _ = self.credentials.remove(name),
            Change::Rewrap(keys) => {
                for key in keys {
                    let Rewrapped::Credential { id, version, wrapped_key } = key else { continue };
                    self.edit_credential(id, |credential| {
                        for one in credential.versions.iter_mut().filter(|one| one.version == *version) {
                            one.sealed.wrapped_key.clone_from(wrapped_key);
                        }
                    });
                }
            }
            Change::PutSession(session) => self.put_session(session.clone()),
            Change::EndSession { id, at } => {
                // As in the database: the first end stays.
                if let Some(mut entry) = self.sessions.get_mut(id)
                    && entry.revoked_at.is_none()
                {
                    let ended = Session { revoked_at: Some(*at), ..Session::clone(entry.value()) };
                    *entry.value_mut() = Arc::new(ended);
                }
            }
            Change::Prune { before } => {
                self.sessions.retain(|_, session| {
                    let stays = session.expires_at >= *before;
                    if !stays && let Some(mut count) = self.sessions_of.get_mut(&session.agent_id) {
                        *count = count.saturating_sub(1);
                    }
                    if !stays {
                        self.children.remove(&session.id);
                        if let Some(mut siblings) = session.parent.as_ref().and_then(|id| self.children.get_mut(id)) {
                            siblings.retain(|id| *id != session.id);
                        }
                    }
                    stays
                });
                self.sessions_of.retain(|_, count| *count > 0);
                self.revoked.prune(*before);
            }
            // Used assertions are remembered where they are asked for.
            Change::PutRevocation(_)
            | Change::PutKey(_)
            | Change::PutBrokerSecret { .. }
            | Change::KeepAssertions { .. } => {}
        }
    }

    fn put_agent(&self, agent: Arc<Agent>) {
        self.agent_names.insert(agent.name.clone(), agent.id.clone());
        self.agents.insert(agent.id.clone(), agent);
    }

    fn put_session(&self, session: Arc<Session>) {
        let (agent_id, id, parent) = (session.agent_id.clone(), session.id.clone(), session.parent.clone());
        if self.sessions.insert(id.clone(), session).is_none() {
            *self.sessions_of.entry(agent_id).or_insert(0) += 1;
            if let Some(parent) = parent {
                self.children.entry(parent).or_default().push(id);
            }
        }
    }

    fn edit_credential(&self, id: &str, edit: impl FnOnce(&mut Credential)) {
        let Some(mut entry) = self.credentials.iter_mut().find(|entry| *entry.id == *id) else { return };
        let mut credential = Credential::clone(entry.value());
        edit(&mut credential);
        *entry.value_mut() = Arc::new(credential);
    }
}
