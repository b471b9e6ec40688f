//! The only place where parts are wired together: [`init`] makes a broker's files, [`start`] brings it to life.

mod admins;
mod cleaned;
mod dpop;
mod init;
mod keeper;
mod master_key;
mod metrics;
mod process;
mod reload;
mod settings;
mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hallpass_verify::TokenVerifier;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::audit::{HEAD_SECRET, Ledger, Throttle, pack_old_records};
use crate::broker::{Broker, BrokerParts};
use crate::config::{ClientCertificates, Config, DatabaseTarget, Tls};
use crate::error::{Error, Result};
use crate::http::{Listeners, OpsParts, Parts, PublicParts, PublicState, Secured, SignedLists, State, States, serve};
use crate::issue::{Authority, CLIENT_SECRET_KEY, Certificates, ClientCas, Issuer, IssuerParts, KeyKeeper, open_keys};
use crate::listen::{bind_tcp, bind_unix, server_config};
use crate::manage::{Held, Manager, finish_rewrap};
use crate::model::{Change, Event, EventKind, Head};
use crate::outbound::{Resolve, SystemResolver};
use crate::registry::Registry;
use crate::secret::SecretBytes;
use crate::store::{Access, Store, StoreError};
use crate::supervise::{Failure, Phase, Supervisor};
use crate::trust::Trust;
use crate::vault::query_value_key;
use crate::world::{Clock as _, Millis, SystemClock, SystemEntropy, World};
use crate::yield_queue::YieldQueue;

pub use init::{init, init_within};
pub use master_key::{UnfinishedRewrap, open_broker_secret, open_vault};
pub use metrics::{METRICS, Metric, MetricKind};
pub use process::{raise_descriptor_limit, seal_process};

use admins::admins;
use master_key::{broker_secret, client_ca};
use metrics::recorder;
use reload::Reload;
use settings::{broker_settings, issue_settings, key_policy, ledger_settings, way_out};
use tls::{client_cas, server_certificate};

/// A broker that serves.
pub struct Running {
    /// Where agents reach it.
    pub public: SocketAddr,
    /// Where health and metrics are.
    pub ops: SocketAddr,
    /// Where admins reach it over the network, by https.
    pub remote_admin: Option<SocketAddr>,
    /// `iss`.
    pub issuer: String,
    /// Whether it serves, stops, or has failed.
    pub supervisor: Supervisor,
    /// For tests and `quickstart`, which run a broker in their own process.
    pub state: State,
    /// Likewise: what the public listener works with.
    pub public_state: PublicState,
    reload: Arc<Mutex<Reload>>,
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
    let mut reload = Reload::default();
    let tls = match &config.tls {
        Some(tls) => Some(secure(tls, config.listen.http2, &mut reload)?),
        None => None,
    };
    let cas = vouching(&config.client_certificates, &mut reload)?;
    let remote_admin = match &config.admin {
        Some(admin) => {
            let listener = bind(admin.listen, "admin.listen").await?;
            Some(Secured { listener, tls: secure(&admin.tls, false, &mut reload)? })
        }
        None => None,
    };
    let remote = remote_admin.as_ref().map(|secured| secured.listener.local_addr());
    let remote = remote.transpose().map_err(Error::internal)?;
    let admin_cas =
        vouching(&config.admin.as_ref().map(|admin| admin.certificates.clone()).unwrap_or_default(), &mut reload)?;

    let store = open_store(&config, Access::Serve).await?;
    let lock = store.lock().await.map_err(startup)?;
    store.migrate().await.map_err(startup)?;
    pack_old_records(&store).await.map_err(startup)?;
    let admin = bind_unix(&config.listen.admin_socket).await.map_err(|error| {
        let path = config.listen.admin_socket.display();
        Error::unavailable("admin_socket", format!("the admin socket {path} cannot be made: {error}"))
    })?;

