//! Credentials: the upstream secrets in the vault, as they lie there.

use std::sync::Arc;

use crate::world::Millis;

/// A sealed value, as its two columns hold it. Without the master key it tells nothing but the value's length. The vault makes
/// and opens it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The value's data key, under a master key; all that a rewrap touches.
    pub wrapped_key: Vec<u8>,
    /// The value, under its data key.
    pub ciphertext: Vec<u8>,
}

/// One version of a credential.
#[derive(Debug, Clone)]
pub struct CredentialVersion {
    /// Counts from 1.
    pub version: u32,
    /// Sealed.
    pub sealed: Sealed,
    /// When it was put.
    pub created_at: Millis,
    /// When it stops to be usable; the newest has no end.
    pub expires_at: Option<Millis>,
}

/// A vault entry with its versions.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Opaque, `cr_…`: associated data of the envelope.
    pub id: Arc<str>,
    /// What upstreams call it by.
    pub name: Arc<str>,
    /// An admin accepted that it is too short to be redacted.
    pub allow_short: bool,
    /// When it was first put.
    pub created_at: Millis,
    /// When it was revoked: kept, and never used again.
    pub revoked_at: Option<Millis>,
    /// In order, newest last.
    pub versions: Vec<CredentialVersion>,
}

impl Credential {
    /// The newest version.
    pub fn current(&self) -> Option<&CredentialVersion> {
        self.versions.last()
    }

    /// The versions that are good at `now`, oldest first.
    pub fn usable(&self, now: Millis) -> impl Iterator<Item = &CredentialVersion> {
        self.versions.iter().filter(move |version| version.expires_at.is_none_or(|end| now < end))
    }
}
