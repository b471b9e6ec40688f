//! Secrets that were made and are not in force yet. Whoever asks for a new secret may have it held until they say that they
//! have it: one that got lost on its way to them (a full disk behind a redirection, a pipe that broke, a kill) is nobody's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State as AxumState};
use axum::response::Response;
use serde_json::json;

use crate::error::{Error, Result};
use crate::http::State;
use crate::http::admin::agents::{set_registered, set_rotated};
use crate::http::admin::{Admin, json as reply};
use crate::http::reply::Problem;
use crate::model::{Agent, StoredSecret};
use crate::secret::random_id;
use crate::world::Millis;

/// For how long one is held. Whoever shows it needs less.
const HELD_FOR: Millis = 60_000;

/// Held at once, at most.
const MOST: usize = 1_000;

/// What is done once it is confirmed.
#[derive(Debug, Clone)]
pub(super) enum OnceShown {
    Register(Arc<Agent>),
    Rotate { agent_id: Arc<str>, secret: StoredSecret, others_end: Millis },
}

/// All that is held. In memory alone: what is lost with the process was not in force.
#[derive(Debug, Default)]
pub struct Held(Mutex<HashMap<String, One>>);

/// Whose, until when, and what.
type One = (Arc<str>, Millis, OnceShown);

impl Held {
    /// Holds it for this admin; the id by which it is confirmed.
    pub(super) fn keep(&self, state: &State, admin: &Admin, what: OnceShown) -> Result<String> {
        let now = state.world.now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, until, _)| now < *until);
        if all.len() >= MOST {
            return Err(Error::unavailable("too_many_held", "too many new secrets wait to be confirmed; try again"));
        }
        let id = random_id("hd_", state.world.entropy.as_ref());
        all.insert(id.clone(), (admin.name.clone(), now + HELD_FOR, what));
        Ok(id)
    }

    fn take(&self, state: &State, admin: &Admin, id: &str) -> Result<OnceShown> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_theirs = |(name, until, _): &One| *name == admin.name && state.world.now() < *until;
        let taken = if all.get(id).is_some_and(is_theirs) { all.remove(id) } else { None };
        let gone = || Error::not_found("held_unknown", "this secret is not held any more; ask for a new one");
        taken.map(|(_, _, what)| what).ok_or_else(gone)
    }
}

/// The secret was shown: it comes into force.
pub(in crate::http) async fn confirm(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    do_confirm(&state, &admin, &id).await.map_err(|error| admin.problem(error))
}

async fn do_confirm(state: &State, admin: &Admin, id: &str) -> Result<Response> {
    match state.held.take(state, admin, id)? {
        OnceShown::Register(agent) => set_registered(state, admin, agent).await?,
        OnceShown::Rotate { agent_id, secret, others_end } => {
            set_rotated(state, admin, &agent_id, secret, others_end).await?;
        }
    }
    Ok(reply(&json!({ "in_force": true })))
}
