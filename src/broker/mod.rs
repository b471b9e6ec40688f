//! A brokered call: ask → target → permit → intent → inject → dial → scrub. Every door leads into [`Broker::call`].

mod agent_token;
mod ahead;
mod ask;
mod body;
mod caching;
mod dial;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod inject;
mod links;
mod mark;
mod on_record;
mod outcome;
mod right;
pub mod scrub;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use dashmap::DashMap;
use hallpass_verify::{Claims, Dpop, DpopRefusal, DpopRequest, Possession, ProofRefusal, Refusal, TokenVerifier};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::Semaphore;

use crate::audit::{Intent, IntentNumber, Ledger, LedgerError, Priority, Recorded, Throttle, more};
use crate::error::Error;
use crate::model::{AgentStatus, Event, EventKind, Guard, Origin, Target, TargetError};
use crate::outbound::{ConnectionLimits, Resolve};
use crate::policy::{self, CompiledUpstream, Denial, Hint, Permit};
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::vault::Vault;
use crate::world::World;
use crate::yield_queue::YieldQueue;

pub use ask::{Ask, Refused};
pub use body::{BodyError, Download};
pub use dial::check_ca;
pub use inject::MIN_REDACTABLE;
pub use links::Reached;
pub use right::Ended;

/// A body on its way through.
pub type StreamBody = UnsyncBoxBody<Bytes, BodyError>;

/// What a call needs that no upstream's definition says otherwise.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// Name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Until the head of the answer; counted from the last byte of the request that moved.
    pub response_timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
    /// Bytes of a request's body.
    pub max_request_bytes: u64,
    /// Bytes of an answer's body.
    pub max_response_bytes: u64,
    /// Calls in flight at once.
    pub max_calls: usize,
    /// Of one agent.
    pub max_calls_per_agent: usize,
    /// Connections to all upstreams at once.
    pub max_connections: usize,
    /// To one upstream, where its definition does not say.
    pub max_connections_per_upstream: usize,
}

/// One call of an agent that is known. Its token is not in it any more.
#[derive(Debug)]
struct Call {
    /// Who, verified.
    claims: Claims,
    /// Where to.
    upstream: Arc<CompiledUpstream>,
    /// How.
    method: http::Method,
    /// What, canonical.
    target: Target,
    /// The agent's headers.
    headers: http::HeaderMap,
    /// The agent's body.
    body: StreamBody,
    /// Which request it is, and from where.
    origin: Origin,
    /// How soon its intent has to be durable.
    priority: Priority,
    /// By which address it came, and with the token where.
    reached: Reached,
}

/// What the record of a permit says besides.
#[derive(Debug)]
pub struct Circumstances<'a> {
    broker: &'a Broker,
    origin: &'a Origin,
    credential: Option<&'a inject::ChosenCredential>,
}

impl Intent for Permit {
    type With<'a> = Circumstances<'a>;

    fn record(&self, with: Circumstances<'_>) -> Event {
        let mut event = with.broker.call_event(EventKind::CallIntent, self, with.origin);
        event.decision = Some("allow");
        event.credential = with.credential.map(inject::ChosenCredential::label);
        event
    }
}

/// Why there is no answer of the upstream.
#[derive(Debug)]
pub enum CallError {
    /// The token is not good (any more).
    Token(Refusal),
    /// The proof that came with it was used before.
    ProofReplayed,
    /// A scope is missing (RFC 6750 §3.1).
    MissingScope(Arc<str>),
    /// The upstream takes only tokens that are bound to a key.
    NotBound,
    /// No operation has this method and path (P8); what the caller may have meant.
    NoOperation(Hint),
    /// Everything else.
    Other(Error),
}

