//! What of a call is recorded: who asks for what, and why it was refused.

use std::sync::Arc;

use hallpass_verify::Claims;

use crate::audit::{Intent, omitted_note};
use crate::broker::failure::{Often, Record};
use crate::broker::{Broker, on_record};
use crate::model::{Agent, CredentialLabels, Event, EventKind, Origin};
use crate::policy::{Candidate, Permit};

/// Who asks, and by which request.
pub(super) struct Facts {
    pub(super) claims: Arc<Claims>,
    /// As it is registered at this moment.
    pub(super) agent: Option<Arc<Agent>>,
    /// What each record of the call says of both.
    pub(super) event: Event,
}

/// What the record of a permit says besides.
pub struct Circumstances<'a> {
    pub(super) broker: &'a Broker,
    pub(super) facts: &'a Facts,
    pub(super) credential: Option<CredentialLabels>,
}

impl std::fmt::Debug for Circumstances<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Circumstances").field("credential", &self.credential).finish_non_exhaustive()
    }
}

impl Intent for Permit {
    type With<'a> = Circumstances<'a>;

    fn record(&self, with: Circumstances<'_>) -> Event {
        let mut event = with.broker.event_of_permit(EventKind::CallIntent, with.facts, self);
        event.decision = Some("allow");
        event.credential = with.credential;
        event
    }
}

impl Broker {
    /// Looks up once what all records of a call say.
    pub(super) fn facts(&self, claims: Arc<Claims>, origin: &Origin) -> Facts {
        let agent = self.registry.agent(&claims.client_id);
        let event = self.event_of(&claims, agent.as_deref(), origin);
        Facts { claims, agent, event }
    }

    /// A refusal, and whose token it is about.
    pub(super) fn event_of(&self, claims: &Claims, agent: Option<&Agent>, origin: &Origin) -> Event {
        let mut event = Event::new(EventKind::CallRefused);
        event.agent = Some(claims.client_id.as_str().into());
        event.agent_name = agent.map(|agent| agent.name.clone());
        event.session = Some(claims.sid.as_str().into());
        event.about(claims);
        event.token = Some(claims.jti.as_str().into());
        if let Some(session) = self.registry.session(&claims.sid) {
            event.task.clone_from(&session.task);
            event.purpose.clone_from(&session.purpose);
        }
        event.came_by(origin);
        event
    }

    /// A refusal of what was asked for, of which nobody has said yet whether it may be done.
    pub(super) fn event_of_candidate(&self, facts: &Facts, candidate: &Candidate) -> Event {
        let mut event = facts.event.clone();
        event.upstream = Some(candidate.upstream().name().clone());
        event.method = Some(candidate.method().clone());
        on_record::fill(&mut event, &self.query_values, candidate.upstream(), candidate.target());
        event
    }

    /// What was allowed.
    pub(super) fn event_of_permit(&self, kind: EventKind, facts: &Facts, permit: &Permit) -> Event {
        let mut event = Event { kind, ..facts.event.clone() };
        event.upstream = Some(permit.upstream().name().clone());
        event.operation = Some(permit.operation().id.clone());
        event.method = Some(permit.method().clone());
        on_record::fill(&mut event, &self.query_values, permit.upstream(), permit.target());
        event
    }

    /// Records a refusal, or counts it where enough of its kind are in the log: the metrics count each. If it cannot be
    /// written the call is refused all the same.
    pub(super) async fn refused(&self, record: Record) {
        let Record { mut event, reason, often } = record;
        count_refusal(reason);
        event.decision = Some("deny");
        event.reason = Some(reason.into());
        if often != Often::Each {
            let agent = event.agent.as_deref().unwrap_or_default();
            let Some(left_out) = self.refusals.may_record(&format!("{agent} {reason}"), self.world.now()) else {
                return;
            };
            event.object = omitted_note(left_out).map(Arc::from);
        }
        if often == Often::SampledUnwaited {
            return self.ledger.outcome(&event);
        }
        if let Err(error) = self.ledger.refusal(*event).await {
            tracing::error!(%error, reason, "a refused call could not be recorded; it is refused all the same");
        }
    }
}

pub(super) fn count_refusal(reason: &str) {
    metrics::counter!("hallpass_calls_refused_total", "reason" => reason.to_owned()).increment(1);
}
