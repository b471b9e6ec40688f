//! `hallpass serve`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{Running, Surroundings, raise_descriptor_limit, seal_process, start};
use crate::cli::log::{LogControl, log_to_stderr};
use crate::cli::{Context, Failure, Outcome};
use crate::config::{Config, LogFormat, Overrides};
use crate::supervise::Phase;

/// Files that are neither a connection nor a call: database, log, listeners, admins.
const SPARE_DESCRIPTORS: usize = 256;

/// How often it is looked whether a log that could not be written can be again.
const LOG_TICK: Duration = Duration::from_secs(1);

/// After the calls in flight had their time, what else there is to end gets this much.
const END_AT_MOST: Duration = Duration::from_secs(30);

/// Serve, until SIGTERM or SIGINT; SIGHUP reads certificates and the log level again.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Listen here instead of at listen.public
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

/// Those that end the broker, and the one that does not.
struct Signals {
    term: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one that asks for the end at once. SIGTERM does not, however often it comes: service managers repeat it.
    async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }
}

impl Serve {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        // First of all: a signal that comes during the start ends or reloads the broker once it is there, as it does later.
        let mut signals = Signals::listen()?;
        let overrides = Overrides { listen: self.listen };
        let config = context.load(overrides)?;
        let mut log = log_to_stderr(&config.log)?;
        for name in &config.not_ours {
            tracing::warn!(name, "this variable begins like our settings, and is none: it is ignored");
        }
        seal_process();
        raise_descriptor_limit(
            (config.listen.max_connections + config.exchange.max_connections + SPARE_DESCRIPTORS) as u64,
        );
        let drain = config.listen.drain;
        let running = start(config, Surroundings::default()).await?;
        tell_ready(context, &running);
        let mut tick = tokio::time::interval(LOG_TICK);
        let lost = loop {
            let Signals { term, interrupt, quit, hangup } = &mut signals;
            tokio::select! {
                _ = tick.tick() => log.tell_lost(),
                _ = hangup.recv() => reload(context, overrides, &running, &mut log),
                lost = running.stopped() => break Some(lost),
                _ = term.recv() => break told_to_stop("SIGTERM"),
                _ = interrupt.recv() => break told_to_stop("SIGINT"),
                _ = quit.recv() => break told_to_stop("SIGQUIT"),
            }
        };
        let supervisor = running.supervisor.clone();
        let ended = tokio::time::timeout(drain + END_AT_MOST, async {
            let mut end = std::pin::pin!(running.stop());
            tokio::select! {
                () = &mut end => return,
                signal = signals.end() => tracing::warn!(signal, "a second signal: what is in flight is cut"),
            }
            supervisor.enter(Phase::Aborting);
            end.await;
        });
        let ended = ended.await;
        log.tell_lost();
        if ended.is_err() {
            return Err(Failure::Failed("the broker did not come to its end in time; what waited is lost".into()));
        }
        match lost {
            None => Ok(()),
            Some(lost) => Err(Failure::Failed(format!("the broker has stopped: {}: {}", lost.part, lost.why))),
        }
    }
}

fn told_to_stop<T>(signal: &'static str) -> Option<T> {
    tracing::info!(signal, "stopping: no new connections; calls in flight may finish");
    None
}

/// To standard output, in the form of the log where that is JSON. An output that cannot be written keeps nobody from serving.
fn tell_ready(context: &Context, running: &Running) {
    let config = &running.state.config;
    let (public, ops) = (format!("{}://{}", running.scheme(), running.public), format!("http://{}", running.ops));
    let (admin, issuer) = (&config.listen.admin_socket, &running.issuer);
    let remote = running.remote_admin.map(|address| format!("https://{address}"));
    let mut ready = json!({ "ready": true, "public": public, "ops": ops, "admin": admin, "remote_admin": remote, "issuer": issuer });
    let is_told = if context.output.json || config.log.format == LogFormat::Json {
        if let Some(ready) = ready.as_object_mut() {
            ready.insert("timestamp".into(), crate::cli::output::rfc3339(running.state.world.now()).into());
            ready.insert("level".into(), "INFO".into());
            ready.insert("message".into(), "hallpass is ready".into());
            ready.insert("target".into(), "hallpass".into());
        }
        context.output.try_line(&Value::to_string(&ready))
    } else {
        let remote = remote.map(|url| format!(" and {url}")).unwrap_or_default();
        let text =
            format!("hallpass is ready: {public} (issuer {issuer}, ops {ops}, admin {}{remote})", admin.display());
        context.output.try_line(&text)
    };
    if let Err(error) = is_told {
        tracing::warn!(%error, public, ops, "the ready line could not be written to standard output");
    }
}

/// SIGHUP: certificates, CAs and revocation lists are read again, and the level of the log; of other settings that changed it
/// is said that they wait for a restart. What is wrong changes nothing.
fn reload(context: &Context, overrides: Overrides, running: &Running, log: &mut LogControl) {
    tracing::info!("SIGHUP: certificates, CA files, revocation lists and log.level are read again");
    running.reload();
    let new = match context.load(overrides) {
        Ok(new) => new,
        Err(failure) => {
            let error = failure.text();
            return tracing::error!(error, "the configuration cannot be used; what was read before stays in force");
        }
    };
    match log.set_level(new.log.level) {
        Ok(false) => {}
        Ok(true) => tracing::info!(level = new.log.level.as_str(), "log.level is changed"),
        Err(error) => tracing::error!(error, "log.level could not be changed"),
    }
    let waiting = waiting(&running.state.config, &new);
    if waiting.is_empty() {
        tracing::info!("nothing else has changed in the configuration");
    } else {
        tracing::warn!(settings = waiting.join(", "), "settings have changed that only a restart puts in force");
    }
}

/// The parts of the configuration that differ and are not reloaded.
fn waiting(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut new = new.clone();
    new.log.level = old.log.level;
    old.differences(&new)
}