impl CallError {
    /// A stable code for the audit log.
    fn code(&self) -> &'static str {
        match self {
            Self::Token(refusal) => refusal.code(),
            Self::ProofReplayed => ProofRefusal::Replayed.reason(),
            Self::MissingScope(_) => "insufficient_scope",
            Self::NotBound => "token_binding_required",
            Self::NoOperation(_) => "operation_not_allowed",
            Self::Other(error) => error.code,
        }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Makes brokered calls.
pub struct Broker {
    settings: BrokerSettings,
    world: World,
    registry: Arc<Registry>,
    ledger: Ledger,
    vault: Arc<ArcSwap<Vault>>,
    verifier: Arc<TokenVerifier>,
    issuer: Arc<str>,
    resolver: Arc<dyn Resolve>,
    clients: DashMap<Arc<str>, dial::UpstreamClient>,
    connections: Arc<ConnectionLimits>,
    places: Arc<Semaphore>,
    own_places: DashMap<Arc<str>, Arc<Semaphore>>,
    stopping: Arc<AtomicBool>,
    refusals: Throttle,
    query_values: SecretBytes,
    yields: YieldQueue,
    metrics: CallMetrics,
}

/// Looked up once: a look-up by name costs more than the counting.
#[derive(Clone)]
struct CallMetrics {
    calls: metrics::Counter,
    seconds: metrics::Histogram,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Broker")
    }
}

/// The parts that a broker is made of.
#[derive(Clone)]
pub struct BrokerParts {
    /// Time and randomness.
    pub world: World,
    /// Who is who.
    pub registry: Arc<Registry>,
    /// The audit log.
    pub ledger: Ledger,
    /// Opens credentials. Swapped when the master key changes.
    pub vault: Arc<ArcSwap<Vault>>,
    /// Verifies tokens.
    pub verifier: Arc<TokenVerifier>,
    /// `iss`.
    pub issuer: Arc<str>,
    /// Looks names up.
    pub resolver: Arc<dyn Resolve>,
    /// The key under which records show values of queries ([`crate::vault::query_value_key`]).
    pub query_values: SecretBytes,
    /// Shares the threads among the bodies of calls.
    pub yields: YieldQueue,
}

impl std::fmt::Debug for BrokerParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BrokerParts")
    }
}

impl Broker {
    /// Puts it together.
    pub fn new(settings: BrokerSettings, parts: BrokerParts) -> Self {
        let places = Arc::new(Semaphore::new(settings.max_calls));
        let stopping = Arc::default();
        let BrokerParts { world, registry, ledger, vault, verifier, issuer, resolver, query_values, yields } = parts;
        Self {
            connections: ConnectionLimits::new(settings.max_connections),
            settings,
            world,
            registry,
            ledger,
            vault,
            verifier,
            issuer,
            resolver,
            clients: DashMap::new(),
            places,
            own_places: DashMap::new(),
            stopping,
            refusals: Throttle::default(),
            query_values,
            yields,
            metrics: CallMetrics {
                calls: metrics::counter!("hallpass_calls_total"),
                seconds: metrics::histogram!("hallpass_call_seconds"),
            },
        }
    }

    /// Verifies an agent's token for one upstream (or, without one, for any). Every check but the signature is made
    /// anew each time.
    fn authenticate(&self, token: &str, upstream: Option<&str>, possession: &Possession) -> Result<Claims, Refusal> {
        let keys = self.registry.keys();
        let now = self.world.now() / 1000;
        let audience = |aud: &str| self.is_for(aud, upstream);
        self.registry
            .revoked()
            .with_set(|set| self.verifier.verify(token, keys.verifying(), set, audience, possession, now))
            .map_err(|refusal| self.registry.exactly(&self.verifier, token, refusal))
    }

    /// As [`Self::authenticate`], of a token that came with a DPoP proof (RFC 9449 §7.1): the proof is for this very
    /// request, by the key that the token is bound to, and was not used before.
    fn authenticate_by_proof(
        &self,
        token: &str,
        upstream: Option<&str>,
        dpop: &Dpop,
        request: &DpopRequest<'_>,
    ) -> Result<Claims, DpopRefusal> {
        let keys = self.registry.keys();
        let now = self.world.now() / 1000;
        let audience = |aud: &str| self.is_for(aud, upstream);
        self.registry
            .revoked()
            .with_set(|set| self.verifier.verify_dpop(token, (keys.verifying(), set), audience, dpop, request, now))
            .map_err(|refusal| self.registry.exactly_by_proof(&self.verifier, token, refusal))
    }

    /// Whether a text says of itself, unproven, that it is a token of ours.
    fn is_claimed(&self, text: &str) -> bool {
        self.verifier.is_claimed(text)
    }

