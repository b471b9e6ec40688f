//! The broker's listeners: what each of them serves, under which limits, and the order in which they end.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;

use crate::http::admin::{door::Peer, peer};
use crate::http::routes::{admin_service, ops_service, public_service};
use crate::http::{OpsState, PublicState, State};
use crate::issue::AdminIdentity;
use crate::listen::{self, ConnectionLimit, OpenConnections, ServeOptions, UntrustedLimiter};
use crate::model::AdminRole;
use crate::supervise::{Phase, Supervisor};
use crate::yield_queue::YieldQueue;

/// Connections to the ops listener, at most.
const OPS_CONNECTIONS: usize = 64;

/// Connections to the admin listener, at most.
const ADMIN_CONNECTIONS: usize = 64;

/// Of these, from one address, at most: whoever opens connections and says nothing does not lock the admins out.
const ADMIN_CONNECTIONS_PER_ADDRESS: usize = 16;

/// For how long the ops listener still answers when all else has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// A listener with the TLS that it speaks.
#[derive(Debug)]
pub struct Secured {
    /// The socket, bound.
    pub listener: TcpListener,
    /// Its TLS.
    pub tls: Arc<rustls::ServerConfig>,
}

/// The sockets, bound.
#[derive(Debug)]
pub struct Listeners {
    /// Agents and gateways.
    pub public: TcpListener,
    /// TLS of the public listener, if it speaks that.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Admins who come over the network.
    pub remote_admin: Option<Secured>,
    /// Health and metrics.
    pub ops: TcpListener,
    /// Admins.
    pub admin: UnixListener,
}

/// What the handlers of each listener work with.
#[derive(Debug, Clone)]
pub struct States {
    /// Of the public listener.
    pub public: PublicState,
    /// Of the admins' listeners.
    pub admin: State,
    /// Of the ops listener.
    pub ops: OpsState,
}

/// Serves until the broker drains; then takes no more connections and waits for what is in flight, at most `listen.drain`.
/// Health is told until the end of that: whoever sends us agents must see that we are stopping, and why. `yields`: where
/// trusted connections wait for their next share of the threads.
pub async fn serve(listeners: Listeners, states: States, yields: YieldQueue, supervisor: &Supervisor) {
    let States { public, admin, ops } = states;
    let config = admin.config.clone();
    let settings = &config.listen;
    let last = watch::Sender::new(Phase::Serving);
    // Each listener has a limiter of its own. What floods the agents' listener keeps no admin waiting, for whom each command is
    // a connection of its own; and nobody is authenticated at the ops listener.
    let untrusted = || UntrustedLimiter::new(settings.limit_untrusted, supervisor);
    let options = ServeOptions {
        header_timeout: settings.header_timeout,
        write_timeout: config.exchange.idle_timeout,
        max_header_bytes: settings.max_header_bytes,
        http2: settings.http2,
        trusted_proxies: settings.trusted_proxies.as_slice().into(),
        untrusted: untrusted(),
        yields,
        phase: supervisor.phases(),
    };
    // No proxy is heard here: one that may speak for agents must not say who is an admin.
    let for_admins =
        ServeOptions { http2: false, trusted_proxies: Arc::default(), untrusted: untrusted(), ..options.clone() };
    let for_ops = ServeOptions { untrusted: untrusted(), phase: last.subscribe(), ..options.clone() };
    let drain = async |open: OpenConnections| {
        // What ends now was cut by us, not left by its agent.
        open.drain(settings.drain, supervisor, || public.broker.stopping()).await;
    };

    let agents = async {
        // Not by address: agents may all come from behind one.
        let limit = ConnectionLimit::new(settings.max_connections, settings.max_connections);
        let service = public_service(public.clone());
        drain(listen::tcp(listeners.public, listeners.tls, service, limit, options.clone()).await).await;
    };
    let remote_admin = async {
        if let Some(Secured { listener, tls }) = listeners.remote_admin {
            let limit = ConnectionLimit::new(ADMIN_CONNECTIONS, ADMIN_CONNECTIONS_PER_ADDRESS);
            let service = admin_service(admin.clone(), true);
            drain(listen::tcp(listener, Some(tls), service, limit, for_admins).await).await;
        }
    };
    let admins = async {
        let service = admin_service(admin.clone(), false);
        let admit = |stream: &UnixStream| Some(service.with_peer(admin_peer(stream)?));
        drain(listen::unix(listeners.admin, admit, options.clone()).await).await;
    };
    let operators = async {
        let limit = ConnectionLimit::new(OPS_CONNECTIONS, OPS_CONNECTIONS);
        listen::tcp(listeners.ops, None, ops_service(ops), limit, for_ops).await.close(FAREWELL).await;
    };
    let work = async {
        tokio::join!(agents, remote_admin, admins);
        if supervisor.failure().is_some() {
            // Where nothing was in flight, nobody would have had the time to ask what is wrong.
            tokio::time::sleep(FAREWELL).await;
        }
        last.send_replace(Phase::Draining);
    };
    tokio::join!(work, operators);
}

/// Root and the server's own user, by what the kernel says of the other end (SO_PEERCRED); nobody else is heard.
fn admin_peer(stream: &UnixStream) -> Option<Peer> {
    let credentials = stream.peer_cred().ok()?;
    let uid = credentials.uid();
    if uid == 0 || uid == rustix::process::geteuid().as_raw() {
        return Some(Peer(AdminIdentity { name: peer::name(uid, credentials.pid()), role: AdminRole::Owner }));
    }
    tracing::warn!(uid, "somebody else than root and the server's own user knocked at the admin socket");
    None
}
