//! Changes: everything that the broker writes besides audit records. A change is committed in one transaction with
//! the record that tells of it, and then shown to the registry: nothing is changed unrecorded, nothing recorded undone.

use std::sync::Arc;

use hallpass_verify::SpentProof;

use crate::model::{Agent, Credential, CredentialVersion, DefinitionKind, Revocation, Sealed, Session, StoredSecret};
use crate::world::Millis;

/// A signing key as it is stored.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// `ES256`, `EdDSA`, `RS256`.
    pub algorithm: String,
    /// `next`, `active`, `retiring`, `gone`.
    pub state: String,
    /// When it was made.
    pub created_at: Millis,
    /// When it began to sign.
    pub activated_at: Option<Millis>,
    /// When it stopped to sign.
    pub retiring_at: Option<Millis>,
    /// When its last token is dead.
    pub gone_at: Option<Millis>,
    /// Taken back at once.
    pub revoked: bool,
    /// The public half.
    pub public_jwk: String,
    /// The private half, sealed; destroyed when the key retires.
    pub sealed: Option<Sealed>,
}

/// One change.
#[derive(Debug, Clone)]
pub enum Change {
    /// A new agent, or a new status or roles of one that is there (its secrets are not touched).
    PutAgent(Arc<Agent>),
    /// An agent is no more, with its secrets. What revokes its tokens stays.
    RemoveAgent {
        /// Which.
        id: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// Another client secret; the one before it ends at `others_end`, and those before that one at once: at most two
    /// are valid.
    AddSecret {
        /// Whose.
        agent_id: Arc<str>,
        /// The new one.
        secret: StoredSecret,
        /// When the others end.
        others_end: Millis,
    },
    /// A new or changed definition; `body` is its JSON.
    PutDefinition {
        /// Of what.
        kind: DefinitionKind,
        /// Its name.
        name: String,
        /// Its JSON.
        body: String,
    },
    /// A definition is no more.
    RemoveDefinition {
        /// Of what.
        kind: DefinitionKind,
        /// Its name.
        name: String,
    },
    /// A new credential (with its versions), or a changed flag of one that is there.
    PutCredential(Arc<Credential>),
    /// Another version of a credential; those before it end at `others_end`.
    AddCredentialVersion {
        /// Of which.
        credential_id: Arc<str>,
        /// The new one.
        version: CredentialVersion,
        /// When the others end, unless they end before.
        others_end: Millis,
    },
    /// A credential and all its versions are no more.
    RemoveCredential {
        /// Which.
        id: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// A new signing key or a new state of one.
    PutKey(StoredKey),
    /// A new broker secret (client-secret HMAC, audit head).
    PutBrokerSecret {
        /// Which.
        id: String,
        /// Sealed.
        sealed: Sealed,
    },
    /// Data keys wrapped anew under another master key; the values are not touched.
    Rewrap(Vec<Rewrapped>),
    /// A new session.
    PutSession(Arc<Session>),
    /// A session was revoked.
    EndSession {
        /// Which.
        id: Arc<str>,
        /// When.
        at: Millis,
    },
    /// Something was revoked.
    PutRevocation(Revocation),
    /// From now on used assertions are kept, if that was not said before.
    KeepAssertions {
        /// Now.
        since: Millis,
    },
    /// What cannot matter any more is forgotten: revocations, ended sessions and assertions, expired secrets and versions.
    Prune {
        /// Everything that ended before this.
        before: Millis,
    },
}

/// A client assertion that was used (RFC 7523 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedAssertion {
    /// Half a SHA-256 of client and `jti`.
    pub digest: [u8; 16],
    /// Whose.
    pub agent_id: Arc<str>,
    /// Its end; after that it is good for nothing anyway.
    pub expires_at: Millis,
}

/// A DPoP proof that was used (RFC 9449 §11.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedProof {
    /// Half a SHA-256 of key and `jti`.
    pub digest: [u8; 16],
    /// Its end; after that it is good for nothing anyway.
    pub expires_at: Millis,
}

impl From<SpentProof> for UsedProof {
    fn from(spent: SpentProof) -> Self {
        Self { digest: spent.digest, expires_at: spent.ends.saturating_mul(1000) }
    }
}

/// What may be used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnceOnly {
    /// A client assertion.
    Assertion,
    /// A DPoP proof.
    Proof,
}

impl OnceOnly {
    /// All of them, in the order in which their rows are taken.
    pub const ALL: [Self; 2] = [Self::Assertion, Self::Proof];
}

/// A condition of a commit: it is tried in the same transaction, before everything else. What it stands for is not done,
/// nor recorded, where it does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// This client assertion was not used before; now it is.
    Assertion(Arc<UsedAssertion>),
    /// This DPoP proof was not used before; now it is.
    Proof(UsedProof),
}

impl Guard {
    /// By this they are sorted, so that the commits of two nodes take their rows in the same order and cannot wait for each
    /// other in a circle.
    pub fn key(&self) -> (OnceOnly, [u8; 16]) {
        match self {
            Self::Assertion(used) => (OnceOnly::Assertion, used.digest),
            Self::Proof(used) => (OnceOnly::Proof, used.digest),
        }
    }
}

/// One data key, wrapped anew.
#[derive(Debug, Clone)]
pub enum Rewrapped {
    /// Of a credential's version.
    Credential {
        /// Which.
        id: Arc<str>,
        /// Its version.
        version: u32,
        /// The new wrapping.
        wrapped_key: Vec<u8>,
    },
    /// Of a signing key.
    Key {
        /// Which.
        kid: String,
        /// The new wrapping.
        wrapped_key: Vec<u8>,
    },
    /// Of a broker secret.
    Broker {
        /// Which.
        id: String,
        /// The new wrapping.
        wrapped_key: Vec<u8>,
    },
}
