//! Room for sessions: how many an agent may have, and which one goes on where there is no room for another.
//!
//! Stock clients ask for a token for each connection, without `session_id`: each such request begins a session. When the
//! agent has as many as it may have, the request goes on in one that is just like the one that it would have begun.
//! Whoever takes that session back takes back all that was issued in it, as ever (P3).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::issue::{Issuer, TokenError};
use crate::model::Session;
use crate::world::Millis;

/// Sessions of one agent that are kept, at most: each is held in memory until it ends, and a token request without
/// `session_id` makes one. Requests under way at the same moment may go a little beyond.
pub const MAX_SESSIONS_OF_AN_AGENT: usize = 10_000;

/// What was found is looked for again after so long, at the earliest: it takes a look at all sessions.
const BETWEEN_LOOKS: Millis = 1000;

/// Agents that have no room for another session.
#[derive(Debug, Default)]
pub(super) struct Room(Mutex<HashMap<Arc<str>, Full>>);

/// What is known of such an agent.
#[derive(Debug)]
struct Full {
    looked: Millis,
    /// When the first of its sessions ends.
    until: Millis,
    /// Of all sessions that are alike, the one that ends last.
    last: HashMap<String, Arc<str>>,
}

impl Room {
    /// Forgets those who have room again.
    pub(super) fn tick(&self, now: Millis) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, full| full.until > now);
    }
}

impl Issuer {
    /// The session in which a request goes on because its agent has no room for the `wanted` one; `None`: there is room.
    /// It ends no later than `latest`, where that is asked for.
    ///
    /// # Errors
    /// [`TokenError::TooManySessions`]: none of them is like the wanted one.
    pub(super) fn instead_of(
        &self,
        wanted: &Session,
        latest: Option<Millis>,
        now: Millis,
    ) -> Result<Option<Arc<Session>>, TokenError> {
        let agent = &wanted.agent_id;
        // Those that have ended count until they are pruned: the look below knows better.
        if self.registry.sessions_of(agent) < MAX_SESSIONS_OF_AN_AGENT {
            return Ok(None);
        }
        let key = likeness(wanted);
        let goes_on = |id: &Arc<str>| {
            let session = self.registry.session(id)?;
            let is_alike = (&session.cnf, &session.task, &session.purpose, &session.parent, &session.delegation)
                == (&wanted.cnf, &wanted.task, &wanted.purpose, &wanted.parent, &wanted.delegation)
                && session.agent_id == *agent;
            // A token that would die within the second it is made in is no token.
            let is_alive = session.expires_at / 1000 > now / 1000 && !self.registry.is_cut_off(&session);
            let is_short = latest.is_none_or(|latest| session.expires_at <= latest);
            (is_alike && is_alive && is_short).then_some(session)
        };
        let lock = || self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock()
            .get(agent)
            .filter(|full| full.until > now)
            .map(|full| (full.last.get(&key).cloned(), full.until, now.saturating_sub(full.looked) < BETWEEN_LOOKS));
        if let Some((last, until, is_recent)) = known {
            if let Some(session) = last.as_ref().and_then(goes_on) {
                return Ok(Some(continued(session)));
            }
            if is_recent {
                return Err(too_many(until, now));
            }
        }
        let all = self.registry.sessions_where(|session| session.agent_id == *agent && session.expires_at > now);
        if all.len() < MAX_SESSIONS_OF_AN_AGENT {
            lock().remove(agent);
            return Ok(None);
        }
        let until = all.iter().map(|session| session.expires_at).min().unwrap_or(now);
        let mut last: HashMap<String, &Arc<Session>> = HashMap::new();
        for session in all.iter().filter(|session| session.revoked_at.is_none()) {
            let there = last.entry(likeness(session)).or_insert(session);
            if session.expires_at > there.expires_at {
                *there = session;
            }
        }
        let last: HashMap<_, _> = last.into_iter().map(|(key, session)| (key, session.id.clone())).collect();
        let found = last.get(&key).and_then(goes_on);
        lock().insert(agent.clone(), Full { looked: now, until, last });
        tracing::warn!(
            agent = &**agent,
            sessions = all.len(),
            "an agent has as many sessions as it may have: its token requests without session_id go on in one that it has"
        );
        found.map(|session| Some(continued(session))).ok_or_else(|| too_many(until, now))
    }
}

fn continued(session: Arc<Session>) -> Arc<Session> {
    metrics::counter!("hallpass_sessions_continued_total").increment(1);
    session
}

fn too_many(until: Millis, now: Millis) -> TokenError {
    TokenError::TooManySessions(until.saturating_sub(now).saturating_add(999) / 1000)
}

/// What two sessions have in common that differ only in when they began and end. Only for finding: what was found is
/// compared itself.
fn likeness(session: &Session) -> String {
    let Session { cnf, task, purpose, parent, delegation, .. } = session;
    serde_json::to_string(&(cnf, task, purpose, parent, delegation.as_deref())).unwrap_or_default()
}
