//! Sending: to one upstream, over connections that `outbound` made to checked addresses.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::broker::body::{BodyError, Upload};
use crate::broker::inject::Injected;
use crate::error::{Error, Result};
use crate::model::Http2;
use crate::outbound::{self, ConnectionLimits, DialError, Dialer, Pool, PooledBody, Protocol, Resolve, SendError};
use crate::policy::CompiledUpstream;

/// The connections to one upstream, as one version of its definition allows them.
#[derive(Clone)]
pub(super) struct UpstreamClient {
    upstream: Arc<CompiledUpstream>,
    pool: Pool<Upload>,
}

impl UpstreamClient {
    /// `most`: connections to an upstream at once, where its definition does not say.
    pub(super) fn new(
        upstream: Arc<CompiledUpstream>,
        resolver: Arc<dyn Resolve>,
        timeout: Duration,
        most: usize,
        limits: &Arc<ConnectionLimits>,
    ) -> Result<Self> {
        let (definition, base) = (upstream.definition(), upstream.base());
        let tls = if base.tls { Some(tls_config(definition.ca_pem.as_deref())?) } else { None };
        let (tls, protocol) = match definition.http2 {
            Http2::Auto => (tls.as_ref().map(outbound::offering_http2), Protocol::Negotiated),
            Http2::Never => (tls, Protocol::Http1),
            Http2::PriorKnowledge => (tls, Protocol::Http2),
        };
        let dialer = Dialer {
            host: base.host.as_str().into(),
            port: base.port,
            allow_private: definition.allow_private,
            resolver,
            tls,
            timeout,
        };
        let most = definition.limits.max_connections.map_or(most, |own| own as usize);
        let pool = Pool::new(dialer, protocol, most, limits);
        Ok(Self { upstream, pool })
    }

    /// Connects as a call would, and hangs up.
    pub(super) async fn probe(&self) -> Result<()> {
        match self.pool.probe().await {
            Ok(()) => Ok(()),
            Err(error @ DialError::Timeout) => Err(client_error(&error)),
            Err(error) => Err(client_error(&error).because(error)),
        }
    }

    /// Whether these connections belong to this very definition.
    pub(super) fn is_for(&self, upstream: &Arc<CompiledUpstream>) -> bool {
        Arc::ptr_eq(&self.upstream, upstream)
    }
}

