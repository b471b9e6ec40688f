//! The only place where parts are wired together: `init` makes a broker's files, `start` brings it to life.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use hallpass_verify::TokenVerifier;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::audit::{HEAD_SECRET, Ledger, LedgerSettings};
use crate::broker::{Broker, BrokerParts, BrokerSettings, Resolve, SystemResolver};
use crate::config::{Config, DatabaseTarget, MasterKey as MasterKeySource, SigningAlgorithm};
use crate::error::{Error, Result};
use crate::http::{Listeners, MasterKeyFiles, Parts, State, bind_admin, finish_rewrap, serve, write_private};
use crate::issue::{
    CLIENT_SECRET_KEY, IssueSettings, Issuer, KeyKeeper, MAX_TOKEN_MILLIS, broker_secret_purpose, first_keys, open_keys,
};
use crate::keyring::{Algorithm, Policy};
use crate::model::{Change, Event, EventKind, Head, SealedColumns};
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::store::{Access, Everything, ServeLock, Store, StoreError};
use crate::vault::{Label, MasterKey, Sealed, Vault};
use crate::world::{Clock as _, Millis, SystemClock, SystemEntropy, World};

/// How often schedules are looked at: key rotation, forgetting what cannot matter any more, the database lock.
const TICK: Duration = Duration::from_secs(1);

/// A broker that serves.
pub struct Running {
    /// Where agents reach it.
    pub public: SocketAddr,
    /// Where health and metrics are.
    pub ops: SocketAddr,
    /// `iss`.
    pub issuer: String,
    /// For tests and `quickstart`, which run a broker in their own process.
    pub state: State,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    keeper: JoinHandle<()>,
    store: Store,
    tls: bool,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("public", &self.public).finish_non_exhaustive()
    }
}

/// What a test may put in the real world's place.
#[derive(Clone)]
pub struct Surroundings {
    /// Time and randomness. `None`: the system's, with a clock that goes on from the last audit record.
    pub world: Option<World>,
    /// Name look-up.
    pub resolver: Arc<dyn Resolve>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { world: None, resolver: Arc::new(SystemResolver) }
    }
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Surroundings")
    }
}

/// The process that holds keys writes no core dump and lets no other process of its user read its memory.
pub fn seal_process() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the process could not be made undumpable");
    }
}

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
    let made = make_files(&config_file, &key_file, database_url, environment).await;
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
    key_file: &Path,
    database_url: Option<&str>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<()> {
    write_private(config_file, &crate::config::template(database_url))
        .map_err(|error| cannot_write(config_file, &error))?;
    // The configuration that was written is the one that is used, so that its mistakes show now.
    let config = crate::config::load(Some(config_file), environment, crate::config::Overrides::default())
        .map_err(|mistakes| Error::invalid("config_invalid", lines(&mistakes)))?;

    let world = World::system();
    let master = MasterKey::generate(world.entropy.as_ref()).map_err(Error::internal)?;
    let mut text = master.to_text();
    text.push('\n');
    write_private(key_file, &text).map_err(|error| cannot_write(key_file, &error))?;
    let store = open_store(&config, Access::Create).await?;
    let lock = store.lock().await.map_err(startup)?;
    store.migrate().await.map_err(startup)?;
    let outcome = first_records(&config, &store, Vault::new(master, Vec::new()), world).await;
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
    let mut mac_key = None;
    for id in [CLIENT_SECRET_KEY, HEAD_SECRET] {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        world.entropy.fill(bytes.as_mut_slice());
        let value = SecretBytes::new(bytes.to_vec());
        let label = Label { purpose: broker_secret_purpose(id)?, id, version: 1 };
        let sealed = vault.seal(world.entropy.as_ref(), label, &value)?;
        let sealed = SealedColumns { wrapped_key: sealed.wrapped_key, ciphertext: sealed.ciphertext };
        changes.push(Change::PutBrokerSecret { id: id.to_owned(), sealed });
        mac_key = Some(value);
    }
    let mac_key = mac_key.ok_or_else(|| Error::internal("no audit head key"))?;
    let registry = Arc::new(Registry::new(Everything::default(), keys)?);
    let settings = ledger_settings(config, &config.issuer_for(config.listen.public));
    let ledger = Ledger::start(settings, store.clone(), registry, world, Head::EMPTY, mac_key);
    let mut event = Event::new(EventKind::Broker);
    event.action = Some("init".into());
    let outcome = ledger.commit(vec![event], changes).await;
    ledger.close().await;
    outcome.map_err(Error::internal)
}

