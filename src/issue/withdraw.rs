//! Taking back: tokens, sessions, agents. Effective in this node when the call returns (P3).

use std::sync::{Arc, PoisonError};

use crate::audit::LedgerError;
use crate::issue::{Authenticated, Issuer, TokenError};
use crate::model::{Agent, AgentStatus, Change, Event, EventKind, Identity, Revocation, RevocationKind, Session};
use crate::world::Millis;

/// No token lives longer (P2), so no revocation of tokens needs to be remembered for longer than this and a margin.
pub const MAX_TOKEN_MILLIS: Millis = 15 * 60 * 1000;

/// Clocks of gateways may be behind ours.
const MARGIN: Millis = 60 * 1000;

/// Tokens that one agent has taken back itself and that still stand on the list, at most. The list goes to every
/// gateway, and gateways refuse one that is too long: an agent that issues and revokes in a loop would take them all
/// down. Beyond this, all that the agent was issued before now is taken back in one line.
///
/// Counted in memory: a restart begins anew, which adds as many lines for the quarter of an hour that they last.
pub const MAX_OWN_REVOCATIONS: usize = 1000;

/// Who takes back, for the record.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The admin; `None` when an agent does it to its own token.
    pub admin: Option<Arc<str>>,
    /// The request id.
    pub request: Arc<str>,
    /// Why, in the admin's words.
    pub reason: String,
}

impl Issuer {
    /// RFC 7009: an agent takes back a token of its own; beyond [`MAX_OWN_REVOCATIONS`] all its tokens. It stays active
    /// and may ask for new ones at once.
    ///
    /// # Errors
    /// [`TokenError::UnauthorizedClient`] for somebody else's token (§2.1). An unknown or dead token is no error (§2.2).
    pub async fn revoke_own(&self, agent: &Authenticated, token: &str, request: &Arc<str>) -> Result<(), TokenError> {
        let keys = self.registry.keys();
        let Ok(claims) = self.verifier.identify(token, keys.verifying()) else { return Ok(()) };
        if *claims.client_id != *agent.agent().id {
            return Err(TokenError::UnauthorizedClient("this token was not issued to this client".into()));
        }
        if claims.exp <= self.world.now() / 1000 {
            return Ok(());
        }
        let actor = Actor { admin: None, request: request.clone(), reason: "revoked by its agent".into() };
        let exp = claims.exp.saturating_mul(1000);
        if self.has_line_left(&agent.agent().id, keep_of_token(exp, self.world.now())) {
            return Ok(self.revoke_token(&claims.jti, exp, Some(agent.agent()), &actor).await?);
        }
        self.revoke_all_own(agent.agent(), claims.iat, &actor).await
    }

    /// Takes one of the agent's lines on the list, until `keep`.
    fn has_line_left(&self, agent_id: &Arc<str>, keep: Millis) -> bool {
        let mut all = self.own_revocations.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = all.entry(agent_id.clone()).or_default();
        if lines.len() >= MAX_OWN_REVOCATIONS {
            let now = self.world.now();
            lines.retain(|keep| *keep >= now);
        }
        let has = lines.len() < MAX_OWN_REVOCATIONS;
        if has {
            lines.push(keep);
        }
        has
    }

    /// Takes back all that the agent was issued before now, among it a token of `iat`. The agent stays as it is.
    async fn revoke_all_own(&self, agent: &Arc<Agent>, iat: i64, actor: &Actor) -> Result<(), TokenError> {
        let now = self.world.now();
        let last = self.registry.revoked().agent_cut(&agent.id).map_or(0, |cut| cut.before);
        if iat < last {
            return Ok(());
        }
        // Dated after a cut of this very second. Cutting beyond it would move the agent's time ahead of everybody's,
        // second by second: it tries again in a moment (§2.2.1).
        if iat > now / 1000 {
            return Err(TokenError::Unavailable);
        }
        let cut = last.max(now / 1000 + 1);
        let keep = now + MAX_TOKEN_MILLIS + MARGIN;
        let revocation = self.revocation(RevocationKind::Agent, agent.id.clone(), cut, keep, actor);
        let mut event = self.event(actor, "all_tokens", &agent.name);
        event.agent = Some(agent.id.clone());
        event.agent_name = Some(agent.name.clone());
        Ok(self.ledger.commit(vec![event], vec![Change::PutRevocation(revocation)]).await?)
    }

