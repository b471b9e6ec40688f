//! A brokered call: ask → classify → admit → decide → intent → (attempt: inject → dial) → answer (decode → filter → scrub). Every
//! door leads into [`Broker::call`].

mod admit;
mod agent_token;
mod ahead;
mod answer;
mod ask;
mod authenticate;
mod body;
mod caching;
mod call;
mod decide;
mod dial;
mod failure;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod inject;
mod links;
mod mark;
mod on_record;
mod outcome;
mod record;
mod right;
pub mod scrub;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use hallpass_verify::{Dpop, TokenVerifier};
use tokio::sync::Semaphore;

use crate::audit::{Ledger, Throttle};
use crate::error::Error;
use crate::outbound::{ConnectionLimits, Resolve};
use crate::policy::CompiledUpstream;
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::vault::Vault;
use crate::world::World;
use crate::yield_queue::YieldQueue;

pub use ask::{Ask, Refused};
pub use body::{BodyError, CallBody, Download, StreamBody};
use body::{BodyLimits, CollectLimits, Collector};
use call::Call;
pub use dial::check_ca;
pub use failure::CallError;
pub use inject::MIN_REDACTABLE;
pub use links::Reached;
pub use record::Circumstances;
pub use right::Ended;

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
    collector: Collector,
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
            collector: Collector::new(CollectLimits::default()),
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

    /// Finds the token, verifies it, and makes the call. `dpop` checks proofs, and remembers them.
    pub async fn call(&self, ask: Ask<'_>, dpop: &Dpop) -> Result<http::Response<Download>, Refused> {
        let (call, scheme) = self.identify(ask, dpop).await?;
        self.make(call).await.map_err(|error| Refused::Call { error, scheme })
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

    fn limits(&self, upstream: &CompiledUpstream) -> BodyLimits {
        let seconds = |given: Option<u64>, default| given.map_or(default, Duration::from_secs);
        let (timeouts, limits) = (&upstream.definition().timeouts, &upstream.definition().limits);
        BodyLimits {
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
