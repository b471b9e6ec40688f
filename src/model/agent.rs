//! Agents: the OAuth clients of the broker.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::Identity;
use crate::world::Millis;

/// Whether an agent may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// It may.
    Active,
    /// It may not, until it is resumed.
    Suspended,
    /// It never may again.
    Revoked,
}

impl AgentStatus {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        }
    }

    /// From what is stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Suspended, Self::Revoked].into_iter().find(|status| status.as_str() == text)
    }
}

/// HMAC of a client secret, and until when it is good.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredSecret {
    /// HMAC-SHA-256 of the client id and the secret, under the broker's key.
    pub digest: [u8; 32],
    /// When it was made.
    pub created_at: Millis,
    /// When it stops to be valid; the newest has no end.
    pub expires_at: Option<Millis>,
}

impl std::fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredSecret").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// An agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its client id: opaque, `ag_…`.
    pub id: Arc<str>,
    /// What people call it.
    pub name: Arc<str>,
    /// Whether it may act.
    pub status: AgentStatus,
    /// The roles that give it its scopes.
    pub roles: Vec<String>,
    /// Its client secrets, newest last.
    pub secrets: Vec<StoredSecret>,
    /// What else it may prove itself with.
    pub identity: Identity,
    /// When it was registered.
    pub created_at: Millis,
}
