//! Taking back: tokens, sessions, agents. Effective in this node when the call returns (P3).

use std::sync::{Arc, PoisonError};

use hallpass_verify::{Claims, Seconds};

use crate::audit::LedgerError;
use crate::issue::{Authenticated, Issuer, TokenError};
use crate::model::{Agent, Change, Event, EventKind, Origin, Revocation, RevocationKind};
use crate::world::Millis;

/// No token lives longer (P2), so no revocation of tokens needs to be remembered for longer than this and a margin.
pub const MAX_TOKEN_MILLIS: Millis = 15 * 60 * 1000;

/// Clocks of gateways may be behind ours.
pub(super) const MARGIN: Millis = 60 * 1000;

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
    /// By which request.
    pub origin: Origin,
    /// Why, in the admin's words.
    pub reason: String,
}

impl Issuer {
    /// RFC 7009: an agent takes back a token of its own; beyond [`MAX_OWN_REVOCATIONS`] all its tokens. It stays active
    /// and may ask for new ones at once.
    ///
    /// # Errors
    /// [`TokenError::UnauthorizedClient`] for somebody else's token (§2.1). An unknown or dead token is no error (§2.2).
    pub async fn revoke_own(&self, agent: &Authenticated, token: &str, origin: &Origin) -> Result<(), TokenError> {
        let keys = self.registry.keys();
        let Ok(claims) = self.verifier.identify(token, keys.verifying()) else { return Ok(()) };
        if *claims.client_id != *agent.agent().id {
            return Err(TokenError::UnauthorizedClient("this token was not issued to this client".into()));
        }
        if claims.exp <= self.world.now() / 1000 {
            return Ok(());
        }
        let actor = Actor { admin: None, origin: origin.clone(), reason: "revoked by its agent".into() };
        let exp = claims.exp.saturating_mul(1000);
        if self.has_line_left(&agent.agent().id, keep_of_token(exp, self.world.now())) {
            return Ok(self.revoke_token(&claims.jti, exp, Some(&claims), &actor).await?);
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

    /// Takes back all that the agent was issued before now, among it a token of `iat`, with what hangs below it. The agent stays as it is.
    async fn revoke_all_own(&self, agent: &Arc<Agent>, iat: i64, actor: &Actor) -> Result<(), TokenError> {
        let now = self.world.now();
        let last = self.registry.revoked().agent_cut(&agent.id).map_or(0, |cut| cut.before);
        if iat < last {
            return Ok(());
        }
        let cut = last.max(self.cut(now));
        let keep = now + MAX_TOKEN_MILLIS + MARGIN;
        let _tree = self.tree.write().await;
        let revocation = self.revocation(RevocationKind::Agent, agent.id.clone(), cut, keep, actor);
        let mut event = self.event(actor, "all_tokens", &agent.name);
        event.agent = Some(agent.id.clone());
        event.agent_name = Some(agent.name.clone());
        let (mut events, mut changes) = (vec![event], vec![Change::PutRevocation(revocation)]);
        for one in self.below_agent(&agent.id) {
            let (event, change) = self.end(&one, actor);
            events.extend(event);
            changes.extend(change);
        }
        Ok(self.ledger.commit(events, changes).await?)
    }

    /// The cut that catches all that was issued before `now`: by us, the token of this very second included (`iat` counts in
    /// seconds), and by another node whose clock runs ahead.
    pub(super) fn cut(&self, now: Millis) -> Seconds {
        now.saturating_add(self.settings.clock_spread) / 1000 + 1
    }

    /// Takes back one token, with the sessions that it was exchanged for. `exp` is its end, or the latest that it could
    /// be, unix milliseconds; `claims` what it says, if it is there.
    pub async fn revoke_token(
        &self,
        jti: &str,
        exp: Millis,
        claims: Option<&Claims>,
        actor: &Actor,
    ) -> Result<(), LedgerError> {
        let _tree = self.tree.write().await;
        let keep = keep_of_token(exp, self.world.now());
        let revocation = self.revocation(RevocationKind::Token, jti.into(), 0, keep, actor);
        let mut event = self.event(actor, "token", jti);
        event.token = Some(jti.into());
        let agent = claims.and_then(|claims| self.registry.agent(&claims.client_id));
        event.agent = agent.as_ref().map(|agent| agent.id.clone());
        event.agent_name = agent.as_ref().map(|agent| agent.name.clone());
        let (mut events, mut changes) = (vec![event], vec![Change::PutRevocation(revocation)]);
        for one in self.exchanged_for(jti, claims.map(|claims| claims.sid.as_str())) {
            let (event, change) = self.end(&one, actor);
            events.extend(event);
            changes.extend(change);
        }
        self.ledger.commit(events, changes).await
    }

    /// The revocation of a signing key, to be committed together with the key's new state.
    pub fn key_revocation(&self, kid: &str, actor: &Actor) -> (Event, Change) {
        let keep = self.world.now() + MAX_TOKEN_MILLIS + MARGIN;
        let revocation = self.revocation(RevocationKind::Key, kid.into(), 0, keep, actor);
        (self.event(actor, "key", kid), Change::PutRevocation(revocation))
    }

    pub(super) fn revocation(
        &self,
        kind: RevocationKind,
        subject: Arc<str>,
        cut: i64,
        keep_until: Millis,
        actor: &Actor,
    ) -> Revocation {
        let created_at = self.world.now();
        Revocation { kind, subject, cut, keep_until, created_at, reason: actor.reason.clone() }
    }

    pub(super) fn event(&self, actor: &Actor, what: &str, object: &str) -> Event {
        let mut event = Event::new(EventKind::Revocation);
        event.admin = actor.admin.clone();
        event.action = Some(what.into());
        event.object = Some(object.into());
        event.reason = Some(actor.reason.as_str().into()).filter(|reason: &Arc<str>| !reason.is_empty());
        event.came_by(&actor.origin);
        event
    }
}

/// Until when the revocation of a token that ends at `exp` must be remembered.
fn keep_of_token(exp: Millis, now: Millis) -> Millis {
    exp.min(now + MAX_TOKEN_MILLIS) + MARGIN
}
