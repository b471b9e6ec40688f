//! `credential rewrap`: every data key under a new master key, while serving.
//!
//! First the new key is written beside the old one (`master.key.next`) and synced; then the vault opens with both and seals
//! with the new one; then all data keys are wrapped anew in one transaction; then the files change places. A kill in
//! between leaves a state that `serve` finishes: with both files there, both keys open, and the rewrap is done again.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::keyring::KeyState;
use crate::manage::{Admin, Manager, unrecorded};
use crate::model::{self, Change, Event, Sealed};
use crate::vault::{Label, MasterKey, Purpose, Vault};

/// Where the master key lies; `None` if it comes from a variable or a command, and so cannot be replaced by us.
#[derive(Debug, Clone)]
pub struct MasterKeyFiles(pub Option<PathBuf>);

impl MasterKeyFiles {
    /// The new key, during a rewrap.
    pub fn next(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".next");
        PathBuf::from(name)
    }
}

/// How everything is put under a new master key.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rewrap {
    /// The new master key, where it does not come from a file; otherwise it is made here.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub master_key: Option<Zeroizing<String>>,
}

/// Everything is under a new master key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Rewrapped {
    /// The new key's id.
    pub master_key: String,
    /// The old key's id.
    pub old_master_key: String,
    /// How many data keys there are.
    pub rewrapped: u64,
    /// Where the new key lies; null where it does not come from a file.
    pub file: Option<String>,
}

/// Puts everything under a new master key, while serving.
///
/// # Errors
/// The key is bad, is the one that is in use, or comes from elsewhere than it should; nothing can be recorded.
pub async fn rewrap(admin: Admin, input: Rewrap) -> Result<Rewrapped> {
    let worker = admin.manager.clone();
    let event = admin.event("credential rewrap", "master key");
    // A task of its own: an admin who hangs up must not leave it half done.
    let done = tokio::spawn(async move { do_rewrap(&worker, event, input.master_key).await }).await;
    done.map_err(Error::internal).and_then(|done| done)
}

async fn do_rewrap(manager: &Manager, event: Event, given: Option<Zeroizing<String>>) -> Result<Rewrapped> {
    let _turn = manager.one_at_a_time.lock().await;
    let (new, file) = match (given, &manager.master_key_files.0) {
        (Some(text), None) => {
            (MasterKey::parse(&text).map_err(|error| Error::invalid("bad_master_key", error.to_string()))?, None)
        }
        (None, Some(path)) => (next_master_key(path, manager)?, Some(path.clone())),
        (Some(_), Some(_)) => {
            return Err(Error::invalid(
                "master_key_is_a_file",
                "the master key is a file, and the new one is made by Hallpass; leave it out",
            ));
        }
        (None, None) => {
            return Err(Error::invalid(
                "master_key_missing",
                "the master key does not come from a file; give the new one with --new-key-file",
            ));
        }
    };
    let old = manager.vault.load_full();
    if new.id() == old.current_id() {
        return Err(Error::conflict("same_master_key", "this is the master key already"));
    }
    let new = Arc::new(new);
    // Until everything is under the new key, new values are sealed under the old one: a rewrap that fails has changed
    // nothing, and a commit that went through although its answer was lost opens all the same.
    manager.vault.store(Arc::new(Vault::also_opening(&old, new.clone())));
    let vault = Arc::new(Vault::sealing_with(&old, new));
    let count = rewrap_everything(manager, &vault, event).await?;
    manager.vault.store(vault);
    if let Some(path) = &file {
        swap_files(path, &old.current_id().to_string())?;
    }
    Ok(Rewrapped {
        master_key: manager.vault.load().current_id().to_string(),
        old_master_key: old.current_id().to_string(),
        rewrapped: count,
        file: file.map(|path| path.display().to_string()),
    })
}

