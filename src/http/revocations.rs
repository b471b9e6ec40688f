//! `GET /revocations`: the signed list, for gateways.
//!
//! A list is good for `revocations.max_age_seconds` after its `iat`; a gateway that hears nothing new refuses after
//! that. So a long poll answers early enough with a list that says the same and is younger.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State as AxumState};
use axum::response::{IntoResponse, Response};
use hallpass_verify::{REVOCATIONS_TYP, RevocationClaims};
use http::StatusCode;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use serde::Deserialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::http::PublicState;
use crate::http::discovery::is_current;
use crate::http::extract::RequestId;
use crate::http::reply::Problem;
use crate::registry::List;
use crate::world::monotonic;

/// Nobody waits longer than this.
const MAX_WAIT: u64 = 60;

/// Event streams and waiting long polls, at most. The list is open to anybody; more than this are not gateways.
const MAX_SUBSCRIBERS: usize = 1000;

/// Those who wait are told of changes at most once in this time: an agent that revokes in a loop must not have the list
/// signed, and sent to every gateway, once per revocation.
const PACE: Duration = Duration::from_millis(200);

/// A list as it was signed.
#[derive(Debug)]
struct SignedList {
    jwt: Bytes,
    etag: String,
    version: u64,
    iat: i64,
    kid: String,
    made: Instant,
}

/// The last signed list, and those who wait for the next.
#[derive(Debug)]
pub struct SignedLists {
    last: Mutex<Option<Arc<SignedList>>>,
    /// One signs; the others wait for what it made.
    making: tokio::sync::Mutex<()>,
    /// There is a new one.
    made: Notify,
    subscribers: Arc<Semaphore>,
}

impl Default for SignedLists {
    fn default() -> Self {
        Self {
            last: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            made: Notify::new(),
            subscribers: Arc::new(Semaphore::new(MAX_SUBSCRIBERS)),
        }
    }
}

impl SignedLists {
    /// The list of now: signed anew if something was revoked, if it is getting old, or if the key has changed.
    async fn current(&self, state: &PublicState) -> Result<Arc<SignedList>> {
        // All that was revoked until now must be on it. A list that was made while this caller waited for its turn is
        // good enough, also if more was revoked meanwhile: else a thousand who wait would sign a thousand times.
        let asked = state.registry.revoked().version();
        if let Some(held) = self.good(state, asked) {
            return Ok(held);
        }
        let _turn = loop {
            let mut made = pin!(self.made.notified());
            made.as_mut().enable();
            if let Some(held) = self.good(state, asked) {
                return Ok(held);
            }
            // All go on at once when there is a new one. Handed from one to the next, it would reach the last of a thousand
            // gateways after a thousand steps of a line that strangers make long.
            tokio::select! {
                turn = self.making.lock() => break turn,
                () = made => {}
            }
        };
        if let Some(held) = self.good(state, asked) {
            return Ok(held);
        }
        let now = state.world.now() / 1000;
        let keys = state.registry.keys();
        let List { version, epoch, entries } = state.registry.revoked().list();
        let claims = RevocationClaims {
            iss: state.issuer_url.to_string(),
            iat: now,
            version: u64::try_from(epoch).unwrap_or(0),
            max_age: i64::try_from(state.revocations.max_age.as_secs()).unwrap_or(i64::MAX),
            revoked: entries,
        };
        let kid = keys.active_kid().to_owned();
        // A long list, or RSA, is too slow for this thread.
        let signed = tokio::task::spawn_blocking(move || keys.sign(REVOCATIONS_TYP, &claims)).await;
        let jwt = signed.map_err(Error::internal)??;
        let list = Arc::new(SignedList {
            jwt: jwt.into(),
            // Pruning and a change of keys change the list, not its epoch: that is told by the time.
            etag: format!("\"{epoch}-{now}\""),
            version,
            iat: now,
            kid,
            made: monotonic(),
        });
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(list.clone());
        self.made.notify_waiters();
        metrics::counter!("hallpass_revocation_lists_signed_total").increment(1);
        Ok(list)
    }

    /// The held list, if all changes up to `version` are on it, it is young enough, and the key of now signed it.
    fn good(&self, state: &PublicState, version: u64) -> Option<Arc<SignedList>> {
        let now = state.world.now() / 1000;
        let sign_every = state.revocations.sign_every.as_secs();
        let held = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let is_young = u64::try_from(now - held.iat).is_ok_and(|age| age < sign_every);
        (held.version >= version && held.kid == state.registry.keys().active_kid() && is_young).then_some(held)
    }

    /// Waits until the last list is [`PACE`] old: the first change after a quiet time is told at once.
    async fn pace(&self) {
        let made = self.last.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|list| list.made);
        if let Some(rest) = made.and_then(|made| PACE.checked_sub(made.elapsed())) {
            tokio::time::sleep(rest).await;
        }
    }

    /// A place among those who wait.
    fn subscribe(&self) -> Result<OwnedSemaphorePermit> {
        self.subscribers.clone().try_acquire_owned().map_err(|_| {
            let text = "too many wait for revocations already; fetch the list without waiting, or try again later";
            Error::unavailable("too_many_subscribers", text)
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Wait {
    wait: Option<u64>,
}

pub(super) async fn revocations(
    AxumState(state): AxumState<PublicState>,
    Extension(RequestId(id)): Extension<RequestId>,
    query: Result<Query<Wait>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let problem = |error| Problem::new(error, &id);
    let bad = |_| problem(Error::invalid("bad_query", "wait is a whole number of seconds, for example ?wait=30"));
    let wait = query.map_err(bad)?.0.wait.unwrap_or(0).min(MAX_WAIT);
    if headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"))
    {
        let place = state.revocation_list.subscribe().map_err(problem)?;
        return Ok(events(state, place));
    }
    let mut changes = state.registry.revoked().subscribe();
    let mut list = state.revocation_list.current(&state).await.map_err(problem)?;
    if wait > 0 && is_current(&headers, &list.etag) {
        let _place = state.revocation_list.subscribe().map_err(problem)?;
        let patience = Duration::from_secs(wait).min(refresh(&state));
        // Changed or not: afterwards the list of that moment is given.
        _ = tokio::time::timeout(patience, changes.changed()).await;
        state.revocation_list.pace().await;
        list = state.revocation_list.current(&state).await.map_err(problem)?;
    }
    let mut response = if is_current(&headers, &list.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, "application/jwt")], Body::from(list.jwt.clone())).into_response()
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&list.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

/// How long a subscriber may go without a younger list.
fn refresh(state: &PublicState) -> Duration {
    (state.revocations.max_age / 3).max(Duration::from_secs(1))
}

/// The list, pushed: at once, on every change, and often enough never to grow old.
fn events(state: PublicState, place: OwnedSemaphorePermit) -> Response {
    let changes = state.registry.revoked().subscribe();
    let stream =
        futures_util::stream::unfold((state, changes, place, true), |(state, mut changes, place, first)| async move {
            if !first {
                _ = tokio::time::timeout(refresh(&state), changes.changed()).await;
                state.revocation_list.pace().await;
            }
            changes.mark_unchanged();
            let piece = match state.revocation_list.current(&state).await {
                Ok(list) => format!(
                    "event: revocations\nid: {}\ndata: {}\n\n",
                    list.etag.trim_matches('"'),
                    String::from_utf8_lossy(&list.jwt)
                ),
                Err(error) => {
                    tracing::error!(%error, "the revocation list cannot be signed");
                    return None;
                }
            };
            Some((Ok::<_, Infallible>(Bytes::from(piece)), (state, changes, place, false)))
        });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(stream)).into_response()
}
