//! From the configuration to what each part takes.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::LedgerSettings;
use crate::broker::BrokerSettings;
use crate::config::{Config, DatabaseTarget, Outbound, SigningAlgorithm};
use crate::error::{Error, Result};
use crate::issue::{IssueSettings, MAX_TOKEN_MILLIS};
use crate::keyring::{Algorithm, Policy};
use crate::outbound::{Proxied, Resolve};
use crate::world::Millis;

pub(super) fn key_policy(config: &Config) -> Policy {
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

pub(super) fn issue_settings(config: &Config) -> IssueSettings {
    let millis = |duration: Duration| Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX);
    IssueSettings {
        token_life: millis(config.tokens.lifetime).min(MAX_TOKEN_MILLIS),
        session_life: millis(config.tokens.session),
        session_max: millis(config.tokens.session_max),
        max_depth: config.delegation.max_depth,
        // SQLite is served by one broker alone.
        clock_spread: match config.database.target {
            DatabaseTarget::Sqlite(_) => 0,
            _ => millis(config.tokens.leeway),
        },
        client_auth: config.client_auth.clone(),
    }
}

pub(super) fn broker_settings(config: &Config) -> BrokerSettings {
    BrokerSettings {
        connect_timeout: config.exchange.connect_timeout,
        response_timeout: config.exchange.response_timeout,
        idle_timeout: config.exchange.idle_timeout,
        max_request_bytes: config.exchange.max_request_bytes,
        max_response_bytes: config.exchange.max_response_bytes,
        max_calls: config.exchange.max_calls,
        max_calls_per_agent: config.exchange.max_calls_per_agent,
        max_connections: config.exchange.max_connections,
        max_connections_per_upstream: config.exchange.max_connections_per_upstream,
    }
}

pub(super) fn ledger_settings(config: &Config, issuer: &str) -> LedgerSettings {
    LedgerSettings {
        node: config.node.clone(),
        issuer: issuer.to_owned(),
        max_batch: config.audit.max_batch,
        max_waiting: config.audit.max_waiting,
        checkpoint_every: i64::try_from(config.audit.checkpoint_every_records).unwrap_or(i64::MAX),
        checkpoint_after_ms: Millis::try_from(config.audit.checkpoint_every.as_millis()).unwrap_or(Millis::MAX),
    }
}

/// How connections to upstreams and issuers are made: directly, or through a proxy.
pub(super) fn way_out(outbound: &Outbound, names: Arc<dyn Resolve>) -> Result<Arc<dyn Resolve>> {
    Ok(match outbound {
        Outbound::Direct => names,
        Outbound::Environment => Arc::new(Proxied::by_environment(names)),
        Outbound::Proxy { url, except } => {
            let url = std::str::from_utf8(url.expose()).map_err(Error::internal)?;
            Arc::new(Proxied::new(names, url, except))
        }
    })
}
