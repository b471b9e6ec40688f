//! The right that a call goes on under, asked again for as long as it runs (P3). What ends the right ends the call: what is
//! taken back by an admin, and the session's end. The token's own end does not: it was good when the call began, and the
//! session bounds what grows out of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hallpass_verify::{Refusal, RevokedBy};

use crate::broker::failure::{CallError, Failure};
use crate::credential::{Chosen, Withdrawn};
use crate::error::Error;
use crate::policy::{CompiledUpstream, Denial, Permit};
use crate::registry::Registry;
use crate::world::{Millis, World};

/// What ended a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The token, its session, its agent or its key was revoked.
    Revoked(RevokedBy),
    /// The session came to its end.
    Session,
    /// The agent was suspended, or is gone.
    Agent,
    /// The agent's roles no longer give the scope.
    Scope,
    /// The upstream was removed, leads elsewhere, takes another credential, or does not allow this call any more.
    Upstream,
    /// The credential was revoked or removed.
    Credential,
}

impl Ended {
    /// A stable code for the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Revoked(_) => "revoked_midway",
            Self::Session => "session_ended_midway",
            Self::Agent => "agent_stopped_midway",
            Self::Scope => "scope_withdrawn_midway",
            Self::Upstream => "upstream_changed_midway",
            Self::Credential => "credential_withdrawn_midway",
        }
    }
}

/// Under what a call was allowed.
pub(super) struct Right {
    permit: Permit,
    chosen: Chosen,
    ends_at: Millis,
    watched: Watched,
}

/// What a right is asked of.
pub(super) struct Watched {
    /// The version of all rights, taken before this one was found good for the first time.
    pub(super) since: u64,
    pub(super) registry: Arc<Registry>,
    pub(super) world: World,
}

impl Right {
    pub(super) fn new(permit: Permit, chosen: Chosen, watched: Watched) -> Self {
        let ends_at = session_end(&permit, &watched.registry);
        Self { permit, chosen, ends_at, watched }
    }

    /// The credentials that the call goes out with.
    pub(super) fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// The upstream, as it was defined when the call was allowed.
    pub(super) fn upstream(&self) -> &CompiledUpstream {
        self.permit.upstream()
    }

    /// What ended it, if anything did. Asks for everything: see [`Watch`] for what is asked before each piece.
    pub(super) fn ended(&self) -> Option<Ended> {
        let claims = self.permit.claims();
        if let Some(by) = self.watched.registry.revoked().find(claims) {
            return Some(Ended::Revoked(by));
        }
        if self.is_over() {
            return Some(Ended::Session);
        }
        let Some(agent) = self.watched.registry.agent(&claims.client_id) else { return Some(Ended::Agent) };
        let definitions = self.watched.registry.definitions();
        let Some(upstream) = definitions.upstream(self.permit.upstream().name()) else { return Some(Ended::Upstream) };
        // The whole decision once more, so that whatever it comes to ask holds for calls in flight, too.
        let gives = |scope: &str| definitions.gives(&agent, scope);
        if let Err(denial) = self.permit.is_still(&agent, gives, upstream) {
            return Some(match denial {
                Denial::AgentNotActive => Ended::Agent,
                Denial::MissingScope(_) => Ended::Scope,
                _ => Ended::Upstream,
            });
        }
        if !leads_to_the_same(self.permit.upstream(), upstream) {
            return Some(Ended::Upstream);
        }
        match self.chosen.check(&self.watched.registry) {
            Ok(()) => None,
            Err(Withdrawn) => Some(Ended::Credential),
        }
    }

    /// Whether the session has come to its end.
    pub(super) fn is_over(&self) -> bool {
        let now = self.watched.world.now();
        // Asked once more of the registry: what a session was made longer by counts.
        now >= self.ends_at && now >= session_end(&self.permit, &self.watched.registry)
    }

