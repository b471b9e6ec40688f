//! Putting the secrets into the call: the one maker of an [`Injected`], and only for a call whose intent is durable.

use std::sync::Arc;

use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use zeroize::Zeroizing;

use crate::audit::Recorded;
use crate::broker::body::{BodyLimits, CallBody, Upload};
use crate::broker::head;
use crate::broker::outcome::Outcome;
use crate::broker::right::Right;
use crate::broker::scrub::Needles;
use crate::credential::Draft;
use crate::error::{Error, Result};
use crate::policy::{BaseUrl, CompiledUpstream, Permit};
use crate::secret::SecretBytes;
use crate::vault::Vault;

/// Below this length a secret cannot be told from chance in an answer; `credential put --allow-short` accepts that.
pub const MIN_REDACTABLE: usize = 8;

/// What of the agent's request may travel on.
pub(super) struct Outgoing {
    pub(super) headers: HeaderMap,
    pub(super) body: CallBody,
}

/// What to look for in the answer; `None` where there is no secret, or each is too short to be told from chance.
pub(super) type Sought = Option<Arc<Needles>>;

/// A request with the secrets in it: only [`inject`] builds one, and [`super::dial::send`] takes nothing else.
pub(super) struct Injected {
    request: http::Request<Upload>,
    needles: Sought,
    right: Arc<Right>,
}

impl Injected {
    pub(super) fn into_request(self) -> http::Request<Upload> {
        self.request
    }

    /// What the call goes on under, once it is sent.
    pub(super) fn right(&self) -> &Arc<Right> {
        &self.right
    }

    /// What to look for in the answer.
    pub(super) fn needles(&self) -> &Sought {
        &self.needles
    }
}

/// Builds the upstream's request: from the recorded permit's own target, the agent's stripped headers, and the secrets.
pub(super) fn inject(
    recorded: &Recorded<Permit>,
    right: &Arc<Right>,
    vault: &Vault,
    outgoing: Outgoing,
    limits: &BodyLimits,
    outcome: &Outcome,
) -> Result<Injected> {
    let permit = recorded.get();
    let (upstream, base) = (permit.upstream(), permit.upstream().base());
    let opened = right.chosen().open(recorded, vault)?;
    let mut draft = Draft::new(stripped(outgoing.headers, upstream), permit.target());
    opened.place(&mut draft)?;
    let uri = uri(base, draft.path_and_query())?;
    let mut headers = draft.into_headers();
    headers.insert(HOST, HeaderValue::from_str(&base.authority).map_err(Error::internal)?);

    let upload = Upload::new(outgoing.body, limits, outcome.request.clone(), right);
    let mut request = http::Request::new(upload);
    *request.method_mut() = http::Method::from_bytes(permit.method().as_bytes()).map_err(Error::internal)?;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(Injected { request, needles: needles(opened.secrets()), right: right.clone() })
}

fn stripped(headers: HeaderMap, upstream: &CompiledUpstream) -> HeaderMap {
    let (headers, unlisted) = head::strip_request(headers, upstream.headers());
    if !unlisted.is_empty() {
        metrics::counter!("hallpass_request_headers_dropped_total").increment(unlisted.len() as u64);
        // Their names: a value may be a secret of the agent's.
        tracing::debug!(upstream = &**upstream.name(), headers = ?unlisted, "not on the upstream's list of headers");
    }
    headers
}

fn uri(base: &BaseUrl, path_and_query: &str) -> Result<Uri> {
    // One allocation: a text that grows would leave a secret behind in the memory that it gives up.
    let whole = Zeroizing::new([&*base.prefix, path_and_query].concat());
    Uri::builder()
        .scheme(if base.tls { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(base.authority.as_str())
        .path_and_query(PathAndQuery::try_from(whole.as_str()).map_err(|_| Error::internal("the target is no path"))?)
        .build()
        .map_err(|_| Error::internal("the target is no URI"))
}

fn needles<'a>(secrets: impl Iterator<Item = &'a SecretBytes>) -> Sought {
    let mut long: Vec<&[u8]> = Vec::with_capacity(1);
    for secret in secrets.map(SecretBytes::expose).filter(|one| one.len() >= MIN_REDACTABLE) {
        // One credential may have two places.
        if !long.contains(&secret) {
            long.push(secret);
        }
    }
    if long.is_empty() { None } else { Some(Arc::new(Needles::of_stored(&long, MIN_REDACTABLE))) }
}

#[cfg(test)]
mod tests;
