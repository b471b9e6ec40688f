//! Signing keys over time: made, published, used, retired; each step recorded and durable before it counts.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::audit::Ledger;
use crate::error::{Error, Result};
use crate::keyring::{self, Algorithm, KeyRecord, KeyState, Keyring, Policy, PublicJwk, SigningKey, Step};
use crate::model::{Change, Event, EventKind, Sealed, StoredKey};
use crate::registry::{Keys, Registry};
use crate::secret::SecretBytes;
use crate::vault::{Label, OwnPurpose, Purpose, Vault};
use crate::world::World;

/// Keeps the signing keys. One change at a time.
pub struct KeyKeeper {
    policy: Policy,
    world: World,
    registry: Arc<Registry>,
    ledger: Ledger,
    vault: Arc<arc_swap::ArcSwap<Vault>>,
    stored: Mutex<Vec<StoredKey>>,
}

impl std::fmt::Debug for KeyKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyKeeper")
    }
}

/// The rows after a change, and the keys that they make.
struct Settled {
    rows: Vec<StoredKey>,
    keys: Keys,
}

impl KeyKeeper {
    /// From the rows that the registry's keys were made of.
    pub fn new(
        policy: Policy,
        world: World,
        registry: Arc<Registry>,
        ledger: Ledger,
        vault: Arc<arc_swap::ArcSwap<Vault>>,
        stored: Vec<StoredKey>,
    ) -> Self {
        Self { policy, world, registry, ledger, vault, stored: Mutex::new(stored) }
    }

    /// Does what is due by schedule; mostly nothing.
    pub async fn tick(&self) -> Result<()> {
        self.scheduled(&mut *self.stored.lock().await).await
    }

    async fn scheduled(&self, stored: &mut Vec<StoredKey>) -> Result<()> {
        if keyring::plan(&records(stored)?, self.world.now(), &self.policy).is_empty() {
            return Ok(());
        }
        let mut event = Event::new(EventKind::Broker);
        event.action = Some("key rotation by schedule".into());
        self.settle(stored, Vec::new(), vec![event], Vec::new()).await
    }

    /// Next becomes active, active retires. Says when the new key will have been published for as long as the
    /// configuration asks, in case that is not yet so.
    pub async fn rotate(&self, event: Event) -> Result<Option<i64>> {
        let mut stored = self.stored.lock().await;
        // What is due goes first: after a change of keys.algorithm, next is made anew. Otherwise a rotation in the first
        // second after a start would put a key of the old algorithm to work.
        self.scheduled(&mut stored).await?;
        let records = records(&stored)?;
        let now = self.world.now();
        let steps = keyring::rotate_now(&records, now, &self.policy);
        let ready_at = keyring::next_ready_at(&records, &self.policy).filter(|ready| *ready > now);
        self.settle(&mut stored, steps, vec![event], Vec::new()).await?;
        Ok(ready_at)
    }

    /// Emergency: a key goes at once, with every token that it signed.
    pub async fn retire(&self, kid: &str, events: Vec<Event>, revocation: Change) -> Result<()> {
        let mut stored = self.stored.lock().await;
        let steps = keyring::retire_now(&records(&stored)?, kid, &self.policy)?;
        self.settle(&mut stored, steps, events, vec![revocation]).await
    }

    /// The rows, for a rewrap; held so that no rotation comes in between.
    pub async fn rows(&self) -> tokio::sync::MutexGuard<'_, Vec<StoredKey>> {
        self.stored.lock().await
    }

    async fn settle(
        &self,
        stored: &mut Vec<StoredKey>,
        steps: Vec<Step>,
        events: Vec<Event>,
        mut changes: Vec<Change>,
    ) -> Result<()> {
        let (rows, now, policy, vault) = (stored.clone(), self.world.now(), self.policy, self.vault.load_full());
        let world = self.world.clone();
        // Making an RSA key takes a second of arithmetic.
        let settled = tokio::task::spawn_blocking(move || settle(rows, steps, now, &policy, &vault, &world)).await;
        let Settled { rows, keys } = settled.map_err(Error::internal)??;
        let changed = rows.iter().filter(|row| !stored.iter().any(|old| old.kid == row.kid && same(old, row)));
        changes.extend(changed.cloned().map(Change::PutKey));
        self.ledger.commit(events, changes).await.map_err(|error| {
            Error::unavailable("audit_unavailable", "the change cannot be recorded, so it is not made; try again later")
                .because(error)
        })?;
        self.registry.install_keys(keys);
        *stored = rows;
        Ok(())
    }
}

fn same(a: &StoredKey, b: &StoredKey) -> bool {
    a.state == b.state && a.revoked == b.revoked && a.gone_at == b.gone_at
}

