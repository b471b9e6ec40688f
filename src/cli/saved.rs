//! The login that `hallpass login` keeps for the commands after it: one file, its owner's alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::world::Millis;

/// A login, as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    /// The admin listener's URL.
    pub(super) server: String,
    /// CAs to trust beside the public ones, PEM.
    pub(super) ca_pem: Option<String>,
    pub(super) token: Zeroizing<String>,
    pub(super) name: String,
    pub(super) role: String,
    pub(super) expires_at: Millis,
}

impl Saved {
    /// `$XDG_CONFIG_HOME/hallpass/login.json`, or the same below `~/.config`. Either is an absolute path: another one would be
    /// of whatever folder somebody is in.
    pub(super) fn place() -> Result<PathBuf, Failure> {
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
        let config = config.ok_or_else(|| {
            Failure::Failed("a login has no place: neither HOME nor XDG_CONFIG_HOME is a whole path".into())
        })?;
        Ok(config.join("hallpass/login.json"))
    }

    /// The login that is kept, if there is one.
    pub(super) fn load() -> Result<Option<Self>, Failure> {
        let Ok(path) = Self::place() else { return Ok(None) };
        let unusable = |what: String| {
            let path = path.display();
            Failure::Failed(format!("the login in {path} cannot be used: {what}; run 'hallpass login' again"))
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(error.to_string())),
        };
        // Somebody else's eyes may have been there already.
        let metadata = file.metadata()?;
        let mode = metadata.mode() & 0o777;
        // What is secret would go to the broker of their choice: root may be in somebody's home (sudo).
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(unusable("it belongs to somebody else".into()));
        }
        if mode & 0o077 != 0 {
            return Err(unusable(format!("others than its owner have access to it (mode {mode:03o})")));
        }
        let text = Zeroizing::new(io::read_to_string(file)?);
        // The message names no value: one of them is the token.
        let saved = serde_json::from_str(&text);
        saved.map(Some).map_err(|error| unusable(format!("it cannot be read at line {}", error.line())))
    }

    /// Keeps it instead of the one before: written aside and renamed, so that no half of it is ever read.
    pub(super) fn store(&self) -> Result<PathBuf, Failure> {
        let path = Self::place()?;
        let failed = |error| Failure::Failed(format!("the login cannot be kept in {}: {error}", path.display()));
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let half = path.with_extension(format!("json.{}", std::process::id()));
        let text = Zeroizing::new(serde_json::to_string(self).map_err(|error| Failure::Failed(error.to_string()))?);
        // One that was cut off in the middle may have had our number.
        _ = fs::remove_file(&half).is_ok();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half).map_err(failed)?;
        let written =
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&half, &path));
        if let Err(error) = written {
            // A token is in it.
            _ = fs::remove_file(&half).is_ok();
            return Err(failed(error));
        }
        Ok(path)
    }

    /// Forgets it.
    pub(super) fn forget() -> Result<(), Failure> {
        match fs::remove_file(Self::place()?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
