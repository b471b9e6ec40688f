//! The settings: read from `hallpass.toml` and the environment, checked as a whole, typed ever after.

use std::net::SocketAddr;
use std::path::Path;

use url::Url;

mod admin;
mod check;
mod differences;
mod issuer;
mod keys;
mod links;
mod mistake;
mod read;
mod reference;
mod sections;
mod sources;
mod template;
#[cfg(test)]
mod tests;
mod validate;

pub(crate) use issuer::is_loopback;
pub use mistake::{Mistake, Place};
pub use reference::{Setting, settings};
pub use sections::{
    Admin, AdminGrant, AdminLogin, Audit, CLIENT_AUTH_METHODS, ClientAuth, ClientCertificates, Command, Database,
    DatabaseTarget, Delegation, Dpop, Exchange, Keys, Listen, Log, LogFormat, LogLevel, MasterKey, Outbound,
    Revocations, SigningAlgorithm, Tls, Tokens, Vault,
};
pub use template::template;

/// What the command line says over the file and the environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overrides {
    /// `serve --listen`: the public listener's address.
    pub listen: Option<SocketAddr>,
}

/// Reads `file` (none: defaults alone), lets `env` win over it and `overrides` over both, and checks all of it.
///
/// Either every setting is right, or every mistake is told at once, in the order of the file.
pub fn load(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    overrides: Overrides,
) -> Result<Config, Vec<Mistake>> {
    let mut reader = read::Reader::new(file, env);
    let config = reader.parsed().then(|| validate::validate(&mut reader, overrides)).flatten();
    match (config, reader.into_mistakes()) {
        (Some(config), mistakes) if mistakes.is_empty() => Ok(config),
        (_, mistakes) => Err(mistakes),
    }
}

/// The process's own environment, for [`load`]. Unlike `std::env::vars` it does not panic on a value that is no
/// UTF-8; of our variables `load` names such a value as a mistake.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// All settings of one node.
#[derive(Debug, Clone)]
pub struct Config {
    /// The configured issuer in its one canonical spelling, without a slash at its end; see [`Config::issuer_for`].
    pub issuer: Option<String>,
    /// Whether an http issuer may be other than loopback.
    pub insecure_http: bool,
    /// This node's name.
    pub node: String,
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`; none: plain HTTP.
    pub tls: Option<Tls>,
    /// `[tls]`: who vouches for agents' certificates, with TLS here or at a trusted proxy.
    pub client_certificates: ClientCertificates,
    /// `[admin]`; none: admins come by the unix socket alone.
    pub admin: Option<Admin>,
    /// `[database]`
    pub database: Database,
    /// `[vault]`
    pub vault: Vault,
    /// `[tokens]`
    pub tokens: Tokens,
    /// `[dpop]`
    pub dpop: Dpop,
    /// `[delegation]`
    pub delegation: Delegation,
    /// `[client_auth]`
    pub client_auth: ClientAuth,
    /// `[keys]`
    pub keys: Keys,
    /// `[revocations]`
    pub revocations: Revocations,
    /// `[audit]`
    pub audit: Audit,
    /// `[exchange]`
    pub exchange: Exchange,
    /// `[outbound]`
    pub outbound: Outbound,
    /// `[log]`
    pub log: Log,
    /// Variables of the environment that begin with our prefix and are like no setting: nothing was taken from them.
    pub not_ours: Vec<String>,
}

impl Config {
    /// Whether agents can show certificates at all: to us, or to a proxy that we trust.
    pub fn sees_certificates(&self) -> bool {
        self.tls.is_some() || !self.listen.trusted_proxies.is_empty()
    }

    /// The issuer of a broker whose public listener is bound to `bound`: the configured one, or the address itself.
    pub fn issuer_for(&self, bound: SocketAddr) -> String {
        match &self.issuer {
            Some(issuer) => issuer.clone(),
            None => derived_issuer(self.tls.is_some(), bound),
        }
    }

    /// Where metrics and health listen when the public listener is bound to `bound`: the configured address, or
    /// the next port (any free port, if the public one was any free port) on loopback: metrics tell strangers too much.
    pub fn ops_for(&self, bound: SocketAddr) -> SocketAddr {
        let next = if self.listen.public.port() == 0 { 0 } else { bound.port().checked_add(1).unwrap_or(0) };
        self.listen.ops.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], next)))
    }
}

/// `scheme://host:port` as a URL parser would write it, so that it compares byte for byte with what clients send.
fn derived_issuer(tls: bool, bound: SocketAddr) -> String {
    let text = format!("{}://{bound}", if tls { "https" } else { "http" });
    Url::parse(&text).map_or(text, |url| url.as_str().trim_end_matches('/').to_owned())
}
