//! The vault: envelope encryption, so that a stolen database is no use (P6). Bytes in, bytes out.
//!
//! ```text
//! master key → HKDF-SHA-256 → KEK → one random data key per value → AES-256-GCM
//! ```
//! A new master key rewraps data keys only: start with it as current and the old one as previous, rewrap each row,
//! then drop the old one. Nothing here notices a replay: an attacker who can write the database may put back an
//! earlier state of the same row and version, which is why versions are sealed once.

mod envelope;
mod master;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ring::hmac;
use subtle::ConstantTimeEq;

use crate::error::{Error, Result};
use crate::model::Sealed;
use crate::secret::SecretBytes;
use crate::world::Entropy;

use envelope::{DataKey, WrappedKey};
pub use envelope::{Label, OpenError, OwnPurpose, Part, Purpose};
pub use master::{MASTER_KEY_PREFIX, MasterId, MasterKey, MasterKeyError};

const AUDIT_HEAD_LABEL: &[u8] = b"hallpass audit head v1";
const QUERY_VALUES_LABEL: &[u8] = b"hallpass query values v1";

/// The leave to open credentials. `credential/` has the one type that is such a leave, and makes it of the record of what the
/// secret is opened for and nothing else (P4); `tests/it/floors.rs` fails where another room names this trait.
pub trait MayOpenCredentials {}

/// Seals under the current master key, opens under it and under the previous ones.
#[derive(Debug)]
pub struct Vault {
    current: Arc<MasterKey>,
    previous: Vec<Arc<MasterKey>>,
}

impl Vault {
    /// `previous` are the master keys that a rewrap has not got rid of yet; usually none.
    pub fn new(current: MasterKey, previous: Vec<MasterKey>) -> Self {
        Self { current: Arc::new(current), previous: previous.into_iter().map(Arc::new).collect() }
    }

    /// Seals under `new`, and still opens what `old` opened: what a rewrap makes the vault.
    pub fn sealing_with(old: &Self, new: Arc<MasterKey>) -> Self {
        let previous = std::iter::once(&old.current).chain(&old.previous).cloned().collect();
        Self { current: new, previous }
    }

    /// Seals as `old` does, and also opens what is under `new`: during a rewrap.
    pub fn also_opening(old: &Self, new: Arc<MasterKey>) -> Self {
        let previous = old.previous.iter().cloned().chain([new]).collect();
        Self { current: old.current.clone(), previous }
    }

    /// The master key that new values are sealed under.
    pub fn current_id(&self) -> MasterId {
        self.current.id()
    }

    /// Seals `plaintext` under a data key of its own, for this label and no other.
    pub fn seal<'a>(
        &self,
        entropy: &dyn Entropy,
        label: impl Into<Label<'a>>,
        plaintext: &SecretBytes,
    ) -> Result<Sealed> {
        let label = label.into();
        let key = DataKey::generate(entropy);
        let ciphertext = key.seal(entropy, &label, plaintext).map_err(|_| cannot_seal())?;
        let wrapped_key = key.wrap(entropy, &self.current, &label).map_err(|_| cannot_seal())?;
        Ok(Sealed { wrapped_key, ciphertext })
    }

    /// Opens what [`Vault::seal`] made for the same label: what the broker keeps for itself. A credential has no such label.
    pub fn open(&self, label: Label<'_, OwnPurpose>, sealed: &Sealed) -> Result<SecretBytes, OpenError> {
        self.open_any(label.into(), &sealed.wrapped_key, &sealed.ciphertext)
    }

    /// Opens one version of a credential.
    pub fn open_credential(
        &self,
        _leave: &impl MayOpenCredentials,
        id: &str,
        version: u32,
        sealed: &Sealed,
    ) -> Result<SecretBytes, OpenError> {
        let label = Label { purpose: Purpose::Credential, id, version };
        self.open_any(label, &sealed.wrapped_key, &sealed.ciphertext)
    }

    fn open_any(&self, label: Label<'_>, wrapped_key: &[u8], ciphertext: &[u8]) -> Result<SecretBytes, OpenError> {
        let wrapped = WrappedKey::parse(wrapped_key)?;
        let key = wrapped.open(self.master(wrapped.master)?, &label)?;
        key.open(&label, ciphertext)
    }

    /// The `wrapped_key` column anew, under the current master key; `None` if it is under that one already.
    ///
    /// The ciphertext is not read. Write with `WHERE wrapped_key = <the old one>`: the row may have changed meanwhile.
    pub fn rewrap<'a>(
        &self,
        entropy: &dyn Entropy,
        label: impl Into<Label<'a>>,
        sealed: &Sealed,
    ) -> Result<Option<Vec<u8>>> {
        let label = label.into();
        let wrapped = WrappedKey::parse(&sealed.wrapped_key)?;
        if wrapped.master == self.current.id() {
            return Ok(None);
        }
        let key = wrapped.open(self.master(wrapped.master)?, &label)?;
        key.wrap(entropy, &self.current, &label).map(Some).map_err(|_| cannot_seal())
    }

    fn master(&self, id: MasterId) -> Result<&MasterKey, OpenError> {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|master| master.id() == id)
            .map(Arc::as_ref)
            .ok_or(OpenError::UnknownMaster(id))
    }
}

fn cannot_seal() -> Error {
    Error::internal("AES-256-GCM refused to seal: the value is too long")
}

impl From<OpenError> for Error {
    /// Ours to mend: the caller learns only that, the log learns what to do.
    fn from(error: OpenError) -> Self {
        let code = match error {
            OpenError::Malformed => "vault_malformed",
            OpenError::UnknownMaster(_) => "vault_unknown_master",
            OpenError::Tampered { .. } => "vault_tampered",
        };
        Self { code, ..Self::internal(error) }
    }
}

/// `HMAC-SHA-256(key, "hallpass audit head v1" ‖ data)`, RFC 2104: the MAC over the audit chain's head.
///
/// The key is a random one, sealed as [`Purpose::AuditHead`], and not derived from the master key, so that old heads
/// still verify after the master key has been rotated.
pub fn head_mac(key: &SecretBytes, data: &[u8]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()));
    context.update(AUDIT_HEAD_LABEL);
    context.update(data);
    let mut mac = [0; 32];
    mac.copy_from_slice(context.sign().as_ref());
    mac
}

/// Whether `mac` is [`head_mac`] of `data`, in constant time: a wrong one does not show how much of it was right.
pub fn head_mac_verify(key: &SecretBytes, data: &[u8], mac: &[u8]) -> bool {
    head_mac(key, data).ct_eq(mac).into()
}

/// `HMAC-SHA-256(audit key, "hallpass query values v1")`: the key under which records show values of queries. No row of
/// its own, and no other use: whoever learns it learns nothing of the audit key.
pub fn query_value_key(audit_key: &SecretBytes) -> SecretBytes {
    let key = hmac::Key::new(hmac::HMAC_SHA256, audit_key.expose());
    SecretBytes::new(hmac::sign(&key, QUERY_VALUES_LABEL).as_ref().to_vec())
}

/// `HMAC-SHA-256(key, upstream ‖ 0 ‖ value)`: names of upstreams have no NUL.
pub fn query_value_mac(key: &SecretBytes, upstream: &str, value: &[u8]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()));
    context.update(upstream.as_bytes());
    context.update(&[0]);
    context.update(value);
    let mut mac = [0; 32];
    mac.copy_from_slice(context.sign().as_ref());
    mac
}