/// The first keys of a new broker: one active, one next.
pub fn first_keys(policy: &Policy, vault: &Vault, world: &World) -> Result<(Vec<StoredKey>, Keys)> {
    let settled = settle(Vec::new(), Vec::new(), world.now(), policy, vault, world)?;
    Ok((settled.rows, settled.keys))
}

/// The keys that rows make.
pub fn open_keys(rows: &[StoredKey], vault: &Vault) -> Result<Keys> {
    let records = records(rows)?;
    let mut active = None;
    let mut public = Vec::new();
    for (row, record) in rows.iter().zip(&records).filter(|(_, record)| record.is_published()) {
        let jwk = if record.needs_private_half() {
            // The public half is derived from the sealed private one: a row that a writer of the database slipped in
            // has no private half that opens.
            let key = SigningKey::from_pkcs8(record.algorithm, &open(row, OwnPurpose::SigningKey, vault)?)?;
            let jwk = key.public().clone();
            if record.state == KeyState::Active {
                active = Some(Arc::new(key));
            }
            jwk
        } else {
            let json = open(row, OwnPurpose::VerifyKey, vault)?;
            let json = std::str::from_utf8(json.expose()).map_err(Error::internal)?;
            PublicJwk::parse(json)?
        };
        public.push((record.clone(), jwk));
    }
    let active = active.ok_or_else(|| Error::internal("there is no active signing key; was the database edited?"))?;
    Keys::new(Keyring::new(active, public)?, records)
}

fn open(row: &StoredKey, purpose: OwnPurpose, vault: &Vault) -> Result<SecretBytes> {
    let missing = || Error::internal(format!("signing key {} has no sealed half; was the database edited?", row.kid));
    let sealed = row.sealed.as_ref().ok_or_else(missing)?;
    Ok(vault.open(Label { purpose, id: &row.kid, version: 1 }, sealed)?)
}

fn seal(kid: &str, purpose: Purpose, value: &SecretBytes, vault: &Vault, world: &World) -> Result<Sealed> {
    let sealed = vault.seal(world.entropy.as_ref(), Label { purpose, id: kid, version: 1 }, value)?;
    Ok(sealed)
}

fn settle(
    mut rows: Vec<StoredKey>,
    steps: Vec<Step>,
    now: i64,
    policy: &Policy,
    vault: &Vault,
    world: &World,
) -> Result<Settled> {
    let before = records(&rows)?;
    let mut made = Vec::new();
    let records = keyring::settle(before, steps, now, policy, |algorithm: Algorithm| -> Result<String> {
        let (private, key) = SigningKey::generate(algorithm, world.entropy.as_ref())?;
        let sealed = seal(key.kid(), Purpose::SigningKey, &private, vault, world)?;
        made.push((key.public().clone(), sealed));
        Ok(key.kid().to_owned())
    })?;
    for (jwk, sealed) in made {
        let Some(record) = records.iter().find(|record| record.kid == jwk.kid()) else { continue };
        rows.push(row(record, jwk.to_json()?, Some(sealed)));
    }
    for record in &records {
        let Some(there) = rows.iter_mut().find(|row| row.kid == record.kid) else { continue };
        let sealed = if record.needs_private_half() {
            there.sealed.clone()
        } else if record.is_published() {
            // Retiring: the private half is destroyed now; the public one is sealed, so that nobody slips in another.
            match KeyState::Retiring.as_str() == there.state {
                true => there.sealed.clone(),
                false => {
                    let public = SecretBytes::new(there.public_jwk.clone().into_bytes());
                    Some(seal(&record.kid, Purpose::VerifyKey, &public, vault, world)?)
                }
            }
        } else {
            None
        };
        *there = row(record, there.public_jwk.clone(), sealed);
    }
    let keys = open_keys(&rows, vault)?;
    Ok(Settled { rows, keys })
}

fn row(record: &KeyRecord, public_jwk: String, sealed: Option<Sealed>) -> StoredKey {
    StoredKey {
        kid: record.kid.clone(),
        algorithm: record.algorithm.to_string(),
        state: record.state.to_string(),
        created_at: record.created_at,
        activated_at: record.activated_at,
        retiring_at: record.retiring_at,
        gone_at: record.gone_at,
        revoked: record.revoked,
        public_jwk,
        sealed,
    }
}

fn records(rows: &[StoredKey]) -> Result<Vec<KeyRecord>> {
    let record = |row: &StoredKey| {
        Ok(KeyRecord {
            kid: row.kid.clone(),
            algorithm: row.algorithm.parse().map_err(Error::internal)?,
            state: row.state.parse()?,
            created_at: row.created_at,
            activated_at: row.activated_at,
            retiring_at: row.retiring_at,
            gone_at: row.gone_at,
            revoked: row.revoked,
        })
    };
    rows.iter().map(record).collect()
}
