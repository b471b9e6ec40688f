//! A token request: authenticate → narrow → mint; and taking back what was issued.

mod admins;
mod authenticate;
mod certificates;
mod delegate;
mod keys;
mod mint;
mod narrow;
mod refusal;
mod renew;
mod room;
mod subtree;
mod withdraw;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hallpass_verify::{Claims, Dpop, DpopRefusal, DpopRequest, Possession, Refusal, ScopeSet, TokenVerifier};

use crate::audit::{Ledger, Throttle, omitted_note};
use crate::config::ClientAuth;
use crate::model::{AgentStatus, Event, EventKind, Guard, INTROSPECT_SCOPE, Origin, UsedAssertion};
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::trust::Trust;
use crate::vault::OwnPurpose;
use crate::world::{Millis, World};

use authenticate::{Failed, Guesses, MAX_REMEMBERED, Replay};
use room::Room;

pub use admins::{AdminIdentity, Admins, Grant, Login, LoginSettings, NO_ROLE, NotAdmin};
pub use authenticate::{Authenticated, Caller, Presented};
pub use certificates::{Authority, CERTIFICATE_MILLIS, CLIENT_CA, Certificates, ClientCas, IssuedCertificate};
pub use delegate::{ExchangeRequest, MAX_SUBJECT_AGE, TokenType};
pub use keys::{KeyKeeper, first_keys, open_keys};
pub use mint::IssuedToken;
pub use refusal::TokenError;
pub use room::MAX_SESSIONS_OF_AN_AGENT;
pub use withdraw::{Actor, MAX_OWN_REVOCATIONS, MAX_TOKEN_MILLIS};

/// The id of the broker secret under which client secrets are kept.
pub const CLIENT_SECRET_KEY: &str = "client-secret-hmac";

/// The id of the broker secret that DPoP nonces are derived from.
pub const DPOP_NONCE_KEY: &str = "dpop-nonce";

/// What a broker secret is sealed for.
pub fn broker_secret_purpose(id: &str) -> crate::error::Result<OwnPurpose> {
    match id {
        CLIENT_SECRET_KEY => Ok(OwnPurpose::ClientSecretHmac),
        DPOP_NONCE_KEY => Ok(OwnPurpose::DpopNonce),
        CLIENT_CA => Ok(OwnPurpose::ClientCa),
        crate::audit::HEAD_SECRET => Ok(OwnPurpose::AuditHead),
        other => {
            Err(crate::error::Error::internal(format!("the database has a broker secret '{other}' that nobody knows")))
        }
    }
}

/// How tokens and sessions are made. Times are milliseconds.
#[derive(Debug, Clone)]
pub struct IssueSettings {
    /// A token's life.
    pub token_life: Millis,
    /// A session's life where the agent asks for none.
    pub session_life: Millis,
    /// The longest session that an agent may ask for.
    pub session_max: Millis,
    /// Exchanges (RFC 8693) on one way from the root down; 0: none at all.
    pub max_depth: usize,
    /// How far the clock of another node that mints may run ahead of ours. 0 where there is no other node.
    pub clock_spread: Millis,
    /// How agents may prove who they are.
    pub client_auth: ClientAuth,
}

/// What a token request asked for, besides who asked.
#[derive(Debug, Default, Clone)]
pub struct TokenRequest {
    /// RFC 6749 §3.3; `None` = all that the roles give.
    pub scope: Option<String>,
    /// RFC 8707; repeatable.
    pub resources: Vec<String>,
    /// Another token in this session.
    pub session_id: Option<String>,
    /// How many seconds a new session is to last.
    pub session_expires_in: Option<i64>,
    /// What the agent is doing; rides into the audit log.
    pub task: Option<String>,
    /// What the agent is for; rides into the audit log.
    pub purpose: Option<String>,
}

/// The parts that an issuer is made of.
#[derive(Debug)]
pub struct IssuerParts {
    /// Time and randomness.
    pub world: World,
    /// Who is who.
    pub registry: Arc<Registry>,
    /// The audit log.
    pub ledger: Ledger,
    /// The HMAC key of client secrets.
    pub secret_key: SecretBytes,
    /// Verifies our own tokens.
    pub verifier: Arc<TokenVerifier>,
    /// Verifies those of others.
    pub trust: Arc<Trust>,
    /// Whom certificates are trusted from, and issued by.
    pub certificates: Certificates,
    /// Assertions that were used before the start and have not ended.
    pub used_assertions: Vec<UsedAssertion>,
    /// Since when used assertions are kept.
    pub assertions_since: Millis,
}

