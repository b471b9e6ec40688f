//! Sessions: one bounded run of an agent.

use std::sync::Arc;

use hallpass_verify::Confirmation;
use serde::Serialize;

use crate::model::Delegation;
use crate::world::Millis;

/// One bounded run of an agent. Its end caps every token in it.
#[derive(Debug, Clone, Serialize)]
pub struct Session {
    /// `sid` in tokens.
    pub id: Arc<str>,
    /// Whose.
    pub agent_id: Arc<str>,
    /// When it was made.
    pub created_at: Millis,
    /// When it ends.
    pub expires_at: Millis,
    /// What the agent said it is doing.
    pub task: Option<Arc<str>>,
    /// What the agent said it is for.
    pub purpose: Option<Arc<str>>,
    /// When it was revoked.
    pub revoked_at: Option<Millis>,
    /// The session that it hangs under: it ends with that one.
    pub parent: Option<Arc<str>>,
    /// The keys that opened it: every token in it is bound to them, and only who holds them continues it (P5).
    pub cnf: Option<Confirmation>,
    /// On whose behalf it acts; none: on its agent's own.
    pub delegation: Option<Arc<Delegation>>,
}
