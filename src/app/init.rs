//! `hallpass init`: a broker's files, made once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::master_key::new_broker_secret;
use crate::app::settings::{key_policy, ledger_settings};
use crate::app::{open_store, open_vault, startup};
use crate::audit::{HEAD_SECRET, Ledger, pack_old_records};
use crate::config::{Config, MasterKey as MasterKeySource};
use crate::error::{Error, Result};
use crate::issue::{CLIENT_SECRET_KEY, DPOP_NONCE_KEY, first_keys};
use crate::manage::write_private;
use crate::model::{Change, Event, EventKind, Head};
use crate::registry::Registry;
use crate::store::{Access, Everything, Store};
use crate::supervise::Supervisor;
use crate::vault::{MasterKey, Vault};
use crate::world::World;

/// Makes a broker's files: master key, database with its first keys, configuration. Overwrites nothing.
pub async fn init(dir: &Path, database_url: Option<&str>) -> Result<PathBuf> {
    init_within(dir, database_url, std::iter::empty()).await
}

/// [`init`] where the environment counts, as it will for `serve`: a database that it names is the one that is made.
pub async fn init_within(
    dir: &Path,
    database_url: Option<&str>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<PathBuf> {
    let config_file = dir.join("hallpass.toml");
    let key_file = dir.join("keys").join("master.key");
    let database_file = dir.join("data").join("hallpass.db");
    for path in [&config_file, &key_file, &database_file] {
        if path.exists() {
            return Err(Error::conflict(
                "already_initialised",
                format!("{} is there already, and nothing is overwritten; give another --dir", path.display()),
            ));
        }
    }
    for folder in [dir.to_owned(), dir.join("keys"), dir.join("data")] {
        private_folder(&folder).map_err(|error| cannot_write(&folder, &error))?;
    }
    let made = make_files(&config_file, database_url, environment).await;
    if made.is_err() {
        // None of them was there before. Half a broker would only stand in the way of the next attempt.
        for path in [&config_file, &key_file, &database_file] {
            if let Err(error) = std::fs::remove_file(path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "what a failed init had made could not be removed");
            }
        }
    }
    made.map(|()| config_file)
}

async fn make_files(
    config_file: &Path,
    database_url: Option<&str>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<()> {
    write_private(config_file, &crate::config::template(database_url))
        .map_err(|error| cannot_write(config_file, &error))?;
    // The configuration that was written is the one that is used, so that its mistakes show now.
    let config = crate::config::load(Some(config_file), environment, crate::config::Overrides::default())
        .map_err(|mistakes| Error::invalid("config_invalid", lines(&mistakes)))?;

    let world = World::system();
    if let MasterKeySource::File(path) = &config.vault.master_key {
        let mut text = MasterKey::generate(world.entropy.as_ref()).map_err(Error::internal)?.to_text();
        text.push('\n');
        write_private(path, &text).map_err(|error| cannot_write(path, &error))?;
    }
    // Where the environment names a variable or a command, the key is there already, and `serve` will use that one.
    let (vault, _, _) = open_vault(&config)?;
    let store = open_store(&config, Access::Create).await?;
    let lock = store.lock().await.map_err(startup)?;
    store.migrate().await.map_err(startup)?;
    pack_old_records(&store).await.map_err(startup)?;
    let outcome = first_records(&config, &store, vault, world).await;
    store.close().await;
    drop(lock);
    outcome
}

async fn first_records(config: &Config, store: &Store, vault: Vault, world: World) -> Result<()> {
    if !store.broker_secrets().await.map_err(startup)?.is_empty() {
        return Err(Error::conflict(
            "already_initialised",
            "the database belongs to a broker already; give an empty one",
        ));
    }
    let policy = key_policy(config);
    let (rows, keys) = first_keys(&policy, &vault, &world)?;
    let mut changes: Vec<Change> = rows.into_iter().map(Change::PutKey).collect();
    for id in [CLIENT_SECRET_KEY, DPOP_NONCE_KEY] {
        changes.push(new_broker_secret(id, &vault, &world)?.1);
    }
    let (mac_key, put_mac_key) = new_broker_secret(HEAD_SECRET, &vault, &world)?;
    changes.push(put_mac_key);
    let registry = Arc::new(Registry::new(Everything::default(), keys)?);
    let settings = ledger_settings(config, &config.issuer_for(config.listen.public));
    let ledger = Ledger::start(settings, store.clone(), registry, world, Head::EMPTY, mac_key, &Supervisor::new());
    let mut event = Event::new(EventKind::Broker);
    event.action = Some("init".into());
    let outcome = ledger.commit(vec![event], changes).await;
    ledger.close().await;
    outcome.map_err(Error::internal)
}

fn private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    Error::unavailable("cannot_write", format!("{} cannot be written: {error}", path.display()))
}

fn lines(mistakes: &[crate::config::Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
