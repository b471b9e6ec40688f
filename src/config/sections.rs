//! The sections of the settings, typed.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hallpass_verify::ForeignAlgorithm;
use ipnet::IpNet;

use crate::error::Error;
use crate::model::AdminRole;
use crate::secret::SecretBytes;

/// The listeners.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The public listener; port 0 asks for any free port.
    pub public: SocketAddr,
    /// Metrics and health; see [`Config::ops_for`].
    pub ops: Option<SocketAddr>,
    /// The admin interface's unix socket.
    pub admin_socket: PathBuf,
    /// Connections open at once.
    pub max_connections: usize,
    /// In which a request's head must have arrived.
    pub header_timeout: Duration,
    /// Size of a request's head.
    pub max_header_bytes: usize,
    /// What calls in flight get to finish.
    pub drain: Duration,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Whether unauthenticated connections leave a worker thread free for others.
    pub limit_untrusted: bool,
    /// Peers whose `Client-Cert` (RFC 9440) counts, and whose `X-Forwarded-For` says at which address secrets are guessed.
    pub trusted_proxies: Vec<IpNet>,
}

/// TLS of the public listener. Both files could be read when the settings were.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Private key, PEM, its owner's alone.
    pub key_file: PathBuf,
}

/// Who vouches for agents' certificates. The files could be read when the settings were.
#[derive(Debug, Clone, Default)]
pub struct ClientCertificates {
    /// CA certificates, PEM.
    pub ca_file: Option<PathBuf>,
    /// Revocation lists, PEM; only beside `ca_file`.
    pub crl_file: Option<PathBuf>,
}

/// Admins who come over the network.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The admin listener, always TLS.
    pub listen: SocketAddr,
    /// Its certificate.
    pub tls: Tls,
    /// Who vouches for admins' certificates.
    pub certificates: ClientCertificates,
    /// Login by OpenID Connect.
    pub login: Option<AdminLogin>,
    /// Who has which role, the greatest role first.
    pub grants: Vec<AdminGrant>,
}

/// Admins' login by OpenID Connect.
#[derive(Debug, Clone)]
pub struct AdminLogin {
    /// The issuer identifier, exactly as `iss` says.
    pub issuer: String,
    /// CA certificates, PEM, to trust for it instead of the public CAs.
    pub ca_file: Option<PathBuf>,
    /// Whether loopback and private addresses may be dialled for it.
    pub allow_private: bool,
    /// The public client by which admins log in; `aud` of their ID tokens.
    pub client_id: String,
    /// What is asked for at the login.
    pub scope: String,
    /// The claim that names a person in the audit log, beside `sub`.
    pub name_claim: String,
    /// How long a login lasts.
    pub lifetime: Duration,
}

/// Who has a role: whoever's ID token has this claim, or whose certificate this name.
#[derive(Debug, Clone)]
pub struct AdminGrant {
    /// The role.
    pub role: AdminRole,
    /// A claim; or `cert.subject_dn`, `cert.san_email`, `cert.san_uri`, `cert.san_dns`.
    pub name: String,
    /// What it must be, exactly; of a claim that is an array, one element.
    pub value: String,
}

/// Where data is kept.
#[derive(Debug, Clone)]
pub struct Database {
    /// Engine and place.
    pub target: DatabaseTarget,
    /// Connections at once.
    pub max_connections: u32,
}

/// The proxy on the way to upstreams and issuers.
#[derive(Debug, Clone)]
pub enum Outbound {
    /// None.
    Direct,
    /// That of the environment.
    Environment,
    /// This one.
    Proxy {
        /// `http://HOST:PORT` (UTF-8), which may hold a password.
        url: SecretBytes,
        /// What is reached without it, with commas in between.
        except: String,
    },
}

/// Which engine, and where.
#[derive(Debug, Clone)]
pub enum DatabaseTarget {
    /// An SQLite file, already relative to the right directory.
    Sqlite(PathBuf),
    /// A `postgres://` URL (UTF-8), which may hold a password.
    Postgres(SecretBytes),
}

/// Where the master key comes from.
#[derive(Debug, Clone)]
pub struct Vault {
    /// The key in force.
    pub master_key: MasterKey,
    /// The key before it, during a rewrap.
    pub previous_master_key_file: Option<PathBuf>,
}