/// Brings a broker to life. When it returns, it serves.
pub async fn start(config: Config, surroundings: Surroundings) -> Result<Running> {
    let listener = bind(config.listen.public, "listen.public").await?;
    let public = listener.local_addr().map_err(Error::internal)?;
    let ops = match config.listen.ops {
        Some(address) => bind(address, "listen.ops").await?,
        None => bind_default_ops(config.ops_for(public)).await?,
    };
    let ops_address = ops.local_addr().map_err(Error::internal)?;
    let issuer: Arc<str> = config.issuer_for(public).into();
    let tls = tls_config(&config)?;

    let store = open_store(&config, Access::Serve).await?;
    let lock = store.lock().await.map_err(startup)?;
    store.migrate().await.map_err(startup)?;
    let admin = bind_admin(&config.listen.admin_socket).await.map_err(|error| {
        let path = config.listen.admin_socket.display();
        Error::unavailable("admin_socket", format!("the admin socket {path} cannot be made: {error}"))
    })?;

    let head = store.audit_head(&config.node).await.map_err(startup)?;
    let world = match surroundings.world {
        Some(world) => world,
        None => system_world(last_record_time(&store, &config.node, head.as_ref().map(|signed| signed.head)).await?),
    };
    let (vault, key_files, unfinished) = open_vault(&config)?;
    let everything = store.load(world.now()).await.map_err(startup)?;
    if everything.broker_secrets.is_empty() {
        return Err(Error::unavailable("not_initialised", "the database is empty; run 'hallpass init' with it first"));
    }
    let client_secret_key = broker_secret(&everything, CLIENT_SECRET_KEY, &vault)?;
    let mac_key = broker_secret(&everything, HEAD_SECRET, &vault)?;
    let head = checked_head(head, &config.node, &mac_key)?;
    let rows = everything.keys.clone();
    let keys = open_keys(&rows, &vault)?;
    let registry = Arc::new(Registry::new(everything, keys)?);
    let vault = Arc::new(ArcSwap::from_pointee(vault));
    let ledger =
        Ledger::start(ledger_settings(&config, &issuer), store.clone(), registry.clone(), world.clone(), head, mac_key);
    let leeway = i64::try_from(config.tokens.leeway.as_secs()).unwrap_or(0);
    let verifier = Arc::new(TokenVerifier::new(&*issuer, leeway, config.exchange.token_cache));
    let state: State = Arc::new(Parts {
        issuer_url: issuer.clone(),
        world: world.clone(),
        registry: registry.clone(),
        ledger: ledger.clone(),
        store: store.clone(),
        vault: vault.clone(),
        issuer: Issuer::new(
            issuer.clone(),
            issue_settings(&config),
            world.clone(),
            registry.clone(),
            ledger.clone(),
            client_secret_key.clone(),
            verifier.clone(),
        ),
        keys: KeyKeeper::new(key_policy(&config), world.clone(), registry.clone(), ledger.clone(), vault.clone(), rows),
        broker: Broker::new(
            broker_settings(&config),
            BrokerParts {
                world: world.clone(),
                registry,
                ledger: ledger.clone(),
                vault,
                verifier,
                issuer: issuer.clone(),
                resolver: surroundings.resolver,
            },
        ),
        client_secret_key,
        master_key_files: key_files,
        metrics: recorder()?,
        one_admin_at_a_time: tokio::sync::Mutex::new(()),
        revocation_list: Default::default(),
        config,
    });
    if let Some((path, old_id)) = unfinished {
        let count = finish_rewrap(&state, &path, &old_id).await?;
        tracing::warn!(rewrapped = count, "an interrupted rewrap to a new master key was finished");
    }
    let mut event = Event::new(EventKind::Broker);
    event.action = Some("serve".into());
    ledger.commit(vec![event], Vec::new()).await.map_err(Error::internal)?;

    let (stop, stopped) = watch::channel(false);
    let keeper = tokio::spawn(keep(state.clone(), lock, stop.clone()));
    let listeners = Listeners { public: listener, ops, admin };
    let is_tls = tls.is_some();
    let server = tokio::spawn({
        let state = state.clone();
        async move {
            let listen = state.config.listen.clone();
            serve(listeners, tls, state, &listen, stopped).await;
        }
    });
    Ok(Running {
        public,
        ops: ops_address,
        issuer: issuer.to_string(),
        state,
        stop,
        server,
        keeper,
        store,
        tls: is_tls,
    })
}