    let head = store.audit_head(&config.node).await.map_err(startup)?;
    let world = match surroundings.world {
        Some(world) => world,
        None => system_world(last_record_time(&store, &config.node, head.as_ref().map(|signed| signed.head)).await?),
    };
    let (vault, key_files, unfinished) = open_vault(&config)?;
    // A restored or failed-over database raises it before it serves: no gateway that heard of a higher one may be stuck.
    store.raise_epoch().await.map_err(startup)?;
    let mut everything = store.load(world.now()).await.map_err(startup)?;
    if everything.broker_secrets.is_empty() {
        return Err(Error::unavailable("not_initialised", "the database is empty; run 'hallpass init' with it first"));
    }
    let client_secret_key = broker_secret(&everything, CLIENT_SECRET_KEY, &vault)?;
    let mac_key = broker_secret(&everything, HEAD_SECRET, &vault)?;
    let query_values = query_value_key(&mac_key);
    let nonce_key = dpop::kept_nonce_key(&everything, &vault)?;
    let (client_ca, new_client_ca) = client_ca(&everything, &vault, &world)?;
    let certificates = Certificates { cas, authority: Authority::open(&client_ca)? };
    let head = chain_end(&store, &config.node, &mac_key).await?;
    let rows = everything.keys.clone();
    let keys = open_keys(&rows, &vault)?;
    let (mut told, mut first_changes) = cleaned::reduce(&mut everything)?;
    let had_private_key = told.iter().any(cleaned::had_private_key);
    let used_assertions = std::mem::take(&mut everything.used_assertions);
    let (assertions_since, keep_assertions) = match everything.assertions_since {
        Some(since) => (since, None),
        None => (world.now(), Some(Change::KeepAssertions { since: world.now() })),
    };
    let registry = Arc::new(Registry::new(everything, keys)?);
    // Before the parts that count: what is looked up before there is a recorder counts for nobody.
    let metrics = recorder()?;
    let supervisor = Supervisor::new();
    let vault = Arc::new(ArcSwap::from_pointee(vault));
    let settings = ledger_settings(&config, &issuer);
    let ledger = Ledger::start(settings, store.clone(), registry.clone(), world.clone(), head, mac_key, &supervisor);
    let nonce_key = match nonce_key {
        Some(key) => key,
        None => dpop::make_nonce_key(&ledger, &vault.load(), &world).await?,
    };
    let leeway = i64::try_from(config.tokens.leeway.as_secs()).unwrap_or(0);
    let verifier = Arc::new(TokenVerifier::new(&*issuer, leeway, config.exchange.token_cache));
    let resolver = way_out(&config.outbound, surroundings.resolver.clone())?;
    let trust = || Trust::new(leeway, world.clone(), registry.clone(), resolver.clone());
    let admins = admins(config.admin.as_ref(), admin_cas, trust(), &world)?;
    let trust = Arc::new(trust());
    let yields = YieldQueue::start(&supervisor);
    let issue = Arc::new(Issuer::new(
        issuer.clone(),
        issue_settings(&config),
        IssuerParts {
            world: world.clone(),
            registry: registry.clone(),
            ledger: ledger.clone(),
            secret_key: client_secret_key.clone(),
            verifier: verifier.clone(),
            trust,
            certificates,
            used_assertions,
            assertions_since,
        },
    ));
    let broker = Arc::new(Broker::new(
        broker_settings(&config),
        BrokerParts {
            world: world.clone(),
            registry: registry.clone(),
            ledger: ledger.clone(),
            vault: vault.clone(),
            verifier,
            issuer: issuer.clone(),
            resolver: resolver.clone(),
            query_values,
            yields: yields.clone(),
        },
    ));
    let public_state: PublicState = Arc::new(PublicParts {
        issuer_url: issuer.clone(),
        world: world.clone(),
        registry: registry.clone(),
        issuer: issue.clone(),
        broker: broker.clone(),
        dpop: dpop::dpop(&config, &nonce_key, &world)?,
        client_auth: config.client_auth.clone(),
        sees_certificates: config.sees_certificates(),
        form_timeout: config.listen.header_timeout,
        revocations: config.revocations.clone(),
        revocation_list: SignedLists::default(),
    });
    let ops_state = Arc::new(OpsParts {
        supervisor: supervisor.clone(),
        world: world.clone(),
        registry: registry.clone(),
        ledger: ledger.clone(),
        broker: broker.clone(),
        engine: store.engine(),
        metrics: metrics.clone(),
    });
    let keys =
        KeyKeeper::new(key_policy(&config), world.clone(), registry.clone(), ledger.clone(), vault.clone(), rows);
    let manager = Arc::new(Manager {
        issuer_url: issuer.clone(),
        node: config.node.clone(),
        secret_grace_seconds: i64::try_from(config.tokens.secret_grace.as_secs()).unwrap_or(0),
        world: world.clone(),
        registry: registry.clone(),
        ledger: ledger.clone(),
        store: store.clone(),
        vault,
        issuer: issue.clone(),
        keys: Arc::new(keys),
        broker,
        client_secret_key,
        held: Held::default(),
        master_key_files: key_files,
        one_at_a_time: tokio::sync::Mutex::new(()),
    });
    let state: State = Arc::new(Parts {
        world,
        manager: manager.clone(),
        ledger: ledger.clone(),
        admins,
        admin_refusals: Throttle::default(),
        config,
    });
    if let Some((path, old_id)) = unfinished {
        let count = finish_rewrap(&manager, &path, &old_id).await?;
        tracing::warn!(rewrapped = count, "an interrupted rewrap to a new master key was finished");
    }
    let mut event = Event::new(EventKind::Broker);
    event.action = Some("serve".into());
    told.push(event);
    first_changes.extend(new_client_ca.into_iter().chain(keep_assertions));
    ledger.commit(told, first_changes).await.map_err(Error::internal)?;
    if had_private_key {
        cleaned::wipe(&store).await;
    }

