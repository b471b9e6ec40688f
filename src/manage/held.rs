//! Secrets that were made and are not in force yet. Whoever asks for a new secret may have it held until they say that they
//! have it: one that got lost on its way to them (a full disk behind a redirection, a pipe that broke, a kill) is nobody's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::manage::Admin;
use crate::manage::agents::{set_registered, set_rotated};
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
    pub(super) fn keep(&self, admin: &Admin, what: OnceShown) -> Result<String> {
        let world = &admin.manager.world;
        let now = world.now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, until, _)| now < *until);
        if all.len() >= MOST {
            return Err(Error::unavailable("too_many_held", "too many new secrets wait to be confirmed; try again"));
        }
        let id = random_id("hd_", world.entropy.as_ref());
        all.insert(id.clone(), (admin.name.clone(), now + HELD_FOR, what));
        Ok(id)
    }

    fn take(&self, admin: &Admin, id: &str) -> Result<OnceShown> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_theirs = |(name, until, _): &One| *name == admin.name && admin.manager.world.now() < *until;
        let taken = if all.get(id).is_some_and(is_theirs) { all.remove(id) } else { None };
        let gone = || Error::not_found("held_unknown", "this secret is not held any more; ask for a new one");
        taken.map(|(_, _, what)| what).ok_or_else(gone)
    }
}

/// A secret that came into force.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InForce {
    /// Always true.
    pub in_force: bool,
}

/// The secret was shown: it comes into force.
///
/// # Errors
/// It is not held any more, what it was for has changed meanwhile, or nothing can be recorded.
pub async fn confirm(admin: Admin, id: String) -> Result<InForce> {
    match admin.manager.held.take(&admin, &id)? {
        OnceShown::Register(agent) => set_registered(&admin, agent).await?,
        OnceShown::Rotate { agent_id, secret, others_end } => {
            set_rotated(&admin, &agent_id, secret, others_end).await?;
        }
    }
    Ok(InForce { in_force: true })
}