impl Running {
    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Resolves when the broker stops by itself, because it must not go on.
    pub async fn stopped(&self) {
        // An error only says that nobody is left who could say so.
        _ = self.stop.subscribe().wait_for(|stop| *stop).await.is_ok();
    }

    /// Takes no more connections, lets calls under way finish, writes what waits, and stops.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if self.server.await.is_err() {
            tracing::error!("the server task panicked");
        }
        self.state.ledger.close().await;
        if self.keeper.await.is_err() {
            tracing::error!("the keeper task panicked");
        }
        self.store.close().await;
        let socket = &self.state.config.listen.admin_socket;
        if let Err(error) = std::fs::remove_file(socket) {
            tracing::warn!(%error, socket = %socket.display(), "the admin socket could not be removed");
        }
    }
}

/// Schedules: key rotation, pruning, and whether the database is still ours alone.
async fn keep(state: State, mut lock: ServeLock, stop: watch::Sender<bool>) {
    let mut stopped = stop.subscribe();
    let mut last_prune = state.world.now();
    loop {
        if tokio::time::timeout(TICK, stopped.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
        let held = tokio::time::timeout(TICK * 5, lock.is_held()).await.unwrap_or(false);
        if !held {
            match state.store.lock().await {
                Ok(again) => lock = again,
                Err(error @ StoreError::Locked(_)) => {
                    // Its revocations would not be heard here: better no broker than a deaf one (P3).
                    tracing::error!(%error, "another broker took the database over; stopping");
                    stop.send_replace(true);
                    return;
                }
                Err(error) => tracing::error!(%error, "the database's lock is lost and cannot be taken again yet"),
            }
        }
        if let Err(error) = state.keys.tick().await {
            tracing::error!(%error, "the scheduled key rotation failed; it is tried again");
        }
        let now = state.world.now();
        if now - last_prune > 60_000 {
            last_prune = now;
            if let Err(error) = state.ledger.commit(Vec::new(), vec![Change::Prune { before: now }]).await {
                tracing::warn!(%error, "what has ended could not be pruned; it is tried again");
            }
        }
    }
}

/// Opens the database that the configuration names.
pub async fn open_store(config: &Config, access: Access) -> Result<Store> {
    let url = match &config.database.target {
        DatabaseTarget::Sqlite(path) => Zeroizing::new(format!("sqlite:{}", path.display())),
        DatabaseTarget::Postgres(url) => {
            Zeroizing::new(String::from_utf8(url.expose().to_vec()).map_err(Error::internal)?)
        }
    };
    Store::open(&url, config.database.max_connections, access).await.map_err(startup)
}

/// Where the new master key belongs, and the id of the old one.
type UnfinishedRewrap = (PathBuf, String);

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
pub fn open_broker_secret(id: &str, sealed: &SealedColumns, vault: &Vault) -> Result<SecretBytes> {
    let sealed = Sealed { wrapped_key: sealed.wrapped_key.clone(), ciphertext: sealed.ciphertext.clone() };
    let label = Label { purpose: broker_secret_purpose(id)?, id, version: 1 };
    vault.open(label, &sealed).map_err(|error| {
        Error::unavailable("master_key", format!("the database does not open with this master key: {error}"))
    })
}

fn broker_secret(everything: &Everything, id: &str, vault: &Vault) -> Result<SecretBytes> {
    let missing = || Error::internal(format!("the broker secret '{id}' is missing from the database"));
    open_broker_secret(id, everything.broker_secrets.get(id).ok_or_else(missing)?, vault)
}

/// The chain goes on only from an end that this broker itself wrote.
fn checked_head(signed: Option<crate::store::SignedHead>, node: &str, mac_key: &SecretBytes) -> Result<Head> {
    let Some(signed) = signed else { return Ok(Head::EMPTY) };
    if crate::audit::head_is_authentic(mac_key, node, &signed.head, &signed.mac) {
        return Ok(signed.head);
    }
    Err(Error::unavailable(
        "audit_head_altered",
        "the end of the audit chain was altered outside of Hallpass; run 'hallpass audit verify', and restore a backup",
    ))
}

async fn last_record_time(store: &Store, node: &str, head: Option<Head>) -> Result<Millis> {
    let Some(head) = head.filter(|head| head.seq > 0) else { return Ok(0) };
    let page = store.audit_page(node, head.seq - 1, 1).await.map_err(startup)?;
    let link = page.first().and_then(|row| serde_json::from_str::<crate::audit::Link<'_>>(&row.body).ok());
    Ok(link.map_or(0, |link| link.at))
}

/// The real world, with time going on from the last audit record: a clock that was set back while the broker was down
/// must not bring tokens back to life.
fn system_world(floor: Millis) -> World {
    let clock = SystemClock::new();
    let wall = clock.now();
    if wall < floor {
        let seconds = (floor - wall) / 1000;
        tracing::warn!(
            seconds,
            "the clock is behind the last audit record; time goes on from there until it has caught up"
        );
    }
    clock.not_before(floor);
    World { clock: Arc::new(clock), entropy: Arc::new(SystemEntropy) }
}

fn tls_config(config: &Config) -> Result<Option<Arc<rustls::ServerConfig>>> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let bad = |path: &Path, error: &dyn std::fmt::Display| {
        Error::unavailable("tls", format!("{} cannot be used for TLS: {error}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(&tls.cert_file)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| bad(&tls.cert_file, &error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key_file).map_err(|error| bad(&tls.key_file, &error))?;
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| bad(&tls.cert_file, &error))?;
    server.alpn_protocols =
        if config.listen.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Some(Arc::new(server)))
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::unavailable(
            "cannot_listen",
            format!("{key}: cannot listen on {address}: {error}; choose another address or stop what listens there"),
        )
    })
}