/// Issues tokens and takes them back.
#[derive(Debug)]
pub struct Issuer {
    issuer: Arc<str>,
    settings: IssueSettings,
    world: World,
    registry: Arc<Registry>,
    ledger: Ledger,
    secret_key: SecretBytes,
    verifier: Arc<TokenVerifier>,
    trust: Arc<Trust>,
    replay: Replay,
    guesses: Guesses,
    room: Room,
    assertions_since: Millis,
    certificates: Certificates,
    failures: Throttle,
    own_revocations: Mutex<HashMap<Arc<str>, Vec<Millis>>>,
    /// Held by each exchange from the last look at its subject until its session is durable, and by whoever takes a
    /// session, an agent or a subject back: a session that is made at that moment is either seen from above and ended
    /// in the same commit, or sees that what it would hang under is over (P3).
    tree: tokio::sync::RwLock<()>,
}

impl Issuer {
    /// `issuer` is `iss`.
    pub fn new(issuer: Arc<str>, settings: IssueSettings, parts: IssuerParts) -> Self {
        let IssuerParts { world, registry, ledger, secret_key, verifier, trust, certificates, .. } = parts;
        let replay = Replay::new(MAX_REMEMBERED);
        replay.restore(&parts.used_assertions);
        Self {
            issuer,
            settings,
            assertions_since: parts.assertions_since,
            world,
            registry,
            ledger,
            secret_key,
            verifier,
            trust,
            replay,
            guesses: Guesses::new(),
            room: Room::default(),
            certificates,
            failures: Throttle::default(),
            own_revocations: Mutex::default(),
            tree: tokio::sync::RwLock::default(),
        }
    }