    /// What is wrong with a token, whoever holds it: as [`Self::authenticate`], but it lets nobody in.
    fn refusal_of(&self, token: &str, upstream: Option<&str>) -> Option<Refusal> {
        let (keys, now) = (self.registry.keys(), self.world.now() / 1000);
        let audience = |aud: &str| self.is_for(aud, upstream);
        let revoked = self.registry.revoked();
        revoked.with_set(|set| self.verifier.inspect(token, keys.verifying(), set, audience, now)).err()
    }

    /// Whether this audience is the exchange endpoint, as a whole or for this upstream (or, without one, for any).
    fn is_for(&self, audience: &str, upstream: Option<&str>) -> bool {
        let rest = audience.strip_prefix(&*self.issuer).and_then(|rest| rest.strip_prefix("/exchange"));
        rest.is_some_and(|rest| {
            rest.is_empty() || upstream.is_none() || rest.strip_prefix('/').is_some_and(|name| Some(name) == upstream)
        })
    }

    /// Records that a token was refused at the door, if it can be told whose it was (revoked, expired …). Tokens that
    /// nobody signed are counted only: a stranger must not be able to fill the log. Nor must whoever kept a dead token:
    /// of these refusals some are recorded and the rest counted. One whose proof lacks our nonce is counted only, too: each
    /// agent begins that way (RFC 9449 §9).
    async fn token_refused(&self, token: &str, refusal: DpopRefusal, upstream: &str, origin: &Origin) {
        let keys = self.registry.keys();
        let nonce_only = refusal == DpopRefusal::Proof(ProofRefusal::UseNonce);
        let claims = self.verifier.identify(token, keys.verifying()).ok().filter(|_| !nonce_only);
        let Some(claims) = claims else {
            count_refusal(refusal.reason());
            return;
        };
        let mut event = self.event(EventKind::CallRefused, &claims, origin);
        event.upstream = Some(upstream.into());
        if let Some(event) = self.seldom(event, &claims, refusal.reason()) {
            self.record(event, refusal.reason()).await;
        }
    }