    let reload = Arc::new(Mutex::new(reload));
    let keeper = supervisor.spawn("keeper", keeper::keep(supervisor.clone(), manager, metrics, lock, reload.clone()));
    let is_tls = tls.is_some();
    let listeners = Listeners { public: listener, tls, remote_admin, ops, admin };
    let server = supervisor.spawn("listeners", {
        let states = States { public: public_state.clone(), admin: state.clone(), ops: ops_state };
        let supervisor = supervisor.clone();
        async move {
            serve(listeners, states, yields, &supervisor).await;
            match supervisor.phase() {
                Phase::Serving => Err("they ended by themselves".to_owned()),
                Phase::Draining | Phase::Aborting => Ok(()),
            }
        }
    });
    Ok(Running {
        public,
        ops: ops_address,
        remote_admin: remote,
        issuer: issuer.to_string(),
        supervisor,
        state,
        public_state,
        reload,
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
    pub async fn stopped(&self) -> Failure {
        self.supervisor.until_failure().await
    }

    /// Reads certificates and CAs again, changed or not, and says in the log what came of it.
    pub fn reload(&self) {
        self.reload.lock().unwrap_or_else(PoisonError::into_inner).again();
    }

    /// Takes no more connections, lets calls in flight finish, writes what waits, and stops.
    pub async fn stop(self) {
        self.supervisor.enter(Phase::Draining);
        if self.server.await.is_err() {
            tracing::error!("the server task panicked");
        }
        // Streams of HTTP/2 have tasks of their own, which end a moment after their connection.
        self.public_state.broker.all_ended(keeper::TICK * 3).await;
        let mut event = Event::new(EventKind::Broker);
        event.action = Some("stop".into());
        if let Err(error) = self.state.ledger.commit(vec![event], Vec::new()).await {
            tracing::error!(%error, "the end of the broker could not be recorded");
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

/// What a listener with this certificate speaks; the certificate may change while it runs.
fn secure(tls: &Tls, http2: bool, reload: &mut Reload) -> Result<Arc<rustls::ServerConfig>> {
    let (server, certificate) = server_config(server_certificate(tls)?, http2)?;
    reload.server(tls, certificate);
    Ok(server)
}

/// Those who vouch for clients' certificates; they may change while it runs.
fn vouching(files: &ClientCertificates, reload: &mut Reload) -> Result<Arc<ArcSwap<ClientCas>>> {
    let cas = Arc::new(ArcSwap::from_pointee(client_cas(files)?));
    reload.clients(files, cas.clone());
    Ok(cas)
}

/// Opens the database that the configuration names.
pub async fn open_store(config: &Config, access: Access) -> Result<Store> {
    let url = match &config.database.target {
        DatabaseTarget::Sqlite(path) => Zeroizing::new(format!("sqlite:{}", path.display())),
        DatabaseTarget::Postgres(url) => {
            Zeroizing::new(String::from_utf8(url.expose().to_vec()).map_err(Error::internal)?)
        }
    };
    let store = Store::open(&url, config.database.max_connections, access).await.map_err(startup)?;
    if access == Access::ReadOnly {
        store.check_layout().await.map_err(startup)?;
    }
    Ok(store)
}

/// The chain goes on only from an end that this broker itself wrote. `init` writes the first record, so a log without
/// any was emptied.
async fn chain_end(store: &Store, node: &str, mac_key: &SecretBytes) -> Result<Head> {
    let altered = |what: &str| {
        let text = format!("{what} outside of Hallpass; run 'hallpass audit verify', and restore a backup");
        Error::unavailable("audit_altered", text)
    };
    match store.audit_head(node).await.map_err(startup)? {
        Some(signed) if crate::audit::head_is_authentic(mac_key, node, &signed.head, &signed.mac) => Ok(signed.head),
        Some(_) => Err(altered("the end of the audit chain was altered")),
        None if store.audit_nodes().await.map_err(startup)?.is_empty() => Err(altered("the audit log was emptied")),
        None if store.audit_last_seq(node).await.map_err(startup)? > 0 => {
            Err(altered("the end of the audit chain was removed"))
        }
        // A node of a new name begins a chain of its own.
        None => Ok(Head::EMPTY),
    }
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

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener> {
    bind_tcp(address).map_err(|error| {
        Error::unavailable(
            "cannot_listen",
            format!("{key}: cannot listen on {address}: {error}; choose another address or stop what listens there"),
        )
    })
}

/// The port after the public one, unless somebody has it already and nobody asked for it in particular.
async fn bind_default_ops(address: SocketAddr) -> Result<TcpListener> {
    match bind_tcp(address) {
        Ok(listener) => Ok(listener),
        Err(error) => {
            tracing::warn!(%address, %error, "the default ops address is taken; using any free port (set listen.ops to fix it)");
            bind(SocketAddr::new(address.ip(), 0), "listen.ops").await
        }
    }
}

fn startup(error: StoreError) -> Error {
    Error::unavailable("database", error.to_string())
}
