//! The keyring: token signing keys, from `next` to `gone`. Pure: the caller stores, seals and tells the time.
//!
//! ```text
//! next (published, not used) → active (signs) → retiring (published until its last token is dead) → gone
//! ```
//! [`plan`] says what to do and [`settle`] does it to the records; the private halves come sealed from the vault.

mod jwks;
mod schedule;
mod signing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::world::Millis;

pub use jwks::PublicJwk;
pub use schedule::{Policy, Step, next_ready_at, plan, retire_now, rotate_now, settle};
pub use signing::{Algorithm, SigningKey, UnknownAlgorithm};

/// Where in its life a signing key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, not used yet, so that every verifier knows it before its first token.
    Next,
    /// Signs. There is exactly one.
    Active,
    /// Signs no more, but is published until its last token is dead. The private half is destroyed already.
    Retiring,
    /// Not published; its tokens are refused.
    Gone,
}

impl KeyState {
    /// Its text in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Next, Self::Active, Self::Retiring, Self::Gone]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::internal("a signing key has an unknown state; did a newer Hallpass write it?"))
    }
}

/// What is known of a signing key besides the key itself. Times are unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyRecord {
    /// Its name: the public key's thumbprint.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// Where in its life it is.
    pub state: KeyState,
    /// When it was made and first published.
    pub created_at: Millis,
    /// When it began to sign.
    pub activated_at: Option<Millis>,
    /// When it ceased to sign.
    pub retiring_at: Option<Millis>,
    /// When it will leave, or has left, the JWKS.
    pub gone_at: Option<Millis>,
    /// Whether it was thrown out before its time: all its tokens are dead at once.
    pub revoked: bool,
}

impl KeyRecord {
    /// A new key, [`KeyState::Next`].
    pub fn new(kid: impl Into<String>, algorithm: Algorithm, now: Millis) -> Self {
        Self {
            kid: kid.into(),
            algorithm,
            state: KeyState::Next,
            created_at: now,
            activated_at: None,
            retiring_at: None,
            gone_at: None,
            revoked: false,
        }
    }

    /// Whether it belongs in the JWKS, so that its tokens verify.
    pub fn is_published(&self) -> bool {
        self.state != KeyState::Gone && !self.revoked
    }

    /// Whether the private half must still exist; the store deletes it as soon as this is false.
    pub fn needs_private_half(&self) -> bool {
        matches!(self.state, KeyState::Next | KeyState::Active) && !self.revoked
    }
}

/// The signing key of the moment and the public keys that verify, as one consistent view. Made anew on each change.
#[derive(Debug)]
pub struct Keyring {
    active: Arc<SigningKey>,
    records: Vec<KeyRecord>,
    jwks: Arc<str>,
}

impl Keyring {
    /// From all keys on record (those that are gone may be left out) and the active one's private half.
    ///
    /// Refuses what does not fit together: a broker that signs with a key that it does not publish issues tokens that
    /// nobody accepts.
    pub fn new(active: Arc<SigningKey>, mut keys: Vec<(KeyRecord, PublicJwk)>) -> Result<Self> {
        keys.retain(|(record, _)| record.is_published());
        if keys.iter().any(|(record, jwk)| record.kid != jwk.kid() || record.algorithm != jwk.algorithm()) {
            return Err(Error::internal("a signing key's record and its public half do not belong together"));
        }
        let mut actives = keys.iter().filter(|(record, _)| record.state == KeyState::Active);
        match (actives.next(), actives.next()) {
            (Some((_, jwk)), None) if jwk == active.public() => {}
            (Some(_), None) => return Err(Error::internal("the private signing key is not that of the active record")),
            _ => return Err(Error::internal("there must be exactly one active signing key; run `hallpass key list`")),
        }
        // A fixed order gives the same text, and the same ETag, on every node.
        keys.sort_by(|(a, _), (b, _)| (a.created_at, &a.kid).cmp(&(b.created_at, &b.kid)));
        let jwks = jwks::to_jwks(keys.iter().map(|(_, jwk)| jwk))?.into();
        Ok(Self { active, records: keys.into_iter().map(|(record, _)| record).collect(), jwks })
    }

    /// The key that signs.
    pub fn active(&self) -> &Arc<SigningKey> {
        &self.active
    }

    /// The published keys as a JWK set (RFC 7517 §5): next, active and retiring, none that was revoked.
    pub fn jwks(&self) -> &Arc<str> {
        &self.jwks
    }

    /// The published keys' records, oldest first.
    pub fn records(&self) -> &[KeyRecord] {
        &self.records
    }
}
