//! The steps of a call behind its token: classify → admit → decide → intent → (attempt: inject → dial) → answer. Each is a
//! function that returns a `Result`; what an error means for the log is said once, in [`Broker::make`].

use std::sync::Arc;

use hallpass_verify::Claims;
use http::{HeaderMap, Method, Response};

use crate::audit::{IntentNumber, LedgerError, Priority, Recorded};
use crate::broker::admit::Place;
use crate::broker::answer::{self, Reading};
use crate::broker::body::{BodyLimits, CallBody, Download, Prepared, Upload};
use crate::broker::failure::{CallError, Denied, Failure, Often};
use crate::broker::inject::{self, Outgoing};
use crate::broker::links::{Links, Reached};
use crate::broker::outcome::Outcome;
use crate::broker::record::{Circumstances, Facts};
use crate::broker::right::{Right, Watched};
use crate::broker::{Broker, dial, head};
use crate::credential::Chosen;
use crate::error::Error;
use crate::model::{EventKind, Guard, Origin, Target};
use crate::outbound::PooledBody;
use crate::policy::{self, Candidate, CompiledUpstream, Need, Permit};

/// One call of an agent that is known. Its token is not in it any more.
#[derive(Debug)]
pub(super) struct Call {
    /// Who, verified.
    pub(super) claims: Arc<Claims>,
    /// Where to.
    pub(super) upstream: Arc<CompiledUpstream>,
    /// How.
    pub(super) method: Method,
    /// What, canonical.
    pub(super) target: Target,
    /// The agent's headers.
    pub(super) headers: HeaderMap,
    /// The agent's body.
    pub(super) body: CallBody,
    /// Which request it is, and from where.
    pub(super) origin: Origin,
    /// How soon its intent has to be durable.
    pub(super) priority: Priority,
    /// By which address it came, and with the token where.
    pub(super) reached: Reached,
}

/// What of a call is not its facts: how it goes on.
struct Course {
    headers: HeaderMap,
    body: CallBody,
    priority: Priority,
    reached: Reached,
    limits: BodyLimits,
    /// The version of all rights, from before the first of them was asked for.
    since: u64,
}

/// A call that is in the log, and has to end there.
struct Begun {
    recorded: Recorded<Permit>,
    chosen: Chosen,
    links: Links,
    outgoing: Outgoing,
    limits: BodyLimits,
    since: u64,
}

impl Broker {
    /// The whole call. What comes back streams; its outcome is recorded when it has ended.
    ///
    /// The one place that turns an error into a record: of a call that was not made, a refusal; of one that was, its outcome.
    pub(super) async fn make(&self, call: Call) -> Result<Response<Download>, CallError> {
        let since = self.registry.rights().version();
        let Call { claims, upstream, method, target, headers, body, origin, priority, reached } = call;
        let facts = self.facts(claims, &origin);
        let limits = self.limits(&upstream);
        let candidate = classify(upstream, &method, target);
        let course = Course { headers, body, priority, reached, limits, since };
        let (begun, mut outcome) = match self.begin(&facts, candidate, course).await {
            Ok(begun) => begun,
            Err(denied) => {
                if let Some(record) = denied.record {
                    self.refused(record).await;
                }
                return Err(denied.error);
            }
        };
        match self.carry_out(begun, &mut outcome).await {
            Ok(answer) => Ok(answer.ending_with(outcome)),
            Err(failure) => {
                outcome.finish(failure.reason);
                Err(failure.error)
            }
        }
    }

    /// admit → decide → intent
    async fn begin(&self, facts: &Facts, candidate: Candidate, course: Course) -> Result<(Begun, Outcome), Denied> {
        let place = self.admit(facts, &candidate)?;
        let permit = self.decide(facts, candidate)?;
        let Course { headers, body, priority, reached, limits, since } = course;
        let refused = |error| Denied::of(self.event_of_permit(EventKind::CallRefused, facts, &permit), error);
        let chosen = self.choose(&permit).map_err(refused)?;
        head::check_request(&headers, &body, limits.max_request_bytes).map_err(refused)?;
        let body = self.at_hand(&permit, body, &limits).await.map_err(refused)?;

        let links = Links::new(&permit, &self.issuer, reached);
        let (recorded, outcome) = self.intent(facts, permit, &chosen, place, priority).await?;
        let begun = Begun { recorded, chosen, links, outgoing: Outgoing { headers, body }, limits, since };
        Ok((begun, outcome))
    }

