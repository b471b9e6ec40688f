//! The agent's answer, made of the upstream's: decoded, its head filtered, its body scrubbed on the way.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::broker::body::{BodyError, BodyLimits, Download, Prepared, StreamBody, Upload};
use crate::broker::failure::Failure;
use crate::broker::links::Links;
use crate::broker::outcome::Outcome;
use crate::broker::right::Right;
use crate::broker::scrub::{self, Coding, Needles};
use crate::broker::{ahead, caching, head, mark};
use crate::error::{Error, Result};
use crate::outbound::PooledBody;

/// What an answer is read with.
pub(super) struct Reading<'a> {
    /// What to look for; `None` where there is no secret, or it is too short to be told from chance.
    pub(super) needles: Option<Arc<Needles>>,
    pub(super) links: &'a Links,
    pub(super) limits: &'a BodyLimits,
    pub(super) right: &'a Arc<Right>,
}

/// Makes the agent's answer of the upstream's: decode → filter → scrub.
pub(super) async fn prepare(
    answer: http::Response<PooledBody<Upload>>,
    reading: Reading<'_>,
    outcome: &mut Outcome,
) -> Result<Prepared, Failure> {
    let (parts, body) = answer.into_parts();
    outcome.answered(parts.status);
    if parts.status.is_informational() {
        let text = "the upstream wanted to switch protocols, which is not brokered";
        return Err(Error::bad_gateway("upstream_protocol", text).into());
    }
    let has_secret = reading.needles.is_some();
    let codings = codings(&parts.headers, has_secret)?;
    let is_complete = body.is_end_stream();
    let body: StreamBody = body.map_err(|_| BodyError::Broken).boxed_unsync();
    let inner = if is_complete { body } else { decode(body, &codings, &reading).await? };

    let length = parts.headers.get(CONTENT_LENGTH).cloned().filter(|_| is_complete);
    let needles = reading.needles.as_deref();
    // Without a secret it passes as it is, compressed or not.
    let (headers, redactions) = head::strip_answer(parts.headers, needles, has_secret && !is_complete);
    // After scrubbing: what is compared and resolved is what the agent would read.
    let (mut headers, more_redactions) = reading.links.rewrite(headers, needles);
    caching::keep_private(&mut headers);
    mark::mark_answer(&mut headers, reading.right.upstream().definition().allow_range);
    if let Some(length) = length {
        // An answer to HEAD, a 304: the length is information, there is no body that could change.
        headers.insert(CONTENT_LENGTH, length);
    }

    let right = reading.right.clone();
    let download = Download::new(inner, reading.needles, redactions + more_redactions, reading.limits, right);
    let mut response = http::Response::new(download);
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    Ok(Prepared { response, is_complete })
}

/// The body without its codings.
async fn decode(body: StreamBody, codings: &[Coding], reading: &Reading<'_>) -> Result<StreamBody, Failure> {
    if codings.is_empty() {
        return Ok(body);
    }
    let opened = tokio::select! {
        biased;
        // Taken back while its beginning is on the way (P3).
        ended = reading.right.over() => return Err(reading.right.failure(ended)),
        opened = tokio::time::timeout(reading.limits.idle_timeout, ahead::opened(body, codings)) => opened,
    };
    opened
        .unwrap_or(Err(BodyError::Idle))
        .map_err(|reason| Failure { reason: reason.code(), error: not_opened(reason, codings).into() })
}

/// The content codings to undo, or why the answer cannot be searched. What the upstream wrote is not repeated: it may be the
/// secret (P1).
fn codings(headers: &http::HeaderMap, has_secret: bool) -> Result<Vec<Coding>> {
    let values = headers.get_all(http::header::CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
    // Nothing to search for: it passes as it is, compressed or not.
    let planned = if has_secret { scrub::plan(values).map_err(|error| error.to_string()) } else { Ok(Vec::new()) };
    let check = if has_secret { head::searchable } else { head::framed };
    planned.and_then(|codings| check(headers).map(|()| codings).map_err(str::to_owned)).map_err(|what| {
        let text =
            format!("the upstream's answer has {what}, so it cannot be searched for its secret and is not passed on");
        Error::bad_gateway("upstream_encoding", text).because(what)
    })
}

/// What to say of a body whose beginning could not be decoded.
fn not_opened(reason: BodyError, codings: &[Coding]) -> Error {
    match reason {
        BodyError::Idle => {
            Error::gateway_timeout("upstream_timeout", "the upstream's answer stood still at its beginning")
        }
        BodyError::Undecodable => {
            let names: Vec<_> = codings.iter().map(|coding| coding.name()).collect();
            let text = format!(
                "the upstream says 'Content-Encoding: {}', but the body it sent is not in that coding; the fault is the upstream's",
                names.join(", ")
            );
            Error::bad_gateway("upstream_encoding", text).because("the body is not in the coding that its head names")
        }
        _ => Error::bad_gateway("upstream_reset", "the upstream broke its answer off at the beginning"),
    }
}