    /// Takes back one token. `exp` is its end, or the latest that it could be, unix milliseconds.
    pub async fn revoke_token(
        &self,
        jti: &str,
        exp: Millis,
        agent: Option<&Arc<Agent>>,
        actor: &Actor,
    ) -> Result<(), LedgerError> {
        let keep = keep_of_token(exp, self.world.now());
        let revocation = self.revocation(RevocationKind::Token, jti.into(), 0, keep, actor);
        let mut event = self.event(actor, "token", jti);
        event.token = Some(jti.into());
        event.agent = agent.map(|agent| agent.id.clone());
        event.agent_name = agent.map(|agent| agent.name.clone());
        self.ledger.commit(vec![event], vec![Change::PutRevocation(revocation)]).await
    }

    /// Ends a session, with every token in it.
    pub async fn revoke_session(&self, session: &Session, actor: &Actor) -> Result<(), LedgerError> {
        let now = self.world.now();
        let keep = session.expires_at.min(now + MAX_TOKEN_MILLIS) + MARGIN;
        let revocation = self.revocation(RevocationKind::Session, session.id.clone(), 0, keep, actor);
        let mut event = self.event(actor, "session", &session.id);
        event.session = Some(session.id.clone());
        event.agent = Some(session.agent_id.clone());
        event.agent_name = self.registry.agent(&session.agent_id).map(|agent| agent.name.clone());
        let end = Change::EndSession { id: session.id.clone(), at: now };
        self.ledger.commit(vec![event], vec![end, Change::PutRevocation(revocation)]).await
    }

    /// Suspends or revokes an agent: everything of it that was issued before now is refused.
    pub async fn stop_agent(&self, agent: &Agent, status: AgentStatus, actor: &Actor) -> Result<(), LedgerError> {
        let now = self.world.now();
        // The next full second: `iat` counts in seconds, and a token of this very second must be caught too. So must
        // one that was dated at an earlier cut's second, which may still be to come.
        let last = self.registry.revoked().agent_cut(&agent.id).map_or(0, |cut| cut.before);
        let cut = if agent.status == AgentStatus::Active { last.max(now / 1000) + 1 } else { last.max(now / 1000 + 1) };
        let revocation =
            self.revocation(RevocationKind::Agent, agent.id.clone(), cut, now + MAX_TOKEN_MILLIS + MARGIN, actor);
        let mut event = self.event(actor, status.as_str(), &agent.name);
        event.agent = Some(agent.id.clone());
        event.agent_name = Some(agent.name.clone());
        // Whoever took the key of an issued certificate could renew it for ever: stopping the agent ends them all.
        let identity = Identity { certificates_after: Some(now), ..agent.identity.clone() };
        let stopped = Change::PutAgent(Arc::new(Agent { status, identity, ..agent.clone() }));
        self.ledger.commit(vec![event], vec![stopped, Change::PutRevocation(revocation)]).await
    }

    /// The revocation of a signing key, to be committed together with the key's new state.
    pub fn key_revocation(&self, kid: &str, actor: &Actor) -> (Event, Change) {
        let keep = self.world.now() + MAX_TOKEN_MILLIS + MARGIN;
        let revocation = self.revocation(RevocationKind::Key, kid.into(), 0, keep, actor);
        (self.event(actor, "key", kid), Change::PutRevocation(revocation))
    }

    fn revocation(
        &self,
        kind: RevocationKind,
        subject: Arc<str>,
        cut: i64,
        keep_until: Millis,
        actor: &Actor,
    ) -> Revocation {
        metrics::counter!("hallpass_revocations_total", "kind" => kind.as_str()).increment(1);
        let created_at = self.world.now();
        Revocation { kind, subject, cut, keep_until, created_at, reason: actor.reason.clone() }
    }

    fn event(&self, actor: &Actor, what: &str, object: &str) -> Event {
        let mut event = Event::new(EventKind::Revocation);
        event.admin = actor.admin.clone();
        event.action = Some(what.into());
        event.object = Some(object.into());
        event.reason = Some(actor.reason.as_str().into()).filter(|reason: &Arc<str>| !reason.is_empty());
        event.request = Some(actor.request.clone());
        event
    }
}

/// Until when the revocation of a token that ends at `exp` must be remembered.
fn keep_of_token(exp: Millis, now: Millis) -> Millis {
    exp.min(now + MAX_TOKEN_MILLIS) + MARGIN
}
