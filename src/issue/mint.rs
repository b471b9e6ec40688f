//! Making the token: session, claims, signature, record.

use std::sync::Arc;
use std::time::Duration;

use hallpass_verify::{AccessToken, Confirmation, ScopeSet};

use crate::issue::narrow::{Ceiling, Grant};
use crate::issue::{Authenticated, Issuer, TokenError, TokenRequest};
use crate::model::{Agent, AgentStatus, Change, Event, EventKind, Origin, Session, check_label};
use crate::secret::ordered_id;
use crate::world::Millis;

/// A token that was issued and recorded.
pub struct IssuedToken {
    /// Compact JWS. Whoever holds it is the agent, until it dies: never logged.
    pub token: String,
    /// Seconds it has to live.
    pub expires_in: i64,
    /// What it may do.
    pub scope: ScopeSet,
    /// Its session.
    pub session: Arc<str>,
    /// Seconds that the session has to live.
    pub session_expires_in: i64,
    /// The keys that it is bound to.
    pub cnf: Option<Confirmation>,
}

/// The session that a token will be in.
pub(super) struct Plan {
    pub(super) session: Arc<Session>,
    pub(super) is_new: bool,
}

impl Plan {
    /// How far its tokens go at most.
    pub(super) fn ceiling(&self) -> Ceiling<'_> {
        Ceiling::of(self.session.delegation.as_deref())
    }
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Issuer {
    pub(super) async fn mint(
        &self,
        agent: &Authenticated,
        grant: Grant,
        plan: Plan,
        request: &TokenRequest,
        origin: &Origin,
        now: Millis,
    ) -> Result<IssuedToken, TokenError> {
        let Plan { session, is_new } = plan;
        let (method, spent) = (agent.method(), agent.spent());
        let agent = agent.agent();
        // `iat` is now, never later: there are libraries that refuse a token from the future. Nor is it before the cut, or the
        // token would be dead at birth: who comes before that waits, see `past_the_cut`.
        let cut = self.registry.revoked().agent_cut(&agent.id).map_or(0, |cut| cut.before);
        // Stopped since it was authenticated? Its status changes before its cut, so whoever sees the cut sees that too.
        self.still_active(&agent.id)?;
        if now / 1000 < cut {
            return Err(TokenError::Unavailable);
        }
        // The session's end caps every token in it (P2). Cut to the second, downwards.
        let exp = now.saturating_add(self.settings.token_life).min(session.expires_at) / 1000;
        let token = AccessToken {
            iss: self.issuer.to_string(),
            sub: session.delegation.as_ref().map_or(&agent.id, |delegation| &delegation.subject).to_string(),
            client_id: agent.id.to_string(),
            aud: grant.audience,
            exp,
            iat: now / 1000,
            jti: ordered_id("tk_", now, self.world.entropy.as_ref()),
            scope: grant.scope,
            sid: session.id.to_string(),
            cnf: session.cnf.clone(),
            act: session.delegation.as_ref().and_then(|delegation| delegation.act()),
            sub_id: session.delegation.as_ref().and_then(|delegation| delegation.sub_id()),
        };
        let text = self.sign(&token).await?;

        let mut event = Event::new(EventKind::TokenIssued);
        event.decision = Some("allow");
        event.agent = Some(agent.id.clone());
        event.agent_name = Some(agent.name.clone());
        event.session = Some(session.id.clone());
        event.method_of_client = Some(method);
        event.about(&token);
        event.parent = session.parent.clone();
        event.token = Some(token.jti.as_str().into());
        event.scope = Some(token.scope.to_string());
        event.audience = Some(token.aud.0.clone());
        event.task = request.task.as_deref().map(Arc::from).or_else(|| session.task.clone());
        event.purpose = request.purpose.as_deref().map(Arc::from).or_else(|| session.purpose.clone());
        event.came_by(origin);
        let changes = is_new.then(|| Change::PutSession(session.clone())).into_iter().collect();
        self.ledger.commit_if(spent, vec![event], changes).await?;
        // Stopped while the record was on its way to disk? The token's `iat` may then be past the cut, so that the
        // revocation list would not catch it: it is not handed out (P3).
        let now_cut = self.registry.revoked().agent_cut(&agent.id).map_or(0, |cut| cut.before);
        self.still_active(&agent.id)?;
        if now_cut != cut {
            return Err(TokenError::InvalidClient);
        }
        // So may its session have been, or one above it. A new session below another one is made while `tree` is held, so
        // that whoever takes back the one above has seen it.
        let session_now = if is_new { session.clone() } else { self.registry.session(&session.id).unwrap_or(session) };
        if self.registry.is_cut_off(&session_now) {
            return Err(TokenError::InvalidGrant("this session was just revoked".into()));
        }
        let session = session_now;

        metrics::counter!("hallpass_tokens_issued_total").increment(1);
        Ok(IssuedToken {
            token: text,
            expires_in: exp.saturating_sub(now / 1000),
            scope: token.scope,
            session: session.id.clone(),
            session_expires_in: (session.expires_at - now) / 1000,
            cnf: token.cnf,
        })
    }

    /// Waits until the agent's last cut has passed, and says what time it is then: what is minted before it is refused, and
    /// `iat` is never in the future. The cut is a second ahead, or as far as another node's clock may be.
    pub(super) async fn past_the_cut(&self, agent: &Agent, now: Millis) -> Result<Millis, TokenError> {
        let cut = || self.registry.revoked().agent_cut(&agent.id).map_or(0, |cut| cut.before.saturating_mul(1000));
        let wait = cut().saturating_sub(now);
        if wait <= 0 {
            return Ok(now);
        }
        // A cut is never further ahead than this, unless a clock was far off when it was made.
        let longest = self.settings.clock_spread + 2_000;
        let wait = u64::try_from(wait.min(longest)).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let now = self.world.now();
        if now < cut() { Err(TokenError::Unavailable) } else { Ok(now) }
    }

    /// # Errors
    /// The agent was stopped meanwhile.
    pub(super) fn still_active(&self, agent_id: &str) -> Result<(), TokenError> {
        match self.registry.agent(agent_id).map(|agent| agent.status) {
            Some(AgentStatus::Active) => Ok(()),
            status => Err(TokenError::Stopped { status: status.unwrap_or(AgentStatus::Revoked), by_grant: false }),
        }
    }

    /// The session to continue, or a new one.
    pub(super) fn session(
        &self,
        agent: &Authenticated,
        cnf: Option<Confirmation>,
        request: &TokenRequest,
        now: Millis,
    ) -> Result<Plan, TokenError> {
        let agent = agent.agent();
        check_labels(request)?;
        check_bound(agent, cnf.as_ref())?;
        if let Some(id) = &request.session_id {
            if request.session_expires_in.is_some() {
                return Err(TokenError::InvalidRequest(
                    "session_expires_in is for a new session; this one has its end already".into(),
                ));
            }
            // Another agent's session is as unknown as none: its existence is not told.
            let session = self.registry.session(id).filter(|session| session.agent_id == agent.id);
            return match session {
                // Whoever has the agent's secret but not the key that opened the session gets nothing of it (P5).
                Some(session) if session.cnf != cnf => {
                    Err(TokenError::InvalidGrant("this session is bound to a key; prove the key that opened it".into()))
                }
                // A token that would die within the second it is made in is no token.
                Some(session) if session.expires_at / 1000 > now / 1000 && !self.registry.is_cut_off(&session) => {
                    Ok(Plan { session, is_new: false })
                }
                _ => Err(TokenError::InvalidGrant(
                    "this session is not one that can be continued; leave session_id out to begin a new one".into(),
                )),
            };
        }
        let life = self.session_life(request)?;
        let session = Session {
            id: ordered_id("se_", now, self.world.entropy.as_ref()).into(),
            agent_id: agent.id.clone(),
            created_at: now,
            expires_at: now.saturating_add(life),
            task: request.task.as_deref().map(Arc::from),
            purpose: request.purpose.as_deref().map(Arc::from),
            revoked_at: None,
            parent: None,
            cnf,
            delegation: None,
        };
        // Whoever asks for a short session does not get on in a longer one.
        let latest = request.session_expires_in.map(|_| session.expires_at);
        self.plan(session, latest, now)
    }

    /// The session that was thought of, or one just like it where the agent has no room for another.
    pub(super) fn plan(&self, wanted: Session, latest: Option<Millis>, now: Millis) -> Result<Plan, TokenError> {
        Ok(match self.instead_of(&wanted, latest, now)? {
            Some(session) => Plan { session, is_new: false },
            None => Plan { session: Arc::new(wanted), is_new: true },
        })
    }

    /// How long a new session is asked to last.
    pub(super) fn session_life(&self, request: &TokenRequest) -> Result<Millis, TokenError> {
        match request.session_expires_in {
            None => Ok(self.settings.session_life),
            Some(seconds) if seconds > 0 && seconds <= self.settings.session_max / 1000 => Ok(seconds * 1000),
            Some(_) => {
                let most = self.settings.session_max / 1000;
                Err(TokenError::InvalidRequest(format!("session_expires_in is 1 to {most} seconds")))
            }
        }
    }

    async fn sign(&self, token: &AccessToken) -> Result<String, TokenError> {
        let internal = |error: &dyn std::fmt::Display| TokenError::Internal(error.to_string());
        let keys = self.registry.keys();
        if keys.is_slow() {
            // Half a millisecond of RSA would hold up everybody else on this thread.
            let token = token.clone();
            let signed = tokio::task::spawn_blocking(move || keys.sign("at+jwt", &token)).await;
            return signed.map_err(|error| internal(&error))?.map_err(|error| internal(&error));
        }
        keys.sign("at+jwt", token).map_err(|error| internal(&error))
    }
}

/// `task` and `purpose` ride into the audit log.
pub(super) fn check_labels(request: &TokenRequest) -> Result<(), TokenError> {
    for (what, label) in [("task", &request.task), ("purpose", &request.purpose)] {
        if let Some(label) = label {
            check_label(what, label).map_err(TokenError::InvalidRequest)?;
        }
    }
    Ok(())
}

/// Whether the agent proved a key, where it must.
pub(super) fn check_bound(agent: &Agent, cnf: Option<&Confirmation>) -> Result<(), TokenError> {
    if !agent.identity.require_bound || cnf.is_some() {
        return Ok(());
    }
    Err(TokenError::InvalidRequest(
        "this agent's tokens are bound to a key: send a DPoP proof, or use a client certificate".into(),
    ))
}
