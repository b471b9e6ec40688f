//! What an admin does: one file per noun, each with its inputs, its outputs and the functions that do the work.
//!
//! The admin API, the command line and the OpenAPI document all use these types. Nothing here knows HTTP.

pub mod agents;
pub mod apply;
pub mod audit;
pub mod certificates;
mod changed;
pub mod credentials;
pub mod definitions;
pub mod held;
pub mod keys;
pub mod login;
mod once;
pub mod rewrap;
pub mod sessions;
pub mod status;
pub mod tokens;
pub mod upstreams;
mod value;

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::audit::{Ledger, LedgerError};
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::issue::{Actor, Issuer, KeyKeeper};
use crate::model::{Agent, Event, EventKind, Origin};
use crate::policy::Mistake;
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::store::Store;
use crate::vault::Vault;
use crate::world::World;

pub use held::Held;
pub use rewrap::{MasterKeyFiles, finish_rewrap, write_private};

/// What the work of admins takes, wired together by `app`.
pub struct Manager {
    /// `iss`.
    pub issuer_url: Arc<str>,
    /// This node's name in the audit log.
    pub node: String,
    /// For how many seconds an old client secret stays valid, unless an admin says otherwise.
    pub secret_grace_seconds: i64,
    /// Time and randomness.
    pub world: World,
    /// The in-memory view.
    pub registry: Arc<Registry>,
    /// The audit log, and the only way to change anything.
    pub ledger: Ledger,
    /// The database, for what is not in memory.
    pub store: Store,
    /// Opens and seals.
    pub vault: Arc<ArcSwap<Vault>>,
    /// Tokens, sessions and certificates.
    pub issuer: Arc<Issuer>,
    /// Signing keys.
    pub keys: Arc<KeyKeeper>,
    /// Tests upstreams.
    pub broker: Arc<Broker>,
    /// HMAC key of client secrets.
    pub client_secret_key: SecretBytes,
    /// New secrets that are not in force until they were shown.
    pub held: Held,
    /// Where the master key lies.
    pub master_key_files: MasterKeyFiles,
    /// Changes come one after the other: each checks what is there before it changes it.
    pub one_at_a_time: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Manager")
    }
}

/// An admin at work: who it is, which request it is, and what the work takes. Whoever makes one has checked that this
/// admin may do what is asked.
#[derive(Debug, Clone)]
pub struct Admin {
    manager: Arc<Manager>,
    name: Arc<str>,
    origin: Origin,
}

impl Admin {
    /// `name`: as the audit log names the admin. `origin`: which request it is, and from where.
    pub fn new(manager: Arc<Manager>, name: Arc<str>, origin: Origin) -> Self {
        Self { manager, name, origin }
    }

    /// The request's id.
    pub fn request(&self) -> &Arc<str> {
        &self.origin.request
    }

    /// The record of what was done, on what.
    pub fn event(&self, action: &str, object: &str) -> Event {
        let mut event = Event::new(EventKind::Admin);
        event.admin = Some(self.name.clone());
        event.action = Some(action.into());
        event.object = Some(object.into());
        event.came_by(&self.origin);
        event
    }

    fn event_of(&self, action: &str, agent: &Agent) -> Event {
        let mut event = self.event(action, &agent.name);
        event.agent = Some(agent.id.clone());
        event.agent_name = Some(agent.name.clone());
        event
    }

    /// For revocations.
    fn actor(&self, reason: Option<String>) -> Actor {
        Actor { admin: Some(self.name.clone()), origin: self.origin.clone(), reason: reason.unwrap_or_default() }
    }
}

/// Why something was not done.
#[derive(Debug)]
pub struct Refused {
    /// The reason.
    pub error: Error,
    /// What programs need to know beside it.
    pub details: Details,
}

/// What a refusal says besides its code and its sentence.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Details {
    /// All that is wrong in a document. Not there if none was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
    /// With the code `credential_in_use`: the names of the upstreams that take the credential. Else not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, details: Details::default() }
    }
}

/// Why something is taken back.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// In the admin's words, for the audit log: at most 200 characters and no control characters.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Reason {
    fn checked(self) -> Result<Option<String>> {
        if let Some(reason) = &self.reason {
            crate::model::check_label("reason", reason).map_err(|problem| Error::invalid("bad_reason", problem))?;
        }
        Ok(self.reason)
    }
}

/// A thing that is no more.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Removed {
    /// Its name.
    pub name: String,
    /// Always true.
    pub removed: bool,
}

/// Why a change could not be recorded; it was not made.
pub fn unrecorded(error: LedgerError) -> Error {
    match &error {
        LedgerError::Refused(_) => Error::conflict("conflict", "the change contradicts what is there"),
        _ => {
            Error::unavailable("audit_unavailable", "the change cannot be recorded, so it is not made; try again later")
        }
    }
    .because(error)
}