/// The new key, synced to its place beside the old one before anything is sealed with it.
fn next_master_key(path: &Path, manager: &Manager) -> Result<MasterKey> {
    let next = MasterKeyFiles::next(path);
    if next.exists() {
        let text = std::fs::read_to_string(&next).map(Zeroizing::new).map_err(Error::internal)?;
        return MasterKey::parse(&text).map_err(Error::internal);
    }
    let key = MasterKey::generate(manager.world.entropy.as_ref()).map_err(Error::internal)?;
    let mut text = key.to_text();
    text.push('\n');
    write_whole(&next, &text).map_err(|error| {
        Error::unavailable("master_key_file", "the new master key cannot be written beside the old one").because(error)
    })?;
    Ok(key)
}

/// Writes a file under another name and then gives it its own: a kill midway leaves no half of a key, at which the next
/// start would stop (P9).
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut half = path.as_os_str().to_owned();
    half.push(".half");
    let half = PathBuf::from(half);
    if half.exists() {
        // From a kill at that moment; nothing was ever sealed with it.
        std::fs::remove_file(&half)?;
    }
    write_private(&half, text)?;
    std::fs::rename(&half, path)?;
    path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

/// Writes a file that only we may read, and makes sure that it is on disk.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The old key is kept under its own name: backups from before need it.
fn swap_files(path: &Path, old_id: &str) -> Result<()> {
    let mut kept = path.as_os_str().to_owned();
    kept.push(format!(".old-{old_id}"));
    let swap = || -> std::io::Result<()> {
        if path.exists() {
            std::fs::rename(path, &kept)?;
        }
        std::fs::rename(MasterKeyFiles::next(path), path)?;
        path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
    };
    swap().map_err(|error| {
        Error::internal(format!("everything is under the new master key, but the files could not be renamed: {error}"))
    })
}

/// Finishes a rewrap that was interrupted, at start.
pub async fn finish_rewrap(manager: &Manager, path: &Path, old_id: &str) -> Result<u64> {
    let mut event = Event::new(model::EventKind::Broker);
    event.action = Some("finished an interrupted rewrap".into());
    let vault = manager.vault.load_full();
    let count = rewrap_everything(manager, &vault, event).await?;
    swap_files(path, old_id)?;
    Ok(count)
}

async fn rewrap_everything(manager: &Manager, vault: &Vault, event: Event) -> Result<u64> {
    let entropy = manager.world.entropy.as_ref();
    let again =
        |purpose, id: &str, version, sealed: &Sealed| vault.rewrap(entropy, Label { purpose, id, version }, sealed);
    let mut all = Vec::new();
    for credential in manager.registry.credentials() {
        for one in &credential.versions {
            if let Some(wrapped_key) = again(Purpose::Credential, &credential.id, one.version, &one.sealed)? {
                all.push(model::Rewrapped::Credential { id: credential.id.clone(), version: one.version, wrapped_key });
            }
        }
    }
    let mut rows = manager.keys.rows().await;
    let mut rewrapped_rows = rows.clone();
    for row in &mut rewrapped_rows {
        let Some(sealed) = &mut row.sealed else { continue };
        let retiring = row.state == KeyState::Retiring.as_str();
        let purpose = if retiring { Purpose::VerifyKey } else { Purpose::SigningKey };
        if let Some(wrapped_key) = again(purpose, &row.kid, 1, sealed)? {
            sealed.wrapped_key.clone_from(&wrapped_key);
            all.push(model::Rewrapped::Key { kid: row.kid.clone(), wrapped_key });
        }
    }
    let secrets = manager.store.broker_secrets().await.map_err(|error| {
        Error::unavailable("database_unavailable", "the database does not answer; try again").because(error)
    })?;
    for (id, sealed) in &secrets {
        let purpose = crate::issue::broker_secret_purpose(id)?.into();
        if let Some(wrapped_key) = again(purpose, id, 1, sealed)? {
            all.push(model::Rewrapped::Broker { id: id.clone(), wrapped_key });
        }
    }
    let count = all.len() as u64;
    manager.ledger.commit(vec![event], vec![Change::Rewrap(all)]).await.map_err(unrecorded)?;
    *rows = rewrapped_rows;
    Ok(count)
}