    /// The whole call. What comes back streams; its outcome is recorded when it has ended.
    async fn make(&self, call: Call) -> Result<http::Response<Download>, CallError> {
        let Call { claims, upstream, method, target, headers, body, origin, priority, reached } = call;
        let target = upstream.base().complete(target);
        let place = match self.place(&claims) {
            Ok(place) => place,
            Err(error) => {
                let mut event = self.event(EventKind::CallRefused, &claims, &origin);
                event.upstream = Some(upstream.name().clone());
                event.method = Some(method.as_str().into());
                on_record::fill(&mut event, &self.query_values, &upstream, &target);
                // Nobody waits for it: whoever has too many calls in flight may well have them waiting for the same disk.
                if let Some(event) = self.seldom(event, &claims, error.code) {
                    self.ledger.outcome(&event);
                }
                return Err(error.into());
            }
        };
        let permit = self.permit(&claims, &upstream, &method, target, &origin).await?;
        let credential = match self.credential(&permit) {
            Ok(credential) => credential,
            Err(error) => {
                self.refused(self.call_event(EventKind::CallRefused, &permit, &origin), error.code).await;
                return Err(error.into());
            }
        };
        let limits = self.limits(&upstream);
        if let Err(error) = head::check_request(&headers, &body, limits.max_request_bytes) {
            self.refused(self.call_event(EventKind::CallRefused, &permit, &origin), error.code).await;
            return Err(error.into());
        }

        let links = links::Links::new(&permit, &self.issuer, reached);
        // Before the intent is written: an agent that goes away meanwhile leaves an outcome all the same.
        let ending = self.call_event(EventKind::CallOutcome, &permit, &origin).into_outcome();
        let number = IntentNumber::default();
        let started = crate::world::monotonic();
        let outcome = outcome::Outcome::new(
            self.ledger.clone(),
            number.clone(),
            ending,
            started,
            place,
            self.stopping.clone(),
            self.metrics.seconds.clone(),
        );
        let with = Circumstances { broker: self, origin: &origin, credential: credential.as_ref() };
        let guards = claims.proof().map(|proof| Guard::Proof((*proof).into())).into_iter().collect();
        let recorded = match self.ledger.intent(permit, with, guards, &number, priority).await {
            Ok(recorded) => recorded,
            Err(error) => {
                outcome.never_began();
                return Err(self.unrecorded(error, &claims, &upstream, &origin).await);
            }
        };
        self.metrics.calls.increment(1);
        // Before it is asked: what changes after it was asked is a newer version.
        let since = self.registry.rights().version();
        if let Err(error) = self.still_permitted(&recorded, credential.as_ref()) {
            outcome.finish(error.code());
            return Err(error);
        }
        let client = match self.client(&upstream) {
            Ok(client) => client,
            Err(error) => {
                outcome.finish(error.code);
                return Err(error.into());
            }
        };
        let vault = self.vault.load_full();
        let watched = right::Watched { since, registry: self.registry.clone(), world: self.world.clone() };
        let outgoing = inject::Outgoing { headers, body };
        let injected = match inject::inject(recorded, credential.as_ref(), &vault, outgoing, &limits, &outcome, watched)
        {
            Ok(injected) => injected,
            Err(error) => {
                outcome.finish(error.code);
                return Err(error.into());
            }
        };
        let needles = injected.needles().clone();
        let right = injected.right().clone();
        let sent = tokio::select! {
            biased;
            // Taken back while the upstream thinks: its answer is not for this agent any more (P3).
            ended = right.withdrawn() => {
                outcome.finish(ended.code());
                return Err(right.error(ended));
            }
            sent = dial::send(&client, injected, limits.response_timeout) => sent,
        };
        match sent {
            Ok(answer) => body::answer(answer, needles, &links, limits, outcome, right).await,
            // What ended the right may have cut the upload first, and so the connection.
            Err(error) => match right.ended() {
                Some(ended) => {
                    outcome.finish(ended.code());
                    Err(right.error(ended))
                }
                None => {
                    outcome.finish(error.code);
                    Err(error.into())
                }
            },
        }
    }

    /// A place among the calls in flight; one agent gets only its share, so that it cannot stop the others by calls that
    /// it never reads the answers of.
    fn place(&self, claims: &Claims) -> Result<outcome::Place, Error> {
        let busy = |text: &str| Error::unavailable("too_many_calls", text);
        let there = self.own_places.get(claims.client_id.as_str()).map(|own| own.clone());
        let own = there.unwrap_or_else(|| {
            let own = self.own_places.entry(claims.client_id.as_str().into());
            own.or_insert_with(|| Arc::new(Semaphore::new(self.settings.max_calls_per_agent))).clone()
        });
        let own = own.try_acquire_owned();
        let own = own.map_err(|_| busy("this agent has too many calls in flight; let some of them end first"))?;
        let shared = self.places.clone().try_acquire_owned();
        let shared = shared.map_err(|_| busy("too many calls are in flight; try again in a moment"))?;
        Ok(outcome::Place { _own: own, _shared: shared })
    }

    /// From now on a call that ends early was cut by us, not left by its agent.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Calls that have begun and not ended.
    pub fn under_way(&self) -> usize {
        self.settings.max_calls.saturating_sub(self.places.available_permits())
    }

    /// Waits until the outcome of every call is on its way to the log; at most `patience`.
    pub async fn all_ended(&self, patience: Duration) {
        let all = u32::try_from(self.settings.max_calls).unwrap_or(u32::MAX);
        if tokio::time::timeout(patience, self.places.acquire_many(all)).await.is_err() {
            tracing::error!("some calls did not end in time; their outcomes are missing from the log");
        }
    }

    /// Looks the upstream up, connects and, where it speaks TLS, verifies it; sends nothing.
    pub async fn test_upstream(&self, upstream: &Arc<CompiledUpstream>) -> Result<(), Error> {
        self.client(upstream)?.probe().await
    }

