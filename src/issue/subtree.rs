//! Ending sessions with everything below them, in one commit: none of it makes another call (P3).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::LedgerError;
use crate::issue::withdraw::{Actor, MARGIN, MAX_TOKEN_MILLIS};
use crate::issue::{Issuer, MAX_SUBJECT_AGE};
use crate::model::{Agent, AgentStatus, Change, Event, Identity, RevocationKind, Session, subject_key};

impl Issuer {
    /// Ends a session, with every token in it and every session below it.
    pub async fn revoke_session(&self, session: &Arc<Session>, actor: &Actor) -> Result<(), LedgerError> {
        let _tree = self.tree.write().await;
        let (mut events, mut changes) = self.end(session, actor);
        for one in self.alive(self.registry.descendants(&session.id)) {
            let (event, change) = self.end(&one, actor);
            events.extend(event);
            changes.extend(change);
        }
        self.ledger.commit(events, changes).await
    }

    /// Suspends or revokes an agent: everything of it that was issued before now is refused, and every session below
    /// one of its own is over, whosoever it is.
    pub async fn stop_agent(&self, agent: &Agent, status: AgentStatus, actor: &Actor) -> Result<(), LedgerError> {
        let _tree = self.tree.write().await;
        let now = self.world.now();
        let last = self.registry.revoked().agent_cut(&agent.id).map_or(0, |cut| cut.before);
        let cut = last.max(self.cut(now));
        let revocation =
            self.revocation(RevocationKind::Agent, agent.id.clone(), cut, now + MAX_TOKEN_MILLIS + MARGIN, actor);
        let mut event = self.event(actor, status.as_str(), &agent.name);
        event.agent = Some(agent.id.clone());
        event.agent_name = Some(agent.name.clone());
        let state_of = |status: AgentStatus| Box::new(serde_json::json!({ "status": status }));
        (event.before, event.after) = (Some(state_of(agent.status)), Some(state_of(status)));
        // Whoever took the key of an issued certificate could renew it for ever: stopping the agent ends them all.
        let identity = Identity { certificates_after: Some(now), ..agent.identity.clone() };
        let stopped = Change::PutAgent(Arc::new(Agent { status, identity, ..agent.clone() }));
        let (mut events, mut changes) = (vec![event], vec![stopped, Change::PutRevocation(revocation)]);
        for one in self.below_agent(&agent.id) {
            let (event, change) = self.end(&one, actor);
            events.extend(event);
            changes.extend(change);
        }
        self.ledger.commit(events, changes).await
    }

    /// Ends whatever acts on behalf of a subject, and lets no token of it that was issued before now open anything
    /// more. `issuer` is a registered issuer's name; `None`: whoever vouches for the subject. How many sessions ended.
    pub async fn revoke_subject(
        &self,
        issuer: Option<&str>,
        subject: &str,
        actor: &Actor,
    ) -> Result<usize, LedgerError> {
        let _tree = self.tree.write().await;
        let now = self.world.now();
        let key = subject_key(issuer, subject);
        let keep = now + MAX_SUBJECT_AGE + MARGIN;
        let revocation = self.revocation(RevocationKind::Subject, key.into(), self.cut(now), keep, actor);
        let mut event = self.event(actor, "subject", subject);
        event.subject = Some(subject.into());
        event.subject_issuer = issuer.map(Arc::from);
        let (mut events, mut changes) = (vec![event], vec![Change::PutRevocation(revocation)]);
        let theirs = self.registry.sessions_where(|session| {
            session.delegation.as_ref().is_some_and(|delegation| {
                *delegation.subject == *subject && (issuer.is_none() || delegation.issuer.as_deref() == issuer)
            })
        });
        let below: Vec<_> = theirs.iter().flat_map(|session| self.registry.descendants(&session.id)).collect();
        let over = self.alive(theirs.into_iter().chain(below).collect());
        for one in &over {
            let (event, change) = self.end(one, actor);
            events.extend(event);
            changes.extend(change);
        }
        self.ledger.commit(events, changes).await?;
        Ok(over.len())
    }

    /// All that hangs below a session of this agent.
    pub(super) fn below_agent(&self, agent_id: &str) -> Vec<Arc<Session>> {
        let own = self.registry.sessions_where(|session| *session.agent_id == *agent_id);
        self.alive(own.iter().flat_map(|session| self.registry.descendants(&session.id)).collect())
    }

    /// What ends with a token: the sessions that it was exchanged for and all below them. `session` is the token's, if
    /// it is known.
    pub(super) fn exchanged_for(&self, jti: &str, session: Option<&str>) -> Vec<Arc<Session>> {
        let is_from =
            |one: &Session| one.delegation.as_ref().is_some_and(|delegation| delegation.token.as_deref() == Some(jti));
        let first = match session {
            Some(session) => self.registry.children(session).into_iter().filter(|one| is_from(one)).collect(),
            None => self.registry.sessions_where(is_from),
        };
        let below: Vec<_> = first.iter().flat_map(|session| self.registry.descendants(&session.id)).collect();
        self.alive(first.into_iter().chain(below).collect())
    }

    /// Each once, and only those that are not over yet.
    fn alive(&self, sessions: Vec<Arc<Session>>) -> Vec<Arc<Session>> {
        let now = self.world.now();
        let alive = sessions.into_iter().filter(|one| one.revoked_at.is_none() && one.expires_at > now);
        alive.map(|one| (one.id.clone(), one)).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// The end of one session, to be committed together with its cause.
    pub(super) fn end(&self, session: &Session, actor: &Actor) -> (Vec<Event>, Vec<Change>) {
        let now = self.world.now();
        let keep = session.expires_at.min(now + MAX_TOKEN_MILLIS) + MARGIN;
        let revocation = self.revocation(RevocationKind::Session, session.id.clone(), 0, keep, actor);
        let mut event = self.event(actor, "session", &session.id);
        event.session = Some(session.id.clone());
        event.parent = session.parent.clone();
        event.agent = Some(session.agent_id.clone());
        event.agent_name = self.registry.agent(&session.agent_id).map(|agent| agent.name.clone());
        if let Some(delegation) = &session.delegation {
            event.subject = Some(delegation.subject.clone());
            event.subject_issuer = delegation.iss.clone();
            event.through =
                Some(delegation.actors.iter().skip(1).cloned().collect()).filter(|ids: &Vec<_>| !ids.is_empty());
        }
        let end = Change::EndSession { id: session.id.clone(), at: now };
        (vec![event], vec![end, Change::PutRevocation(revocation)])
    }
}
