//! The admin API: `/admin/v1/…`, on the unix socket of the server, and on the admin listener where there is one.
//!
//! [`table`] has every operation, each with the function of [`crate::manage`] that does the work. The router and the OpenAPI
//! document are both made from it.

pub(super) mod door;
pub(super) mod login;
pub(super) mod openapi;
mod operation;
pub(super) mod peer;
pub(super) mod table;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts as RequestParts;
use http_body_util::{BodyExt as _, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::http::State;
use crate::http::extract::RequestId;
use crate::http::reply::Problem;
use crate::manage::{Admin, Refused};

/// Admin bodies above this are refused: a document of upstreams with CA files is far smaller.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// The admin whom [`door::only_admins`] let in.
impl FromRequestParts<State> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut RequestParts, _: &State) -> Result<Self, Problem> {
        let nobody = || Problem::new(Error::internal("an admin's route without its door"), &Arc::from("?"));
        parts.extensions.get::<Self>().cloned().ok_or_else(nobody)
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

/// The parameters in the query.
pub(super) struct Parameters<Q>(pub(super) Q);

impl<Q: DeserializeOwned> FromRequestParts<State> for Parameters<Q> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut RequestParts, state: &State) -> Result<Self, Problem> {
        let id = parts.extensions.get::<RequestId>().map_or_else(|| Arc::from("?"), |id| id.0.clone());
        let text = "a parameter in the query is unknown, there twice or of the wrong type; docs/admins.md says where the API is described";
        let bad = |_| Problem::new(Error::invalid("bad_query", text), &id);
        Query::from_request_parts(parts, state).await.map(|Query(query)| Self(query)).map_err(bad)
    }
}

/// What was done, or why not.
fn answer<T: Serialize>(request: &Arc<str>, done: Result<T, impl Into<Refused>>) -> Response {
    match done {
        Ok(value) => json(&value).unwrap_or_else(|error| Problem::new(error, request).into_response()),
        Err(refused) => {
            let Refused { error, details } = refused.into();
            match members(&details) {
                Ok(more) => Problem::new(error, request).with(more),
                Err(error) => Problem::new(error, request),
            }
            .into_response()
        }
    }
}

fn members<T: Serialize>(value: &T) -> Result<Map<String, Value>> {
    match serde_json::to_value(value).map_err(Error::internal)? {
        Value::Object(members) => Ok(members),
        _ => Err(Error::internal("the details of a refusal are no object")),
    }
}

/// As JSON, with its members in alphabetical order.
fn json<T: Serialize>(value: &T) -> Result<Response> {
    Ok(axum::Json(serde_json::to_value(value).map_err(Error::internal)?).into_response())
}
