//! What the CLI does, as JSON over HTTP: `/admin/v1/…`, on the unix socket of the server, and on the admin listener where
//! there is one.

pub(super) mod agents;
pub(super) mod apply;
pub(super) mod audit;
pub(super) mod certificates;
mod changed;
pub(super) mod credentials;
pub(super) mod definitions;
pub(super) mod door;
pub(super) mod held;
pub(super) mod keys;
pub(super) mod login;
pub(super) mod peer;
pub(super) mod rewrap;
pub(super) mod sessions;
pub(super) mod status;
pub(super) mod tokens;
pub(super) mod upstreams;
mod value;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts as RequestParts;
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;

use crate::audit::LedgerError;
use crate::error::{Error, Result};
use crate::http::State;
use crate::http::extract::RequestId;
use crate::http::reply::Problem;
use crate::issue::Actor;
use crate::model::{Agent, Event, EventKind, Origin};

pub use held::Held;
pub use rewrap::{MasterKeyFiles, finish_rewrap, write_private};

/// Admin bodies above this are refused: a document of upstreams with CA files is far smaller.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// An admin at work: who it is and which request it is. Only [`door::only_admins`] makes one.
#[derive(Debug, Clone)]
pub(super) struct Admin {
    name: Arc<str>,
    origin: Origin,
}

impl FromRequestParts<State> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut RequestParts, _: &State) -> Result<Self, Problem> {
        let nobody = || Problem::new(Error::internal("an admin's route without its door"), &Arc::from("?"));
        parts.extensions.get::<Self>().cloned().ok_or_else(nobody)
    }
}

impl Admin {
    /// The record of what was done, on what.
    fn event(&self, action: &str, object: &str) -> Event {
        let mut event = Event::new(EventKind::Admin);
        event.admin = Some(self.name.clone());
        event.action = Some(action.into());
        event.object = Some(object.into());
        event.came_by(&self.origin);
        event
    }

    fn event_of(&self, action: &str, agent: &Agent) -> Event {
        let mut event = self.event(action, &agent.name);
        event.agent = Some(agent.id.clone());
        event.agent_name = Some(agent.name.clone());
        event
    }

    /// For revocations.
    fn actor(&self, reason: Option<String>) -> Actor {
        Actor { admin: Some(self.name.clone()), origin: self.origin.clone(), reason: reason.unwrap_or_default() }
    }

    fn problem(&self, error: Error) -> Problem {
        Problem::new(error, &self.origin.request)
    }
}

/// A JSON body of at most so many bytes; an empty one counts as `{}`.
pub(super) struct Input<T, const MOST: usize = MAX_BODY>(pub(super) T);

impl<T: DeserializeOwned, const MOST: usize> FromRequest<State> for Input<T, MOST> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, state: &State) -> Result<Self, Problem> {
        let id = request.extensions().get::<RequestId>().map_or_else(|| Arc::from("?"), |id| id.0.clone());
        let refuse = |text: String| Problem::new(Error::invalid("bad_body", text), &id);
        let body = Limited::new(request.into_body(), MOST).collect();
        let body = tokio::time::timeout(state.config.listen.header_timeout, body).await;
        let body = body.map_err(|_| refuse("the body did not come in time".into()))?;
        let body = body.map_err(|_| refuse(format!("the body could not be read, or is larger than {MOST} bytes")))?;
        let bytes = match body.to_bytes() {
            empty if empty.is_empty() => Bytes::from_static(b"{}"),
            bytes => bytes,
        };
        // The message names the field and the place, never the value: it may be a secret.
        let json = serde_json::from_slice(&bytes);
        json.map(Self).map_err(|error| {
            let text = if error.is_data() { "a field is missing, unknown or of the wrong type" } else { "not JSON" };
            refuse(format!("{text}, at line {} column {}", error.line(), error.column()))
        })
    }
}

/// Why there was something to revoke, in the admin's words.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    #[serde(default)]
    reason: Option<String>,
}

impl Reason {
    fn checked(self) -> Result<Option<String>> {
        if let Some(reason) = &self.reason {
            crate::model::check_label("reason", reason).map_err(|problem| Error::invalid("bad_reason", problem))?;
        }
        Ok(self.reason)
    }
}

fn unrecorded(error: LedgerError) -> Error {
    match &error {
        LedgerError::Refused(_) => Error::conflict("conflict", "the change contradicts what is there"),
        _ => {
            Error::unavailable("audit_unavailable", "the change cannot be recorded, so it is not made; try again later")
        }
    }
    .because(error)
}

fn json(value: &serde_json::Value) -> Response {
    axum::Json(value).into_response()
}
