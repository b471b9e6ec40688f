//! Where the master key comes from, and what opens with it.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::{Config, MasterKey as MasterKeySource};
use crate::error::{Error, Result};
use crate::issue::{Authority, CLIENT_CA, broker_secret_purpose};
use crate::manage::MasterKeyFiles;
use crate::model::{Change, Sealed};
use crate::secret::SecretBytes;
use crate::store::Everything;
use crate::vault::{Label, MasterKey, Vault};
use crate::world::World;

/// Where the new master key belongs, and the id of the old one.
pub type UnfinishedRewrap = (PathBuf, String);

/// The vault with the master key that the configuration names; and, if a rewrap was interrupted, what to finish.
pub fn open_vault(config: &Config) -> Result<(Vault, MasterKeyFiles, Option<UnfinishedRewrap>)> {
    let mut previous = Vec::new();
    if let Some(path) = &config.vault.previous_master_key_file {
        previous.push(read_master_key(path)?);
    }
    match &config.vault.master_key {
        MasterKeySource::File(path) => {
            let next = MasterKeyFiles::next(path);
            let files = MasterKeyFiles(Some(path.clone()));
            if !next.exists() {
                return Ok((Vault::new(read_master_key(path)?, previous), files, None));
            }
            let mut old_id = "unknown".to_owned();
            if path.exists() {
                let old = read_master_key(path)?;
                old_id = old.id().to_string();
                previous.push(old);
            }
            Ok((Vault::new(read_master_key(&next)?, previous), files, Some((path.clone(), old_id))))
        }
        MasterKeySource::Variable(name) => {
            let text = std::env::var(name).map(Zeroizing::new).map_err(|_| {
                Error::unavailable("master_key", format!("the variable {name} (vault.master_key_env) is not set"))
            })?;
            Ok((Vault::new(parse_master_key(&text, name)?, previous), MasterKeyFiles(None), None))
        }
        MasterKeySource::Command(command) => {
            let failed = |why: String| {
                Error::unavailable("master_key", format!("vault.master_key_command '{}' {why}", command.program))
            };
            let output = std::process::Command::new(&command.program)
                .args(&command.arguments)
                .stderr(std::process::Stdio::inherit())
                .output()
                .map_err(|error| failed(format!("cannot be run: {error}")))?;
            if !output.status.success() {
                return Err(failed(format!("failed with {}", output.status)));
            }
            let text =
                String::from_utf8(output.stdout).map(Zeroizing::new).map_err(|_| failed("printed no text".into()))?;
            Ok((Vault::new(parse_master_key(&text, &command.program)?, previous), MasterKeyFiles(None), None))
        }
    }
}

fn read_master_key(path: &Path) -> Result<MasterKey> {
    use std::os::unix::fs::PermissionsExt as _;
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        Error::unavailable(
            "master_key",
            format!("the master key file {shown} cannot be read: {error}; restore it from its backup"),
        )
    };
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Error::unavailable(
            "master_key",
            format!("others may read the master key file {shown} (mode {:03o}); run: chmod 600 {shown}", mode & 0o777),
        ));
    }
    let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(unreadable)?;
    parse_master_key(&text, &shown.to_string())
}

fn parse_master_key(text: &str, place: &str) -> Result<MasterKey> {
    MasterKey::parse(text).map_err(|error| Error::unavailable("master_key", format!("{place}: {error}")))
}

/// A broker secret, opened.
pub fn open_broker_secret(id: &str, sealed: &Sealed, vault: &Vault) -> Result<SecretBytes> {
    let label = Label { purpose: broker_secret_purpose(id)?, id, version: 1 };
    vault.open(label, sealed).map_err(|error| {
        Error::unavailable("master_key", format!("the database does not open with this master key: {error}"))
    })
}

/// A new random broker secret of 32 bytes, and the change that keeps it.
pub(super) fn new_broker_secret(id: &str, vault: &Vault, world: &World) -> Result<(SecretBytes, Change)> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    world.entropy.fill(bytes.as_mut_slice());
    let value = SecretBytes::new(bytes.to_vec());
    let label = Label { purpose: broker_secret_purpose(id)?, id, version: 1 };
    let sealed = vault.seal(world.entropy.as_ref(), label, &value)?;
    Ok((value, Change::PutBrokerSecret { id: id.to_owned(), sealed }))
}

pub(super) fn broker_secret(everything: &Everything, id: &str, vault: &Vault) -> Result<SecretBytes> {
    let missing = || Error::internal(format!("the broker secret '{id}' is missing from the database"));
    open_broker_secret(id, everything.broker_secrets.get(id).ok_or_else(missing)?, vault)
}

/// The client CA's key and certificate; made where there is none yet, and then with what stores it.
pub(super) fn client_ca(everything: &Everything, vault: &Vault, world: &World) -> Result<(SecretBytes, Vec<Change>)> {
    if everything.broker_secrets.contains_key(CLIENT_CA) {
        return Ok((broker_secret(everything, CLIENT_CA, vault)?, Vec::new()));
    }
    let secret = Authority::generate(world.entropy.as_ref(), world.now())?;
    let label = Label { purpose: broker_secret_purpose(CLIENT_CA)?, id: CLIENT_CA, version: 1 };
    let sealed = vault.seal(world.entropy.as_ref(), label, &secret)?;
    Ok((secret, vec![Change::PutBrokerSecret { id: CLIENT_CA.to_owned(), sealed }]))
}
