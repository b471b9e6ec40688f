//! Sources: where a secret comes from. What a source derives for later use (an access token) it derives in an act of its own,
//! with records of its own; to give material that is at hand takes no waiting, so a call has no boxed future here.

mod stored;

use std::sync::Arc;

use crate::error::Result;
use crate::policy::CompiledPlacement;
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::vault::{MayOpenCredentials, Vault};
use crate::world::Millis;

pub(super) use stored::Stored;

/// What a source gives.
pub(super) struct Material {
    /// What goes into the request.
    pub(super) secret: SecretBytes,
    /// What the upstream may still know and repeat, and the agent must not see: versions that have not ended.
    pub(super) others: Vec<SecretBytes>,
}

/// Gives the material of one credential.
pub(super) trait Source {
    /// `name@version`, for records.
    fn label(&self) -> Arc<str>;

    /// Whether this is what would be chosen as well where `other` was.
    fn is_same(&self, other: &Self) -> bool;

    /// Whether an admin has taken it away: revoked or removed.
    fn is_withdrawn(&self, registry: &Registry) -> bool;

    /// Opens it.
    fn open(&self, leave: &impl MayOpenCredentials, vault: &Vault) -> Result<Material>;
}

/// One of the sources.
#[derive(Debug)]
pub(super) enum AnySource {
    /// In the vault.
    Stored(Stored),
}

impl AnySource {
    /// What a placement takes now; `upstream`: whose it is, for whoever reads the error.
    pub(super) fn choose(
        placement: &CompiledPlacement,
        upstream: &str,
        registry: &Registry,
        now: Millis,
    ) -> Result<Self> {
        let credential = registry.credential(placement.credential());
        Stored::choose(credential, placement.version(), upstream, now).map(Self::Stored)
    }
}

impl Source for AnySource {
    fn label(&self) -> Arc<str> {
        match self {
            Self::Stored(stored) => stored.label(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Stored(one), Self::Stored(other)) => one.is_same(other),
        }
    }

    fn is_withdrawn(&self, registry: &Registry) -> bool {
        match self {
            Self::Stored(stored) => stored.is_withdrawn(registry),
        }
    }

    fn open(&self, leave: &impl MayOpenCredentials, vault: &Vault) -> Result<Material> {
        match self {
            Self::Stored(stored) => stored.open(leave, vault),
        }
    }
}
