//! The doors: axum lives here and nowhere else.

mod accept;
mod admin;
mod agent_token;
mod authority;
mod authorize;
mod certificate;
mod discovery;
mod dpop;
mod exchange;
mod extract;
mod front;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod introspect;
mod lost;
mod ops;
mod problem;
mod public_hosts;
pub mod reply;
mod resource;
mod revocations;
mod revoke;
pub mod routes;
mod serve;
mod token;

use std::sync::Arc;

use arc_swap::ArcSwap;
use hallpass_verify::Dpop;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::audit::{Ledger, Throttle};
use crate::broker::Broker;
use crate::config::Config;
use crate::issue::{Admins, Issuer, KeyKeeper};
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::store::Store;
use crate::supervise::Supervisor;
use crate::vault::Vault;
use crate::world::World;
use crate::yield_queue::YieldQueue;

pub use admin::{Held, MasterKeyFiles, finish_rewrap, write_private};
pub use serve::{Listeners, Secured, serve};

/// What handlers work with. Cheap to clone.
pub type State = Arc<Parts>;

/// The parts, wired together by `app`.
pub struct Parts {
    /// As it was loaded.
    pub config: Config,
    /// `iss`.
    pub issuer_url: Arc<str>,
    /// Whether it serves, stops, or has failed.
    pub supervisor: Supervisor,
    /// Time and randomness.
    pub world: World,
    /// The in-memory view.
    pub registry: Arc<Registry>,
    /// The audit log, and the only way to change anything.
    pub ledger: Ledger,
    /// For health only.
    pub store: Store,
    /// Opens and seals.
    pub vault: Arc<ArcSwap<Vault>>,
    /// Tokens.
    pub issuer: Issuer,
    /// Admins who come over the network.
    pub admins: Admins,
    /// Which refusals of admins are recorded.
    pub admin_refusals: Throttle,
    /// New secrets that are not in force until they were shown.
    pub held: Held,
    /// Signing keys.
    pub keys: KeyKeeper,
    /// Brokered calls.
    pub broker: Broker,
    /// HMAC key of client secrets.
    pub client_secret_key: SecretBytes,
    /// Checks DPoP proofs, and remembers those that were used.
    pub dpop: Dpop,
    /// Where the master key lies, for `credential rewrap`.
    pub master_key_files: MasterKeyFiles,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// Admin changes come one after the other: each checks what is there before it changes it.
    pub one_admin_at_a_time: tokio::sync::Mutex<()>,
    /// Shares the threads among connections that are never at an end.
    pub yields: YieldQueue,
    /// The signed revocation list, made anew when it is old or something was revoked.
    pub revocation_list: revocations::SignedLists,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}
