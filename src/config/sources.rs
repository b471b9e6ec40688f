//! What lies outside of the settings: certificates, the database, the master key. Their values are never shown.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use url::Url;
use zeroize::Zeroizing;

use super::mistake::shown;
use super::read::Reader;
use super::validate::file;
use super::{ClientCertificates, Command, DatabaseTarget, MasterKey, Outbound, Tls, Vault};
use crate::secret::SecretBytes;

const MAX_URL_BYTES: u64 = 64 * 1024;

/// A certificate and its key: both files or none, readable, and the key its owner's alone.
pub(super) fn key_pair(reader: &mut Reader, cert: &'static str, key: &'static str, fix: &str) -> Option<Tls> {
    for (path, other) in [(cert, key), (key, cert)] {
        if reader.is_given(other) && !reader.is_given(path) {
            reader.mistake(path, format!("is missing beside {other}"), fix);
        }
    }
    let cert_file = file(reader, cert);
    if let Some(path) = &cert_file {
        readable(reader, cert, path);
    }
    let key_file = file(reader, key);
    let mode = key_file.as_ref().and_then(|path| readable(reader, key, path));
    if let (Some(path), Some(mode)) = (&key_file, mode.filter(|mode| mode & 0o077 != 0)) {
        let problem = format!("others than its owner have access to the file (mode {:03o})", mode & 0o777);
        reader.mistake(key, problem, format!("run `chmod 600 {}`", path.display()));
    }
    Some(Tls { cert_file: cert_file?, key_file: key_file? })
}

/// CA and revocation lists for clients' certificates.
pub(super) fn certificates(reader: &mut Reader, ca: &'static str, crl: &'static str) -> ClientCertificates {
    if reader.is_given(crl) && !reader.is_given(ca) {
        reader.mistake(ca, format!("is missing beside {crl}"), "set both, or remove the revocation list");
    }
    let [ca_file, crl_file] = [ca, crl].map(|key| {
        let path = file(reader, key)?;
        readable(reader, key, &path)?;
        Some(path)
    });
    ClientCertificates { ca_file, crl_file }
}

/// The mode of a file that can be read; else a mistake.
pub(super) fn readable(reader: &mut Reader, key: &'static str, path: &Path) -> Option<u32> {
    // Looked at before it is opened: opening a FIFO would wait for its writer.
    let metadata = std::fs::metadata(path).and_then(|metadata| {
        if metadata.is_file() { File::open(path)?.metadata() } else { Err(std::io::Error::other("not a file")) }
    });
    match metadata {
        Ok(metadata) => Some(metadata.permissions().mode()),
        Err(error) => {
            let problem = format!("{} cannot be read ({error})", shown(&path.display().to_string()));
            reader.mistake(key, problem, "name a file that the broker's user can read");
            None
        }
    }
}

/// `database.url`, or what `database.url_file` holds.
pub(super) fn database(reader: &mut Reader) -> Option<DatabaseTarget> {
    let (url, url_file) = ("database.url", "database.url_file");
    if !reader.is_given(url_file) {
        return reader.text(url).and_then(|text| target(reader, url, &text));
    }
    if reader.is_given(url) {
        reader.mistake(url_file, "is set beside database.url", "remove one of the two");
        return None;
    }
    let path = file(reader, url_file)?;
    readable(reader, url_file, &path)?;
    let mut text = Zeroizing::new(String::new());
    let read = File::open(&path).and_then(|file| file.take(MAX_URL_BYTES).read_to_string(&mut text));
    if let Err(error) = read {
        reader.mistake(url_file, format!("the file cannot be read ({error})"), "write the URL into it, as UTF-8");
        return None;
    }
    target(reader, url_file, text.trim())
}