/// The source of a master key.
#[derive(Debug, Clone)]
pub enum MasterKey {
    /// A file.
    File(PathBuf),
    /// The environment variable of this name.
    Variable(String),
    /// The output of a program.
    Command(Command),
}

/// A program and its arguments, run without a shell.
#[derive(Clone)]
pub struct Command {
    /// The program.
    pub program: String,
    /// Its arguments, which may be secret.
    pub arguments: Vec<String>,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({:?}, {} arguments)", self.program, self.arguments.len())
    }
}

/// How long tokens, sessions and secrets last.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// An access token's life.
    pub lifetime: Duration,
    /// A session's, when none is asked for.
    pub session: Duration,
    /// The longest session that may be asked for.
    pub session_max: Duration,
    /// By which the clocks of others may differ.
    pub leeway: Duration,
    /// For how long a rotated client secret still works.
    pub secret_grace: Duration,
}

/// Proofs of possession (RFC 9449).
#[derive(Debug, Clone)]
pub struct Dpop {
    /// Whether a proof must hold a nonce of ours.
    pub require_nonce: bool,
    /// How old a proof may be.
    pub window: Duration,
    /// Used proofs that are remembered.
    pub replay_entries: usize,
}

/// Acting on behalf of others.
#[derive(Debug, Clone, Copy)]
pub struct Delegation {
    /// Token exchanges on one way from the root down.
    pub max_depth: usize,
}

/// How agents may prove who they are.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    /// The methods that are allowed, each one of [`CLIENT_AUTH_METHODS`].
    pub methods: Vec<String>,
    /// How client assertions may be signed.
    pub assertion_algorithms: Vec<ForeignAlgorithm>,
}

impl ClientAuth {
    /// Whether a method is allowed.
    pub fn allows(&self, method: &str) -> bool {
        self.methods.iter().any(|one| one == method)
    }
}

/// Every method by which an agent may prove who it is.
pub const CLIENT_AUTH_METHODS: [&str; 6] =
    ["client_secret", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth", "spiffe", "federated"];

/// The signing keys.
#[derive(Debug, Clone)]
pub struct Keys {
    /// How they sign.
    pub algorithm: SigningAlgorithm,
    /// How long one signs.
    pub rotate: Duration,
    /// How long the next is published before it signs.
    pub publish_ahead: Duration,
}

/// How tokens are signed (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl FromStr for SigningAlgorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "ES256" => Ok(Self::Es256),
            "EdDSA" => Ok(Self::EdDsa),
            "RS256" => Ok(Self::Rs256),
            _ => Err(Error::invalid("unknown_algorithm", "the algorithm is not known; use ES256, EdDSA or RS256")),
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        })
    }
}

/// The signed revocation list.
#[derive(Debug, Clone)]
pub struct Revocations {
    /// Between two signings.
    pub sign_every: Duration,
    /// After which nobody may rely on a list: the bound of P3.
    pub max_age: Duration,
}

/// The audit log.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Records after which a checkpoint is signed.
    pub checkpoint_every_records: u64,
    /// Time after which one is signed in any case.
    pub checkpoint_every: Duration,
    /// Records in one transaction.
    pub max_batch: usize,
    /// Records that may wait for theirs.
    pub max_waiting: usize,
}

/// Brokered calls.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// To reach the upstream.
    pub connect_timeout: Duration,
    /// Until the response's head.
    pub response_timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
    /// Size of a request's body.
    pub max_request_bytes: u64,
    /// Size of a response's body.
    pub max_response_bytes: u64,
    /// Calls in flight at once.
    pub max_calls: usize,
    /// Of one agent.
    pub max_calls_per_agent: usize,
    /// Connections to all upstreams at once.
    pub max_connections: usize,
    /// To one upstream, where its definition does not say.
    pub max_connections_per_upstream: usize,
    /// Verified tokens that are remembered.
    pub token_cache: usize,
}

/// The log of the process (not the audit log).
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// How it is written.
    pub format: LogFormat,
    /// How much of it.
    pub level: LogLevel,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What looks wrong.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// Its name, as `tracing` and the settings write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