fn tls_config(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>> {
    outbound::tls_config(ca_pem).map_err(|error| {
        Error::unavailable("upstream_ca", "the upstream's CA file cannot be used; the operator has to apply it again")
            .because(error)
    })
}

/// Whether a CA file can be used; asked by `apply`, so that a call need not find out.
pub fn check_ca(pem: &str) -> Result<()> {
    tls_config(Some(pem)).map(drop)
}

/// Sends a request that has the secret in it. Takes nothing but an [`Injected`].
pub(super) async fn send(
    client: &UpstreamClient,
    injected: Injected,
    response_timeout: Duration,
) -> Result<http::Response<PooledBody<Upload>>> {
    let right = injected.right().clone();
    let request = injected.into_request();
    let meter = request.body().meter();
    let mut answer = std::pin::pin!(client.pool.send(request));
    let mut wait = response_timeout;
    loop {
        match tokio::time::timeout(wait.min(right.time_left()), &mut answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => return Err(explain(&error, meter.broken())),
            Err(_) if right.is_over() => {
                return Err(Error::unauthenticated("session_ended", "the session has ended; open another one"));
            }
            Err(_) => {
                // A gigabyte may take its time: only the upstream's own silence counts.
                let still = meter.moved().elapsed();
                match response_timeout.checked_sub(still).filter(|left| !left.is_zero()) {
                    Some(left) => wait = left,
                    None => {
                        return Err(too_slow(&client.upstream, response_timeout));
                    }
                }
            }
        }
    }
}

/// Names the settings: whoever waits for a long completion has no other way to learn that it is a matter of them.
fn too_slow(upstream: &CompiledUpstream, limit: Duration) -> Error {
    let (name, seconds) = (upstream.name(), limit.as_secs());
    Error::gateway_timeout(
        "upstream_timeout",
        format!(
            "upstream '{name}' did not begin its answer within {seconds} s; if it may take longer, the admin raises \
             timeouts.response_seconds of this upstream, or exchange.response_timeout_seconds for all"
        ),
    )
    .because(format!("upstream '{name}' was silent for {seconds} s after the last byte of the request"))
}

/// What the agent is told of a connection that was not made.
fn client_error(dial: &DialError) -> Error {
    match dial {
        DialError::Dns(_) | DialError::NoAddress => {
            Error::bad_gateway("upstream_dns", "the upstream's name could not be looked up")
        }
        DialError::Address(_) => Error::bad_gateway(
            "upstream_address",
            "the upstream's name leads to an address that its definition does not allow",
        ),
        DialError::Connect(_) => Error::bad_gateway("upstream_connect", "the upstream could not be reached"),
        DialError::Tls(_) => Error::bad_gateway("upstream_tls", "the upstream's TLS could not be verified"),
        DialError::Proxy(_) => Error::bad_gateway(
            "outbound_proxy",
            "the proxy on the way to the upstream did not let the call through; the operator finds why in the log",
        ),
        DialError::Timeout => {
            Error::gateway_timeout("upstream_connect_timeout", "connecting to the upstream took too long")
        }
    }
}

/// What the agent is told; the log gets the whole chain of causes. Neither holds the request. `broken`: why the agent's body
/// broke off, if it did.
fn explain(error: &SendError, broken: Option<BodyError>) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut chain = String::new();
    let mut told = broken.map(|body| match body {
        BodyError::TooLarge => Error::too_large("request_too_large", "the body is larger than this upstream's limit"),
        _ => Error::invalid("request_broken", "the request's body broke off"),
    });
    while let Some(one) = source {
        chain.push_str(if chain.is_empty() { "" } else { ": " });
        chain.push_str(&one.to_string());
        if let Some(SendError::Busy) = one.downcast_ref::<SendError>() {
            told = Some(Error::unavailable(
                "upstream_busy",
                "all connections that there may be to this upstream are in use; try again in a moment",
            ));
        }
        if let Some(dial) = one.downcast_ref::<DialError>() {
            told = Some(client_error(dial));
        }
        if let Some(hyper) = one.downcast_ref::<hyper::Error>()
            && told.is_none()
        {
            if hyper.is_parse() || hyper.is_parse_too_large() {
                told = Some(Error::bad_gateway("upstream_protocol", not_http(hyper)));
            } else if hyper.is_incomplete_message() || hyper.is_canceled() || hyper.is_closed() {
                told =
                    Some(Error::bad_gateway("upstream_reset", "the upstream closed the connection without an answer"));
            }
        }
        // RFC 9113 §8.7. h2 says it in words alone.
        if one.to_string().contains("refused stream before processing") {
            told = Some(Error::bad_gateway(
                "upstream_reset",
                "the upstream refused the request unread (REFUSED_STREAM); it was not carried out, and may be sent again",
            ));
        }
        // Said by the cause of a "canceled": hyper has no other word for an answer before the question.
        if one.to_string().contains("unexpected message") {
            told = Some(Error::bad_gateway(
                "upstream_protocol",
                "the upstream spoke before it was asked: it may speak HTTP/2 at once, for which the admin writes \
                 http2: prior_knowledge into its definition, or another protocol",
            ));
        }
        source = one.source();
    }
    let told = told.unwrap_or_else(|| Error::bad_gateway("upstream_reset", "the connection to the upstream broke off"));
    told.because(chain)
}

/// What is wrong with an answer's head. hyper tells most of it in words alone.
fn not_http(error: &hyper::Error) -> &'static str {
    if error.is_parse_too_large() {
        return "the upstream's answer has more headers than the 100 that are read, or one that is too long";
    }
    if error.is_parse_status() {
        return "the upstream's answer has no valid status code";
    }
    let words = error.to_string();
    if words.contains("version") {
        "the upstream's answer does not begin as HTTP/1.1 does: it may speak HTTP/2 only (the admin writes http2: \
         prior_knowledge), TLS, or another protocol at this port"
    } else if words.contains("content-length") || words.contains("transfer-encoding") {
        "the upstream's answer says its length in two ways, or in none that is valid"
    } else if words.contains("header") {
        "a header of the upstream's answer is malformed: folded over two lines (obs-fold, RFC 9112 §5.2), with a blank in \
         its name, or with a control character"
    } else {
        "the upstream's answer is not HTTP as it should be"
    }
}
