//! The signing key of the moment and the keys that verify.

use std::sync::Arc;

use hallpass_verify::KeySet;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::keyring::{KeyRecord, Keyring};

/// One consistent state of the keys.
#[derive(Debug)]
pub struct Keys {
    keyring: Keyring,
    /// All records, gone ones too.
    records: Vec<KeyRecord>,
    verifying: KeySet,
}

impl Keys {
    /// From a keyring and all key records.
    pub fn new(keyring: Keyring, records: Vec<KeyRecord>) -> Result<Self> {
        let verifying = KeySet::from_json(keyring.jwks()).map_err(Error::internal)?;
        if !verifying.contains(keyring.active().kid()) {
            return Err(Error::internal("the active signing key is not among the keys that verify"));
        }
        Ok(Self { keyring, records, verifying })
    }

    /// Signs with the active key. See [`Keys::is_slow`].
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String> {
        self.keyring.active().sign(typ, claims)
    }

    /// Whether signing must run off the async threads (RS256).
    pub fn is_slow(&self) -> bool {
        self.keyring.active().is_slow()
    }

    /// The public keys, ready to verify.
    pub fn verifying(&self) -> &KeySet {
        &self.verifying
    }

    /// The JWKS document.
    pub fn jwks(&self) -> &Arc<str> {
        self.keyring.jwks()
    }

    /// What signs now.
    pub fn active_kid(&self) -> &str {
        self.keyring.active().kid()
    }

    /// The algorithm that signs now.
    pub fn algorithm(&self) -> &'static str {
        self.keyring.active().algorithm().as_str()
    }

    /// All records, gone ones too, oldest first.
    pub fn records(&self) -> &[KeyRecord] {
        &self.records
    }
}