    /// Everything that an admin may have taken back while the intent was on its way to disk, asked once more before the
    /// secret leaves (P3): token, session, agent, role, upstream, credential.
    fn still_permitted(
        &self,
        recorded: &Recorded<Permit>,
        credential: Option<&inject::ChosenCredential>,
    ) -> Result<(), CallError> {
        let permit = recorded.get();
        let claims = permit.claims();
        if let Some(by) = self.registry.revoked().find(claims) {
            return Err(CallError::Token(Refusal::Revoked(by)));
        }
        let agent = self.registry.agent(&claims.client_id).filter(|agent| agent.status == AgentStatus::Active);
        let Some(agent) = agent else {
            return Err(CallError::Token(self.registry.why_stopped(&claims.client_id)));
        };
        let definitions = self.registry.definitions();
        let scope = &permit.operation().scope;
        if !definitions.gives(&agent, scope) {
            return Err(CallError::MissingScope(scope.clone()));
        }
        let upstream = permit.upstream();
        if !definitions.upstream(upstream.name()).is_some_and(|now| Arc::ptr_eq(now, upstream)) {
            let text = "the upstream's definition was just changed; try again";
            return Err(Error::unavailable("upstream_changed", text).into());
        }
        let now = self.credential(permit)?;
        let is_same = match (&now, credential) {
            (Some(now), Some(chosen)) => now.is_same(chosen),
            (now, chosen) => now.is_none() && chosen.is_none(),
        };
        if !is_same {
            let text = "the upstream's credential was just changed; try again";
            return Err(Error::unavailable("credential_changed", text).into());
        }
        Ok(())
    }

    async fn permit(
        &self,
        claims: &Claims,
        upstream: &Arc<CompiledUpstream>,
        method: &http::Method,
        target: Target,
        origin: &Origin,
    ) -> Result<Permit, CallError> {
        let Some(agent) = self.registry.agent(&claims.client_id) else {
            return Err(CallError::Token(self.registry.why_stopped(&claims.client_id)));
        };
        let definitions = self.registry.definitions();
        let gives = |scope: &str| definitions.gives(&agent, scope);
        let (denial, target) = match policy::decide(claims, &agent, gives, upstream, method.as_str(), target) {
            Ok(permit) => return Ok(permit),
            Err(denied) => denied,
        };
        let mut event = self.event(EventKind::CallRefused, claims, origin);
        event.agent_name = Some(agent.name.clone());
        event.upstream = Some(upstream.name().clone());
        event.method = Some(method.as_str().into());
        on_record::fill(&mut event, &self.query_values, upstream, &target);
        let denial_code = match &denial {
            Denial::AgentNotActive => self.registry.why_stopped(&claims.client_id).code(),
            denial => denial.code(),
        };
        self.refused(event, denial_code).await;
        Err(match denial {
            Denial::AgentNotActive => CallError::Token(self.registry.why_stopped(&claims.client_id)),
            Denial::MissingScope(scope) => CallError::MissingScope(scope),
            Denial::NotBound => CallError::NotBound,
            Denial::EncodedSlash => Error::invalid(denial_code, TargetError::EncodedSlash.to_string()).into(),
            Denial::NoOperation => {
                let may = |scope: &str| claims.scope.contains(scope) && gives(scope);
                CallError::NoOperation(policy::View::new(upstream, may).hint(method.as_str(), &target.match_path()))
            }
        })
    }

    /// A refusal that costs an agent nothing and can be had as often as it likes: the metrics count each, the log gets
    /// [`crate::audit::RECORDED_A_MINUTE`] of each agent and reason, and the next record says how many were left out.
    fn seldom(&self, mut event: Event, claims: &Claims, reason: &str) -> Option<Event> {
        count_refusal(reason);
        let left_out = self.refusals.may_record(&format!("{} {reason}", claims.client_id), self.world.now())?;
        event.object = more(left_out).map(Arc::from);
        event.decision = Some("deny");
        event.reason = Some(reason.into());
        Some(event)
    }

    /// Records a refusal. If even that cannot be written the call is refused all the same.
    async fn refused(&self, mut event: Event, reason: &str) {
        count_refusal(reason);
        event.decision = Some("deny");
        event.reason = Some(reason.into());
        self.record(event, reason).await;
    }

    async fn record(&self, event: Event, reason: &str) {
        if let Err(error) = self.ledger.refusal(event).await {
            tracing::error!(%error, reason, "a refused call could not be recorded; it is refused all the same");
        }
    }