    /// How long the session has to go; at least a moment, so that nobody waits in circles.
    pub(super) fn time_left(&self) -> Duration {
        let left = session_end(&self.permit, &self.watched.registry).saturating_sub(self.watched.world.now());
        Duration::from_millis(u64::try_from(left).unwrap_or(0).max(1))
    }

    /// Resolves when something that an admin does ends it.
    pub(super) async fn withdrawn(&self) -> Ended {
        let mut changes = self.watched.registry.rights().subscribe();
        let mut seen = self.watched.since;
        loop {
            let version = *changes.borrow_and_update();
            if version != seen {
                seen = version;
                if let Some(ended) = self.ended() {
                    return ended;
                }
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Resolves when it ends, by an admin or by the time.
    pub(super) async fn over(&self) -> Ended {
        let withdrawn = self.withdrawn();
        tokio::pin!(withdrawn);
        loop {
            match tokio::time::timeout(self.time_left(), &mut withdrawn).await {
                Ok(ended) => return ended,
                Err(_) if self.is_over() => return Ended::Session,
                Err(_) => {}
            }
        }
    }

    /// What becomes of a call that has had no answer yet.
    pub(super) fn failure(&self, ended: Ended) -> Failure {
        Failure { reason: ended.code(), error: self.error(ended) }
    }

    fn error(&self, ended: Ended) -> CallError {
        let upstream = self.permit.upstream().name();
        match ended {
            Ended::Revoked(by) => CallError::Token(Refusal::Revoked(by)),
            Ended::Session => CallError::Token(Refusal::Expired),
            Ended::Agent => CallError::Token(Refusal::Revoked(RevokedBy::Agent)),
            Ended::Scope => CallError::MissingScope(self.permit.operation().scope.clone()),
            Ended::Upstream => Error::forbidden(
                "upstream_changed_midway",
                format!("upstream '{upstream}' was changed or removed while the call was in flight; ask the admin"),
            )
            .into(),
            Ended::Credential => Error::forbidden(
                "credential_revoked",
                format!("the credential of upstream '{upstream}' was revoked or removed while the call was in flight"),
            )
            .into(),
        }
    }
}

/// When the session of a call ends. One that nobody knows any more gives no more time than the token itself.
fn session_end(permit: &Permit, registry: &Registry) -> Millis {
    let claims = permit.claims();
    registry.session(&claims.sid).map_or(claims.exp.saturating_mul(1000), |session| session.expires_at)
}

/// Whether a definition, as it is now, names the place and the credential that the call went out to and with. Its limits
/// and times are those of the calls that begin.
fn leads_to_the_same(before: &Arc<CompiledUpstream>, now: &Arc<CompiledUpstream>) -> bool {
    if Arc::ptr_eq(before, now) {
        return true;
    }
    let (old, new) = (before.definition(), now.definition());
    before.base() == now.base()
        && (new.allow_private || !old.allow_private)
        && old.ca_pem == new.ca_pem
        && old.inject == new.inject
}

/// A body's eye on the right that it passes under.
pub(super) struct Watch {
    right: Arc<Right>,
    /// The version of all rights that this one was last found good at.
    seen: u64,
    waiting: Option<Pin<Box<dyn Future<Output = Ended> + Send>>>,
}

impl Watch {
    pub(super) fn new(right: Arc<Right>) -> Self {
        Self { seen: right.watched.since, right, waiting: None }
    }

    /// What has ended the right since this was asked last: asked before every piece, so that neither a stream that never
    /// waits nor a reader that comes back after a long pause outruns it.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        let version = self.right.watched.registry.rights().version();
        if version == self.seen {
            return self.right.is_over().then_some(Ended::Session);
        }
        self.seen = version;
        self.right.ended()
    }

    /// Wakes a body that waits when the right ends. Its timer is made only here: most bodies never wait.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let waiting = self.waiting.get_or_insert_with(|| {
            let right = self.right.clone();
            Box::pin(async move { right.over().await })
        });
        waiting.as_mut().poll(cx)
    }
}

#[cfg(test)]
pub(super) mod tests;