    /// `iss`.
    pub fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// The whole request (RFC 6749 §4.4). Issued or refused, it is in the audit log before it is answered.
    pub async fn token(
        &self,
        caller: &Caller,
        request: &TokenRequest,
        origin: &Origin,
    ) -> Result<IssuedToken, TokenError> {
        let now = self.world.now();
        let agent = self.client(caller, None, origin).await?;
        let now = self.past_the_cut(agent.agent(), now).await?;
        let granted = self.session(&agent, caller.confirmation(), request, now);
        let granted = granted.and_then(|plan| Ok((self.narrow(&agent, request, plan.ceiling())?, plan)));
        let outcome = match granted {
            Ok((grant, plan)) => self.mint(&agent, grant, plan, request, origin, now).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome
            && !matches!(error, TokenError::Unavailable)
        {
            self.refused(&agent, error, None, origin).await;
        }
        outcome
    }

    /// Who asks, at the token endpoint or (`action`) at another one.
    ///
    /// Every failure is counted in the metrics, but not every one is recorded: anybody can cause them, and each record
    /// is a row that is kept for ever and waits in the queue in which agents wait for their tokens. So at most
    /// [`crate::audit::RECORDED_A_MINUTE`] a minute are recorded, of strangers (nothing presented, a malformed secret, an unknown
    /// client) for each reason, of wrong secrets and stopped agents for each agent. The next record says how many were
    /// left out. What is refused to an agent that proved who it is, is always recorded.
    pub async fn client(
        &self,
        caller: &Caller,
        action: Option<&'static str>,
        origin: &Origin,
    ) -> Result<Authenticated, TokenError> {
        let (now, presented) = (self.world.now(), &caller.presented);
        let Failed { reason, wait, told } = match self.authenticate(caller, now).await {
            Ok(agent) => {
                // Only now: strangers must not fill the memory of what was spent.
                let agent = match &caller.proof {
                    None => agent,
                    Some(proof) => match proof.spend(now / 1000) {
                        Ok(_) => agent.spending(proof),
                        Err(refusal) => {
                            let error = TokenError::Proof(refusal);
                            self.refused(&agent, &error, None, origin).await;
                            return Err(error);
                        }
                    },
                };
                // A token request has a record of its own, and what was spent is written with that.
                if action.is_none() || agent.spent().is_empty() {
                    return Ok(agent);
                }
                self.ledger.commit_if(agent.spent(), Vec::new(), Vec::new()).await?;
                return Ok(agent.kept());
            }
            Err(failed) => failed,
        };
        let endpoint = action.unwrap_or("token");
        metrics::counter!("hallpass_client_authentication_failures_total", "reason" => reason, "endpoint" => endpoint)
            .increment(1);
        if action.is_none() {
            metrics::counter!("hallpass_tokens_refused_total", "reason" => reason).increment(1);
        }
        let claimed = presented.claimed_id();
        let known = claimed.as_deref().filter(|id| !is_of_strangers(reason) && self.registry.agent(id).is_some());
        if let Some(left_out) = self.failures.may_record(known.unwrap_or(reason), now) {
            let mut event = Event::new(EventKind::TokenRefused);
            event.decision = Some("deny");
            event.reason = Some(reason.into());
            event.action = action.map(Arc::from);
            event.came_by(origin);
            // What somebody claims to be is theirs to choose: kept short and marked as a claim.
            let claimed = claimed.as_deref().map(|id| format!("claimed:{}", printable(id)));
            event.object = match (claimed, omitted_note(left_out)) {
                (Some(claimed), Some(more)) => Some(format!("{claimed} {more}").into()),
                (claimed, more) => claimed.or(more).map(Arc::from),
            };
            self.record_refusal(event, Vec::new(), reason).await;
        }
        Err(match (presented, told) {
            (Presented::Grant { .. }, Some(TokenError::Stopped { status, .. })) => {
                TokenError::Stopped { status, by_grant: true }
            }
            // RFC 7521 §4.1.1: there the assertion is the grant.
            (Presented::Grant { .. }, _) => {
                TokenError::InvalidGrant("the assertion is not good here, or describes no agent".into())
            }
            (_, _) if wait > 0 => TokenError::Slowed(wait.saturating_add(999) / 1000),
            (_, told) => told.unwrap_or(TokenError::InvalidClient),
        })
    }

    /// What is due: forgets assertions that have ended, and whose sessions had no room. Called now and then.
    pub fn tick(&self) {
        self.replay.tick(self.world.now() / 1000);
        self.room.tick(self.world.now());
        self.trust.poll();
    }

    /// Introspection (RFC 7662): the claims, if the token is good here and now for an audience that this issuer serves.
    pub fn introspect(&self, token: &str) -> Result<Claims, Refusal> {
        let (exchange, definitions) = (self.exchange_audience(), self.registry.definitions());
        self.good_for(token, |aud| match aud.strip_prefix(&exchange) {
            Some("") => true,
            Some(rest) => rest.strip_prefix('/').is_some_and(|name| definitions.upstream(name).is_some()),
            None => definitions.resources().any(|one| one.audience == aud),
        })
    }

    /// The claims of a token that somebody introspects with. It must be meant for us: an API that got a token for
    /// itself must not come back with it (RFC 9068 §4).
    pub fn introspector(&self, token: &str, possession: &Possession) -> Result<Claims, Refusal> {
        let exchange = self.exchange_audience();
        let now = self.world.now() / 1000;
        let keys = self.registry.keys();
        let claims = self
            .registry
            .revoked()
            .with_set(|set| self.verifier.verify(token, keys.verifying(), set, |aud| aud == exchange, possession, now));
        self.of_active_agent(claims.map_err(|refusal| self.registry.exactly(&self.verifier, token, refusal))?)
    }

    /// As [`Self::introspector`], of a token that came with a DPoP proof (RFC 9449 §7.1). [`Self::keep_spent`] comes next.
    pub fn introspector_by_proof(
        &self,
        token: &str,
        dpop: &Dpop,
        request: &DpopRequest<'_>,
    ) -> Result<Claims, DpopRefusal> {
        let exchange = self.exchange_audience();
        let now = self.world.now() / 1000;
        let keys = self.registry.keys();
        let claims = self.registry.revoked().with_set(|set| {
            self.verifier.verify_dpop(token, (keys.verifying(), set), |aud| aud == exchange, dpop, request, now)
        });
        let claims = claims.map_err(|refusal| self.registry.exactly_by_proof(&self.verifier, token, refusal))?;
        Ok(self.of_active_agent(claims)?)
    }

    /// Makes durable that the proof which came with a token was used: for a request that leaves no record to write it with.
    ///
    /// # Errors
    /// [`TokenError::Proof`]: it was used before, by this process or one before it.
    pub async fn keep_spent(&self, claims: &Claims) -> Result<(), TokenError> {
        let Some(proof) = claims.proof() else { return Ok(()) };
        Ok(self.ledger.commit_if(vec![Guard::Proof((*proof).into())], Vec::new(), Vec::new()).await?)
    }

    fn good_for(&self, token: &str, audience: impl Fn(&str) -> bool) -> Result<Claims, Refusal> {
        let now = self.world.now() / 1000;
        let keys = self.registry.keys();
        let claims =
            self.registry.revoked().with_set(|set| self.verifier.inspect(token, keys.verifying(), set, audience, now));
        self.of_active_agent(claims.map_err(|refusal| self.registry.exactly(&self.verifier, token, refusal))?)
    }

    fn of_active_agent(&self, claims: Claims) -> Result<Claims, Refusal> {
        let active = self.registry.agent(&claims.client_id).is_some_and(|agent| agent.status == AgentStatus::Active);
        if active { Ok(claims) } else { Err(self.registry.why_stopped(&claims.client_id)) }
    }

    /// Whose token it is, dead or revoked ones too; for admins.
    pub fn identify(&self, token: &str) -> Result<Claims, Refusal> {
        self.verifier.identify(token, self.registry.keys().verifying())
    }

    /// Whether the agent may introspect (RFC 7662 §2.1).
    pub fn may_introspect(&self, agent: &Authenticated) -> bool {
        self.registry.definitions().gives(agent.agent(), INTROSPECT_SCOPE)
    }

    /// Whether a bearer of this token may introspect.
    pub fn token_may_introspect(&self, claims: &Claims) -> bool {
        claims.scope.contains(INTROSPECT_SCOPE)
            && self
                .registry
                .agent(&claims.client_id)
                .is_some_and(|agent| self.registry.definitions().gives(&agent, INTROSPECT_SCOPE))
    }

    /// `aud` of tokens for all upstreams.
    pub fn exchange_audience(&self) -> String {
        format!("{}/exchange", self.issuer)
    }

    fn scopes_of(&self, agent: &Authenticated) -> ScopeSet {
        self.registry.definitions().scopes_of(agent.agent())
    }

    async fn refused(&self, agent: &Authenticated, error: &TokenError, action: Option<&'static str>, origin: &Origin) {
        let reason = match error {
            TokenError::Proof(refusal) => refusal.reason(),
            error => error.reason(),
        };
        metrics::counter!("hallpass_tokens_refused_total", "reason" => reason).increment(1);
        let mut event = Event::new(EventKind::TokenRefused);
        event.decision = Some("deny");
        event.reason = Some(reason.into());
        event.action = action.map(Arc::from);
        // Our own words: nothing that a token or a request says is in them, but for the scopes that were asked for.
        event.object = action.and_then(|_| error.text()).map(Arc::from);
        event.came_by(origin);
        event.agent = Some(agent.agent().id.clone());
        event.agent_name = Some(agent.agent().name.clone());
        self.record_refusal(event, agent.spent(), reason).await;
    }

    async fn record_refusal(&self, event: Event, spent: Vec<Guard>, reason: &str) {
        if let Err(error) = self.ledger.refusal_spending(event, spent).await {
            tracing::error!(%error, reason, "a refused request could not be recorded; it is refused all the same");
        }
    }
}

/// Reasons that say nothing of an agent that there is: anybody can cause them without knowing anything.
fn is_of_strangers(reason: &str) -> bool {
    matches!(
        reason,
        "no_client_authentication" | "client_secret_malformed" | "unknown_client" | "client_certificate_malformed"
    )
}

/// At most 64 printable ASCII characters of what a stranger sent.
fn printable(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