    /// Why an intent is not in the log: the call is not made.
    async fn unrecorded(
        &self,
        error: LedgerError,
        claims: &Claims,
        upstream: &CompiledUpstream,
        origin: &Origin,
    ) -> CallError {
        let LedgerError::Spent(_) = error else {
            let text = "the call cannot be recorded, so it is not made; try again later";
            return Error::unavailable("audit_unavailable", text).because(error).into();
        };
        // Before a restart, or at another node: in this process it would have been refused with the token.
        let error = CallError::ProofReplayed;
        let mut event = self.event(EventKind::CallRefused, claims, origin);
        event.upstream = Some(upstream.name().clone());
        if let Some(event) = self.seldom(event, claims, error.code()) {
            self.record(event, error.code()).await;
        }
        error
    }

    fn event(&self, kind: EventKind, claims: &Claims, origin: &Origin) -> Event {
        let mut event = Event::new(kind);
        event.agent = Some(claims.client_id.as_str().into());
        event.agent_name = self.registry.agent(&claims.client_id).map(|agent| agent.name.clone());
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

    fn call_event(&self, kind: EventKind, permit: &Permit, origin: &Origin) -> Event {
        let mut event = self.event(kind, permit.claims(), origin);
        event.upstream = Some(permit.upstream().name().clone());
        event.operation = Some(permit.operation().id.clone());
        event.method = Some(permit.method().clone());
        on_record::fill(&mut event, &self.query_values, permit.upstream(), permit.target());
        event
    }

    /// What is injected; none where the upstream takes none.
    fn credential(&self, permit: &Permit) -> Result<Option<inject::ChosenCredential>, Error> {
        let Some((name, pinned)) = permit.upstream().definition().inject.credential() else { return Ok(None) };
        let missing = || {
            Error::unavailable(
                "credential_missing",
                format!("the operator has not stored the credential of upstream '{}' yet", permit.upstream().name()),
            )
        };
        let credential = self.registry.credential(name).ok_or_else(missing)?;
        if credential.revoked_at.is_some() {
            return Err(Error::forbidden("credential_revoked", "the credential of this upstream was revoked"));
        }
        let chosen = inject::ChosenCredential::new(credential, pinned, self.world.now()).ok_or_else(|| {
            Error::unavailable("credential_expired", "the credential version of this upstream is no longer usable")
        })?;
        Ok(Some(chosen))
    }

    fn limits(&self, upstream: &CompiledUpstream) -> body::BodyLimits {
        let seconds = |given: Option<u64>, default| given.map_or(default, Duration::from_secs);
        let (timeouts, limits) = (&upstream.definition().timeouts, &upstream.definition().limits);
        body::BodyLimits {
            response_timeout: seconds(timeouts.response_seconds, self.settings.response_timeout),
            idle_timeout: seconds(timeouts.idle_seconds, self.settings.idle_timeout),
            max_request_bytes: limits.max_request_bytes.unwrap_or(self.settings.max_request_bytes),
            max_response_bytes: limits.max_response_bytes.unwrap_or(self.settings.max_response_bytes),
            yields: self.yields.clone(),
        }
    }

    /// The upstream's connections; made anew when its definition has changed, so that a connection never outlives
    /// the definition that allowed its address.
    fn client(&self, upstream: &Arc<CompiledUpstream>) -> Result<dial::UpstreamClient, Error> {
        if let Some(client) = self.clients.get(upstream.name())
            && client.is_for(upstream)
        {
            return Ok(client.clone());
        }
        let connect = upstream.definition().timeouts.connect_seconds;
        let timeout = connect.map_or(self.settings.connect_timeout, Duration::from_secs);
        let most = self.settings.max_connections_per_upstream;
        let resolver = self.resolver.clone();
        let client = dial::UpstreamClient::new(upstream.clone(), resolver, timeout, most, &self.connections)?;
        self.clients.insert(upstream.name().clone(), client.clone());
        Ok(client)
    }
}

fn count_refusal(reason: &str) {
    metrics::counter!("hallpass_calls_refused_total", "reason" => reason.to_owned()).increment(1);
}
