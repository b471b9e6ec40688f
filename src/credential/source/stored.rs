//! A secret that an admin put into the vault.

use std::sync::Arc;

use crate::credential::source::{Material, Source};
use crate::error::{Error, Result};
use crate::model::{Credential, CredentialVersion};
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::vault::{MayOpenCredentials, Vault};
use crate::world::Millis;

/// A credential, and the version of it that is put in.
#[derive(Debug)]
pub(in crate::credential) struct Stored {
    credential: Arc<Credential>,
    version: u32,
    /// When it was chosen: what was good then may be echoed, whatever has ended since.
    at: Millis,
}

impl Stored {
    /// The newest version that is good, or the pinned one while it is good: a pin never falls back to another version.
    pub(in crate::credential) fn choose(
        credential: Option<Arc<Credential>>,
        pinned: Option<u32>,
        upstream: &str,
        now: Millis,
    ) -> Result<Self> {
        let credential = credential.ok_or_else(|| {
            let text = format!("the operator has not stored the credential of upstream '{upstream}' yet");
            Error::unavailable("credential_missing", text)
        })?;
        if credential.revoked_at.is_some() {
            return Err(Error::forbidden("credential_revoked", "the credential of this upstream was revoked"));
        }
        let chosen = |one: &CredentialVersion| pinned.is_none_or(|pinned| one.version == pinned);
        let newest = credential.usable(now).filter(|one| chosen(one)).last().map(|one| one.version);
        let version = newest.ok_or_else(|| {
            Error::unavailable("credential_expired", "the credential version of this upstream is no longer usable")
        })?;
        Ok(Self { credential, version, at: now })
    }

    fn open_one(&self, leave: &impl MayOpenCredentials, vault: &Vault, one: &CredentialVersion) -> Result<SecretBytes> {
        Ok(vault.open_credential(leave, &self.credential.id, one.version, &one.sealed)?)
    }
}

impl Source for Stored {
    fn label(&self) -> Arc<str> {
        format!("{}@{}", self.credential.name, self.version).into()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.version == other.version && self.credential.id == other.credential.id
    }

    fn is_withdrawn(&self, registry: &Registry) -> bool {
        // Removed and put again under its name it is another credential.
        let now = registry.credential(&self.credential.name);
        now.is_none_or(|now| now.id != self.credential.id || now.revoked_at.is_some())
    }

    fn open(&self, leave: &impl MayOpenCredentials, vault: &Vault) -> Result<Material> {
        let (mut secret, mut others) = (None, Vec::new());
        for one in self.credential.usable(self.at) {
            let opened = self.open_one(leave, vault, one)?;
            match one.version == self.version {
                true => secret = Some(opened),
                false => others.push(opened),
            }
        }
        let secret = secret.ok_or_else(|| Error::internal("the version is gone"))?;
        Ok(Material { secret, others })
    }
}

#[cfg(test)]
mod tests;
