//! What one call takes: one credential for each placement of its upstream.

use std::sync::Arc;

use crate::audit::Recorded;
use crate::credential::leave::Leave;
use crate::credential::placement::{Draft, Place};
use crate::credential::source::{AnySource, Material, Source};
use crate::error::{Error, Result};
use crate::model::CredentialLabels;
use crate::policy::CompiledUpstream;
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::vault::Vault;
use crate::world::Millis;

/// The credentials of one call, in the order of the upstream's placements; none where it takes no secret.
#[derive(Debug)]
pub struct Chosen {
    upstream: Arc<CompiledUpstream>,
    sources: Vec<AnySource>,
}

/// A credential was revoked or removed after it was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdrawn;

impl Chosen {
    /// What each placement takes now.
    ///
    /// # Errors
    /// One of them is not stored, is revoked, or has ended.
    pub fn for_call(upstream: &Arc<CompiledUpstream>, registry: &Registry, now: Millis) -> Result<Self> {
        let choose = |placement| AnySource::choose(placement, upstream.name(), registry, now);
        let sources = upstream.placements().iter().map(choose).collect::<Result<_>>()?;
        Ok(Self { upstream: upstream.clone(), sources })
    }

    /// `name@version` of each, for the record.
    pub fn labels(&self) -> Option<CredentialLabels> {
        let mut labels: Vec<Arc<str>> = Vec::new();
        for label in self.sources.iter().map(Source::label) {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        CredentialLabels::new(labels)
    }

    /// Whether the same would be chosen now as was chosen then.
    ///
    /// # Errors
    /// See [`Self::for_call`].
    pub fn is_still(&self, registry: &Registry, now: Millis) -> Result<bool> {
        for (placement, chosen) in self.upstream.placements().iter().zip(&self.sources) {
            if !AnySource::choose(placement, self.upstream.name(), registry, now)?.is_same(chosen) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether all of them are still there for calls that began with them.
    ///
    /// # Errors
    /// One of them was revoked or removed.
    pub fn check(&self, registry: &Registry) -> Result<(), Withdrawn> {
        let withdrawn = self.sources.iter().any(|source| source.is_withdrawn(registry));
        if withdrawn { Err(Withdrawn) } else { Ok(()) }
    }

    /// Opens them, for what was recorded.
    pub fn open<T>(&self, recorded: &Recorded<T>, vault: &Vault) -> Result<Opened<'_>> {
        let leave = Leave::by(recorded);
        let materials = self.sources.iter().map(|source| source.open(&leave, vault)).collect::<Result<_>>()?;
        Ok(Opened { upstream: &self.upstream, materials })
    }
}

/// The secrets of one attempt.
pub struct Opened<'c> {
    upstream: &'c CompiledUpstream,
    materials: Vec<Material>,
}

impl std::fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened")
    }
}

impl Opened<'_> {
    /// Puts each secret where it goes: all of them, or there is no request.
    pub fn place(&self, draft: &mut Draft<'_>) -> Result<()> {
        let placements = self.upstream.placements();
        if placements.len() != self.materials.len() {
            return Err(Error::internal("a placement has no secret"));
        }
        placements.iter().zip(&self.materials).try_for_each(|(one, material)| one.form().place(&material.secret, draft))
    }

    /// All that must not come back to the agent.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretBytes> {
        self.materials.iter().flat_map(|material| std::iter::once(&material.secret).chain(&material.others))
    }
}
