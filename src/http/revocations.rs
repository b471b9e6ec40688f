//! `GET /revocations`: the signed list, for gateways.
//!
//! A list is good for `revocations.max_age_seconds` after its `iat`; a gateway that hears nothing new refuses after
//! that. So a long poll answers early enough with a list that says the same and is younger.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State as AxumState};
use axum::response::{IntoResponse, Response};
use hallpass_verify::{REVOCATIONS_TYP, RevocationClaims};
use http::StatusCode;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::http::State;
use crate::http::discovery::is_current;
use crate::http::extract::RequestId;
use crate::http::reply::Problem;

/// Nobody waits longer than this.
const MAX_WAIT: u64 = 60;

/// A list as it was signed.
#[derive(Debug)]
struct SignedList {
    jwt: Bytes,
    etag: String,
    version: u64,
    iat: i64,
    kid: String,
}

/// The last signed list.
#[derive(Debug, Default)]
pub struct SignedLists(Mutex<Option<Arc<SignedList>>>);

impl SignedLists {
    /// The list of now: signed anew if something was revoked, if it is getting old, or if the key has changed.
    async fn current(&self, state: &State) -> Result<Arc<SignedList>> {
        let now = state.world.now() / 1000;
        let sign_every = state.config.revocations.sign_every.as_secs();
        let version = state.registry.revoked().version();
        let keys = state.registry.keys();
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(held) = held
            && held.version == version
            && held.kid == keys.active_kid()
            && u64::try_from(now - held.iat).is_ok_and(|age| age < sign_every)
        {
            return Ok(held);
        }
        let (version, revoked) = state.registry.revoked().entries();
        let claims = RevocationClaims {
            iss: state.issuer_url.to_string(),
            iat: now,
            version,
            max_age: i64::try_from(state.config.revocations.max_age.as_secs()).unwrap_or(i64::MAX),
            revoked,
        };
        let kid = keys.active_kid().to_owned();
        // A long list, or RSA, is too slow for this thread.
        let signed = tokio::task::spawn_blocking(move || keys.sign(REVOCATIONS_TYP, &claims)).await;
        let jwt = signed.map_err(Error::internal)??;
        let list =
            Arc::new(SignedList { jwt: jwt.into(), etag: format!("\"{version}-{now}\""), version, iat: now, kid });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(list.clone());
        Ok(list)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Wait {
    wait: Option<u64>,
}

pub(super) async fn revocations(
    AxumState(state): AxumState<State>,
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
        return Ok(events(state));
    }
    let mut changes = state.registry.revoked().subscribe();
    let mut list = state.revocation_list.current(&state).await.map_err(problem)?;
    if wait > 0 && is_current(&headers, &list.etag) {
        let patience = Duration::from_secs(wait).min(refresh(&state));
        // Changed or not: afterwards the list of that moment is given.
        _ = tokio::time::timeout(patience, changes.changed()).await;
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
fn refresh(state: &State) -> Duration {
    (state.config.revocations.max_age / 3).max(Duration::from_secs(1))
}

/// The list, pushed: at once, on every change, and often enough never to grow old.
fn events(state: State) -> Response {
    let changes = state.registry.revoked().subscribe();
    let stream = futures_util::stream::unfold((state, changes, true), |(state, mut changes, first)| async move {
        if !first {
            _ = tokio::time::timeout(refresh(&state), changes.changed()).await;
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
        Some((Ok::<_, Infallible>(Bytes::from(piece)), (state, changes, false)))
    });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(stream)).into_response()
}
