//! `hallpass serve`.

use std::io;
use std::net::SocketAddr;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::app::{Surroundings, raise_descriptor_limit, seal_process, start};
use crate::cli::{Context, Failure, Outcome};
use crate::config::{Log, LogFormat, Overrides};

/// Files that are neither a connection nor a call: database, log, listeners, admins.
const SPARE_DESCRIPTORS: usize = 256;

/// Serve, until SIGTERM or SIGINT.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Listen here instead of at listen.public
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

impl Serve {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let config = context.load(Overrides { listen: self.listen })?;
        log_to_stderr(&config.log)?;
        seal_process();
        raise_descriptor_limit((config.listen.max_connections + config.exchange.max_calls + SPARE_DESCRIPTORS) as u64);
        let admin = config.listen.admin_socket.clone();
        // Before the listeners are open, so that no signal is missed.
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = start(config, Surroundings::default()).await?;
        let (public, ops) = (format!("{}://{}", running.scheme(), running.public), format!("http://{}", running.ops));
        let remote = running.remote_admin.map(|address| format!("https://{address}"));
        let ready = json!({
            "ready": true, "public": public, "ops": ops, "admin": admin, "remote_admin": remote, "issuer": running.issuer,
        });
        context.output.show(&ready, |output, _| {
            output.line(&format!(
                "hallpass is ready: {public} (issuer {}, ops {ops}, admin {}{})",
                running.issuer,
                admin.display(),
                remote.map(|url| format!(" and {url}")).unwrap_or_default()
            ));
        });
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
            () = running.stopped() => {
                running.stop().await;
                return Err(Failure::Failed("another broker took the database over, so this one has stopped".into()));
            }
        }
        tracing::info!("stopping: no new connections; calls under way may finish");
        running.stop().await;
        Ok(())
    }
}

/// Libraries are kept at `info`: at `trace` some of them would print what goes over their connections.
fn log_to_stderr(log: &Log) -> Result<(), Failure> {
    let level = log.level.as_str();
    let others = if matches!(level, "error" | "warn") { level } else { "info" };
    let filter = EnvFilter::try_new(format!("{others},hallpass={level},hallpass_verify={level},sqlx=warn"))
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    match log.format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Human => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
    }
    Ok(())
}