/// The port after the public one, unless somebody has it already and nobody asked for it in particular.
async fn bind_default_ops(address: SocketAddr) -> Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) => {
            tracing::warn!(%address, %error, "the default ops address is taken; using any free port (set listen.ops to fix it)");
            bind(SocketAddr::new(address.ip(), 0), "listen.ops").await
        }
    }
}

/// The metrics of this process: one recorder, however many brokers a test starts.
fn recorder() -> Result<PrometheusHandle> {
    static HANDLE: OnceLock<std::result::Result<PrometheusHandle, String>> = OnceLock::new();
    let made = HANDLE.get_or_init(|| PrometheusBuilder::new().install_recorder().map_err(|error| error.to_string()));
    made.clone().map_err(Error::internal)
}

fn key_policy(config: &Config) -> Policy {
    let millis = |duration: Duration| Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX);
    Policy {
        algorithm: match config.keys.algorithm {
            SigningAlgorithm::Es256 => Algorithm::Es256,
            SigningAlgorithm::EdDsa => Algorithm::EdDsa,
            SigningAlgorithm::Rs256 => Algorithm::Rs256,
        },
        rotate_every_ms: millis(config.keys.rotate),
        publish_ahead_ms: millis(config.keys.publish_ahead),
        // The longest token that any configuration allows, and a minute for clocks.
        retire_after_ms: MAX_TOKEN_MILLIS + 60_000,
    }
}

fn issue_settings(config: &Config) -> IssueSettings {
    let millis = |duration: Duration| Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX);
    IssueSettings {
        token_life: millis(config.tokens.lifetime).min(MAX_TOKEN_MILLIS),
        session_life: millis(config.tokens.session),
        session_max: millis(config.tokens.session_max),
    }
}

fn broker_settings(config: &Config) -> BrokerSettings {
    BrokerSettings {
        connect_timeout: config.exchange.connect_timeout,
        response_timeout: config.exchange.response_timeout,
        idle_timeout: config.exchange.idle_timeout,
        max_request_bytes: config.exchange.max_request_bytes,
        max_response_bytes: config.exchange.max_response_bytes,
        max_calls: config.exchange.max_calls,
    }
}

fn ledger_settings(config: &Config, issuer: &str) -> LedgerSettings {
    LedgerSettings {
        node: config.node.clone(),
        issuer: issuer.to_owned(),
        max_batch: config.audit.max_batch,
        max_waiting: config.audit.max_waiting,
        checkpoint_every: i64::try_from(config.audit.checkpoint_every_records).unwrap_or(i64::MAX),
        checkpoint_after_ms: Millis::try_from(config.audit.checkpoint_every.as_millis()).unwrap_or(Millis::MAX),
    }
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

fn startup(error: StoreError) -> Error {
    Error::unavailable("database", error.to_string())
}

fn lines(mistakes: &[crate::config::Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
