//! Accepting connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::listen::protocol::{self, Watched};
use crate::listen::{Connection, ConnectionLimit, HttpService, OpenConnections, ServeOptions};

/// Connections that are accepted before other tasks run: a flood of connections never ends.
const ACCEPTED_AT_ONCE: usize = 16;

/// Serves the connections of a TCP listener until it is time to stop. Gives those that are open then.
pub async fn tcp<S: HttpService>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    service: S,
    limit: Arc<ConnectionLimit>,
    mut options: ServeOptions,
) -> OpenConnections {
    let tls = tls.map(TlsAcceptor::from);
    let graceful = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    let mut accepted_at_once = 0;
    loop {
        if accepted_at_once == ACCEPTED_AT_ONCE {
            accepted_at_once = 0;
            tokio::task::yield_now().await;
        }
        accepted_at_once += 1;
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            },
            () = options.stopped() => break,
        };
        // Full: the connection is closed at once, which costs less than any answer.
        let Some(admitted) = limit.admit(peer.ip()) else {
            metrics::counter!("hallpass_connections_refused_total").increment(1);
            continue;
        };
        while tasks.try_join_next().is_some() {}
        let trust = options.untrusted.connection();
        let (tls, service, options) = (tls.clone(), service.clone(), options.clone());
        let watched = Watched { trust: trust.clone(), watcher: graceful.watcher() };
        tasks.spawn(trust.limit(async move {
            if let Err(error) = protocol::serve_tcp(stream, peer, tls, service, options, watched).await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(admitted);
        }));
    }
    OpenConnections::new(graceful, tasks)
}

/// Serves the connections of a unix socket until it is time to stop. `admit` gives the service of one connection, or `None` for
/// somebody who is not served.
pub async fn unix<S: HttpService>(
    listener: UnixListener,
    admit: impl Fn(&UnixStream) -> Option<S>,
    mut options: ServeOptions,
) -> OpenConnections {
    let graceful = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            },
            () = options.stopped() => break,
        };
        let Some(service) = admit(&stream) else { continue };
        let watched = Watched { trust: options.untrusted.connection(), watcher: graceful.watcher() };
        let options = options.clone();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let served = protocol::serve(stream, false, Connection::default(), service, options, watched).await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection to the unix socket ended early");
            }
        });
    }
    OpenConnections::new(graceful, tasks)
}

/// Out of file descriptors: wait a moment instead of spinning.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}