    /// The body, collected if the operation or a placement has to see all of it before the call is made.
    async fn at_hand(&self, permit: &Permit, body: CallBody, limits: &BodyLimits) -> Result<CallBody, Error> {
        match permit.need() {
            Need::Head => Ok(body),
            Need::Body => self.collector.whole(body, &permit.claims().client_id, limits.max_request_bytes).await,
        }
    }

    /// Records the intent. Gives the proof that it is durable, and what records the call's end.
    async fn intent(
        &self,
        facts: &Facts,
        permit: Permit,
        chosen: &Chosen,
        place: Place,
        priority: Priority,
    ) -> Result<(Recorded<Permit>, Outcome), Denied> {
        let number = IntentNumber::default();
        // Before the intent is written: an agent that goes away meanwhile leaves an outcome all the same.
        let ending = self.event_of_permit(EventKind::CallOutcome, facts, &permit).into_outcome();
        let outcome = Outcome::new(
            self.ledger.clone(),
            number.clone(),
            ending,
            crate::world::monotonic(),
            place,
            self.stopping.clone(),
            self.metrics.seconds.clone(),
        );
        let upstream = permit.upstream().clone();
        let with = Circumstances { broker: self, facts, credential: chosen.labels() };
        let guards = facts.claims.proof().map(|proof| Guard::Proof((*proof).into())).into_iter().collect();
        match self.ledger.intent(permit, with, guards, &number, priority).await {
            Ok(recorded) => {
                self.metrics.calls.increment(1);
                Ok((recorded, outcome))
            }
            Err(error) => {
                outcome.never_began();
                Err(unrecorded(error, facts, &upstream))
            }
        }
    }

    /// (attempt: inject → dial) → answer
    async fn carry_out(&self, begun: Begun, outcome: &mut Outcome) -> Result<Prepared, Failure> {
        let Begun { recorded, chosen, links, outgoing, limits, since } = begun;
        let since = self.still_permitted(&recorded, &chosen, since)?;
        let watched = Watched { since, registry: self.registry.clone(), world: self.world.clone() };
        let right = Arc::new(Right::new(recorded.get().clone(), chosen, watched));
        let (answer, needles) = self.attempt(&recorded, &right, outgoing, &limits, outcome).await?;
        let reading = Reading { needles, links: &links, limits: &limits, right: &right };
        answer::prepare(answer, reading, outcome).await
    }

    /// One request to the upstream. Several of them may rest on one record.
    async fn attempt(
        &self,
        recorded: &Recorded<Permit>,
        right: &Arc<Right>,
        outgoing: Outgoing,
        limits: &BodyLimits,
        outcome: &Outcome,
    ) -> Result<Answered, Failure> {
        let client = self.client(recorded.get().upstream())?;
        let injected = inject::inject(recorded, right, &self.vault.load(), outgoing, limits, outcome)?;
        let needles = injected.needles().clone();
        let sent = tokio::select! {
            biased;
            // Taken back while the upstream thinks: its answer is not for this agent any more (P3).
            ended = right.withdrawn() => return Err(right.failure(ended)),
            sent = dial::send(&client, injected, limits.response_timeout) => sent,
        };
        match sent {
            Ok(answer) => Ok((answer, needles)),
            // What ended the right may have cut the upload first, and so the connection.
            Err(error) => Err(right.ended().map_or_else(|| error.into(), |ended| right.failure(ended))),
        }
    }
}

/// What came back, and what to look for in it.
type Answered = (Response<PooledBody<Upload>>, inject::Sought);

/// Which operation is asked for. A target that says nothing means the base URL.
fn classify(upstream: Arc<CompiledUpstream>, method: &Method, target: Target) -> Candidate {
    let target = upstream.base().complete(target);
    policy::classify(upstream, method.as_str().into(), target)
}

/// Why an intent is not in the log: the call is not made.
fn unrecorded(error: LedgerError, facts: &Facts, upstream: &CompiledUpstream) -> Denied {
    let LedgerError::Spent(_) = error else {
        let text = "the call cannot be recorded, so it is not made; try again later";
        return Denied::unrecorded(Error::unavailable("audit_unavailable", text).because(error));
    };
    // Before a restart, or at another node: in this process it would have been refused with the token.
    let mut event = facts.event.clone();
    event.upstream = Some(upstream.name().clone());
    Denied::of(event, CallError::ProofReplayed).often(Often::Sampled)
}
