//! What an admin may do.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Admin roles, each with all that those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdminRole {
    /// Looks at everything; no secret is ever shown to anybody.
    Viewer,
    /// Stops what looks wrong: suspends agents, revokes sessions and tokens.
    Approver,
    /// Runs the broker: agents, upstreams, roles, credentials.
    Operator,
    /// Holds its keys: signing keys and the master key.
    Owner,
}

impl AdminRole {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Approver, Self::Operator, Self::Owner];

    /// Its name, as settings, answers and the audit log write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Approver => "approver",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
}

impl std::fmt::Display for AdminRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
