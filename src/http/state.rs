//! What the handlers of each listener work with: what they need, and no more. No handler of the public listener can reach the
//! vault, the store or a private key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hallpass_verify::Dpop;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::audit::{Ledger, Throttle};
use crate::broker::Broker;
use crate::config::{ClientAuth, Config, Revocations};
use crate::http::revocations::SignedLists;
use crate::issue::{Admins, Issuer};
use crate::manage::Manager;
use crate::registry::Registry;
use crate::supervise::Supervisor;
use crate::world::World;

/// What the public listener's handlers work with. Cheap to clone.
pub type PublicState = Arc<PublicParts>;

/// What the handlers of admins work with. Cheap to clone.
pub type State = Arc<Parts>;

/// What the ops listener's handlers work with. Cheap to clone.
pub type OpsState = Arc<OpsParts>;

/// The parts of the public listener, wired together by `app`.
pub struct PublicParts {
    /// `iss`.
    pub issuer_url: Arc<str>,
    /// Time and randomness.
    pub world: World,
    /// The in-memory view.
    pub registry: Arc<Registry>,
    /// Tokens.
    pub issuer: Arc<Issuer>,
    /// Brokered calls.
    pub broker: Arc<Broker>,
    /// Checks DPoP proofs, and remembers those that were used.
    pub dpop: Dpop,
    /// How agents may prove who they are.
    pub client_auth: ClientAuth,
    /// Whether certificates of clients can arrive here.
    pub sees_certificates: bool,
    /// In which a form must have come.
    pub form_timeout: Duration,
    /// How often the revocation list is signed, and how old it may get.
    pub revocations: Revocations,
    /// The signed revocation list, made anew when it is old or something was revoked.
    pub revocation_list: SignedLists,
}

/// The parts of the admins' listeners, wired together by `app`.
pub struct Parts {
    /// As it was loaded.
    pub config: Config,
    /// Time and randomness.
    pub world: World,
    /// The work of admins.
    pub manager: Arc<Manager>,
    /// The audit log, for logins and refusals.
    pub ledger: Ledger,
    /// Admins who come over the network.
    pub admins: Admins,
    /// Which refusals of admins are recorded.
    pub admin_refusals: Throttle,
}

/// The parts of the ops listener, wired together by `app`.
pub struct OpsParts {
    /// Whether it serves, stops, or has failed.
    pub supervisor: Supervisor,
    /// Time and randomness.
    pub world: World,
    /// The in-memory view.
    pub registry: Arc<Registry>,
    /// The audit log, to see whether it can be written.
    pub ledger: Ledger,
    /// Calls in flight.
    pub broker: Arc<Broker>,
    /// Which database it is: `sqlite` or `postgres`.
    pub engine: &'static str,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
}

impl fmt::Debug for PublicParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicParts")
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts")
    }
}

impl fmt::Debug for OpsParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpsParts")
    }
}