/// Parses a database's URL. None of it is ever shown: it may hold a password.
fn target(reader: &mut Reader, key: &'static str, text: &str) -> Option<DatabaseTarget> {
    let fix = "write sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME";
    let problem = if let Some(path) = text.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        match path {
            "" => "the URL names no file",
            path if path.contains(":memory:") => "a database in memory forgets the audit log",
            path if path.contains(['?', '#']) => "an sqlite URL takes no options",
            path => return Some(DatabaseTarget::Sqlite(reader.resolve(path))),
        }
    } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        match Url::parse(text).map(String::from).map(Zeroizing::new) {
            Ok(_) => return Some(DatabaseTarget::Postgres(SecretBytes::new(text.as_bytes().to_vec()))),
            Err(_) => "the URL cannot be parsed; is a character of the password not percent-encoded?",
        }
    } else {
        "the URL (not shown) is neither sqlite: nor postgres://"
    };
    reader.mistake(key, problem, fix);
    None
}

/// `[outbound]`: none, the environment's, or one of the two.
pub(super) fn outbound(reader: &mut Reader) -> Option<Outbound> {
    let (proxy, file_key, except) = ("outbound.proxy", "outbound.proxy_file", "outbound.no_proxy");
    let is_file = reader.is_given(file_key);
    if !is_file && !reader.is_given(proxy) {
        return Some(Outbound::Direct);
    }
    if is_file && reader.is_given(proxy) {
        reader.mistake(file_key, "is set beside outbound.proxy", "remove one of the two");
        return None;
    }
    let text = if is_file {
        let path = file(reader, file_key)?;
        readable(reader, file_key, &path)?;
        let mut text = Zeroizing::new(String::new());
        if let Err(error) = File::open(&path).and_then(|file| file.take(MAX_URL_BYTES).read_to_string(&mut text)) {
            reader.mistake(file_key, format!("the file cannot be read ({error})"), "write the URL into it, as UTF-8");
            return None;
        }
        text
    } else {
        Zeroizing::new(reader.text(proxy)?.to_string())
    };
    let text = text.trim();
    if text == "environment" {
        return Some(Outbound::Environment);
    }
    let key = if is_file { file_key } else { proxy };
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.has_host());
    let Some(url) = url else {
        let problem = "the value (not shown) is no http:// URL of a proxy";
        reader.mistake(key, problem, "write http://HOST:PORT, or environment");
        return None;
    };
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_bare {
        reader.mistake(key, "the URL (not shown) has more than a host and a port", "write http://HOST:PORT");
        return None;
    }
    if !is_file && url.password().is_some() {
        let fix = "put the URL into a file of the broker's own, and name that in outbound.proxy_file";
        reader.mistake(key, "the URL (not shown) holds a password", fix);
        return None;
    }
    let except = reader.text(except).map(|text| text.to_string()).unwrap_or_default();
    Some(Outbound::Proxy { url: SecretBytes::new(text.as_bytes().to_vec()), except })
}

/// `[vault]`: exactly one source of the master key.
pub(super) fn vault(reader: &mut Reader) -> Option<Vault> {
    let (key_file, variable, command) = ("vault.master_key_file", "vault.master_key_env", "vault.master_key_command");
    let given: Vec<_> = [key_file, variable, command].into_iter().filter(|path| reader.is_given(path)).collect();
    if let [first, .., last] = given.as_slice() {
        reader.mistake(last, format!("is set beside {first}"), "keep one source of the master key");
    }
    let previous_master_key_file = file(reader, "vault.previous_master_key_file");
    let master_key = if reader.is_given(variable) {
        let name = reader.text(variable)?;
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !plain || name.starts_with(|first: char| first.is_ascii_digit()) {
            let problem = "the value (not shown) is no name of a variable";
            reader.mistake(variable, problem, "write the variable's name, not the key itself");
        }
        MasterKey::Variable(name.to_string())
    } else if reader.is_given(command) {
        let (program, arguments) = reader.command(command)?.split_first()?;
        MasterKey::Command(Command { program: program.clone(), arguments: arguments.to_vec() })
    } else {
        let path = file(reader, key_file)?;
        if previous_master_key_file.as_ref() == Some(&path) {
            let problem = "is the same file as vault.master_key_file";
            reader.mistake("vault.previous_master_key_file", problem, "name the old key's file, or remove it");
        }
        MasterKey::File(path)
    };
    Some(Vault { master_key, previous_master_key_file })
}
